//! One viewer with its socket: receives, answers, counts.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::process::Pinhole;
use crate::viewer::Viewer;

pub struct Watch {
    viewer: Viewer,
    socket: UdpSocket,
    bytes: u64,
}

/// What came, since the viewer joined.
#[derive(Clone, Copy, Default)]
pub struct Came {
    pub frames: u64,
    pub bytes: u64,
    pub losses: u64,
}

impl Watch {
    pub fn join(pinhole: &Pinhole, camera: &str) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let (mut viewer, offer) = Viewer::new(Instant::now(), socket.local_addr()?);
        let reply = pinhole.request("POST", &format!("/whep/{camera}"), &offer)?;
        let (head, answer) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        if !head.starts_with("HTTP/1.1 201") {
            return Err(io::Error::other(reply));
        }
        viewer.accept(Instant::now(), answer);
        Ok(Self {
            viewer,
            socket,
            bytes: 0,
        })
    }

    /// Watches all of them for so long.
    pub fn all(watchers: &mut [Self], span: Duration) -> io::Result<()> {
        let until = Instant::now() + span;
        while Instant::now() < until {
            // Polled in turn: a millisecond of waiting here spoils no figure of the other process.
            for watch in &mut *watchers {
                watch.turn(Duration::from_millis(4) / 2)?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, limit: Duration) -> io::Result<()> {
        let mut buffer = [0; 2048];
        self.socket.set_read_timeout(Some(limit))?;
        match self.socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                self.bytes += len as u64;
                let bytes = &buffer[..len];
                self.viewer.receive(Instant::now(), from, bytes, |_| {});
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        if self.viewer.timeout <= now {
            self.viewer.handle_timeout(now);
        }
        for (to, bytes) in self.viewer.outbox.drain(..) {
            self.socket.send_to(&bytes, to)?;
        }
        Ok(())
    }

    pub fn came(&self) -> Came {
        Came {
            frames: self.viewer.frames,
            bytes: self.bytes,
            losses: self.viewer.losses,
        }
    }
}
