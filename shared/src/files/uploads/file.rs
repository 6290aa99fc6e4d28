//! A client's declaration of a file: name, type and checksum.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};

/// Longest name, in bytes of UTF-8: the limit of file systems.
pub const MAX_FILE_NAME_BYTES: usize = 255;

/// The name of a file, without a path and without characters that terminals or headers interpret.
/// It is only displayed, and not part of any key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FileName(String);

/// Text that is not a file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fileName has 1 to {MAX_FILE_NAME_BYTES} bytes of UTF-8, no control characters, no / and \\, and is not . or .."
)]
pub struct InvalidFileName;

impl FileName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = InvalidFileName;

    /// White space around the name is dropped.
    fn from_str(text: &str) -> Result<Self, InvalidFileName> {
        let name = text.trim();
        let fits = (1..=MAX_FILE_NAME_BYTES).contains(&name.len())
            && !matches!(name, "." | "..")
            && !name.chars().any(|c| c.is_control() || breaks_or_turns_text(c) || matches!(c, '/' | '\\'));
        if fits { Ok(Self(name.to_owned())) } else { Err(InvalidFileName) }
    }
}

/// Line breaks that are no control characters, and marks that change the text direction: with one
/// of them `gpj.exe` looks like `exe.jpg`.
fn breaks_or_turns_text(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl<'de> Deserialize<'de> for FileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Longest type, in bytes. RFC 6838 (section 4.2) bounds each half to 127.
const MAX_TYPE_BYTES: usize = 255;

/// `type/subtype` in lower case, without parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ContentType(String);

/// Text that is not a content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a contentType is type/subtype, without parameters")]
pub struct InvalidContentType;

impl ContentType {
    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContentType {
    type Err = InvalidContentType;

    fn from_str(text: &str) -> Result<Self, InvalidContentType> {
        let halves = text.split_once('/').filter(|(kind, subtype)| is_name(kind) && is_name(subtype));
        if text.len() <= MAX_TYPE_BYTES && halves.is_some() {
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

/// Accepted types: exact ones, and whole kinds (`image/*`).
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
    /// Whether files of this type are accepted.
    pub fn list(&self, content_type: &ContentType) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exactly(exact) => exact == content_type,
            Pattern::All(kind) => content_type.0.starts_with(kind.as_str()),
        })
    }
}

impl FromStr for AllowedTypes {
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

/// SHA-256 of a whole file: 64 hex digits, accepted in either case and stored in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FileDigest(String);

/// Text that is no checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sha256 is 64 hex digits")]
pub struct InvalidDigest;

impl FileDigest {
    const HEX_DIGITS: usize = 64;

    /// S3's form.
    pub fn base64(&self) -> String {
        let nibble = |digit: u8| if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 };
        // An even number of hex digits, by construction.
        let bytes: Vec<u8> = self
            .0
            .as_bytes()
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | nibble(*digit)))
            .collect();
        STANDARD.encode(bytes)
    }

    /// Whether this is the checksum that S3 reports.
    pub(super) fn is(&self, base64: &str) -> bool {
        self.base64() == base64
    }
}

impl FromStr for FileDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let is_hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        if text.len() == Self::HEX_DIGITS && is_hex {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidDigest)
        }
    }
}

impl<'de> Deserialize<'de> for FileDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn names_of_any_alphabet_are_taken_as_they_are() {
        for name in ["a", "plan.pdf", "報告 2026.csv", "naïve \"quoted\"; x=1.txt", "...", "🙂.png"] {
            assert_eq!(name.parse::<FileName>().unwrap().as_str(), name);
        }
        assert_eq!(" plan.pdf\n".parse::<FileName>().unwrap().as_str(), "plan.pdf");
        assert!("é".repeat(127).parse::<FileName>().is_ok());
    }

    #[test]
    fn paths_control_characters_and_nothing_are_no_names() {
        let too_long = "é".repeat(128);
        let refused =
            ["", " ", ".", "..", "a/b", "/etc/passwd", "..\\a", "a\nb", "a\0b", "a\u{7f}b", "a\u{85}b"];
        for name in refused.into_iter().chain([
            "cod\u{202e}gpj.exe",
            "a\u{2028}b",
            "a\u{061c}b",
            "a\u{200e}b",
            "a\u{200f}b",
            too_long.as_str(),
        ]) {
            assert_eq!(name.parse::<FileName>(), Err(InvalidFileName), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_taken_again(text in "\\PC{0,300}") {
            if let Ok(name) = text.parse::<FileName>() {
                prop_assert_eq!(name.as_str().parse::<FileName>(), Ok(name));
            }
        }
    }

    fn content_type(text: &str) -> Result<ContentType, InvalidContentType> {
        text.parse()
    }

    #[test]
    fn a_type_is_two_names_and_a_slash() {
        assert_eq!(content_type("Image/PNG").unwrap().as_str(), "image/png");
        assert!(content_type("application/vnd.oasis.opendocument.text").is_ok());
        let long = format!("a/{}", "b".repeat(254));
        for wrong in
            ["", "png", "image/", "/png", "a/b/c", "image/*", "text/plain; charset=utf-8", "a /b", &long]
        {
            assert_eq!(content_type(wrong), Err(InvalidContentType), "{wrong}");
        }
    }

    #[test]
    fn lists_have_exact_types_and_whole_kinds() {
        let allowed: AllowedTypes = "image/*, application/pdf".parse().unwrap();
        for taken in ["image/png", "image/svg+xml", "application/pdf"] {
            assert!(allowed.list(&content_type(taken).unwrap()), "{taken}");
        }
        for refused in ["application/pdfx", "imagex/png", "text/plain"] {
            assert!(!allowed.list(&content_type(refused).unwrap()), "{refused}");
        }
    }

    #[test]
    fn a_list_with_a_wrong_entry_is_no_list() {
        for (text, entry) in [("", 1), ("image/*,", 2), ("*/*", 1), ("image/png,im age/*", 2), ("*", 1)] {
            assert_eq!(text.parse::<AllowedTypes>(), Err(InvalidTypes(entry)), "{text}");
        }
    }

    #[test]
    fn the_same_checksum_is_written_in_two_ways() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest: FileDigest = empty.parse().unwrap();
        assert_eq!(digest.base64(), STANDARD.encode(Sha256::digest(b"")));
    }

    #[test]
    fn upper_case_digits_are_the_same_checksum() {
        let lower = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let upper: FileDigest = lower.to_uppercase().parse().unwrap();
        assert_eq!(upper, lower.parse().unwrap());
        assert_eq!(serde_json::to_value(&upper).unwrap(), lower);
        assert_eq!(upper.base64(), STANDARD.encode(Sha256::digest(b"")));
    }

    #[test]
    fn what_is_not_64_hex_digits_is_refused() {
        let a = "a".repeat(64);
        for wrong in ["", &a[1..], &format!("{a}a"), &a.replacen('a', "g", 1), &a.replacen("aa", "é", 1)] {
            assert_eq!(wrong.parse::<FileDigest>(), Err(InvalidDigest), "{wrong}");
        }
    }
}
