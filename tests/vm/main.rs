//! The cases that need real kernel drivers. `tests/vm/run.sh` runs this program inside its virtual
//! machine (`vm cases GROUP [PART OF A NAME]`) and, as a viewer, outside of it (`vm view`).
//! Under a plain `cargo test` it runs nothing and says so.
//!
//! In: vivid, uvcvideo and the M2M encoder of tests/vm/encoder. Out: a line per case with its
//! figures, then "N passed, M failed".
//! Not here: building and booting the machine (kit.sh, boot.sh).
// Helpers of tests: a panic is the failure, and what a case does not look for it leaves aside.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm
)]

mod devices;
mod encoder;
mod formats;
mod gateway;
mod machine;
mod on_demand;
mod overload;
mod picture;
mod rounds;
mod sizes;
mod starved;
mod usb;
mod usb_camera;
mod usb_descriptors;
mod usb_h264;
mod viewer;
mod vivid;
mod watch;

use std::any::Any;
use std::panic;
use std::process::ExitCode;

use crate::starved::Starved;

/// A case: its name, and what tells its figures or panics.
pub struct Case(&'static str, fn() -> String);

fn group(name: &str) -> Option<Vec<Case>> {
    match name {
        "vivid" => Some(vivid::cases()),
        "rounds" => Some(rounds::cases()),
        "usb" => Some(usb::cases()),
        "encoder" => Some(encoder::cases()),
        "on-demand" => Some(on_demand::cases()),
        "overload" => Some(overload::cases()),
        _ => None,
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["cases", name, part @ ..] => {
            let cases = group(name).expect("vivid, rounds, usb, encoder, on-demand or overload");
            run(&cases, part.first().copied().unwrap_or_default())
        }
        ["view", url, seconds, limit] => {
            let (seconds, limit) = (seconds.parse().unwrap(), limit.parse().unwrap());
            viewer::report(url, seconds, limit)
        }
        ["disturb", seconds] => {
            machine::disturb(seconds.parse().unwrap());
            ExitCode::SUCCESS
        }
        _ => {
            println!("vm: nothing to run here; tests/vm/run.sh boots the machine for these cases");
            ExitCode::SUCCESS
        }
    }
}

fn run(cases: &[Case], part: &str) -> ExitCode {
    // A failed case tells its reason on its own line.
    panic::set_hook(Box::new(|_| ()));
    starved::watch();
    let (mut passed, mut failed) = (0, 0);
    let mut had_chance = false;
    for Case(name, body) in cases.iter().filter(|case| case.0.contains(part)) {
        let (mut outcome, mut took) = attempt(*body);
        // One that fails while the host gives the machine no time has proven nothing. Drivers throw
        // coins and an emulator's clock has moods, so the first of a group that fails undisturbed
        // gets a second chance as well. It is the last one, and both tries are printed.
        if let Err((reason, starved)) = &outcome
            && (starved.is_much() || !std::mem::replace(&mut had_chance, true))
        {
            println!("again {name} ({took:.1} s): {reason} ({starved})");
            (outcome, took) = attempt(*body);
        }
        match outcome {
            Ok(figures) => {
                passed += 1;
                println!("ok    {name} ({took:.1} s): {figures}");
            }
            Err((reason, starved)) => {
                failed += 1;
                println!("FAIL  {name} ({took:.1} s): {reason} ({starved})");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    // A name that fits nothing proves nothing.
    ExitCode::from(u8::from(failed > 0 || passed == 0))
}

/// Runs a case: its figures, or why it failed and what the machine lost meanwhile; its seconds.
fn attempt(body: fn() -> String) -> (Result<String, (String, Starved)>, f32) {
    let start = starved::begin();
    let outcome = panic::catch_unwind(body);
    let took = start.elapsed().as_secs_f32();
    let failed =
        |reason: Box<dyn Any + Send>| (words_of(&*reason).to_owned(), Starved::since(start));
    (outcome.map_err(failed), took)
}

fn words_of(reason: &(dyn Any + Send)) -> &str {
    let text = reason.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| reason.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
}
