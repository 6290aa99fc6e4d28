//! Whole files and parts, and the list of parts that a client sends to complete a file.

use serde::{Deserialize, Deserializer};

use super::Upload;
use crate::core::json;

/// Largest file that is sent whole, in bytes. A larger one would have to be sent again from its
/// start when a connection breaks.
pub const MAX_WHOLE_BYTES: u64 = 5 * MIB;
/// Smallest part, except a file's last, in bytes. S3's minimum is 5 MiB; larger parts need fewer
/// links.
pub const MIN_PART_BYTES: u64 = 8 * MIB;
/// Most parts of a file, so that the answer with their links stays under Lambda's 6 MB. (S3 allows
/// 10,000.)
pub const MAX_PARTS: u64 = 1_000;

const MIB: u64 = 1_024 * 1_024;

/// The size of a file's parts in bytes; `None` if it is sent whole.
pub fn part_size(size_bytes: u64) -> Option<u64> {
    (size_bytes > MAX_WHOLE_BYTES)
        .then(|| size_bytes.div_ceil(MAX_PARTS).next_multiple_of(MIB).max(MIN_PART_BYTES))
}

/// The parts of a file: their numbers, from 1, and their sizes in bytes.
pub fn parts(size_bytes: u64, part_size_bytes: u64) -> impl Iterator<Item = (i32, u64)> {
    let starts = (0..size_bytes).step_by(usize::try_from(part_size_bytes.max(1)).unwrap_or(usize::MAX));
    (1..).zip(starts.map(move |start| part_size_bytes.min(size_bytes - start)))
}

/// The body of `POST /uploads/{uploadId}/complete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompletionRequest {
    /// The parts in order; none for a file that was sent whole.
    #[serde(default, deserialize_with = "no_more_than_there_can_be")]
    pub parts: Vec<SentPart>,
}

/// A part that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SentPart {
    #[serde(deserialize_with = "json::integer")]
    pub part_number: i32,
    /// S3's `ETag` answer.
    pub etag: PartTag,
}

/// An entity tag of S3, which identifies the bytes of a part. Stored in double quotes, as S3
/// returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartTag(String);

/// Longest tag that is accepted, in bytes, with its quotes. S3's are 32 hex digits in quotes.
const MAX_TAG_BYTES: usize = 128;

impl PartTag {
    /// The tag in quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for PartTag {
    /// Accepts the tag with its quotes or without: some clients strip them from the header.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let unquoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&text);
        let is_tag = !unquoted.is_empty() && unquoted.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        if is_tag && text.len() <= MAX_TAG_BYTES {
            Ok(Self(format!("\"{unquoted}\"")))
        } else {
            Err(serde::de::Error::custom(format_args!(
                "an etag has 1 to {MAX_TAG_BYTES} visible ASCII characters, and double quotes only around it"
            )))
        }
    }
}

fn no_more_than_there_can_be<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SentPart>, D::Error> {
    let parts = Vec::<SentPart>::deserialize(deserializer)?;
    if parts.len() as u64 > MAX_PARTS {
        return Err(serde::de::Error::custom(format_args!("a file has at most {MAX_PARTS} parts")));
    }
    Ok(parts)
}

/// Why a list is not that of the upload's parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidParts {
    /// The file was sent whole and has no parts.
    #[error("this file is sent whole: it has no parts")]
    None,
    /// Missing or additional parts, or another order.
    #[error("this file has the parts 1 to {0}, in that order")]
    Numbers(usize),
    /// The parts at S3 are others.
    #[error("S3 has not received these parts ({0}); send the missing parts, and complete the upload again")]
    Unknown(String),
}

impl CompletionRequest {
    /// Checks the numbers of the list. S3 checks the rest.
    pub(super) fn check(&self, upload: &Upload) -> Result<(), InvalidParts> {
        let Some(part_size) = upload.part_size_bytes else {
            return if self.parts.is_empty() { Ok(()) } else { Err(InvalidParts::None) };
        };
        let wanted: Vec<_> = parts(upload.size_bytes, part_size).map(|(number, _)| number).collect();
        if self.parts.iter().map(|part| part.part_number).eq(wanted.iter().copied()) {
            Ok(())
        } else {
            Err(InvalidParts::Numbers(wanted.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn up_to_five_megabytes_are_sent_whole() {
        assert_eq!(part_size(1), None);
        assert_eq!(part_size(5_242_880), None);
        assert_eq!(part_size(5_242_881), Some(8_388_608));
        assert_eq!(part_size(100 * MIB), Some(8 * MIB));
        assert_eq!(parts(100 * MIB, 8 * MIB).last(), Some((13, 4 * MIB)));
        assert_eq!(parts(16 * MIB, 8 * MIB).collect::<Vec<_>>(), [(1, 8 * MIB), (2, 8 * MIB)]);
        assert_eq!(parts(6 * MIB, 8 * MIB).collect::<Vec<_>>(), [(1, 6 * MIB)]);
    }

    proptest! {
        #[test]
        fn the_parts_are_the_file(size in MAX_WHOLE_BYTES + 1..100_000 * MIB) {
            let part = part_size(size).unwrap();
            prop_assert!(part.is_multiple_of(MIB) && part >= MIN_PART_BYTES);
            let all: Vec<_> = parts(size, part).collect();
            prop_assert!(all.len() as u64 <= MAX_PARTS);
            prop_assert_eq!(all.iter().map(|(_, size)| size).sum::<u64>(), size);
            prop_assert!(all.iter().rev().skip(1).all(|(_, size)| *size == part));
            prop_assert!((1..).zip(&all).all(|(n, (number, _))| n == *number));
        }
    }

    fn read(body: Value) -> Result<CompletionRequest, serde_json::Error> {
        serde_json::from_value(body)
    }

    #[test]
    fn a_body_names_parts_and_their_tags_and_nothing_else() {
        assert_eq!(read(json!({})).unwrap(), CompletionRequest::default());
        let part = json!({"partNumber": 1, "etag": "\"0123456789abcdef\""});
        assert_eq!(read(json!({"parts": [part]})).unwrap().parts.len(), 1);
        let many = vec![part; 1_001];
        let long = "a".repeat(129);
        for wrong in [
            json!({"parts": null}),
            json!({"parts": [{"partNumber": 1}]}),
            json!({"parts": [{"partNumber": 1, "etag": "a b"}]}),
            json!({"parts": [{"partNumber": 1, "etag": ""}]}),
            json!({"parts": [{"partNumber": 1, "etag": "\"\""}]}),
            json!({"parts": [{"partNumber": 1, "etag": "\""}]}),
            json!({"parts": [{"partNumber": 1, "etag": "\"a"}]}),
            json!({"parts": [{"partNumber": 1, "etag": "a\"b"}]}),
            json!({"parts": [{"partNumber": 1, "etag": long}]}),
            json!({"parts": [{"partNumber": 1.5, "etag": "a"}]}),
            json!({"parts": [{"partNumber": 1, "etag": "a", "size": 1}]}),
            json!({"part": []}),
            json!({"parts": many}),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tag_is_the_same_with_its_quotes_and_without() {
        let tag = |etag: &str| {
            let body = read(json!({"parts": [{"partNumber": 1, "etag": etag}]})).unwrap();
            body.parts[0].etag.clone()
        };
        assert_eq!(tag("0123abcd"), tag("\"0123abcd\""));
        assert_eq!(tag("0123abcd").as_str(), "\"0123abcd\"");
    }
}
