//! `pinhole demo`: a test picture for whoever has no camera at hand, without a file to write.

use std::net::SocketAddr;

use crate::config::{Access, Camera, Config, Ice, Pattern, Secret, Server, Source};

/// A configuration with one test picture, reached with a fresh token only.
///
/// # Errors
///
/// No randomness from the system.
pub fn config(listen: SocketAddr) -> Result<(Config, Secret), getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    let token = Secret::new(format!("{:032x}", u128::from_ne_bytes(bytes)));
    let config = Config {
        server: Server {
            listen,
            ..Server::default()
        },
        access: Access {
            token: Some(token.clone()),
            anonymous: false,
        },
        // Any free port: a demo shall not clash with a service.
        ice: Ice {
            port: 0,
            ..Ice::default()
        },
        cameras: vec![Camera::new("demo", Source::Pattern(Pattern::default()))],
        ..Config::default()
    };
    Ok((config, token))
}
