//! Stable names of devices, and the nodes behind them now.
//!
//! In: a name of the configuration, the directory `/dev`. Out: a node, names of a node.
//! Not here: opening (device).
//!
//! Node numbers change with every plug; the links that udev keeps in `/dev/v4l/by-id` (maker,
//! model, serial number) and `by-path` (the socket) do not.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::DeviceName;

/// A `/dev`; tests have their own.
#[derive(Clone, Debug)]
pub struct Names {
    root: PathBuf,
}

impl Default for Names {
    fn default() -> Self {
        Self::at("/dev")
    }
}

impl Names {
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The node of a name, if it is there now.
    pub fn find(&self, name: &DeviceName) -> Option<PathBuf> {
        let name = name.as_str();
        let candidates = match name.strip_prefix("/dev/") {
            Some(node) => vec![self.root.join(node)],
            None => LINKS.map(|kind| self.links(kind).join(name)).to_vec(),
        };
        // Links are followed: the node is what the log shows, and what is opened.
        candidates
            .into_iter()
            .find_map(|path| fs::canonicalize(path).ok())
    }

    /// The names that are there, for an error.
    pub fn known(&self) -> Vec<String> {
        let entries = LINKS.map(|kind| self.entries(kind)).concat();
        let mut names: Vec<_> = entries.into_iter().map(|(name, _)| name).collect();
        if names.is_empty() {
            let nodes = self.nodes();
            names = nodes
                .iter()
                .map(|node| node.display().to_string())
                .collect();
        }
        names
    }

    /// The stable names of a node, by-id first.
    pub fn names_of(&self, node: &Path) -> Vec<String> {
        let node = fs::canonicalize(node).unwrap_or_else(|_| node.to_owned());
        let entries = LINKS.map(|kind| self.entries(kind)).concat();
        entries
            .into_iter()
            .filter(|(_, target)| *target == node)
            .map(|(name, _)| name)
            .collect()
    }

    /// All video nodes, by number; [`MAX_NODES`] at most.
    pub fn nodes(&self) -> Vec<PathBuf> {
        let number = |path: &PathBuf| -> Option<u32> {
            let name = path.file_name()?.to_str()?;
            name.strip_prefix("video")?.parse().ok()
        };
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut nodes: Vec<_> = entries
            .map(|entry| entry.path())
            .filter_map(|path| Some((number(&path)?, path)))
            .take(MAX_NODES)
            .collect();
        nodes.sort();
        nodes.into_iter().map(|(_, path)| path).collect()
    }

    /// Links of one kind and the nodes that they lead to, in order.
    fn entries(&self, kind: &str) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(self.links(kind)).into_iter().flatten();
        let mut found: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let target = fs::canonicalize(entry.path()).ok()?;
                Some((entry.file_name().into_string().ok()?, target))
            })
            .take(MAX_NODES)
            .collect();
        found.sort();
        found
    }

    fn links(&self, kind: &str) -> PathBuf {
        self.root.join("v4l").join(kind)
    }
}

const LINKS: [&str; 2] = ["by-id", "by-path"];

/// Nodes that are looked at; the kernel has 256 minors.
const MAX_NODES: usize = 256;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A `/dev` below the system's temporary directory, removed in the end.
    struct Dev(PathBuf);

    impl Dev {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pinhole-{name}-{}", std::process::id()));
            for kind in LINKS {
                fs::create_dir_all(path.join("v4l").join(kind)).expect("made");
            }
            Self(fs::canonicalize(path).expect("there"))
        }

        fn plug(&self, number: u32, id: &str, path: &str) {
            fs::write(self.0.join(format!("video{number}")), "").expect("written");
            for (kind, name) in [("by-id", id), ("by-path", path)] {
                let link = self.0.join("v4l").join(kind).join(name);
                symlink(format!("../../video{number}"), link).expect("linked");
            }
        }

        fn unplug(&self, number: u32, id: &str, path: &str) {
            fs::remove_file(self.0.join(format!("video{number}"))).expect("there");
            for (kind, name) in [("by-id", id), ("by-path", path)] {
                fs::remove_file(self.0.join("v4l").join(kind).join(name)).expect("there");
            }
        }
    }

    impl Drop for Dev {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const ID: &str = "usb-046d_C920_A1B2-video-index0";
    const PATH: &str = "pci-0000:00:14.0-usb-0:2:1.0-video-index0";

    #[test]
    fn a_camera_is_found_by_its_stable_name_after_its_number_changed() {
        let dev = Dev::new("replug");
        let names = Names::at(&dev.0);
        let by_id = DeviceName::new(ID);
        assert_eq!(names.find(&by_id), None);
        dev.plug(0, ID, PATH);
        assert_eq!(names.find(&by_id), Some(dev.0.join("video0")));
        dev.unplug(0, ID, PATH);
        assert_eq!(names.find(&by_id), None);
        dev.plug(3, ID, PATH);
        for name in [ID, PATH] {
            let found = names.find(&DeviceName::new(name));
            assert_eq!(found, Some(dev.0.join("video3")), "{name}");
        }
        let links = [ID, PATH].map(str::to_owned);
        assert_eq!(names.names_of(&dev.0.join("video3")), links);
        assert_eq!(names.known(), links);
    }

    #[test]
    fn a_node_is_found_by_itself_and_through_a_link_that_is_written_out() {
        let dev = Dev::new("node");
        dev.plug(7, ID, PATH);
        let names = Names::at(&dev.0);
        for name in ["/dev/video7", &format!("/dev/v4l/by-id/{ID}")] {
            let found = names.find(&DeviceName::new(name));
            assert_eq!(found, Some(dev.0.join("video7")), "{name}");
        }
        assert_eq!(names.find(&DeviceName::new("/dev/video8")), None);
    }

    #[test]
    fn nodes_come_in_the_order_of_their_numbers_and_others_do_not_count() {
        let dev = Dev::new("order");
        for node in ["video10", "video2", "vbi0", "video", "videox"] {
            fs::write(dev.0.join(node), "").expect("written");
        }
        let nodes = Names::at(&dev.0).nodes();
        assert_eq!(nodes, [dev.0.join("video2"), dev.0.join("video10")]);
    }
}
