//! What is plugged in, for `pinhole devices`.
//!
//! In: the video nodes. Out: cameras and hardware encoders with all that they offer.
//! Not here: how it is shown (daemon).

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::budget::Machine;
use super::control::Described;
use super::device::{described, offers};
use super::mode::{self, Coding, Offer, Wish};
use super::names::Names;
use super::sys::{self, Capability, FourCc, Node, Queue};
use crate::config::EncoderChoice;
use crate::source::{encode, speed};

/// One video node that is of use.
#[derive(Clone, Debug)]
pub struct Found {
    pub node: PathBuf,
    /// Stable names, by-id first.
    pub names: Vec<String>,
    pub driver: String,
    pub card: String,
    pub bus: String,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Camera {
        offers: Vec<Offer>,
        /// Formats of its that Pinhole cannot use.
        other_formats: Vec<FourCc>,
        controls: Vec<Described>,
        /// What would be taken without configuration, or why nothing can be.
        choice: Result<String, String>,
    },
    /// Codes H.264.
    Encoder { takes: Vec<FourCc> },
    /// A node that does not let itself be asked.
    Refused(Errno),
}

/// All cameras and H.264 encoders, in the order of their nodes. Metadata and output nodes,
/// decoders and converters are left out.
pub fn find_all() -> Vec<Found> {
    let names = Names::default();
    let nodes = names.nodes();
    nodes
        .into_iter()
        .filter_map(|node| look(&names, node))
        .collect()
}

fn look(names: &Names, path: PathBuf) -> Option<Found> {
    let opened = Node::open(&path).and_then(|node| {
        let capability = sys::capability(node.fd())?;
        Ok((node, capability))
    });
    let (capability, what) = match opened {
        Ok((node, capability)) => {
            let what = what_is(&node, &capability)?;
            (capability, what)
        }
        Err(errno) => {
            let unknown = Capability {
                driver: String::new(),
                card: String::new(),
                bus: String::new(),
                flags: 0,
            };
            (unknown, What::Refused(errno))
        }
    };
    Some(Found {
        names: names.names_of(&path),
        node: path,
        driver: capability.driver,
        card: capability.card,
        bus: capability.bus,
        what,
    })
}

fn what_is(node: &Node, capability: &Capability) -> Option<What> {
    if let Some(queue) = capability.camera_queue() {
        return Some(camera(node, queue));
    }
    let (output, capture) = capability.m2m_queues()?;
    let gives_h264 = sys::formats(node.fd(), capture)
        .iter()
        .any(|entry| Coding::from_fourcc(entry.fourcc) == Some(Coding::H264));
    let takes = sys::formats(node.fd(), output).into_iter();
    let takes: Vec<_> = takes
        .filter(|entry| !entry.is_compressed)
        .map(|entry| entry.fourcc)
        .collect();
    (gives_h264 && !takes.is_empty()).then_some(What::Encoder { takes })
}

fn camera(node: &Node, queue: Queue) -> What {
    let offers = offers(node, queue);
    let other_formats = sys::formats(node.fd(), queue)
        .into_iter()
        .map(|entry| entry.fourcc)
        .filter(|fourcc| Coding::from_fourcc(*fourcc).is_none())
        .collect();
    // An encoder that is there is believed: one may be at work for a running Pinhole.
    let machine = Machine::of(
        speed::of_this_machine(),
        EncoderChoice::Auto,
        &mut encode::Machine,
        (false, &encode::has_failed),
    );
    let choice = mode::choose(&offers, &Wish::default(), &machine);
    What::Camera {
        choice: choice.map(|choice| choice.why),
        offers,
        other_formats,
        controls: described(node),
    }
}

impl Found {
    /// What `source` takes after `v4l2:`: the stable name, else the node.
    pub fn source(&self) -> String {
        match self.names.first() {
            Some(name) => name.clone(),
            None => shown(&self.node),
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
