pub mod interfaces;
pub mod udp;
