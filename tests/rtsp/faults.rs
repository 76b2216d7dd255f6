//! What no real server can be made to do.

use std::time::{Duration, Instant};

use pinhole::config::{self, Transport};
use pinhole::media::{Demand, DownReason, SourceEvent};

use crate::fault_camera::{
    Act, Allows, Answer, FIRST_WIDTH, FaultCamera, GOP, Parameters, Plan, TICKS_PER_PICTURE,
};
use crate::h264;
use crate::watch::{Down, Watch, camera, eventually, with_transport};

const STEP: i64 = TICKS_PER_PICTURE as i64;

async fn start(plans: &[Plan]) -> (FaultCamera, config::Camera) {
    let fault = FaultCamera::start(plans.to_vec()).await;
    let mut camera = camera(&format!("rtsp://{}/x", fault.address));
    camera.stall = Duration::from_secs(2);
    (fault, camera)
}

/// A first session that goes by `plan`, then a camera without fault: how the first one ended.
/// The second must play.
async fn one_bad_session(plan: Plan) -> (FaultCamera, Watch, Down) {
    let (fault, camera) = start(&[plan, Plan::default()]).await;
    let mut watch = Watch::open(&camera);
    let down = watch.down().await;
    assert_eq!(fault.sessions(), 1, "told before anything is opened again");
    assert!(watch.unit().await.is_key_frame);
    assert_eq!(fault.sessions(), 2);
    (fault, watch, down)
}

/// A camera that does `acts` in its first session, which must survive them.
async fn survives(acts: &[Act]) -> (FaultCamera, Watch) {
    let (fault, camera) = start(&[Plan::acts(acts)]).await;
    (fault, Watch::open(&camera))
}

#[tokio::test]
async fn silence_at_every_step_ends_the_attempt() {
    let silent = |describe, setup, play| Plan {
        describe,
        setup,
        play,
        ..Plan::default()
    };
    let (never, well) = (Answer::Never, Answer::Well);
    let (describe, setup, play) = tokio::join!(
        one_bad_session(silent(never, well, well)),
        one_bad_session(silent(well, never, well)),
        one_bad_session(silent(well, well, never)),
    );
    for (name, (_, _, down)) in [("DESCRIBE", describe), ("SETUP", setup), ("PLAY", play)] {
        assert_eq!(down.reason, DownReason::Unreachable);
        assert!(
            down.detail.contains(&format!("no answer to {name}")),
            "{down:?}"
        );
    }
}

#[tokio::test]
async fn the_video_of_an_onvif_camera_plays_without_its_metadata() {
    for transport in [Transport::Tcp, Transport::Udp] {
        let plan = Plan {
            has_metadata: true,
            ..Plan::default()
        };
        let (fault, camera) = start(&[plan]).await;
        let mut watch = Watch::open(&with_transport(camera, transport));
        assert!(watch.note().await.contains("1 more not used"));
        let units = watch.units(30).await;
        assert!(units[0].is_key_frame);
        assert!(
            units
                .windows(2)
                .all(|pair| pair[1].ticks == pair[0].ticks + STEP)
        );
        assert_eq!(watch.errors, 0, "{}", watch.log);
        let requests = fault.requests(0);
        let setups = requests.iter().filter(|line| line.starts_with("SETUP"));
        assert_eq!(setups.count(), 1, "the video alone: {requests:?}");
    }
}

#[tokio::test]
async fn refusals_and_nonsense_at_every_step_end_the_attempt() {
    for answer in [
        Answer::Status(503),
        Answer::WrongCseq,
        Answer::Garbage,
        Answer::Hangup,
    ] {
        for step in 0..3 {
            let mut plan = Plan::default();
            *[&mut plan.describe, &mut plan.setup, &mut plan.play][step] = answer;
            let (_, watch, down) = one_bad_session(plan).await;
            assert!(
                matches!(
                    down.reason,
                    DownReason::Unreachable | DownReason::Unsupported
                ),
                "{answer:?} {down:?}"
            );
            assert!(
                down.retry_in < Duration::from_secs(1),
                "{answer:?} {down:?}"
            );
            assert_eq!(watch.errors, 0, "refusals are no stream errors");
        }
    }
}

