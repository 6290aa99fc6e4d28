//! The sealing keys: a JSON Web Key set (RFC 7517) of symmetric keys (RFC 7518, section 6.4) for AES-256-GCM.

use std::fmt;
use std::iter;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::envelope::Kid;
use crate::redacted::Redacted;
use crate::secrets_manager::Secret;

/// Size of a key: 256 bits.
const KEY_BYTES: usize = 32;

/// Why text is not a set of sealing keys. None of the sentences repeats any of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// Not JSON of the right shape.
    #[error(
        "it is not a JSON Web Key set with kty, alg, kid and k for each key, at line {line} column {column}"
    )]
    NotASet {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where reading stopped, from 1.
        column: usize,
    },
    /// Nothing could be sealed.
    #[error("the set holds no key")]
    Empty,
    /// Not `kty: oct` and `alg: A256GCM`.
    #[error("the key {0:?} is not an oct key for A256GCM")]
    NotForSealing(String),
    /// Empty, or more than 255 bytes.
    #[error("a kid has 1 to 255 bytes")]
    Kid,
    /// `k` is not 32 bytes in base64url.
    #[error("the k of the key {0:?} is not 32 bytes in base64url")]
    Size(String),
    /// Nobody could tell which of them opens.
    #[error("two keys have the kid {0:?}")]
    Repeated(String),
}

impl From<serde_json::Error> for InvalidKeys {
    fn from(error: serde_json::Error) -> Self {
        // Only the place: serde's sentence may quote the text, and the text holds keys.
        Self::NotASet { line: error.line(), column: error.column() }
    }
}

/// Keys for sealing: the first seals, all open. `Debug` shows their ids only.
#[derive(Clone)]
pub struct SealingKeys(Arc<Set>);

/// Never empty.
struct Set {
    first: SealingKey,
    others: Vec<SealingKey>,
}

pub(super) struct SealingKey {
    kid: Kid,
    cipher: RandomizedNonceKey,
}

impl SealingKey {
    pub(super) fn kid(&self) -> &Kid {
        &self.kid
    }

    pub(super) fn cipher(&self) -> &RandomizedNonceKey {
        &self.cipher
    }
}

impl SealingKeys {
    pub(super) fn first(&self) -> &SealingKey {
        &self.0.first
    }

    pub(super) fn by_kid(&self, kid: &str) -> Option<&SealingKey> {
        self.iter().find(|key| key.kid.as_str() == kid)
    }

    fn iter(&self) -> impl Iterator<Item = &SealingKey> {
        iter::once(&self.0.first).chain(&self.0.others)
    }

    /// Reads a JWK set with the keys in their order.
    pub fn from_jwks(text: &Redacted<String>) -> Result<Self, InvalidKeys> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<Jwk>,
        }
        let set: Jwks = serde_json::from_str(text.expose())?;
        let mut keys = set.keys.into_iter().map(Jwk::into_key);
        let first = keys.next().ok_or(InvalidKeys::Empty)??;
        let mut others: Vec<SealingKey> = Vec::new();
        for key in keys {
            let key = key?;
            if iter::once(&first).chain(&others).any(|known| known.kid == key.kid) {
                return Err(InvalidKeys::Repeated(key.kid.as_str().to_owned()));
            }
            others.push(key);
        }
        Ok(Self(Arc::new(Set { first, others })))
    }
}

impl Secret for SealingKeys {
    const VARIABLE: &'static str = "SESSION_SEALING_KEYS_SECRET";
    const CONTENT: &'static str = "a JWK set of 256-bit oct keys for A256GCM";
    type Invalid = InvalidKeys;

    fn read(text: &Redacted<String>) -> Result<Self, InvalidKeys> {
        Self::from_jwks(text)
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|key| key.kid.as_str())).finish()
    }
}

/// A key as it is written. Members that are not ours (`use`, `key_ops`, …) are ignored, as RFC 7517 wants.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    alg: String,
    kid: String,
    k: Redacted<String>,
}

impl Jwk {
    fn into_key(self) -> Result<SealingKey, InvalidKeys> {
        // A key that says what it is for is used for nothing else.
        if self.kty != "oct" || self.alg != "A256GCM" {
            return Err(InvalidKeys::NotForSealing(self.kid));
        }
        let wrong_size = || InvalidKeys::Size(self.kid.clone());
        let bytes = URL_SAFE_NO_PAD.decode(self.k.expose()).map_err(|_| wrong_size())?;
        if bytes.len() != KEY_BYTES {
            return Err(wrong_size());
        }
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| wrong_size())?;
        Ok(SealingKey { kid: Kid::new(self.kid).ok_or(InvalidKeys::Kid)?, cipher })
    }
}
