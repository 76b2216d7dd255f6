//! What the media port and the HTTP server have counted.

use std::fmt;

use super::out::Out;
use crate::net::udp::{self, Refused};
use crate::whep::status::HttpCounters;

pub(super) fn media(out: &mut Out<'_>, counters: &udp::Counters) -> fmt::Result {
    out.each(&[
        ("udp_datagrams_in", "Received.", counters.datagrams_in),
        ("udp_bytes_in", "Received.", counters.bytes_in),
        (
            "udp_calls_in",
            "System calls that received.",
            counters.calls_in,
        ),
        (
            "udp_datagrams_out",
            "Taken by the kernel.",
            counters.datagrams_out,
        ),
        ("udp_bytes_out", "Taken by the kernel.", counters.bytes_out),
        (
            "udp_calls_out",
            "System calls that sent: few per datagram where batching works.",
            counters.calls_out,
        ),
        (
            "udp_held",
            "Times that the send buffer was full and datagrams waited for room.",
            counters.times_held,
        ),
        (
            "udp_datagrams_held",
            "That waited so; what waited in vain is refused as full.",
            counters.datagrams_held,
        ),
        (
            "udp_offload_refused",
            "Runs of datagrams that the kernel did not send in one call, so that they left one by one.",
            counters.offload_refused,
        ),
        (
            "udp_truncated",
            "Received too long; dropped.",
            counters.truncated,
        ),
        (
            "udp_unusable",
            "Received empty or without an address; dropped.",
            counters.unusable,
        ),
        (
            "udp_errors_in",
            "System calls that failed to receive.",
            counters.errors_in,
        ),
    ])?;
    let refused = Refused::ALL.map(|why| (why.name(), counters.refused(why)));
    out.by_reason(
        "udp_refused",
        "Datagrams that the kernel did not take.",
        &refused,
    )
}

pub(super) fn http(out: &mut Out<'_>, counters: &HttpCounters) -> fmt::Result {
    let HttpCounters {
        connections,
        connections_open,
        connections_refused,
        connections_aged,
        accept_errors,
        responses,
        unauthorized,
        foreign,
        too_many_requests,
        body_too_large,
        body_too_slow,
        head_too_large,
        head_too_slow,
        unreadable,
        calls_refused,
        replies_lost,
        panics,
    } = *counters;
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| [("class", class)]);
    let responses = classes.into_iter().zip(responses);
    out.counters("http_responses", "Responses by class.", responses)?;
    out.counter("http_connections", "Connections accepted.", connections)?;
    out.gauge(
        "http_connections_open",
        "Connections open now.",
        connections_open as f64,
    )?;
    out.by_reason(
        "http_refused",
        "Connections and requests refused or cut, by the bound they met. head_time is no whole head \
         in time, and so the ordinary end of a connection that nobody used any more.",
        &[
            ("connections", connections_refused),
            ("age", connections_aged),
            ("accept", accept_errors),
            ("unauthorized", unauthorized),
            ("foreign", foreign),
            ("requests", too_many_requests),
            ("body", body_too_large),
            ("body_time", body_too_slow),
            ("head", head_too_large),
            ("head_time", head_too_slow),
            ("unreadable", unreadable),
            ("calls", calls_refused),
            ("reply_time", replies_lost),
            ("panic", panics),
        ],
    )
}
