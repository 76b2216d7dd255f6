//! Reads a request's body within bounds of size and time.
//!
//! In: a body as it arrives. Out: its bytes, or the [`Problem`] with it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use crate::whep::Problem;

/// A whole body is here by then, or its sender is refused: an offer of 10 kB takes a slow phone
/// network a second.
pub const BODY_TIME: Duration = Duration::from_secs(10);

/// Bytes beyond the limit that are read and thrown away, so that the sender is done sending and
/// listens when it is told why.
const DISCARDED: usize = 256 << 10;

/// Reads all of `body`, at most `limit` bytes.
///
/// # Errors
/// 413 when it is larger, 408 when it does not come in time, 400 when its sender breaks off.
pub(super) async fn read(body: Incoming, limit: usize) -> Result<Bytes, Problem> {
    match timeout(BODY_TIME, collect(body, limit)).await {
        Ok(result) => result,
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request's body did not come in time",
        )),
    }
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request's body is larger than limits.body, {limit} bytes"),
        )
    };
    let most = limit.saturating_add(DISCARDED);
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let mut kept = BytesMut::new();
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the request's body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        seen = seen.saturating_add(data.len());
        if seen <= limit {
            kept.extend_from_slice(&data);
        } else if seen > most {
            break;
        }
    }
    if seen > limit {
        return Err(too_large());
    }
    Ok(kept.freeze())
}
