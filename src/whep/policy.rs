//! Who may ask: the host that a request names, the site that it comes from, the token it holds.
//!
//! In: `[server]`, `[access]`, `ice.stun`, the machine's own names. Out: yes, or a [`Problem`].
//! Not here: limits (net::http, gateway). Nothing is remembered between requests.
//!
//! - **Host** (against DNS rebinding): IP addresses, `localhost`, the machine's own names and
//!   `server.hosts`. `Forwarded` and `X-Forwarded-*` are never read: anybody can write them. A
//!   reverse proxy that keeps the Host header needs its public name in `server.hosts`.
//! - **Origin** (against forged requests): the same origin and `server.allowed_origins`. Another
//!   site's page is refused even where it could not read the response.
//! - **Token**: `Authorization: Bearer`, `?token=`, or the cookie that `/?token=` sets. The cookie
//!   holds a digest of the token, not the token: whoever reads it cannot use it as a Bearer token
//!   or in a link, and it stays valid over a restart, which a wall tablet needs.
//!   It is `SameSite=Lax`: a link in a mail or on another site's page opens ours with the cookie
//!   (with `Strict`, not even the redirect that sets it would carry it), and what such a link can
//!   do is GET, which changes nothing.
//! - **Frames** are allowed: dashboards embed cameras. In a page of the same host name they hold
//!   the cookie; in another site's page they hold none, so they see a camera with `anonymous` only
//!   and never act with a visitor's rights.

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use std::net::{Ipv4Addr, Ipv6Addr};
use subtle::ConstantTimeEq;
use url::form_urlencoded;

use super::Request;
use super::reply::Problem;
use crate::config::{Access, Ice, Server};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The access rules of one running Pinhole.
pub struct Policy {
    /// Lower case, without a final dot.
    hosts: Vec<String>,
    /// Lower case, as browsers write them.
    origins: Vec<String>,
    /// `None`: everybody may ask (`anonymous`, or loopback alone).
    keys: Option<Keys>,
    /// `Link` headers of every new session (`ice.stun`).
    ice_servers: Vec<HeaderValue>,
}

/// What is compared with what a client shows. The token itself is not kept.
struct Keys {
    /// SHA-256, so that the comparison takes the same time for every length.
    token: [u8; 32],
    cookie_name: String,
    cookie_value: String,
}

/// How a request proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// No token is set.
    Unneeded,
    /// By header or cookie.
    Held,
    /// By the token in the URL.
    InUrl,
}

/// Where a request comes from, as far as a browser says.
enum Site<'a> {
    /// No browser, a navigation, or our own page.
    Own,
    Allowed(&'a HeaderValue),
    Foreign,
}

impl Policy {
    /// Rules out of the configuration. `own_names` are the machine's names; of each, the first
    /// label alone and with each of [`HOME`] are accepted too.
    pub fn new(server: &Server, access: &Access, own_names: &[String]) -> Self {
        let mut hosts = vec!["localhost".to_owned()];
        hosts.extend(server.hosts.iter().map(|host| normal_host(host)));
        for name in own_names {
            let name = normal_host(name);
            let label = name.split('.').next().unwrap_or_default().to_owned();
            if !label.is_empty() {
                hosts.extend(HOME.iter().map(|suffix| format!("{label}.{suffix}")));
                hosts.extend([label, name]);
            }
        }
        let token = access.token.as_ref().filter(|_| !access.anonymous);
        Self {
            hosts,
            origins: server
                .allowed_origins
                .iter()
                .map(|origin| origin.trim_end_matches('/').to_ascii_lowercase())
                .collect(),
            keys: token.map(|token| Keys::new(token.expose(), server.listen.port())),
            ice_servers: Vec::new(),
        }
    }

