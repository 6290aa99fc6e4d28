//! The `Idempotency-Key` header.

use std::fmt;
use std::str::FromStr;

use crate::core::ids::is_visible;

/// Longest key, in bytes, quotes not counted.
pub const MAX_KEY_BYTES: usize = 255;

/// A client's name for one write: 1 to 255 visible ASCII characters without `"`, `\` and `,`. UUIDs
/// of version 4 are recommended. A comma is excluded because proxies join repeated headers with
/// commas.
///
/// The header's draft standard quotes the key; most clients send it bare. Both forms name the same
/// key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// Why a header has no valid key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The header is absent. 400.
    #[error("the header Idempotency-Key is missing")]
    Missing,
    /// The header is malformed. 400.
    #[error(
        "an Idempotency-Key has 1 to {MAX_KEY_BYTES} visible ASCII characters and no comma, bare or quoted"
    )]
    Malformed,
}

impl IdempotencyKey {
    /// Reads the header.
    pub fn from_header(value: Option<&str>) -> Result<Self, KeyError> {
        value.ok_or(KeyError::Missing)?.trim().parse()
    }
}

impl FromStr for IdempotencyKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        if is_visible(bare, MAX_KEY_BYTES) && !bare.contains(['"', '\\', ',']) {
            Ok(Self(bare.to_owned()))
        } else {
            Err(KeyError::Malformed)
        }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_absent_header_is_told_from_a_bad_one() {
        assert_eq!(IdempotencyKey::from_header(None), Err(KeyError::Missing));
        assert_eq!(IdempotencyKey::from_header(Some("")), Err(KeyError::Malformed));
    }

    #[test]
    fn half_a_pair_of_quotes_and_a_pair_of_keys_are_no_key() {
        for bad in ["\"", "\"\"", "\"abc", "abc\"", "a\"b", "a b", "a\\b", "käse", "k,k", "k, k", "\"k,k\""]
        {
            assert_eq!(bad.parse::<IdempotencyKey>(), Err(KeyError::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn quoted_and_bare_are_the_same_key(key in "[!#-+\\--\\[\\]-~]{1,255}") {
            let bare: IdempotencyKey = key.parse().unwrap();
            prop_assert_eq!(&bare, &format!("\"{key}\"").parse().unwrap());
            prop_assert_eq!(bare.to_string(), key);
        }

        #[test]
        fn too_long_is_refused(key in "[a-z]{256,300}") {
            prop_assert_eq!(key.parse::<IdempotencyKey>(), Err(KeyError::Malformed));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
            let visible = |key: IdempotencyKey| key.to_string().bytes().all(|b| b.is_ascii_graphic());
            prop_assert!(text.parse::<IdempotencyKey>().map_or(true, visible));
        }
    }
}
