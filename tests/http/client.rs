//! A client that says exactly what a test wants, also what no HTTP library would say.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;

pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Reply {
    /// The header's value, `""` where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value.trim())
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            read: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// As [`Self::send`], to a server that may have closed already.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends a request with a good Host; `headers` are whole lines.
    pub async fn request(
        &mut self,
        method: &str,
        uri: &str,
        headers: &[&str],
        body: &str,
    ) -> Reply {
        self.send(text(method, uri, headers, body)).await;
        self.receive(method == "HEAD").await
    }

    pub async fn get(&mut self, uri: &str) -> Reply {
        self.request("GET", uri, &[], "").await
    }

    /// The next response; `is_bare` where it has no body whatever its length says (HEAD).
    pub async fn receive(&mut self, is_bare: bool) -> Reply {
        let end = loop {
            let found = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            match found {
                Some(end) => break end + 4,
                None => assert!(
                    self.fill().await,
                    "closed before a response: {:?}",
                    self.read
                ),
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut reply = Reply {
            status: head[9..12].parse().unwrap(),
            head,
            body: String::new(),
        };
        if !is_bare {
            let length = reply.header("content-length").parse().unwrap_or(0);
            while self.read.len() < length {
                assert!(self.fill().await, "closed in the middle of a body");
            }
            reply.body = String::from_utf8(self.read.drain(..length).collect()).unwrap();
        }
        reply
    }

    /// Waits for the server to close, and says whether it did so without another word.
    pub async fn is_closed(&mut self) -> bool {
        while self.fill().await {}
        self.read.is_empty()
    }

    /// `false` at the end of the stream.
    async fn fill(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.read);
        let read = timeout(PATIENCE, reading).await;
        read.expect("the server says nothing").unwrap_or(0) > 0
    }
}

pub fn text(method: &str, uri: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{method} {uri} HTTP/1.1\r\n");
    if !headers.iter().any(|line| line.starts_with("Host:")) {
        text.push_str("Host: localhost\r\n");
    }
    for line in headers {
        text.push_str(line);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text + "\r\n" + body
}