#[tokio::test]
async fn a_camera_without_tcp_is_asked_for_udp_first_the_next_time() {
    let plan = Plan {
        allows: Allows::Udp,
        acts: vec![Act::Pictures(5), Act::End],
        ..Plan::default()
    };
    let (fault, mut watch, _) = one_bad_session(plan.clone()).await;
    drop(watch);
    let setups = |n| -> Vec<String> {
        let requests = fault.requests(n);
        requests
            .into_iter()
            .filter(|r| r.starts_with("SETUP"))
            .collect()
    };
    assert_eq!(setups(0).len(), 2);
    assert!(setups(0)[0].contains("RTP/AVP/TCP") && setups(0)[1].contains("RTP/AVP/UDP"));
    assert_eq!(setups(1).len(), 1);
    assert!(setups(1)[0].contains("RTP/AVP/UDP"), "{:?}", setups(1));

    // A camera that refuses what is configured says so.
    let (_fault, camera) = start(&[plan]).await;
    watch = Watch::open(&with_transport(camera, Transport::Tcp));
    let down = watch.down().await;
    assert_eq!(down.reason, DownReason::Unsupported);
    assert!(down.detail.contains("\"tcp\""), "{down:?}");
}

#[tokio::test]
async fn a_camera_without_any_transport_is_unsupported() {
    let plan = Plan {
        allows: Allows::Neither,
        ..Plan::default()
    };
    let (_fault, camera) = start(&[plan]).await;
    let down = Watch::open(&camera).down().await;
    assert_eq!(down.reason, DownReason::Unsupported);
    assert!(down.detail.contains("TCP and UDP"), "{down:?}");
}

#[tokio::test]
async fn a_sender_report_of_somebody_else_before_the_first_picture_changes_nothing() {
    let (fault, mut watch) = survives(&[Act::Report(0xbad), Act::Pictures(20)]).await;
    assert!(watch.unit().await.is_key_frame);
    watch.units(10).await;
    assert_eq!((fault.sessions(), watch.errors), (1, 0));
}

#[tokio::test]
async fn nine_bad_packets_in_a_row_are_tolerated() {
    let acts = [Act::Pictures(3), Act::BadPackets(9), Act::Pictures(20)];
    let (fault, mut watch) = survives(&acts).await;
    watch.units(3).await;
    let next = watch.unit().await;
    assert!(
        next.is_key_frame && next.after_loss,
        "held until a key frame"
    );
    assert_eq!(watch.errors, 9);
    watch.units(20).await;
    assert_eq!(fault.sessions(), 1);
}

#[tokio::test]
async fn ten_bad_packets_in_a_row_restart_the_camera_and_are_told_first() {
    let acts = [Act::Pictures(3), Act::BadPackets(10), Act::Silence];
    let (fault, watch, down) = one_bad_session(Plan::acts(&acts)).await;
    assert_eq!(down.reason, DownReason::Errors);
    assert!(down.detail.contains("10 errors in a row"), "{down:?}");
    assert_eq!(watch.errors, 10);
    assert!(fault.requests(0).contains(&"TEARDOWN".to_owned()));
}

#[tokio::test]
async fn a_picture_received_but_held_back_does_not_end_the_row() {
    let acts = [
        Act::Pictures(2),
        Act::BadPackets(5),
        Act::Pictures(2), // no key frame among them: held
        Act::BadPackets(5),
        Act::Silence,
    ];
    let (_, watch, down) = one_bad_session(Plan::acts(&acts)).await;
    assert_eq!(down.reason, DownReason::Errors);
    assert_eq!(watch.errors, 10);
}

#[tokio::test]
async fn a_picture_handed_on_ends_the_row() {
    let acts = [
        Act::Pictures(2),
        Act::BadPackets(9),
        Act::Key,
        Act::BadPackets(9),
        Act::Key,
        Act::Pictures(5),
    ];
    let (fault, mut watch) = survives(&acts).await;
    watch.units(8).await;
    assert_eq!((watch.errors, fault.sessions()), (18, 1));
}

#[tokio::test]
async fn one_bad_fragment_of_thirty_is_one_error() {
    let acts = [Act::Pictures(3), Act::BadFragment, Act::Pictures(20)];
    let (fault, mut watch) = survives(&acts).await;
    watch.units(3).await;
    let next = watch.unit().await;
    assert!(next.is_key_frame && next.after_loss);
    assert_eq!((watch.errors, fault.sessions()), (1, 1));
}

#[tokio::test]
async fn the_rest_of_a_key_frame_whose_first_slice_was_bad_is_no_key_frame() {
    let acts = [Act::Pictures(3), Act::BadSlice, Act::Pictures(20)];
    let (_fault, mut watch) = survives(&acts).await;
    watch.units(3).await;
    let next = watch.unit().await;
    assert!(next.is_key_frame && next.after_loss);
    assert_eq!(h264::nals(&next.data).len(), 3, "SPS, PPS, one slice");
}

#[tokio::test]
async fn whoever_joins_in_the_middle_of_a_picture_waits_for_the_next() {
    let (fault, mut watch) = survives(&[Act::HalfKey, Act::Pictures(5)]).await;
    assert!(watch.unit().await.is_key_frame);
    assert_eq!((watch.errors, fault.sessions()), (1, 1));
}

