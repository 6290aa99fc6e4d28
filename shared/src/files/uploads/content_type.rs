//! What kind of file it is, as far as its user says.

use serde::{Deserialize, Deserializer, Serialize};

/// Longest type, in bytes. RFC 6838 (section 4.2) bounds each half to 127.
const MAX_BYTES: usize = 255;

/// `type/subtype` in lower case, without parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ContentType(String);

/// Text that is no type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a contentType is type/subtype, without parameters")]
pub struct InvalidContentType;

impl ContentType {
    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ContentType {
    type Err = InvalidContentType;

    fn from_str(text: &str) -> Result<Self, InvalidContentType> {
        let halves = text.split_once('/').filter(|(kind, subtype)| is_name(kind) && is_name(subtype));
        if text.len() <= MAX_BYTES && halves.is_some() {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidContentType)
        }
    }
}

/// RFC 6838, section 4.2: `restricted-name`.
fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
}

impl<'de> Deserialize<'de> for ContentType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which types are taken: exact ones, and whole kinds (`image/*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedTypes(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exactly(ContentType),
    /// The kind with its slash.
    All(String),
}

/// A list that is not types joined by commas.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {0} is neither type/subtype nor type/*")]
pub struct InvalidTypes(usize);

impl AllowedTypes {
    /// Whether files of this type are taken.
    pub fn list(&self, content_type: &ContentType) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exactly(exact) => exact == content_type,
            Pattern::All(kind) => content_type.0.starts_with(kind.as_str()),
        })
    }
}

impl std::str::FromStr for AllowedTypes {
    type Err = InvalidTypes;

    fn from_str(text: &str) -> Result<Self, InvalidTypes> {
        let pattern = |(n, entry): (usize, &str)| {
            let entry = entry.trim();
            let kind = entry.strip_suffix('*').filter(|kind| kind.strip_suffix('/').is_some_and(is_name));
            match kind {
                Some(kind) => Ok(Pattern::All(kind.to_ascii_lowercase())),
                None => entry.parse().map(Pattern::Exactly).map_err(|_| InvalidTypes(n + 1)),
            }
        };
        text.split(',').enumerate().map(pattern).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ContentType, InvalidContentType> {
        text.parse()
    }

    #[test]
    fn a_type_is_two_names_and_a_slash() {
        assert_eq!(parse("Image/PNG").unwrap().as_str(), "image/png");
        assert!(parse("application/vnd.oasis.opendocument.text").is_ok());
        let long = format!("a/{}", "b".repeat(254));
        for wrong in
            ["", "png", "image/", "/png", "a/b/c", "image/*", "text/plain; charset=utf-8", "a /b", &long]
        {
            assert_eq!(parse(wrong), Err(InvalidContentType), "{wrong}");
        }
    }

    #[test]
    fn lists_have_exact_types_and_whole_kinds() {
        let allowed: AllowedTypes = "image/*, application/pdf".parse().unwrap();
        for taken in ["image/png", "image/svg+xml", "application/pdf"] {
            assert!(allowed.list(&parse(taken).unwrap()), "{taken}");
        }
        for refused in ["application/pdfx", "imagex/png", "text/plain"] {
            assert!(!allowed.list(&parse(refused).unwrap()), "{refused}");
        }
    }

    #[test]
    fn a_list_with_a_wrong_entry_is_no_list() {
        for (text, entry) in [("", 1), ("image/*,", 2), ("*/*", 1), ("image/png,im age/*", 2), ("*", 1)] {
            assert_eq!(text.parse::<AllowedTypes>(), Err(InvalidTypes(entry)), "{text}");
        }
    }
}
