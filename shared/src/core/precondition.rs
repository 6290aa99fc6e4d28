//! Entity tags and conditional requests (RFC 9110, section 13).
//!
//! An [`EntityTag`] (section 8.8.3) is the version of a versioned resource, the versions of all
//! regions for a resource merged from their rows, and a hash of the answer for everything else. All
//! are strong: two versions, or two answers, never have the same tag. A client that sends a tag
//! makes its request conditional:
//!
//! 1. `If-Match` (section 13.1.1): the current tag is one of these; `*` matches any existing
//!    resource. Otherwise 412. The comparison is strong: a weak tag matches nothing.
//! 2. `If-None-Match` (section 13.1.2): the current tag is none of these; `*` means that the
//!    resource does not exist. Otherwise a read is answered 304, and anything else 412. The
//!    comparison is weak.
//!
//! They are evaluated in this order (section 13.2.2), after everything else that may refuse a
//! request. A 412 contains the current tag. A retry of a write whose answer was lost gets a 412
//! too, so a client that is not sure reads again.
//!
//! Dates are not compared (`If-Modified-Since`, `If-Unmodified-Since`): no resource has a
//! `Last-Modified`, and without one these headers are ignored (sections 13.1.3 and 13.1.4).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The request header with the tags of which one must match.
pub const IF_MATCH: &str = "if-match";
/// The request header with the tags of which none may match.
pub const IF_NONE_MATCH: &str = "if-none-match";

/// Bytes of the hash in a tag: 128 bits, so that two never collide.
const HASH_BYTES: usize = 16;

/// A strong entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityTag {
    /// The version of a resource: `"7"`.
    Version(u64),
    /// The version of each region's part of a merged resource: `"ap-east-2.3_ap-northeast-1.7"`.
    // A slice is smaller than a map, and keeps results with a `Problem` small.
    Versions(Box<[(String, u64)]>),
    /// A hash of an answer: 22 characters of URL-safe Base64.
    Content(String),
}

impl EntityTag {
    /// The tag of an answer with this body.
    pub fn of_content(body: &[u8]) -> Self {
        Self::Content(URL_SAFE_NO_PAD.encode(&Sha256::digest(body)[..HASH_BYTES]))
    }

    /// The characters between the quotes.
    fn opaque(&self) -> String {
        match self {
            Self::Version(version) => version.to_string(),
            Self::Versions(versions) => {
                let versions = versions.iter().map(|(region, version)| format!("{region}.{version}"));
                versions.collect::<Vec<_>>().join("_")
            }
            Self::Content(hash) => hash.clone(),
        }
    }
}

impl fmt::Display for EntityTag {
    /// The form of the `ETag` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.opaque())
    }
}

/// The conditions of a request. The default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// The current state of the resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    pub tag: EntityTag,
    /// Whether the resource exists, for `*`.
    pub exists: bool,
}

/// The result of the evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evaluation {
    Met,
    /// `If-Match` failed. 412.
    NotMatched,
    /// `If-None-Match` failed. 304 or 412.
    Matched,
}

/// A header that is neither `*` nor a list of entity tags. 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("If-Match and If-None-Match are * or a list of entity tags in double quotes, such as \"7\"")]
pub struct InvalidTags;

impl Preconditions {
    /// Reads `If-Match` and `If-None-Match`.
    pub fn from_headers(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Self, InvalidTags> {
        let read = |header: Option<&str>| header.map(str::parse).transpose();
        Ok(Self { if_match: read(if_match)?, if_none_match: read(if_none_match)? })
    }

    /// Evaluates the conditions on the current state.
    pub fn evaluate(&self, current: &Current) -> Evaluation {
        let opaque = current.tag.opaque();
        let is_wanted = |tags: &Tags| match tags {
            Tags::Any => current.exists,
            Tags::Listed(tags) => tags.iter().any(|tag| !tag.is_weak && tag.opaque == opaque),
        };
        let is_known = |tags: &Tags| match tags {
            Tags::Any => current.exists,
            Tags::Listed(tags) => tags.iter().any(|tag| tag.opaque == opaque),
        };
        if !self.if_match.as_ref().is_none_or(is_wanted) {
            Evaluation::NotMatched
        } else if self.if_none_match.as_ref().is_some_and(is_known) {
            Evaluation::Matched
        } else {
            Evaluation::Met
        }
    }

    /// Whether a write may happen on the current state.
    pub fn admit(&self, current: &Current) -> bool {
        self.evaluate(current) == Evaluation::Met
    }
}

/// The value of one of the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    /// `*`.
    Any,
    Listed(Vec<Tag>),
}

