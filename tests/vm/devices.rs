//! `pinhole devices` on real drivers: what it lists, and what it leaves out.
//!
//! In: vivid, a USB camera with its metadata node, the M2M encoder with its decoders. Out: the
//! table and the JSON, judged.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::machine::{eventually, load_vivid, quiet_picture, shell, unload};
use crate::usb::{NAME, plug_with};
use crate::usb_descriptors::Offer;

/// What other cases must not find, where this one fails.
struct Cleared;

impl Drop for Cleared {
    fn drop(&mut self) {
        for module in ["vh264", "vivid"] {
            let _ = Command::new("rmmod")
                .arg(module)
                .stderr(Stdio::null())
                .status();
        }
    }
}

pub fn listed() -> String {
    let _cleared = Cleared;
    load_vivid("node_types=0x1 input_types=0x0");
    quiet_picture(0);
    unload("vh264");
    shell("modprobe vh264 multiplanar=1");
    // Nothing streams here, so it has nothing to show.
    let camera = plug_with(Vec::new(), Offer::JpegAndRaw);
    let is_metadata =
        |node: &(String, String, String)| node.1.starts_with("Software Camera") && node.2 == "1";
    eventually("the node for metadata", || nodes().iter().any(is_metadata));
    let nodes = nodes();
    let all: Value = serde_json::from_str(&shell("./pinhole devices --json")).unwrap();
    let all = all["devices"].as_array().expect("a list").as_slice();
    let kinds: Vec<_> = all.iter().map(|entry| &entry["kind"]).collect();
    let cameras = kinds.iter().filter(|kind| **kind == "camera").count();
    let encoders = kinds.iter().filter(|kind| **kind == "encoder").count();
    assert_eq!((cameras, encoders, kinds.len()), (2, 1, 3), "{all:#?}");
    a_webcam(by_driver(all, "vivid"));
    a_usb_camera(by_driver(all, "uvcvideo"));
    let encoder = by_driver(all, "vh264");
    assert_eq!(encoder["kind"], "encoder", "{encoder:#}");
    assert!(has(&encoder["formats"], |f| f == "NV12"), "{encoder:#}");
    // What is left out is there: a node for metadata, and the decoders beside the encoder.
    let is_hidden = |node: &&(String, String, String)| !all.iter().any(|e| e["node"] == node.0);
    let hidden: Vec<_> = nodes.iter().filter(is_hidden).collect();
    let metadata = hidden.iter().any(|node| is_metadata(node));
    assert!(metadata && hidden.len() == 3, "{hidden:?}");
    let table = shell("./pinhole devices");
    for words in [NAME, "a hardware encoder (H.264)", "vivid", "MJPG"] {
        assert!(table.contains(words), "no {words} in:\n{table}");
    }
    let (_, lines) = table.split_once("For the configuration:\n").expect("lines");
    fs::write("/tmp/devices.toml", lines).unwrap();
    shell("./pinhole check /tmp/devices.toml");
    camera.unplug();
    unload("vh264");
    unload("vivid");
    format!(
        "2 cameras and an encoder of {} nodes, {} left out; the lines for the configuration pass its check",
        nodes.len(),
        hidden.len()
    )
}

/// Of all video nodes: the path, the name that its driver gives, its index.
fn nodes() -> Vec<(String, String, String)> {
    let all = fs::read_dir("/sys/class/video4linux").unwrap();
    let facts = all.map(|node| {
        let node = node.unwrap();
        let fact = |name| {
            fs::read_to_string(node.path().join(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        let path = format!("/dev/{}", node.file_name().display());
        (path, fact("name"), fact("index"))
    });
    facts.collect()
}

fn by_driver<'a>(all: &'a [Value], driver: &str) -> &'a Value {
    let entry = all.iter().find(|entry| entry["driver"] == driver);
    entry.unwrap_or_else(|| panic!("no {driver} in {all:#?}"))
}

fn has(list: &Value, is_it: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(is_it))
}

fn a_webcam(entry: &Value) {
    assert_eq!(
        (&entry["kind"], &entry["node"]),
        (&"camera".into(), &"/dev/video0".into())
    );
    assert_eq!(entry["source"], "v4l2:/dev/video0");
    let is_large =
        |mode: &Value| mode["format"] == "YUYV" && mode["width"] == 3840 && mode["height"] == 2160;
    assert!(has(&entry["modes"], is_large), "{entry:#}");
    assert!(entry["default"].is_string(), "{entry:#}");
}

/// By its stable name, with the rates and the control of its descriptors.
fn a_usb_camera(entry: &Value) {
    assert_eq!(
        (&entry["kind"], &entry["source"]),
        (&"camera".into(), &format!("v4l2:{NAME}").into())
    );
    let is_mode = |format: &str| {
        has(&entry["modes"], |mode| {
            let has_rate = |fps: f64| {
                has(&mode["fps"], |rate| {
                    (rate.as_f64().unwrap() - fps).abs() < 0.01
                })
            };
            mode["format"] == format
                && mode["width"] == 640
                && mode["height"] == 480
                && [5.0, 15.0, 30.0].into_iter().all(has_rate)
        })
    };
    assert!(is_mode("MJPG") && is_mode("YUYV"), "{entry:#}");
    let is_brightness = |c: &Value| c["name"] == "brightness" && c["min"] == -64 && c["max"] == 64;
    assert!(has(&entry["controls"], is_brightness), "{entry:#}");
}
