//! What becomes a line, and when.
#![allow(clippy::disallowed_methods)] // any moment will do

use super::*;

/// Errors of a kind that no line has told yet.
fn untold(log: &ErrorLog, kind: ErrorKind) -> u64 {
    log.kinds[kind as usize].untold
}

#[test]
fn the_order_of_the_kinds_is_that_of_their_labels() {
    for (n, kind) in ErrorKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, n, "{kind:?}");
    }
}

#[test]
fn the_first_is_told_at_once_and_the_rest_once_a_minute() {
    let start = Instant::now();
    let mut log = ErrorLog::default();
    let mut told = 0;
    // Ten a second, five minutes long.
    for tenth in 0..3000 {
        let now = start + Duration::from_millis(100) * tenth;
        log.push(now, "door", ErrorKind::Loss, 1, "");
        told += u64::from(untold(&log, ErrorKind::Loss) == 0);
    }
    assert_eq!(told, 5);
}

#[test]
fn what_was_kept_back_is_told_when_errors_end_too() {
    let start = Instant::now();
    let mut log = ErrorLog::default();
    log.push(start, "door", ErrorKind::Picture, 1, "first");
    log.push(start, "door", ErrorKind::Picture, 7, "rest");
    assert_eq!(untold(&log, ErrorKind::Picture), 7);
    log.poll(start + SPACING - Duration::from_millis(1), "door");
    assert_eq!(untold(&log, ErrorKind::Picture), 7, "too soon");
    log.poll(start + SPACING, "door");
    assert_eq!(untold(&log, ErrorKind::Picture), 0);
    assert_eq!(log.due, None);
}

#[test]
fn one_kind_does_not_hide_another() {
    let now = Instant::now();
    let mut log = ErrorLog::default();
    log.push(now, "door", ErrorKind::Loss, 1, "");
    log.push(now, "door", ErrorKind::Loss, 1, "");
    log.push(now, "door", ErrorKind::Device, 1, "EIO");
    assert_eq!(untold(&log, ErrorKind::Device), 0, "told");
}
