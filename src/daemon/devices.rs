//! `pinhole devices`: what is plugged in, as a table or as JSON.
//!
//! In: what the video nodes say. Out: text.
//! Not here: asking them (source::v4l2).

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::source::v4l2::control::Described;
use crate::source::v4l2::list::{Found, What, find_all};
use crate::source::v4l2::mode::{Offer, Rates, fps_of};

/// Looks at every video node, and answers for people or for programs.
pub fn report(as_json: bool) -> String {
    let found = find_all();
    match as_json {
        true => format!("{:#}\n", json(&found)),
        false => table(&found),
    }
}

/// For people: compact, with lines for the configuration at the end.
fn table(found: &[Found]) -> String {
    let mut text = String::new();
    let cameras: Vec<_> = found
        .iter()
        .filter(|found| matches!(found.what, What::Camera { .. }))
        .collect();
    if cameras.is_empty() {
        text += "No camera is plugged in (no V4L2 device that captures pictures).\n";
    }
    for camera in &cameras {
        let _ = writeln!(text, "{}", camera.card);
        head(&mut text, camera);
        if let What::Camera {
            offers,
            other_formats,
            controls,
            choice,
        } = &camera.what
        {
            let (Ok(words) | Err(words)) = choice;
            let _ = writeln!(text, "  {:<9} {words}", "default");
            modes(&mut text, offers);
            if !other_formats.is_empty() {
                let names: Vec<_> = other_formats.iter().map(ToString::to_string).collect();
                let _ = writeln!(text, "  {:<9} {}", "not used", wrap(&names, " "));
            }
            list_controls(&mut text, controls);
        }
        text.push('\n');
    }
    for other in found {
        match &other.what {
            What::Camera { .. } => {}
            What::Encoder { takes } => {
                let _ = writeln!(text, "{}: a hardware encoder (H.264)", other.card);
                head(&mut text, other);
                let names: Vec<_> = takes.iter().map(ToString::to_string).collect();
                let _ = writeln!(text, "  {:<9} {}\n", "takes", wrap(&names, " "));
            }
            What::Refused(errno) => {
                let node = other.node.display();
                let _ = writeln!(text, "{node}: {} ({errno:?})\n", errno.desc());
            }
        }
    }
    if !cameras.is_empty() {
        text += "For the configuration:\n";
        text += &toml_lines(&cameras);
    }
    text
}

fn head(text: &mut String, found: &Found) {
    for name in &found.names {
        let _ = writeln!(text, "  {:<9} {name}", "name");
    }
    let node = found.node.display();
    let _ = writeln!(
        text,
        "  {:<9} {node}, driver {}, {}",
        "node", found.driver, found.bus
    );
}

/// One line for each format: sizes with their rates.
fn modes(text: &mut String, offers: &[Offer]) {
    let mut formats: Vec<(String, Vec<String>)> = Vec::new();
    for offer in offers {
        let name = offer.coding.fourcc().to_string();
        let (width, height) = offer.size;
        let mode = format!("{width}x{height}{}", rates_text(&offer.rates));
        match formats.iter_mut().find(|(known, _)| *known == name) {
            Some((_, modes)) => modes.push(mode),
            None => formats.push((name, vec![mode])),
        }
    }
    // Formats with the same modes share a line.
    let mut lines: Vec<(Vec<String>, String)> = Vec::new();
    for (name, modes) in formats {
        let modes = wrap(&modes, ", ");
        match lines.iter_mut().find(|(_, known)| *known == modes) {
            Some((names, _)) => names.push(name),
            None => lines.push((vec![name], modes)),
        }
    }
    for (names, modes) in lines {
        let _ = writeln!(text, "  {:<9} {}", "format", wrap(&names, " "));
        let _ = writeln!(text, "  {:<9} {modes}", "");
    }
}

