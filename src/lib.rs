//! Pinhole: a camera gateway for small boards. Cameras come in, WebRTC goes out, and one
//! single-threaded loop owns all state.
//!
//! ```text
//!  camera task or thread        the loop (pure rooms)                         wire
//!  source ── AccessUnit ──►  gateway: hub per stream ─► session per viewer ─► net::udp
//!         ◄── Demand ──────            key frames, limits, health          ◄─ ICE, RTCP
//!                               ▲ Command        │ Outcome
//!                            net::http ── whep (routes, WHEP, API, page)
//! ```
//!
//! | room | kind | may import |
//! |---|---|---|
//! | [`media`] | pure | - |
//! | [`config`] | pure | media |
//! | [`hub`], [`session`], [`whep`] | pure | media, config; never each other |
//! | [`gateway`] | pure | the rooms above |
//! | [`source`] | IO | media, config |
//! | [`net`] | IO | media, config, whep |
//! | [`daemon`] | IO | all |
//!
//! Pure rooms take time and bytes as arguments and return outputs: they name no clock, socket,
//! thread, file or tokio. `tests/architecture.rs` holds this table.

pub mod config;
pub mod daemon;
pub mod gateway;
pub mod hub;
pub mod media;
pub mod net;
pub mod session;
pub mod source;
pub mod whep;
