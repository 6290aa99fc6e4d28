//! The cached content of a name, and its encoding.

use std::io::{Read, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use super::Entry;

/// Largest value that is kept, in bytes of JSON. A page of 100 products has about 50 KB; ten times
/// that can be transferred in the ten milliseconds of a call to Redis, and not much more.
pub const MAX_VALUE_BYTES: usize = 512 * 1024;

/// Below this compression gains less than it costs.
const MIN_COMPRESSED_BYTES: usize = 1024;

/// The first byte tells what follows.
const JSON: u8 = b'j';
const DEFLATED: u8 = b'z';
const ABSENT: u8 = b'a';
const TOO_LARGE: u8 = b'l';

/// The content of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Json(Arc<[u8]>),
    /// It is known that there is no value.
    Absent,
    /// It is known that the value is above [`MAX_VALUE_BYTES`]: waiting for it is of no use.
    TooLarge,
}

/// The result of reading a content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading<T> {
    /// The value, or that there is none.
    Value(Option<T>),
    /// The value is not kept.
    TooLarge,
    /// Not the JSON of this type, or of another version of the code.
    Invalid,
}

impl Content {
    pub(super) fn of<T: Entry>(value: Option<&T>) -> Result<Self, serde_json::Error> {
        let Some(value) = value else { return Ok(Self::Absent) };
        let json = serde_json::to_vec(value)?;
        Ok(if json.len() > MAX_VALUE_BYTES { Self::TooLarge } else { Self::Json(json.into()) })
    }

    pub(super) fn read<T: Entry>(&self, id: &str) -> Reading<T> {
        match self {
            Self::Absent => Reading::Value(None),
            Self::TooLarge => Reading::TooLarge,
            Self::Json(json) => match serde_json::from_slice::<T>(json) {
                Ok(value) if value.belongs_to(id) => Reading::Value(Some(value)),
                Ok(_) | Err(_) => Reading::Invalid,
            },
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Absent | Self::TooLarge => 0,
        }
    }

    /// The bytes for Redis, compressed where that saves space.
    pub(super) fn encode(&self) -> Vec<u8> {
        let json = match self {
            Self::Absent => return vec![ABSENT],
            Self::TooLarge => return vec![TOO_LARGE],
            Self::Json(json) => json,
        };
        match deflated(json) {
            Some(deflated) if deflated.len() <= json.len() => deflated,
            _ => [&[JSON], &**json].concat(),
        }
    }

    /// The content of bytes from Redis. `None`: they are invalid.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        match *form {
            ABSENT if rest.is_empty() => Some(Self::Absent),
            TOO_LARGE if rest.is_empty() => Some(Self::TooLarge),
            JSON if rest.len() <= MAX_VALUE_BYTES => Some(Self::Json(rest.into())),
            DEFLATED => Some(Self::Json(inflated(rest)?.into())),
            _ => None,
        }
    }
}

fn deflated(json: &[u8]) -> Option<Vec<u8>> {
    if json.len() < MIN_COMPRESSED_BYTES {
        return None;
    }
    let mut encoder = DeflateEncoder::new(vec![DEFLATED], Compression::fast());
    encoder.write_all(json).ok()?;
    encoder.finish().ok()
}

/// Inflates at most [`MAX_VALUE_BYTES`], whatever the header claims.
fn inflated(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut json = Vec::new();
    let bound = u64::try_from(MAX_VALUE_BYTES).unwrap_or(u64::MAX);
    DeflateDecoder::new(bytes).take(bound + 1).read_to_end(&mut json).ok()?;
    (json.len() <= MAX_VALUE_BYTES).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::cache::{CachePolicy, Tiers};
    use proptest::prelude::*;
    use std::time::Duration;

    #[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    struct Note(String);

    impl Entry for Note {
        const POLICY: CachePolicy = CachePolicy {
            entity: "note",
            fresh: Duration::from_secs(1),
            absent: Duration::from_secs(1),
            stale: Duration::ZERO,
            tiers: Tiers::Both,
            group: None,
        };

        fn belongs_to(&self, id: &str) -> bool {
            self.0.starts_with(id)
        }
    }

    fn content(text: &str) -> Content {
        Content::of(Some(&Note(text.to_owned()))).unwrap()
    }

    #[test]
    fn what_is_large_and_repeats_itself_is_compressed() {
        let large = content(&"tea ".repeat(1_000));
        let bytes = large.encode();
        assert!(bytes.len() < large.size_bytes() / 10, "{} bytes", bytes.len());
        assert_eq!(Content::decode(&bytes), Some(large));
    }

    #[test]
    fn what_is_small_or_gains_nothing_is_kept_as_it_is() {
        let small = content("tea");
        assert_eq!(small.encode(), b"j\"tea\"");
        // Sixteen bits of a hash at a time: nothing in it repeats itself.
        let noise: String = (0..2_000_u32)
            .filter_map(|n| char::from_u32(0x4e00 + n.wrapping_mul(2_654_435_761) % 20_000))
            .collect();
        let noise = content(&noise);
        assert!(noise.encode().len() <= noise.size_bytes() + 1);
        assert_eq!(Content::decode(&noise.encode()), Some(noise));
    }

    #[test]
    fn a_value_above_the_limit_is_known_to_be_too_large() {
        let fits = content(&"x".repeat(MAX_VALUE_BYTES - 2));
        assert_eq!(Content::decode(&fits.encode()), Some(fits));
        let large = content(&"x".repeat(MAX_VALUE_BYTES - 1));
        assert_eq!(large, Content::TooLarge);
        assert_eq!(Content::decode(&large.encode()), Some(Content::TooLarge));
    }

    #[test]
    fn bytes_that_inflate_beyond_the_limit_are_no_content() {
        let bomb = deflated(&vec![b' '; MAX_VALUE_BYTES + 1]).unwrap();
        assert!(bomb.len() < MAX_VALUE_BYTES / 50, "{} bytes", bomb.len());
        assert_eq!(Content::decode(&bomb), None);
    }

    #[test]
    fn a_value_of_another_id_is_not_read() {
        assert_eq!(content("tea").read::<Note>("te"), Reading::Value(Some(Note("tea".to_owned()))));
        assert_eq!(content("tea").read::<Note>("pot"), Reading::Invalid);
        assert_eq!(Content::Json(Arc::from(*b"{")).read::<Note>("te"), Reading::Invalid);
    }

    proptest! {
        #[test]
        fn any_text_survives_and_no_bytes_make_the_reader_panic(
            text in "\\PC{0,2000}", bytes in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let content = content(&text);
            prop_assert_eq!(Content::decode(&content.encode()), Some(content));
            if let Some(content) = Content::decode(&bytes) {
                let _: Reading<Note> = content.read("");
            }
        }
    }
}
