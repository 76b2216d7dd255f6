//! How long things take.

use std::fmt;

use super::out::Out;
use crate::whep::status::{CameraStatus, Timings};

pub(super) fn write(out: &mut Out<'_>, timings: &Timings) -> fmt::Result {
    for (name, help, histogram) in [
        (
            "loop_lag_seconds",
            "From the wake-up meant to the wake-up.",
            &timings.lag,
        ),
        ("loop_turn_seconds", "One turn of the loop.", &timings.turn),
        (
            "join_seconds",
            "POST received to last packet of the first key frame sent.",
            &timings.join,
        ),
    ] {
        out.histogram(name, help, histogram)?;
    }
    for (name, histogram) in [
        ("loop_lag_longest_seconds", &timings.lag),
        ("loop_turn_longest_seconds", &timings.turn),
    ] {
        let longest = histogram.longest().as_secs_f64();
        out.gauge(
            name,
            "The longest since the last scrape, whoever scraped: of two scrapers each sees a part.",
            longest,
        )?;
    }
    Ok(())
}

/// Of each camera, every stage that its pictures went through.
pub(super) fn stages(out: &mut Out<'_>, cameras: &[CameraStatus]) -> fmt::Result {
    let rows = cameras.iter().flat_map(|camera| {
        let named = camera.stages.named();
        named.map(|(stage, histogram)| {
            let labels = [("camera", camera.name.as_str()), ("stage", stage)];
            (labels, histogram)
        })
    });
    out.histograms(
        "stage_seconds",
        "Time of one picture in each stage; sent is all its way from arrival (where it is coded \
         here: from its taking) to the last packet, per viewer.",
        rows,
    )
}
