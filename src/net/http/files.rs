//! The page's files, built into the binary.
//!
//! In: a path. Out: the file, or 304 for a browser that has it.
//! Not here: the files themselves (net::page), security headers (whep).

use std::fmt::Write;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use crate::whep::{Request, Response, is_none_match_hit};

#[derive(Clone, Copy)]
struct File {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

/// One line per file: path, name in `src/net/page`, type.
macro_rules! files {
    ($($path:literal $name:literal $content_type:expr;)*) => {
        &[$(File {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../page/", $name)),
        }),*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

static FILES: &[File] = files! {
    "/" "index.html" HTML;
    "/api.js" "api.js" JS;
    "/app.js" "app.js" JS;
    "/favicon.svg" "favicon.svg" SVG;
    "/player.js" "player.js" JS;
    "/style.css" "style.css" CSS;
    "/tile.js" "tile.js" JS;
    "/whep.js" "whep.js" JS;
    "/words.js" "words.js" JS;
};

/// One strong tag for all files, as they belong together: a page that is open while Pinhole is
/// upgraded sees by any of them that there is a new one.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| tag(FILES));

/// The file at `path`; `None` where there is none.
pub(super) fn respond(request: &Request, path: &str) -> Option<Response> {
    let file = FILES.iter().find(|file| file.path == path)?;
    let tag = &*TAG;
    let is_known = request
        .headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .any(|line| is_none_match_hit(line, tag.to_str().unwrap_or_default()));
    let mut response = Response::default();
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Bytes::from_static(file.bytes);
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    headers.insert(ETAG, tag.clone());
    // Kept, but asked about each time: after an upgrade no browser starts the old script.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

fn tag(files: &[File]) -> HeaderValue {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.bytes);
    }
    let mut text = String::from("\"");
    for byte in &hash.finalize()[..8] {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('"');
    HeaderValue::try_from(text).expect("hex digits in quotes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/net/page");
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let bytes = std::fs::read(entry.path()).unwrap();
            let is_served = FILES.iter().any(|file| file.bytes == bytes);
            assert!(is_served, "{name:?} is missing in FILES");
        }
    }

    #[test]
    fn files_have_different_paths_and_every_one_of_them_counts_in_the_tag() {
        for (index, file) in FILES.iter().enumerate() {
            assert!(file.path.starts_with('/'));
            let others = &FILES[index + 1..];
            assert!(others.iter().all(|other| other.path != file.path));
            assert_ne!(tag(FILES), tag(&[&FILES[..index], others].concat()));
        }
    }
}
