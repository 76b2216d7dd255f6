//! `pinhole demo`: a test picture for whoever has no camera at hand, without a file to write.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::config::{Access, Camera, Config, Ice, Pattern, Secret, Server, Source};
use crate::net::interfaces;

/// The port where a demo is looked for first.
const PORT: u16 = 8080;
/// Ports tried before the demo gives up: whoever has no camera at hand shall not have to choose one.
const PORTS: u16 = 20;
/// Addresses told at most: a person wants one that works.
const MAX_TOLD: usize = 3;

/// Where a demo is served unless told otherwise: loopback, port 8080 or the next one that is free.
pub fn free_address() -> SocketAddr {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (PORT..PORT + PORTS)
        .map(address)
        .find(|&address| TcpListener::bind(address).is_ok())
        .unwrap_or_else(|| address(PORT))
}

/// What a person is told once `served` answers: the addresses to open, and how to end it.
///
/// Nobody can open `0.0.0.0`: where all addresses are served, the machine's own are told.
pub fn invitation(served: SocketAddr, token: &Secret) -> String {
    let mut open = vec![served];
    if served.ip().is_unspecified() {
        let own = interfaces::addresses(&Ice::default(), served.ip());
        let reached = own
            .into_iter()
            .filter(|ip| served.is_ipv6() || ip.is_ipv4())
            .map(|ip| SocketAddr::new(ip, served.port()));
        open = reached.take(MAX_TOLD).collect();
    }
    if open.is_empty() {
        open.push(SocketAddr::from((Ipv4Addr::LOCALHOST, served.port())));
    }
    let urls: Vec<_> = open
        .iter()
        .map(|address| format!("http://{address}/?token={}", token.expose()))
        .collect();
    let elsewhere = if served.ip().is_loopback() {
        "\n      To watch from another machine, start it with `demo --listen 0.0.0.0:8080`."
    } else {
        ""
    };
    format!(
        "\nOpen  {}\n      A test picture moves there. Ctrl-C ends it.{elsewhere}\n",
        urls.join("\n  or  ")
    )
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(served: &str) -> String {
        invitation(served.parse().unwrap(), &Secret::new("abc".to_owned()))
    }

    #[test]
    fn whoever_starts_a_demo_is_told_an_address_that_can_be_opened() {
        assert!(told("127.0.0.1:8081").contains("\nOpen  http://127.0.0.1:8081/?token=abc\n"));
        let everywhere = told("0.0.0.0:8080");
        assert!(!everywhere.contains("0.0.0.0"), "{everywhere}");
        assert!(everywhere.contains("Open  http://"), "{everywhere}");
        assert!(everywhere.matches("http://").count() <= MAX_TOLD);
    }

    #[test]
    fn a_port_that_is_taken_is_passed_over() {
        let first = free_address();
        let _taken = TcpListener::bind(first).unwrap();
        assert_ne!(free_address(), first);
    }
}
