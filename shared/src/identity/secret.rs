//! Hashes of the secrets that clients hold. Only the hashes are stored.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Size of a SHA-256, in bytes.
const HASH_BYTES: usize = 32;

/// Text that is not a session's secret. The error never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a session secret")]
pub struct InvalidSecret;

/// SHA-256 of at least 256 random bits. Unlike for passwords, a plain hash is enough: nobody can
/// guess the input.
#[derive(Clone)]
pub struct SecretHash([u8; HASH_BYTES]);

impl SecretHash {
    /// A computed hash.
    pub(crate) fn of(digest: &[u8]) -> Self {
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(digest);
        Self(hash)
    }

    /// The stored form: base64url.
    pub(crate) fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl FromStr for SecretHash {
    type Err = InvalidSecret;

    /// Reads the stored text.
    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidSecret)?;
        bytes.try_into().map(Self).map_err(|_| InvalidSecret)
    }
}

/// Constant-time comparison.
impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