fn rates_text(rates: &Rates) -> String {
    let one = |rate: &(u32, u32)| {
        let text = format!("{:.2}", fps_of(*rate));
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match rates {
        Rates::Unknown => String::new(),
        Rates::UpTo(rate) => format!(" @ up to {}", one(rate)),
        Rates::List(list) if list.len() > MAX_RATES => {
            let sorted = sorted(list);
            match (sorted.first(), sorted.last()) {
                (Some(slow), Some(fast)) => format!(" @ {} to {}", one(slow), one(fast)),
                _ => String::new(),
            }
        }
        Rates::List(list) => {
            let rates: Vec<_> = sorted(list).iter().rev().map(one).collect();
            format!(" @ {}", rates.join(" "))
        }
    }
}

fn sorted(list: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut list = list.to_vec();
    list.sort_by(|a, b| fps_of(*a).total_cmp(&fps_of(*b)));
    list
}

fn list_controls(text: &mut String, controls: &[Described]) {
    let settable: Vec<_> = controls.iter().filter(|c| c.is_settable()).collect();
    let width = settable.iter().map(|c| c.key().len()).max().unwrap_or(0);
    for (n, control) in settable.iter().enumerate() {
        let label = if n == 0 { "controls" } else { "" };
        let default = default_text(control);
        let _ = writeln!(
            text,
            "  {label:<9} {:<width$}  {}{default}",
            control.key(),
            control.accepted()
        );
    }
}

fn default_text(control: &Described) -> String {
    use crate::source::v4l2::control::Kind;
    let default = control.info.default;
    match control.kind() {
        Kind::Flag => format!(" ({})", default != 0),
        Kind::Number => format!(" ({default})"),
        Kind::Menu => {
            let mut menu = control.menu.iter();
            let word = menu.find(|(index, _)| i64::from(*index) == default);
            word.map_or_else(String::new, |(_, word)| format!(" (\"{word}\")"))
        }
        Kind::Button | Kind::Other => String::new(),
    }
}

/// Breaks a long list into lines below each other.
fn wrap(items: &[String], between: &str) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            text += between.trim_end();
            if column + item.len() > COLUMNS {
                text += "\n            ";
                column = 0;
            } else {
                text.push(' ');
            }
        }
        text += item;
        column += item.len() + 2;
    }
    text
}

/// One `[[camera]]` for each, with a name out of its card.
fn toml_lines(cameras: &[&Found]) -> String {
    let (mut text, mut taken) = (String::new(), BTreeMap::new());
    for camera in cameras {
        let base = plain_name(&camera.card);
        let count = taken.entry(base.clone()).or_insert(0);
        *count += 1;
        let name = match count {
            1 => base,
            n => format!("{base}-{n}"),
        };
        let source = camera.source();
        let _ = write!(
            text,
            "\n[[camera]]\nname = \"{name}\"\nsource = \"v4l2:{source}\"\n"
        );
    }
    text
}

