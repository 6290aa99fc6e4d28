//! `ETag` and `If-Match`: a write that only happens if nobody else has written since its client looked.
//!
//! What is versioned has the entity tag `"<version>"` (RFC 9110, section 8.8.3): strong, for two versions are never the
//! same. A client that sends the tag back in `If-Match` wants its write to happen on that version or not at all (section
//! 13.1.1); the refusal is 412 and names the version that stands. A retry of a write whose answer got lost is refused like
//! that too: whoever is not sure reads again.

use std::str::FromStr;

/// Header of a conditional write.
pub const IF_MATCH: &str = "if-match";

/// The entity tag of a version.
pub fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// What a client wants to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: something, at whatever version. Whether there is something is for the capability to say.
    Any,
    /// One of these versions. Tags that name none of ours match nothing and are left out: weak ones, and what no version
    /// is written like.
    Versions(Vec<u64>),
}

/// An `If-Match` that is neither `*` nor a list of entity tags. 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("If-Match is * or a list of entity tags in double quotes, such as \"7\"")]
pub struct InvalidIfMatch;

impl IfMatch {
    /// Reads the header; `None` when there is none, and the write is for whatever stands.
    pub fn from_header(value: Option<&str>) -> Result<Option<Self>, InvalidIfMatch> {
        value.map(str::parse).transpose()
    }

    /// Whether a write may happen on `version`.
    pub fn admits(&self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Versions(versions) => versions.contains(&version),
        }
    }
}

impl FromStr for IfMatch {
    type Err = InvalidIfMatch;

    fn from_str(text: &str) -> Result<Self, InvalidIfMatch> {
        if trim(text) == "*" {
            return Ok(Self::Any);
        }
        let mut versions = Vec::new();
        let mut rest = trim(text);
        let mut tags = 0;
        while !rest.is_empty() {
            // Empty elements of a list are skipped (section 5.6.1.2).
            if let Some(behind) = rest.strip_prefix(',') {
                rest = trim(behind);
                continue;
            }
            let (tag, behind) = entity_tag(rest)?;
            if !(behind.is_empty() || behind.starts_with(',')) {
                return Err(InvalidIfMatch);
            }
            tags += 1;
            versions.extend(tag.version());
            rest = behind;
        }
        // The grammar knows a list of nothing, which nothing could match: its sender has forgotten the tag.
        if tags == 0 { Err(InvalidIfMatch) } else { Ok(Self::Versions(versions)) }
    }
}

/// One entity tag.
struct EntityTag<'a> {
    weak: bool,
    opaque: &'a str,
}

impl EntityTag<'_> {
    /// The version that it names by strong comparison (section 8.8.3.2), character by character: `"07"` is no version.
    fn version(&self) -> Option<u64> {
        let version: u64 = self.opaque.parse().ok().filter(|_| !self.weak)?;
        (version.to_string() == self.opaque).then_some(version)
    }
}

/// Takes the entity tag that `text` begins with, and the blanks behind it.
fn entity_tag(text: &str) -> Result<(EntityTag<'_>, &str), InvalidIfMatch> {
    let (weak, quoted) = match text.strip_prefix("W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let (opaque, behind) =
        quoted.strip_prefix('"').and_then(|open| open.split_once('"')).ok_or(InvalidIfMatch)?;
    if opaque.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok((EntityTag { weak, opaque }, trim(behind)))
    } else {
        Err(InvalidIfMatch)
    }
}

/// Without the blanks that may stand around an element: spaces and tabs.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn versions(text: &str) -> Vec<u64> {
        match text.parse() {
            Ok(IfMatch::Versions(versions)) => versions,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn an_absent_header_asks_for_nothing() {
        assert_eq!(IfMatch::from_header(None), Ok(None));
        assert_eq!(IfMatch::from_header(Some(" * ")), Ok(Some(IfMatch::Any)));
    }

    #[test]
    fn a_list_names_every_version_in_it() {
        assert_eq!(versions("\"7\""), [7]);
        assert_eq!(versions("\"7\", \"0\" ,\"12\""), [7, 0, 12]);
        assert_eq!(versions(" ,\t,\"7\",, \"8\", "), [7, 8]);
    }

    #[test]
    fn weak_tags_and_tags_of_somebody_else_match_nothing() {
        for tag in ["W/\"7\"", "\"07\"", "\"+7\"", "\"7a\"", "\"\"", "\"a,b\"", "\"99999999999999999999\""] {
            assert_eq!(versions(tag), [0; 0], "{tag}");
        }
        assert_eq!(versions("W/\"7\", \"8\""), [8]);
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        let bad =
            ["", " ", ",", "7", "\"7", "7\"", "\"7\" \"8\"", "w/\"7\"", "W/ \"7\"", "*,\"7\"", "\"7\",*"];
        for text in bad.into_iter().chain(["\"7\"8", "\"a b\"", "\"k\u{e4}se\"", "'7'"]) {
            assert_eq!(text.parse::<IfMatch>(), Err(InvalidIfMatch), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_tag_of_a_version_admits_that_version_and_no_other(version: u64, other: u64) {
            let tag: IfMatch = etag(version).parse().unwrap();
            prop_assert!(tag.admits(version));
            prop_assert_eq!(tag.admits(other), version == other);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[\"W/*, 0-9\\t]{0,30}|\\PC{0,60}") {
            let _: Result<IfMatch, InvalidIfMatch> = text.parse();
        }
    }
}