    /// Tells viewers of the ICE servers that the configuration names (RFC 9725 section 4.6).
    #[must_use]
    pub fn with_ice_servers(mut self, ice: &Ice) -> Self {
        let links = ice.stun.iter().map(|url| {
            let link = format!("<{url}>; rel=\"ice-server\"");
            HeaderValue::try_from(link).expect("the configuration takes host names and ports")
        });
        self.ice_servers = links.collect();
        self
    }

    pub(super) fn ice_servers(&self) -> &[HeaderValue] {
        &self.ice_servers
    }

    /// The host that the request names is one of ours.
    pub(super) fn check_host(&self, request: &Request) -> Result<(), Problem> {
        let mut lines = request.headers.get_all(HOST).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "the request needs exactly one Host header",
            ));
        };
        let host = Authority::try_from(line.as_bytes())
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the Host header cannot be read"))?;
        // The target of a request may carry a host too ("absolute form"); both must be ours.
        for name in [Some(&host), request.uri.authority()].into_iter().flatten() {
            if !self.is_own_host(name) {
                return Err(Problem::new(
                    StatusCode::MISDIRECTED_REQUEST,
                    format!(
                        "this Pinhole does not go by the name {:?}; if it should, add the name \
                         to server.hosts",
                        name.host()
                    ),
                ));
            }
        }
        Ok(())
    }

    fn is_own_host(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        let v6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if let Some(v6) = v6 {
            return v6.parse::<Ipv6Addr>().is_ok();
        }
        host.parse::<Ipv4Addr>().is_ok() || self.hosts.contains(&normal_host(host))
    }

    /// The page that sent the request, if one did, is ours or an allowed one.
    pub(super) fn check_origin(&self, request: &Request) -> Result<(), Problem> {
        match self.site(request) {
            Site::Own | Site::Allowed(_) => Ok(()),
            Site::Foreign => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "the request comes from another site's page; if that page may use this Pinhole, \
                 add its origin to server.allowed_origins",
            )),
        }
    }

    /// The value of `Access-Control-Allow-Origin`, where one is due.
    pub(super) fn cors_origin<'a>(&self, request: &'a Request) -> Option<&'a HeaderValue> {
        match self.site(request) {
            Site::Allowed(origin) => Some(origin),
            Site::Own | Site::Foreign => None,
        }
    }

    /// Whether responses differ by the origin that asks.
    pub(super) fn has_allowed_origins(&self) -> bool {
        !self.origins.is_empty()
    }

    fn site<'a>(&self, request: &'a Request) -> Site<'a> {
        let Some(origin) = request.headers.get(ORIGIN) else {
            return Site::Own;
        };
        let Ok(text) = origin.to_str() else {
            return Site::Foreign;
        };
        if self.origins.contains(&text.to_ascii_lowercase()) {
            return Site::Allowed(origin);
        }
        // A page cannot write Sec-Fetch-Site: the browser vouches, also where a proxy has
        // replaced the Host header.
        let is_vouched = request
            .headers
            .get(SEC_FETCH_SITE)
            .is_some_and(|site| site == "same-origin");
        let host = request
            .headers
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        if is_vouched || host.is_some_and(|host| is_same_origin(text, host)) {
            Site::Own
        } else {
            Site::Foreign
        }
    }

    /// The request holds the token, if one is set.
    pub(super) fn check_token(&self, request: &Request) -> Result<Proof, Problem> {
        let Some(keys) = &self.keys else {
            return Ok(Proof::Unneeded);
        };
        let bearer = bearer(request);
        if bearer.is_some_and(|token| keys.is_token(token)) || keys.has_cookie(request) {
            return Ok(Proof::Held);
        }
        let in_url = query_token(request);
        if in_url.as_deref().is_some_and(|token| keys.is_token(token)) {
            return Ok(Proof::InUrl);
        }
        // RFC 6750, section 3.1: no error code where no token was shown.
        Err(if shows_token(request) {
            Problem::new(StatusCode::UNAUTHORIZED, "the token is not the right one").with(
                http::header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"pinhole\", error=\"invalid_token\""),
            )
        } else {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "a token is needed: as the header \"Authorization: Bearer TOKEN\", or open \
                 /?token=TOKEN once in a browser",
            )
            .with(
                http::header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"pinhole\""),
            )
        })
    }

    /// The cookie that stands for the token from now on. `Secure` is left out: we cannot know
    /// whether a proxy speaks TLS for us, and without one the cookie would be lost.
    pub(super) fn set_cookie(&self) -> Option<HeaderValue> {
        let keys = self.keys.as_ref()?;
        let text = format!(
            "{}={}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_AGE}",
            keys.cookie_name, keys.cookie_value
        );
        let mut value = HeaderValue::try_from(text).expect("name and value are letters and digits");
        value.set_sensitive(true);
        Some(value)
    }
}