/// Lower case, letters and digits, `-` for the rest: fits an URL.
fn plain_name(card: &str) -> String {
    let mut name = String::new();
    // Drivers often repeat the name behind a colon.
    let card = card.split(':').next().unwrap_or_default();
    for c in card.chars().take(MAX_NAME) {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_end_matches('-');
    match name {
        "" | "session" => "camera".to_owned(),
        name => name.to_owned(),
    }
}

/// For programs.
fn json(found: &[Found]) -> Value {
    let entries = found.iter().map(|found| {
        let mut entry = json!({
            "node": found.node.display().to_string(),
            "names": found.names,
            "card": found.card,
            "driver": found.driver,
            "bus": found.bus,
        });
        match &found.what {
            What::Camera {
                offers,
                other_formats,
                controls,
                choice,
            } => {
                entry["kind"] = json!("camera");
                entry["source"] = json!(format!("v4l2:{}", found.source()));
                entry["default"] = json!(choice.as_ref().ok());
                entry["modes"] = offers.iter().map(mode_json).collect();
                entry["unused_formats"] = other_formats.iter().map(ToString::to_string).collect();
                let settable = controls.iter().filter(|c| c.is_settable());
                entry["controls"] = settable.map(control_json).collect();
            }
            What::Encoder { takes } => {
                entry["kind"] = json!("encoder");
                entry["formats"] = takes.iter().map(ToString::to_string).collect();
            }
            What::Refused(errno) => {
                entry["kind"] = json!("unknown");
                entry["error"] = json!(errno.desc());
            }
        }
        entry
    });
    json!({ "devices": entries.collect::<Vec<_>>() })
}

fn mode_json(offer: &Offer) -> Value {
    let rates = match &offer.rates {
        Rates::Unknown => json!(null),
        Rates::UpTo(rate) => json!({ "up_to": fps_of(*rate) }),
        Rates::List(list) => list.iter().map(|rate| fps_of(*rate)).collect(),
    };
    json!({
        "format": offer.coding.fourcc().to_string(),
        "width": offer.size.0,
        "height": offer.size.1,
        "fps": rates,
    })
}

fn control_json(control: &Described) -> Value {
    let info = &control.info;
    let mut entry = json!({
        "name": control.key(),
        "accepted": control.accepted(),
        "min": info.min,
        "max": info.max,
        "step": info.step,
        "default": info.default,
    });
    if !control.menu.is_empty() {
        let menu = control.menu.iter();
        let words: serde_json::Map<_, _> = menu
            .map(|(index, word)| (index.to_string(), json!(word)))
            .collect();
        entry["menu"] = Value::Object(words);
    }
    entry
}

/// Characters of a list's line.
const COLUMNS: usize = 84;
/// Rates of one size that are listed one by one.
const MAX_RATES: usize = 6;
/// Characters of a camera's name.
const MAX_NAME: usize = 32;

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm)] // a test panics at what it does not expect
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Config, Source};
    use crate::media::pixel::PixelFormat;
    use crate::source::v4l2::mode::Coding;

    fn camera(card: &str, name: Option<&str>) -> Found {
        let offer = |format, size, fps: &[u32]| Offer {
            coding: Coding::Raw(format),
            size,
            rates: Rates::List(fps.iter().map(|fps| (1, *fps)).collect()),
        };
        Found {
            node: PathBuf::from("/dev/video0"),
            names: name.map(str::to_owned).into_iter().collect(),
            driver: "uvcvideo".to_owned(),
            card: card.to_owned(),
            bus: "usb-1".to_owned(),
            what: What::Camera {
                offers: vec![
                    offer(PixelFormat::Mjpeg, (1280, 720), &[15, 30]),
                    offer(PixelFormat::Mjpeg, (640, 480), &[30]),
                    offer(PixelFormat::Yuyv, (640, 480), &[30]),
                ],
                other_formats: Vec::new(),
                controls: Vec::new(),
                choice: Ok("640x480".to_owned()),
            },
        }
    }

    #[test]
    fn the_table_shows_modes_and_ends_with_a_configuration_that_is_right() {
        let found = [
            camera(
                "HD Webcam C920: HD Webcam C920",
                Some("usb-046d_C920-video-index0"),
            ),
            camera("HD Webcam C920", None),
            camera("\u{FFFD}", None),
        ];
        let text = table(&found);
        assert!(text.contains("1280x720 @ 30 15, 640x480 @ 30\n"), "{text}");
        let (_, lines) = text.split_once("For the configuration:\n").expect("lines");
        let none = |_: &std::path::Path| Err(std::io::Error::other("none"));
        let config = Config::parse(lines, "pasted", &none).expect("right");
        let cameras: Vec<_> = config
            .cameras
            .iter()
            .map(|camera| match &camera.source {
                Source::V4l2(v4l2) => (camera.name.as_str(), v4l2.device.as_str()),
                Source::Rtsp(_) | Source::File(_) | Source::Pattern(_) => panic!("another kind"),
            })
            .collect();
        let expected = [
            ("hd-webcam-c920", "usb-046d_C920-video-index0"),
            ("hd-webcam-c920-2", "/dev/video0"),
            ("camera", "/dev/video0"),
        ];
        assert_eq!(cameras, expected);
    }

    #[test]
    fn programs_get_json() {
        let value = json(&[camera("C920", Some("usb-x"))]);
        let device = &value["devices"][0];
        assert_eq!(device["kind"], "camera");
        assert_eq!(device["source"], "v4l2:usb-x");
        assert_eq!(device["modes"][0]["fps"][1], 30.0);
    }

    #[test]
    fn no_device_is_said() {
        assert!(table(&[]).starts_with("No camera is plugged in"));
        assert_eq!(json(&[]), json!({ "devices": [] }));
    }
}
