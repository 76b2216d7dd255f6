//! Controls as they are written in the configuration, held against what the device has.
//!
//! In: names and values, descriptions. Out: what to set, or what the device accepts instead.
//! Not here: asking the device (device, sys).

use std::fmt::Write;

use nix::errno::Errno;
use v4l::v4l_sys as raw;

use super::sys::ControlInfo;
use crate::config::ControlValue;

/// One control of a device with the words of its menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub info: ControlInfo,
    /// Index and word; empty for all but menus.
    pub menu: Vec<(u32, String)>,
}

impl Described {
    /// Its name as the configuration writes it.
    pub fn key(&self) -> String {
        key_of(&self.info.name)
    }

    /// A number, flag, menu or button that can be set.
    pub fn is_settable(&self) -> bool {
        let kind = self.kind();
        let barred = raw::V4L2_CTRL_FLAG_DISABLED | raw::V4L2_CTRL_FLAG_READ_ONLY;
        self.info.flags & barred == 0 && kind != Kind::Other
    }

    pub fn kind(&self) -> Kind {
        match self.info.kind {
            raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN => Kind::Flag,
            raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_BUTTON => Kind::Button,
            raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_MENU
            | raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU => Kind::Menu,
            raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER
            | raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER64
            | raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK => Kind::Number,
            _ => Kind::Other,
        }
    }

    /// What may be written for it: `0 to 255`, `"50 Hz" or "60 Hz"`.
    pub fn accepted(&self) -> String {
        let info = &self.info;
        match self.kind() {
            Kind::Flag => "true or false".to_owned(),
            Kind::Button => "true".to_owned(),
            Kind::Menu => {
                let words = self.menu.iter().map(|(_, word)| format!("\"{word}\""));
                words.collect::<Vec<_>>().join(", ")
            }
            Kind::Number if info.kind == raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK => {
                format!("0 to {:#x}", info.max as u32)
            }
            Kind::Number if info.step > 1 => {
                format!("{} to {} in steps of {}", info.min, info.max, info.step)
            }
            Kind::Number => format!("{} to {}", info.min, info.max),
            Kind::Other => "nothing".to_owned(),
        }
    }

    /// The number that the driver takes for `value`.
    fn number(&self, value: &ControlValue) -> Option<i64> {
        let info = &self.info;
        match (self.kind(), value) {
            (Kind::Flag, ControlValue::Flag(flag)) => Some(i64::from(*flag)),
            (Kind::Flag, ControlValue::Number(n @ (0 | 1))) => Some(*n),
            (Kind::Button, ControlValue::Flag(true)) => Some(1),
            (Kind::Menu, ControlValue::Number(n)) => {
                let index = u32::try_from(*n).ok()?;
                self.menu
                    .iter()
                    .any(|(known, _)| *known == index)
                    .then_some(*n)
            }
            (Kind::Menu, ControlValue::Word(word)) => {
                let same = |known: &str| known.trim().eq_ignore_ascii_case(word.trim());
                let hit = self.menu.iter().find(|(_, known)| same(known));
                hit.map(|(index, _)| i64::from(*index))
            }
            (Kind::Number, ControlValue::Number(n)) => {
                let is_mask = info.kind == raw::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK;
                if is_mask {
                    return (*n & !i64::from(info.max as u32) == 0).then_some(*n);
                }
                let step = i64::try_from(info.step.max(1)).unwrap_or(1);
                let fits = (info.min..=info.max).contains(n);
                let offset = n.checked_sub(info.min)?;
                (fits && offset % step == 0).then_some(*n)
            }
            _ => None,
        }
    }
}

/// Kinds of controls that differ in what may be written for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Flag,
    Menu,
    Button,
    /// Text, headings and compound ones: not for us.
    Other,
}

/// `Power Line Frequency` becomes `power_line_frequency`, as `v4l2-ctl` writes it.
pub fn key_of(name: &str) -> String {
    let mut key = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            key.push(c.to_ascii_lowercase());
        } else if !key.is_empty() && !key.ends_with('_') {
            key.push('_');
        }
    }
    key.truncate(key.trim_end_matches('_').len());
    key
}

