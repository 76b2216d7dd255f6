//! Makes a text that came from a camera, or from a library that talked to it, fit to be shown.
//!
//! In: any text. Out: one short printable line without user name, password or URL secrets.
//! Not here: what the text means (verdict).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::config::Rtsp;

/// What stands in place of a secret.
const MASK: &str = "***";

/// Characters of a scrubbed line, at most: it goes into logs, the API and the overlay.
const MAX_LINE: usize = 240;

/// A secret shorter than this is replaced only where it stands alone: a user "a" must not turn
/// every word of a message into stars (which would also tell what the secret is).
const MIN_ANYWHERE: usize = 4;

/// A path shorter than this (`/h264`, `/stream1`) holds no key, and may be part of a word that a
/// message needs (`video/h264`).
const MIN_PATH: usize = 12;

/// Knows the secrets of one camera.
pub(super) struct Scrub {
    /// Longest first, so that none hides part of another.
    secrets: Vec<String>,
}

impl Scrub {
    /// Takes the user name, the password (as it is and as a URL writes it), and the parts of the
    /// URL that may hold one (`?token=...`, `/user=admin_password=...`, `/live/KEY`).
    pub(super) fn new(rtsp: &Rtsp) -> Self {
        let mut secrets = Vec::new();
        if let Some(credentials) = &rtsp.credentials {
            for text in [&credentials.username, credentials.password.expose()] {
                secrets.push(text.to_string());
                secrets.push(url::form_urlencoded::byte_serialize(text.as_bytes()).collect());
                secrets.push(percent_encoded(text));
            }
        }
        secrets.extend(rtsp.url.query().map(str::to_owned));
        if rtsp.url.path().len() >= MIN_PATH {
            secrets.push(rtsp.url.path().to_owned());
        }
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// The first line of `text`, cleaned and cut. What follows in retina's messages are
    /// addresses, times and hex dumps.
    pub(super) fn line(&self, text: &str) -> String {
        let first = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("");
        let mut line = without_userinfo(first);
        line = without_basic(&line);
        for secret in &self.secrets {
            line = replace(&line, secret);
        }
        line.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_LINE)
            .collect::<String>()
            .trim()
            .to_owned()
    }
}

/// `rtsp://user:password@host` becomes `rtsp://host`.
fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '<' | '>'))
            .unwrap_or(tail.len());
        let authority = &tail[..end];
        let host = authority.rfind('@').map_or(0, |at| at + 1);
        out.push_str(&authority[host..]);
        rest = &tail[end..];
    }
    out.push_str(rest);
    out
}

/// `Basic dXNlcjpwYXNz` loses what follows the word: a camera may echo our header.
fn without_basic(text: &str) -> String {
    const WORD: &str = "basic ";
    let lower = text.to_ascii_lowercase(); // same length: only ASCII letters change
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = lower[at..].find(WORD) {
        let start = at + found + WORD.len();
        let end = text[start..]
            .find(char::is_whitespace)
            .map_or(text.len(), |n| start + n);
        out.push_str(&text[at..start]);
        out.push_str(MASK);
        at = end;
    }
    out.push_str(&text[at..]);
    out
}

fn replace(text: &str, secret: &str) -> String {
    if secret.len() >= MIN_ANYWHERE {
        return text.replace(secret, MASK);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(at) = rest.find(secret) {
        let end = at + secret.len();
        let left = rest[..at].chars().next_back().or(before);
        let right = rest[end..].chars().next();
        let alone =
            !left.is_some_and(char::is_alphanumeric) && !right.is_some_and(char::is_alphanumeric);
        out.push_str(&rest[..at]);
        out.push_str(if alone { MASK } else { secret });
        before = secret.chars().next_back();
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// Every byte but letters and digits as `%XX`, as some cameras echo it.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::config::{Credentials, Secret, Transport};

    fn scrub(url: &str, username: &str, password: &str) -> Scrub {
        Scrub::new(&Rtsp {
            url: Url::parse(url).unwrap(),
            credentials: Some(Credentials {
                username: username.into(),
                password: Secret::new(password),
            }),
            transport: Transport::Auto,
        })
    }

    #[test]
    fn user_password_and_userinfo_never_come_through() {
        let scrub = scrub("rtsp://10.0.0.5/", "operator", "p@ss w0rd/");
        for text in [
            "401 for operator with p@ss w0rd/",
            "bad URL rtsp://operator:p%40ss%20w0rd%2F@10.0.0.5/live",
            "bad URL \"rtsp://someone:else@10.0.0.5\"",
            "echo p%40ss%20w0rd%2F and p%40ss+w0rd%2F",
            "Authorization: Basic b3BlcmF0b3I6cEBzcyB3MHJkLw== refused",
        ] {
            let line = scrub.line(text);
            for secret in ["operator", "w0rd", "someone", "else", "b3BlcmF0b3I6"] {
                assert!(!line.contains(secret), "{secret} in {line:?}");
            }
        }
        assert_eq!(
            scrub.line("bad URL rtsp://operator:x@10.0.0.5/live"),
            "bad URL rtsp://10.0.0.5/live"
        );
    }

    #[test]
    fn secrets_in_path_and_query_are_masked_too() {
        let query = scrub("rtsp://h/live?token=abcd", "u", "p");
        assert_eq!(
            query.line("no stream at /live?token=abcd"),
            "no stream at /live?***"
        );
        let path = scrub("rtsp://h/user=admin_password=tlJw_channel=1", "", "");
        assert_eq!(
            path.line("404 /user=admin_password=tlJw_channel=1"),
            "404 ***"
        );
    }

    #[test]
    fn a_short_secret_is_masked_only_where_it_stands_alone() {
        let scrub = scrub("rtsp://h/", "a", "1");
        assert_eq!(
            scrub.line("a camera says 1, not 401"),
            "*** camera says ***, not 401"
        );
    }

    #[test]
    fn one_printable_bounded_line_remains() {
        let scrub = scrub("rtsp://h/", "user", "pass");
        assert_eq!(
            scrub.line("\n401 Un\u{1b}[31mauthorized\r\n\nconn: 1.2.3.4\nmsg: dump"),
            "401 Un [31mauthorized"
        );
        assert_eq!(scrub.line(&"é".repeat(1000)).chars().count(), MAX_LINE);
        assert_eq!(scrub.line(""), "");
    }
}