/// A tag as a client sends it. Tags are compared character by character (section 8.8.3.2): `"07"`
/// is not version 7.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    opaque: String,
}

impl FromStr for Tags {
    type Err = InvalidTags;

    fn from_str(text: &str) -> Result<Self, InvalidTags> {
        if trim(text) == "*" {
            return Ok(Self::Any);
        }
        let mut tags = Vec::new();
        let mut rest = trim(text);
        while !rest.is_empty() {
            // Empty elements of a list are skipped (section 5.6.1.2).
            if let Some(behind) = rest.strip_prefix(',') {
                rest = trim(behind);
                continue;
            }
            let (tag, behind) = entity_tag(rest)?;
            if !(behind.is_empty() || behind.starts_with(',')) {
                return Err(InvalidTags);
            }
            tags.push(tag);
            rest = behind;
        }
        // An empty list matches nothing; the client has forgotten the tag.
        if tags.is_empty() { Err(InvalidTags) } else { Ok(Self::Listed(tags)) }
    }
}

/// Reads the entity tag at the start of `text`. Returns the rest of the text.
fn entity_tag(text: &str) -> Result<(Tag, &str), InvalidTags> {
    let (is_weak, quoted) = match text.strip_prefix("W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let (opaque, behind) =
        quoted.strip_prefix('"').and_then(|open| open.split_once('"')).ok_or(InvalidTags)?;
    if opaque.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok((Tag { is_weak, opaque: opaque.to_owned() }, trim(behind)))
    } else {
        Err(InvalidTags)
    }
}