/// Sets controls with `set`. Those that are refused are tried once more at the end: an exposure
/// can be set only after its automatic was turned off, in whichever order they were written. What
/// is refused then comes back, for a person.
///
/// # Errors
/// The device is gone.
pub fn set_all(
    plan: Vec<(u32, i64, String)>,
    mut set: impl FnMut(u32, i64) -> nix::Result<()>,
) -> nix::Result<Vec<String>> {
    let mut refused = Vec::new();
    for one in plan {
        match set(one.0, one.1) {
            Ok(()) => {}
            Err(Errno::ENODEV) => return Err(Errno::ENODEV),
            Err(_) => refused.push(one),
        }
    }
    let mut left = Vec::new();
    for (id, value, name) in refused {
        let why = match set(id, value) {
            Ok(()) => continue,
            Err(Errno::ENODEV) => return Err(Errno::ENODEV),
            Err(Errno::EBUSY | Errno::EACCES) => {
                "something else, such as an automatic, holds it".to_owned()
            }
            Err(errno) => format!("{} ({errno:?})", errno.desc()),
        };
        left.push(format!("control {name} = {value} is not set: {why}"));
    }
    Ok(left)
}

/// What to set, in the order of the configuration.
///
/// # Errors
/// Every name and value that the device does not take, with what it does.
pub fn plan(
    wishes: &[(String, ControlValue)],
    device: &[Described],
) -> Result<Vec<(u32, i64, String)>, String> {
    let settable: Vec<_> = device.iter().filter(|d| d.is_settable()).collect();
    let (mut plan, mut wrong) = (Vec::new(), String::new());
    for (name, value) in wishes {
        let Some(control) = settable.iter().find(|d| d.key() == *name) else {
            let known: Vec<_> = settable.iter().map(|d| d.key()).collect();
            let known = match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            };
            let _ = write!(wrong, "; no control {name}: the camera has {known}");
            continue;
        };
        match control.number(value) {
            Some(number) => plan.push((control.info.id, number, name.clone())),
            None => {
                let accepted = control.accepted();
                let written = shown(value);
                let _ = write!(wrong, "; {name} = {written}: the camera takes {accepted}");
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(plan),
        false => Err(wrong.trim_start_matches("; ").to_owned()),
    }
}

fn shown(value: &ControlValue) -> String {
    match value {
        ControlValue::Number(number) => number.to_string(),
        ControlValue::Flag(flag) => flag.to_string(),
        ControlValue::Word(word) => format!("\"{word}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(name: &str, kind: u32, (min, max): (i64, i64), step: u64) -> Described {
        Described {
            info: ControlInfo {
                id: name.len() as u32,
                name: name.to_owned(),
                kind,
                min,
                max,
                step,
                default: min,
                flags: 0,
            },
            menu: Vec::new(),
        }
    }

    fn camera() -> Vec<Described> {
        let mut menu = control("Power Line Frequency", 3, (0, 2), 1);
        menu.menu = vec![(0, "Disabled".into()), (2, "50 Hz".into())];
        let mut read_only = control("Serial", 1, (0, 9), 1);
        read_only.info.flags = raw::V4L2_CTRL_FLAG_READ_ONLY;
        vec![
            control("Brightness", 1, (-64, 64), 1),
            control("White Balance, Automatic", 2, (0, 1), 1),
            control("Zoom, Absolute", 1, (100, 500), 10),
            control("Restart", 4, (0, 0), 0),
            control("Mask", 8, (0, 0xF0), 0),
            menu,
            read_only,
        ]
    }

    fn planned(name: &str, value: ControlValue) -> Result<i64, String> {
        plan(&[(name.to_owned(), value)], &camera()).map(|plan| plan[0].1)
    }

    #[test]
    fn a_control_that_is_refused_is_tried_again_once_the_others_are_set() {
        let plan = || {
            let one = |(id, value, name): &(u32, i64, &str)| (*id, *value, (*name).to_owned());
            let all = [
                (1, 100, "exposure"),
                (2, 1, "auto_exposure"),
                (3, 5, "zoom"),
            ];
            all.iter().map(one).collect::<Vec<_>>()
        };
        let mut is_auto = true;
        let mut tries = 0;
        let left = set_all(plan(), |id, _| {
            tries += 1;
            match id {
                1 if is_auto => Err(Errno::EACCES),
                2 => {
                    is_auto = false;
                    Ok(())
                }
                3 => Err(Errno::EIO),
                _ => Ok(()),
            }
        });
        assert_eq!(tries, 5);
        let why = "control zoom = 5 is not set: I/O error (EIO)".to_owned();
        assert_eq!(left, Ok(vec![why]));
        let gone = set_all(plan(), |_, _| Err(Errno::ENODEV));
        assert_eq!(gone, Err(Errno::ENODEV));
    }

    #[test]
    fn names_are_written_as_v4l2_ctl_writes_them() {
        for (name, key) in [
            ("Brightness", "brightness"),
            ("White Balance, Automatic", "white_balance_automatic"),
            ("Exposure Time, Absolute ", "exposure_time_absolute"),
            ("H264 I-Frame Period", "h264_i_frame_period"),
            ("---", ""),
        ] {
            assert_eq!(key_of(name), key);
        }
    }

    #[test]
    fn numbers_flags_words_and_buttons_are_taken() {
        use ControlValue::{Flag, Number, Word};
        assert_eq!(planned("brightness", Number(-64)), Ok(-64));
        assert_eq!(planned("white_balance_automatic", Flag(true)), Ok(1));
        assert_eq!(planned("white_balance_automatic", Number(0)), Ok(0));
        assert_eq!(planned("zoom_absolute", Number(110)), Ok(110));
        assert_eq!(planned("restart", Flag(true)), Ok(1));
        assert_eq!(planned("mask", Number(0x30)), Ok(0x30));
        let frequency = "power_line_frequency";
        assert_eq!(planned(frequency, Word("50 hz".into())), Ok(2));
        assert_eq!(planned(frequency, Number(2)), Ok(2));
    }

    #[test]
    fn what_is_wrong_is_answered_with_what_the_camera_takes() {
        use ControlValue::{Flag, Number, Word};
        for (name, value, said) in [
            (
                "brightness",
                Number(65),
                "brightness = 65: the camera takes -64 to 64",
            ),
            (
                "brightness",
                Flag(true),
                "brightness = true: the camera takes -64 to 64",
            ),
            (
                "zoom_absolute",
                Number(105),
                "zoom_absolute = 105: the camera takes 100 to 500 in steps of 10",
            ),
            (
                "power_line_frequency",
                Word("55 Hz".into()),
                "power_line_frequency = \"55 Hz\": the camera takes \"Disabled\", \"50 Hz\"",
            ),
            (
                "power_line_frequency",
                Number(1),
                "power_line_frequency = 1: the camera takes \"Disabled\", \"50 Hz\"",
            ),
            ("mask", Number(1), "mask = 1: the camera takes 0 to 0xf0"),
            (
                "serial",
                Number(1),
                "no control serial: the camera has brightness, white_balance_automatic, \
                 zoom_absolute, restart, mask, power_line_frequency",
            ),
        ] {
            assert_eq!(planned(name, value).unwrap_err(), said);
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let wishes = ["a", "b"].map(|name| (name.to_owned(), ControlValue::Number(1)));
        let said = plan(&wishes, &[]).unwrap_err();
        assert_eq!(
            said,
            "no control a: the camera has none; no control b: the camera has none"
        );
    }

    #[test]
    fn a_driver_with_absurd_bounds_makes_nothing_overflow() {
        let odd = control("Odd", 1, (i64::MIN, i64::MAX), u64::MAX);
        let wish = [("odd".to_owned(), ControlValue::Number(i64::MAX))];
        assert!(plan(&wish, &[odd]).is_err());
    }
}
