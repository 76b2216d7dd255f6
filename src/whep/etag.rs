//! Reads `If-Match` (RFC 9110, section 13.1.1) of WHEP sessions and `If-None-Match` (section
//! 13.1.2) of the page's files.
//!
//! In: the headers. Out: [`IfMatch`]; whether a cached copy is current.
//! Not here: whether a tag is current (gateway).

use http::HeaderMap;
use http::header::IF_MATCH;

use super::{ETag, IfMatch};

/// Tags in one `If-Match`; a client holds one session and so needs one. More are refused.
const MAX_TAGS: usize = 16;

/// What a request says in `If-Match`: `None` when the header is missing.
///
/// Weak tags are understood and left out: `If-Match` compares strongly, they can never match.
///
/// # Errors
/// For a person, when the header is there and breaks the grammar.
pub(super) fn if_match(headers: &HeaderMap) -> Option<Result<IfMatch, &'static str>> {
    let mut lines = headers.get_all(IF_MATCH).iter().peekable();
    lines.peek()?;
    let mut tags = Tags::default();
    let mut is_any = false;
    for line in lines {
        let Ok(text) = line.to_str() else {
            return Some(Err("If-Match holds something other than ASCII text"));
        };
        if text.trim() == "*" {
            is_any = true;
        } else if let Err(why) = tags.read(text) {
            return Some(Err(why));
        }
    }
    // The WHEP draft writes the tag of an ICE restart `"*"`, with the quotes of a tag.
    Some(Ok(
        if is_any || tags.strong.iter().any(|tag| tag.0 == "*") {
            IfMatch::Any
        } else {
            IfMatch::Tags(tags.strong)
        },
    ))
}

/// Whether `If-None-Match` names `tag` (given with its quotes). The comparison is weak
/// (RFC 9110, section 13.1.2), and what cannot be read matches nothing.
pub fn is_none_match_hit(header: &str, tag: &str) -> bool {
    let tag = tag.trim_matches('"');
    let mut tags = Tags::default();
    header.trim() == "*"
        || (tags.read(header).is_ok() && tags.weak.iter().chain(&tags.strong).any(|t| t.0 == tag))
}

#[derive(Default)]
struct Tags {
    strong: Vec<ETag>,
    weak: Vec<ETag>,
}

impl Tags {
    /// Reads one comma-separated list of entity tags.
    fn read(&mut self, text: &str) -> Result<(), &'static str> {
        let mut rest = text;
        loop {
            // Empty list elements are allowed (RFC 9110, section 5.6.1.2).
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return Ok(());
            }
            let strong = !rest.starts_with("W/");
            let opened = rest
                .strip_prefix("W/")
                .unwrap_or(rest)
                .strip_prefix('"')
                .ok_or("If-Match takes entity tags in double quotes, or *")?;
            let (tag, after) = opened
                .split_once('"')
                .ok_or("an entity tag in If-Match lacks its closing quote")?;
            rest = after.trim_start_matches([' ', '\t']);
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err("the entity tags in If-Match are not separated by commas");
            }
            if self.strong.len() + self.weak.len() == MAX_TAGS {
                return Err("If-Match names too many entity tags");
            }
            let list = if strong {
                &mut self.strong
            } else {
                &mut self.weak
            };
            list.push(ETag(tag.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(lines: &[&str]) -> Option<Result<IfMatch, &'static str>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_MATCH, HeaderValue::from_str(line).unwrap());
        }
        if_match(&headers)
    }

    fn tags(list: &[&str]) -> Option<Result<IfMatch, &'static str>> {
        let tags = list.iter().map(|tag| ETag((*tag).to_owned())).collect();
        Some(Ok(IfMatch::Tags(tags)))
    }

    #[test]
    fn lists_are_read_and_weak_tags_never_match() {
        assert_eq!(parse(&[]), None);
        for any in ["*", "\"*\"", "\"a\", \"*\""] {
            assert_eq!(parse(&[any]), Some(Ok(IfMatch::Any)), "{any}");
        }
        assert_eq!(parse(&["W/\"*\""]), tags(&[]));
        assert_eq!(parse(&["\"abc\""]), tags(&["abc"]));
        assert_eq!(parse(&["\"a\" , W/\"b\",,\"c,d\""]), tags(&["a", "c,d"]));
        assert_eq!(parse(&["\"a\"", "\"b\""]), tags(&["a", "b"]));
        assert_eq!(parse(&["W/\"b\""]), tags(&[]));
        assert_eq!(parse(&["\"\""]), tags(&[""]));
    }

    #[test]
    fn what_breaks_the_grammar_is_an_error() {
        for bad in ["abc", "\"abc", "\"a\" \"b\"", "w/\"a\"", "\"a\"x"] {
            assert!(matches!(parse(&[bad]), Some(Err(_))), "{bad}");
        }
        let many = "\"a\",".repeat(MAX_TAGS + 1);
        assert!(matches!(parse(&[&many]), Some(Err(_))));
    }

    #[test]
    fn a_cached_copy_is_known_by_its_tag() {
        assert!(is_none_match_hit("\"x\", W/\"abc\"", "\"abc\""));
        assert!(is_none_match_hit("*", "\"abc\""));
        assert!(!is_none_match_hit("\"abd\"", "\"abc\""));
        assert!(!is_none_match_hit("", "\"abc\""));
        assert!(!is_none_match_hit("\"x,\", \"y", "\"abc\""));
        assert!(is_none_match_hit("\"a,b\"", "\"a,b\""));
    }
}