/// Strips the optional white space around an element: spaces and tabs.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn version(version: u64, exists: bool) -> Current {
        Current { tag: EntityTag::Version(version), exists }
    }

    /// What `If-Match` and `If-None-Match` come to on version 7.
    fn on_seven(if_match: Option<&str>, if_none_match: Option<&str>) -> Evaluation {
        let preconditions = Preconditions::from_headers(if_match, if_none_match).unwrap();
        preconditions.evaluate(&version(7, true))
    }

    fn tags(text: &str) -> Vec<(bool, String)> {
        match text.parse() {
            Ok(Tags::Listed(tags)) => tags.into_iter().map(|tag| (tag.is_weak, tag.opaque)).collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_list_names_every_tag_in_it() {
        let strong = |opaque: &str| (false, opaque.to_owned());
        assert_eq!(tags("\"7\""), [strong("7")]);
        assert_eq!(tags("\"7\", W/\"0\" ,\"a,b\""), [strong("7"), (true, "0".to_owned()), strong("a,b")]);
        assert_eq!(tags(" ,\t,\"7\",, \"8\", "), [strong("7"), strong("8")]);
    }

    #[test]
    fn tags_of_somebody_else_match_nothing() {
        for tag in ["\"07\"", "\"+7\"", "\"7a\"", "\"\"", "\"a,b\"", "\"99999999999999999999\""] {
            assert_eq!(on_seven(Some(tag), None), Evaluation::NotMatched, "{tag}");
            assert_eq!(on_seven(None, Some(tag)), Evaluation::Met, "{tag}");
        }
    }

    #[test]
    fn weak_tags_are_enough_to_know_a_version_and_not_to_change_it() {
        assert_eq!(on_seven(Some("W/\"7\""), None), Evaluation::NotMatched);
        assert_eq!(on_seven(None, Some("W/\"7\"")), Evaluation::Matched);
        assert_eq!(on_seven(Some("W/\"7\", \"7\""), None), Evaluation::Met);
    }

    #[test]
    fn a_star_means_something_that_is_there() {
        let star = |if_match, if_none_match, exists| {
            let preconditions = Preconditions::from_headers(if_match, if_none_match).unwrap();
            preconditions.evaluate(&version(0, exists))
        };
        assert_eq!(star(Some(" * "), None, true), Evaluation::Met);
        assert_eq!(star(Some("*"), None, false), Evaluation::NotMatched);
        assert_eq!(star(None, Some("*"), true), Evaluation::Matched);
        assert_eq!(star(None, Some("*"), false), Evaluation::Met);
        assert_eq!(star(None, None, false), Evaluation::Met);
    }

    #[test]
    fn if_match_is_evaluated_first() {
        assert_eq!(on_seven(Some("\"6\""), Some("\"7\"")), Evaluation::NotMatched);
        assert_eq!(on_seven(Some("\"7\""), Some("\"7\"")), Evaluation::Matched);
        assert_eq!(on_seven(Some("\"7\""), Some("\"6\"")), Evaluation::Met);
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused_in_either_header() {
        let bad =
            ["", " ", ",", "7", "\"7", "7\"", "\"7\" \"8\"", "w/\"7\"", "W/ \"7\"", "*,\"7\"", "\"7\",*"];
        for text in bad.into_iter().chain(["\"7\"8", "\"a b\"", "\"k\u{e4}se\"", "'7'", "*, *"]) {
            for headers in [(Some(text), None), (None, Some(text)), (Some("*"), Some(text))] {
                assert_eq!(Preconditions::from_headers(headers.0, headers.1), Err(InvalidTags), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_tag_of_a_version_means_that_version_and_no_other(seen: u64, other: u64) {
            let tag = EntityTag::Version(seen).to_string();
            let wanted = Preconditions::from_headers(Some(&tag), None).unwrap();
            let known = Preconditions::from_headers(None, Some(&tag)).unwrap();
            let (current, later) = (version(seen, true), version(other, true));
            prop_assert!(wanted.admit(&current) && !known.admit(&current));
            prop_assert_eq!(wanted.admit(&later), seen == other);
            prop_assert_eq!(known.admit(&later), seen != other);
        }

        #[test]
        fn the_tag_of_several_versions_means_these_and_no_others(
            seen in prop::collection::btree_map("[a-z]{1,3}(-[a-z1-3]{1,3}){0,2}", 1..30_u64, 1..4),
            other in prop::collection::btree_map("[a-z]{1,3}(-[a-z1-3]{1,3}){0,2}", 1..30_u64, 1..4),
        ) {
            let current = |versions: BTreeMap<String, u64>| {
                Current { tag: EntityTag::Versions(versions.into_iter().collect()), exists: true }
            };
            let tag = current(seen.clone()).tag.to_string();
            let wanted = Preconditions::from_headers(Some(&tag), None).unwrap();
            prop_assert!(wanted.admit(&current(seen.clone())));
            prop_assert_eq!(wanted.admit(&current(other.clone())), seen == other);
        }

        #[test]
        fn the_tag_of_an_answer_means_that_answer_and_no_other(body: Vec<u8>, other: Vec<u8>) {
            let tag = EntityTag::of_content(&body).to_string();
            let known = Preconditions::from_headers(None, Some(&tag)).unwrap();
            let current = |body: &[u8]| Current { tag: EntityTag::of_content(body), exists: true };
            prop_assert_eq!(known.evaluate(&current(&body)), Evaluation::Matched);
            prop_assert_eq!(known.admit(&current(&other)), body != other);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[\"W/*, 0-9\\t]{0,30}|\\PC{0,60}") {
            let _ = Preconditions::from_headers(Some(&text), Some(&text));
        }
    }
}
