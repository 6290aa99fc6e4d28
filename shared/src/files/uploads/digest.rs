//! The checksum that a file must have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize};

/// SHA-256 of a whole file: 64 hex digits, taken in either case and kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FileDigest(String);

/// Text that is no checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sha256 is 64 hex digits")]
pub struct InvalidDigest;

impl FileDigest {
    const HEX_DIGITS: usize = 64;

    /// As S3 writes it.
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

    /// Whether this is the checksum that S3 tells.
    pub(super) fn is(&self, base64: &str) -> bool {
        self.base64() == base64
    }
}

impl std::str::FromStr for FileDigest {
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
    use sha2::{Digest, Sha256};

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