impl Keys {
    fn new(token: &str, port: u16) -> Self {
        let cookie = digest(COOKIE_DOMAIN, token);
        Self {
            token: digest(TOKEN_DOMAIN, token),
            // Cookies know no ports: two Pinholes on one host must not share a name.
            cookie_name: format!("pinhole_{port}"),
            cookie_value: cookie.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    fn is_token(&self, shown: &str) -> bool {
        digest(TOKEN_DOMAIN, shown).ct_eq(&self.token).into()
    }

    fn has_cookie(&self, request: &Request) -> bool {
        request
            .headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| {
                name == self.cookie_name
                    && bool::from(value.as_bytes().ct_eq(self.cookie_value.as_bytes()))
            })
    }
}

/// The rest of the query once the token is taken out, as `/?rest` or `/`.
pub(super) fn without_token(request: &Request) -> String {
    let query = request.uri.query().unwrap_or_default();
    let mut kept = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "token" {
            kept.append_pair(&name, &value);
        }
    }
    let kept = kept.finish();
    if kept.is_empty() {
        "/".to_owned()
    } else {
        format!("/?{kept}")
    }
}

/// A token was shown, right or wrong. A cookie of another time is none: nobody typed it.
pub(super) fn shows_token(request: &Request) -> bool {
    bearer(request).is_some() || query_token(request).is_some()
}

/// A person pastes a token as it is, and a form's rule makes blanks of its `+`: no token has blanks.
fn query_token(request: &Request) -> Option<String> {
    form_urlencoded::parse(request.uri.query()?.as_bytes())
        .find(|(name, _)| name == "token")
        .map(|(_, value)| value.replace(' ', "+"))
}

fn bearer(request: &Request) -> Option<&str> {
    let text = request.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn digest(domain: &str, text: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(domain);
    hash.update(text);
    hash.finalize().into()
}

fn normal_host(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// `origin` (scheme, host, port) names the same host and port as `host`. The scheme may differ:
/// a proxy may speak TLS for us.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let port = match origin.split_once("://") {
        Some(("http", _)) => ":80",
        Some(("https", _)) => ":443",
        Some(_) | None => return false,
    };
    let bare = |authority: &str| -> String {
        authority
            .strip_suffix(port)
            .unwrap_or(authority)
            .to_ascii_lowercase()
    };
    origin
        .split_once("://")
        .is_some_and(|(_, authority)| bare(authority) == bare(host))
}

/// Where home networks put their machines. Nobody can register a name there, so none of them can be
/// pointed at us from outside.
const HOME: [&str; 7] = [
    "local", // RFC 6762
    "lan",
    "home",
    "internal",    // reserved by ICANN
    "home.arpa",   // RFC 8375
    "localdomain", // old routers and resolvers
    "fritz.box",   // its owner makes the routers that use it, and gives out no names in it
];

/// The longest that browsers keep a cookie, in seconds (400 days).
const COOKIE_AGE: u32 = 400 * 24 * 3600;
/// Digests for different ends differ, so that the one is no use as the other.
const TOKEN_DOMAIN: &str = "pinhole token\0";
const COOKIE_DOMAIN: &str = "pinhole cookie\0";