#[tokio::test]
async fn a_lost_packet_holds_the_stream_until_the_next_key_frame() {
    let (fault, mut watch) = survives(&[Act::Pictures(3), Act::Lose(2)]).await;
    let before = watch.units(3).await;
    let after = watch.unit().await;
    assert!(after.is_key_frame && after.after_loss);
    let missing = (after.ticks - before[2].ticks) / STEP - 1;
    assert_eq!(missing, i64::from(GOP) - 3, "the rest of the GOP is held");
    assert!(!watch.unit().await.after_loss);
    assert!(watch.log.contains("kind: Loss"), "{}", watch.log);
    assert_eq!(fault.sessions(), 1);
}

#[tokio::test]
async fn losses_do_not_restart_the_camera_however_many() {
    let mut acts = vec![Act::Pictures(1)];
    for _ in 0..30 {
        acts.extend([Act::Lose(1), Act::Pictures(1)]);
    }
    let (fault, mut watch) = survives(&acts).await;
    watch.units(20).await;
    assert!(watch.errors >= 10, "{}", watch.log);
    assert_eq!(fault.sessions(), 1);
}

#[tokio::test]
async fn packets_that_overtake_each_other_over_udp_cost_the_rest_of_the_gop() {
    let (fault, camera) = start(&[Plan::acts(&[Act::Pictures(3), Act::Swap])]).await;
    let mut watch = Watch::open(&with_transport(camera, Transport::Udp));
    watch.units(3).await;
    let next = watch.unit().await;
    assert!(next.is_key_frame && next.after_loss);
    assert_eq!(fault.sessions(), 1);
}

#[tokio::test]
async fn packets_out_of_order_over_tcp_are_an_error_that_is_tolerated() {
    let (fault, mut watch) = survives(&[Act::Pictures(3), Act::Swap]).await;
    watch.units(3).await;
    let next = watch.unit().await;
    assert!(next.is_key_frame && next.after_loss);
    assert_eq!(fault.sessions(), 1);
}

#[tokio::test]
async fn new_parameter_sets_are_used_from_their_key_frame_on() {
    let acts = [Act::Pictures(3), Act::Width(40), Act::Key];
    let (_fault, mut watch) = survives(&acts).await;
    for width in [FIRST_WIDTH, 40, 40] {
        let key = watch.key_frame().await;
        let nals = h264::nals(&key.data);
        assert_eq!(nals[0], h264::sps(width));
        assert_eq!(nals[1], h264::PPS);
    }
    assert_eq!(watch.errors, 0, "{}", watch.log);
}

#[tokio::test]
async fn parameter_sets_of_the_sdp_are_put_in_front_of_each_key_frame() {
    let plan = Plan {
        parameters: Parameters::Sdp,
        ..Plan::default()
    };
    let (_fault, camera) = start(&[plan]).await;
    let mut watch = Watch::open(&camera);
    for _ in 0..2 {
        let key = watch.key_frame().await;
        assert_eq!(h264::nals(&key.data)[0], h264::sps(FIRST_WIDTH));
    }
}

#[tokio::test]
async fn key_frames_that_nobody_can_decode_are_errors() {
    let plan = Plan {
        parameters: Parameters::Nowhere,
        ..Plan::default()
    };
    let (_, watch, down) = one_bad_session(plan).await;
    assert_eq!(down.reason, DownReason::Errors);
    assert!(down.detail.contains("before any SPS"), "{down:?}");
    assert!(watch.log.contains("kind: Picture"), "{}", watch.log);
}

#[tokio::test]
async fn the_clock_of_the_camera_runs_on_past_32_bits_and_its_jumps_are_passed_on() {
    let plan = Plan {
        first_ticks: u32::MAX - 5000,
        acts: vec![
            Act::Pictures(4),
            Act::Jump(90_000 * 20),
            Act::Pictures(2),
            Act::Jump(-90_000),
        ],
        ..Plan::default()
    };
    let (fault, camera) = start(&[plan]).await;
    let mut watch = Watch::open(&camera);
    let units = watch.units(8).await;
    let steps: Vec<i64> = units.windows(2).map(|p| p[1].ticks - p[0].ticks).collect();
    let jumps = [
        STEP,
        STEP,
        STEP,
        STEP + 1_800_000,
        STEP,
        STEP - 90_000,
        STEP,
    ];
    assert_eq!(steps, jumps);
    assert!(units[7].ticks > i64::from(u32::MAX));
    assert_eq!((watch.errors, fault.sessions()), (0, 1));
}

