//! Refuses a build whose software encoder would be three times slower in silence.
//!
//! openh264-sys2 assembles its x86 routines with nasm; where nasm is missing or fails it builds
//! plain C++ without a word. ARM needs nothing: gcc assembles the NEON routines.
#![allow(clippy::print_stderr)] // how a build script speaks

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    // Not PATH: it differs between shells, and each change would compile the whole crate again. A
    // refused build is tried again in any case.
    for name in [OPT_OUT, "OPENH264_NO_ASM", "NASM"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    if let Err(reason) = encoder_has_assembly() {
        if env::var_os(OPT_OUT).is_some_and(|v| v == "1") {
            println!("cargo:warning=openh264 is built without its x86 assembly: about 3x slower");
        } else {
            let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
            let profile = if release { "--release " } else { "" };
            eprintln!(
                "\n{reason}\nThe software encoder (openh264) would be about three times slower.\n\
                 Do this:   apt-get install nasm && cargo clean {profile}-p openh264-sys2\n\
                 or accept it by setting {OPT_OUT}=1 and building again.\n"
            );
            std::process::exit(1);
        }
    }
}

fn encoder_has_assembly() -> Result<(), &'static str> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if arch != "x86" && arch != "x86_64" {
        return Ok(());
    }
    if env::var_os("OPENH264_NO_ASM").is_some() {
        return Err("OPENH264_NO_ASM is set.");
    }
    let nasm = env::var_os("NASM").unwrap_or_else(|| "nasm".into());
    let runs = Command::new(nasm).arg("-v").output();
    if !runs.is_ok_and(|output| output.status.success()) {
        return Err("nasm is not installed (or not in PATH), and this is an x86 build.");
    }
    if was_built_plain() {
        return Err("nasm is installed now, but openh264 was built here earlier without it.");
    }
    Ok(())
}

/// Cargo keeps the dependency's plain build until told otherwise, even once nasm is there. What
/// that build said lies next to our own output: `build/openh264-sys2-*/output`.
fn was_built_plain() -> bool {
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else {
        return false;
    };
    let Some(entries) = out
        .ancestors()
        .nth(2)
        .and_then(|dir| fs::read_dir(dir).ok())
    else {
        return false;
    };
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("openh264-sys2-")
        })
        .filter_map(|entry| fs::read_to_string(entry.path().join("output")).ok())
        .any(|said| PLAIN.iter().any(|line| said.contains(line)))
}

/// Set to 1 to build without nasm all the same.
const OPT_OUT: &str = "PINHOLE_ALLOW_SLOW_OPENH264";
/// What openh264-sys2 0.9 prints when it goes without assembly.
const PLAIN: [&str; 3] = [
    "NASM compilation disabled by environment variable",
    "No NASM configuration found for target",
    "Failed to compile NASM files",
];
