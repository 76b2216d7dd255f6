//! Is the camera there? Resolves its name off the loop and tries its port, with our own limits.
//!
//! In: the camera's URL. Out: a TCP connection was accepted, or why not.
//! Not here: RTSP (session), when to look (supervise).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::{Host, Url};

use super::verdict::{End, Pace};
use crate::media::DownReason;

/// A name is resolved by then or the attempt fails: the resolver's own limit is often 5 s per
/// server, and no camera on a LAN needs more.
pub const RESOLVE_LIMIT: Duration = Duration::from_secs(5);

/// One attempt to connect to one address. A SYN that meets a camera with its cable out is sent
/// again after 1 and 3 s: waiting longer would only see the camera's return later.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Looks for one camera.
pub(crate) struct Connector {
    url: Url,
    /// The lookup under way: at most one thread of the pool hangs in the system's resolver,
    /// however often we ask.
    lookup: Option<JoinHandle<std::io::Result<Vec<SocketAddr>>>>,
    addresses: Vec<SocketAddr>,
    /// Which of them took the last connection.
    answered: Option<usize>,
}

impl Connector {
    pub(crate) fn new(url: &Url) -> Self {
        Self {
            url: url.clone(),
            lookup: None,
            addresses: Vec::new(),
            answered: None,
        }
    }

    /// What to connect to. Whoever connects by a name tries its addresses in turn, and the first
    /// may be one that nobody answers at (IPv6 that leads nowhere): where it was another one that
    /// answered, the URL names that. Else the name stays: a server may tell its cameras apart by
    /// it.
    pub(crate) fn url(&self) -> Url {
        let mut url = self.url.clone();
        if let Some(address) = self.answered.filter(|n| *n > 0).map(|n| self.addresses[n]) {
            let host = match address.ip() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            // INVARIANT: any URL with a host takes an address for it.
            let _ = url.set_host(Some(&host));
        }
        url
    }

    /// Resolves the name and connects, then lets go of the connection: the port answers.
    pub(crate) async fn connect(&mut self) -> Result<(), End> {
        self.answered = None;
        self.addresses = self.resolve().await?;
        let mut last = "it has no address".to_owned();
        for (n, &address) in self.addresses.iter().enumerate() {
            match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
                Ok(Ok(_)) => {
                    self.answered = Some(n);
                    return Ok(());
                }
                Ok(Err(error)) => last = format!("{address}: {error}"),
                Err(_) => last = format!("{address}: no answer within {CONNECT_LIMIT:?}"),
            }
        }
        Err(End::new(DownReason::Unreachable, format!("connect to {last}")).at_pace(Pace::Probe))
    }

    /// Tries the addresses of the last [`Self::connect`] once more, for `limit` each.
    pub(crate) async fn probe(&mut self, limit: Duration) -> bool {
        for (n, &address) in self.addresses.iter().enumerate() {
            if let Ok(Ok(_)) = timeout(limit, TcpStream::connect(address)).await {
                self.answered = Some(n);
                return true;
            }
        }
        false
    }

    async fn resolve(&mut self) -> Result<Vec<SocketAddr>, End> {
        let port = self.url.port().unwrap_or(RTSP_PORT);
        let name = match self.url.host() {
            Some(Host::Ipv4(ip)) => return Ok(vec![SocketAddr::from((ip, port))]),
            Some(Host::Ipv6(ip)) => return Ok(vec![SocketAddr::from((ip, port))]),
            // rtsp is no "special" scheme: to the url crate even 10.0.0.5 is a domain.
            Some(Host::Domain(name)) => match name.parse::<IpAddr>() {
                Ok(ip) => return Ok(vec![SocketAddr::from((ip, port))]),
                Err(_) => name.to_owned(),
            },
            None => String::new(), // config refuses it; the lookup fails
        };
        let shown = name.clone();
        let lookup = self.lookup.get_or_insert_with(|| {
            tokio::spawn(async move {
                let found = tokio::net::lookup_host((name, port)).await?;
                Ok(found.take(MAX_ADDRESSES).collect())
            })
        });
        let found = timeout(RESOLVE_LIMIT, lookup).await;
        if found.is_ok() {
            self.lookup = None;
        }
        let why = match found {
            Ok(Ok(Ok(addresses))) => return Ok(addresses),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {RESOLVE_LIMIT:?}"),
        };
        Err(End::new(
            DownReason::Unreachable,
            format!("the name {shown} does not resolve: {why}"),
        ))
    }
}

/// RFC 2326 section 9.2.
const RTSP_PORT: u16 = 554;

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_port_that_refuses_is_probed_and_a_port_that_accepts_is_seen() {
        block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let url = Url::parse(&format!("rtsp://{address}/x")).unwrap();
            let mut connector = Connector::new(&url);
            assert_eq!(connector.connect().await, Ok(()));
            drop(listener);
            let end = connector.connect().await.unwrap_err();
            assert_eq!(
                (end.reason, end.pace),
                (DownReason::Unreachable, Pace::Probe)
            );
            assert!(end.detail.contains(&address.to_string()), "{}", end.detail);
            assert!(!connector.probe(CONNECT_LIMIT).await);
        });
    }

    #[test]
    fn the_address_that_answered_is_the_one_to_connect_to() {
        let url = |answered: Option<usize>| {
            let name = Url::parse("rtsp://door.lan:8554/live?token=1").unwrap();
            let mut connector = Connector::new(&name);
            connector.addresses = ["[2001:db8::1]:8554", "10.0.0.5:8554", "[2001:db8::2]:8554"]
                .map(|address| address.parse().unwrap())
                .to_vec();
            connector.answered = answered;
            connector.url().to_string()
        };
        assert_eq!(url(None), "rtsp://door.lan:8554/live?token=1");
        assert_eq!(url(Some(0)), "rtsp://door.lan:8554/live?token=1");
        assert_eq!(url(Some(1)), "rtsp://10.0.0.5:8554/live?token=1");
        assert_eq!(url(Some(2)), "rtsp://[2001:db8::2]:8554/live?token=1");
    }

    #[test]
    fn an_address_that_is_silent_is_passed_over() {
        block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let closed = SocketAddr::from(([127, 0, 0, 9], address.port()));
            let url = Url::parse(&format!("rtsp://{address}/x")).unwrap();
            let mut connector = Connector::new(&url);
            connector.addresses = vec![closed, address];
            assert!(connector.probe(CONNECT_LIMIT).await);
            assert_eq!(connector.answered, Some(1));
        });
    }

    #[test]
    fn a_name_that_does_not_exist_is_named() {
        block_on(async {
            // A label of 70 characters is refused by the system's resolver without asking anybody.
            let name = "n".repeat(70);
            let url = Url::parse(&format!("rtsp://{name}/x")).unwrap();
            let end = Connector::new(&url).connect().await.unwrap_err();
            assert_eq!(
                (end.reason, end.pace),
                (DownReason::Unreachable, Pace::Soon)
            );
            assert!(end.detail.contains(&name), "{}", end.detail);
        });
    }
}