#[tokio::test]
async fn a_clean_end_restarts_without_counting_as_an_error() {
    for acts in [&[Act::End][..], &[Act::Pictures(5), Act::End]] {
        let (_, watch, down) = one_bad_session(Plan::acts(acts)).await;
        assert_eq!(down.reason, DownReason::Ended);
        assert_eq!(watch.errors, 0);
    }
}

#[tokio::test]
async fn a_connection_reset_in_the_middle_of_a_packet_is_survived() {
    let (_, watch, down) = one_bad_session(Plan::acts(&[Act::Pictures(5), Act::Reset])).await;
    assert!(
        matches!(down.reason, DownReason::Unreachable | DownReason::Ended),
        "{down:?}"
    );
    assert_eq!(watch.errors, 0);
}

#[tokio::test]
async fn a_camera_that_goes_silent_is_stalled() {
    let (_, _, down) = one_bad_session(Plan::acts(&[Act::Pictures(5), Act::Silence])).await;
    assert_eq!(down.reason, DownReason::Stalled);
    assert!(down.detail.contains("2s"), "{down:?}");
}

#[tokio::test]
async fn a_panic_below_costs_one_restart() {
    // Without marker bits a picture ends when the next begins. Where that one is bad, retina
    // keeps the finished picture, reports the error, and panics over the packet after that.
    let plan = Plan {
        markers: false,
        acts: vec![Act::Pictures(5), Act::BadPackets(1), Act::Pictures(5)],
        ..Plan::default()
    };
    let (_, _, down) = one_bad_session(plan).await;
    assert_eq!(down.reason, DownReason::Internal);
    assert!(down.detail.contains("panicked"), "{down:?}");
}

#[tokio::test]
async fn closing_tears_the_session_down_and_opening_plays_again() {
    let (fault, camera) = start(&[Plan::default()]).await;
    let mut watch = Watch::open(&camera);
    watch.units(3).await;
    watch.handle.demand(Demand::KeyFrame); // cannot be followed, harms nothing
    watch.handle.demand(Demand::Close);
    watch.closed().await;
    watch.handle.closed().await;
    assert_eq!(
        fault.requests(0).last().map(String::as_str),
        Some("TEARDOWN")
    );
    assert!(!watch.log.contains("Down"), "{}", watch.log);

    watch.handle.demand(Demand::Open);
    assert!(watch.unit().await.is_key_frame);
    assert_eq!(fault.sessions(), 2);
}

#[tokio::test]
async fn a_camera_that_does_not_answer_teardown_delays_nobody_for_long() {
    let plan = Plan {
        teardown: Answer::Never,
        ..Plan::default()
    };
    let (_fault, camera) = start(&[plan]).await;
    for transport in [Transport::Tcp, Transport::Udp] {
        let mut watch = Watch::open(&with_transport(camera.clone(), transport));
        watch.unit().await;
        let asked = Instant::now();
        watch.handle.demand(Demand::Close);
        watch.closed().await;
        assert!(
            asked.elapsed() < Duration::from_secs(3),
            "{:?}",
            asked.elapsed()
        );
    }
}

#[tokio::test]
async fn a_handle_that_is_dropped_tears_the_session_down() {
    let (fault, camera) = start(&[Plan::default()]).await;
    let mut watch = Watch::open(&camera);
    watch.unit().await;
    drop(watch);
    let last = || fault.requests(0).last().cloned();
    eventually("TEARDOWN", || last().as_deref() == Some("TEARDOWN")).await;
}

#[tokio::test]
async fn a_loop_that_is_behind_loses_units_and_never_states() {
    const ROOM: usize = 8;
    let acts = [Act::Pictures(3 * GOP), Act::BadPackets(3)];
    let (fault, camera) = start(&[Plan::acts(&acts)]).await;
    let mut watch = Watch::with_room(&camera, ROOM);
    // Nothing is read until the camera has done all that: by then the channel is long full.
    let all = 3 * GOP + 2;
    eventually("all acts", || fault.sent() > all + GOP).await;
    let mut last = None;
    loop {
        match watch.next().await {
            SourceEvent::Unit(unit) if unit.after_loss => {
                assert!(unit.is_key_frame, "after a drop comes a key frame");
                break;
            }
            SourceEvent::Unit(unit) => {
                if let Some(last) = last {
                    assert_eq!(unit.ticks - last, STEP, "no gap before the drop");
                }
                last = Some(unit.ticks);
            }
            _ => {}
        }
    }
    assert!(watch.log.contains("the loop was behind"), "{}", watch.log);
    while !watch.log.contains("in_a_row: 3") {
        watch.next().await;
    }
    assert_eq!(
        watch.log.matches("kind: Packet").count(),
        3,
        "{}",
        watch.log
    );
    assert_eq!(fault.sessions(), 1);
}
