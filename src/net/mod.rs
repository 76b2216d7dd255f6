//! The network side of the process: sockets, and nothing that decides.
//!
//! In: bytes from the wire, replies of the loop. Out: calls to the loop, bytes to the wire.
//! Not here: what a request means (whep), who plays what (gateway).

pub mod http;
pub mod interfaces;
pub mod udp;
