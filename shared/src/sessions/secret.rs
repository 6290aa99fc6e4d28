//! The secrets that a client holds for its session: the refresh token and the cookie.
//!
//! Each is `<session id>.<256 random bits, base64url>`. The id leads to the row by key; the random part is held
//! against the row's SHA-256 of it. A plain hash is enough here, unlike for passwords: nobody can guess 256 bits.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::ids::SessionId;
use crate::random::{self, NoEntropy};
use crate::redacted::Redacted;

/// Size of the random part.
const SECRET_BYTES: usize = 32;

/// A secret of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSecret {
    session_id: SessionId,
    random: Redacted<[u8; SECRET_BYTES]>,
}

/// Text that is no session secret. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a session secret")]
pub struct InvalidSecret;

impl SessionSecret {
    /// A new secret of the session.
    pub fn generate(session_id: SessionId) -> Result<Self, NoEntropy> {
        Ok(Self { session_id, random: Redacted::new(random::bytes()?) })
    }

    /// The session that the text claims to belong to.
    pub fn session_id(&self) -> &SessionId {
        &self.session_id
    }

    /// The text for the client.
    pub fn expose(&self) -> String {
        format!("{}.{}", self.session_id, URL_SAFE_NO_PAD.encode(self.random.expose()))
    }

    /// What is stored of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.random.expose()).into())
    }
}

impl std::str::FromStr for SessionSecret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let (session_id, random) = text.split_once('.').ok_or(InvalidSecret)?;
        let session_id = session_id.parse().map_err(|_| InvalidSecret)?;
        let random = URL_SAFE_NO_PAD.decode(random).map_err(|_| InvalidSecret)?;
        let random = <[u8; SECRET_BYTES]>::try_from(random).map_err(|_| InvalidSecret)?;
        Ok(Self { session_id, random: Redacted::new(random) })
    }
}

/// SHA-256 of a secret's random part, as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash([u8; SECRET_BYTES]);

impl SecretHash {
    /// Whether this is the hash of `secret`, in a time that does not depend on where they differ.
    pub fn matches(&self, secret: &SessionSecret) -> bool {
        verify_slices_are_equal(&self.0, &secret.hash().0).is_ok()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

impl Serialize for SecretHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for SecretHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let bytes = URL_SAFE_NO_PAD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        let length = bytes.len();
        bytes.try_into().map(Self).map_err(|_| D::Error::invalid_length(length, &"32 bytes"))
    }
}
