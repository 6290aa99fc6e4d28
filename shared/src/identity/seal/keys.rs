//! The sealing keys: a JSON Web Key set (RFC 7517) of symmetric keys (RFC 7518, section 6.4) for
//! AES-256-GCM.
//!
//! A rotation adds a new key to the secret while some processes have the old set. Such a process
//! finds the new key's id in a value that a newer process has sealed. It then reads the secret
//! again ([`SealingKeys::fetch`]), so no process has to be replaced. Concurrent calls share one
//! read, and a process reads at most once in [`REREAD_INTERVAL`].

use std::fmt;
use std::iter;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::envelope::Kid;
use crate::core::redacted::Redacted;
use crate::platform::secrets_manager::{Secret, SecretsManager};
use crate::platform::telemetry::chain;

/// Size of a key: 256 bits.
const KEY_BYTES: usize = 32;

/// HKDF's `info` for the key of codes (RFC 5869). No other key is derived with the same value.
const CODE_KEY_INFO: &[u8] = b"sojourn code";

/// How often a process reads the keys again at most. A key that was removed too early occurs in
/// every request, and each of them must not call Secrets Manager. Short, because Secrets Manager is
/// eventually consistent: the first read may still return the old set.
pub const REREAD_INTERVAL: Duration = Duration::from_secs(10);

/// Why text is not a set of sealing keys. The messages never contain a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// Not JSON of the right shape.
    #[error(
        "it is not a JSON Web Key set with kty, alg, kid and k for each key, at line {line} column {column}"
    )]
    NotASet {
        /// Position of the error, from 1.
        line: usize,
        column: usize,
    },
    /// No key, so nothing could be sealed.
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
    /// Two keys have this id.
    #[error("two keys have the kid {0:?}")]
    Repeated(String),
}

impl From<serde_json::Error> for InvalidKeys {
    fn from(error: serde_json::Error) -> Self {
        // Only the position: serde's message may quote the text, which contains keys.
        Self::NotASet { line: error.line(), column: error.column() }
    }
}

/// Keys for sealing: the first seals, all open. Clones share the current set. `Debug` shows the ids
/// only.
#[derive(Clone)]
pub struct SealingKeys(Arc<Shared>);

struct Shared {
    present: RwLock<Arc<Set>>,
    source: Option<SecretsManager>,
    /// When the secret was last read. Locked during a read.
    last_read: Mutex<Option<Instant>>,
}

/// A set of keys. Never empty.
pub(super) struct Set {
    first: SealingKey,
    others: Vec<SealingKey>,
}

pub(super) struct SealingKey {
    kid: Kid,
    cipher: RandomizedNonceKey,
    code_key: hmac::Key,
}

impl SealingKey {
    pub(super) fn kid(&self) -> &Kid {
        &self.kid
    }

    pub(super) fn cipher(&self) -> &RandomizedNonceKey {
        &self.cipher
    }

    /// Derived from the key: one key is never used by two algorithms.
    pub(super) fn code_key(&self) -> &hmac::Key {
        &self.code_key
    }
}

impl Set {
    pub(super) fn first(&self) -> &SealingKey {
        &self.first
    }

    pub(super) fn by_kid(&self, kid: &str) -> Option<&SealingKey> {
        self.iter().find(|key| key.kid.as_str() == kid)
    }

    fn iter(&self) -> impl Iterator<Item = &SealingKey> {
        iter::once(&self.first).chain(&self.others)
    }

    fn kids(&self) -> Vec<&str> {
        self.iter().map(|key| key.kid.as_str()).collect()
    }
}

impl SealingKeys {
    fn of(present: Arc<Set>, source: Option<SecretsManager>) -> Self {
        Self(Arc::new(Shared { present: RwLock::new(present), source, last_read: Mutex::new(None) }))
    }

    /// These keys, with `source` to read them again.
    #[must_use]
    pub fn with_source(&self, source: SecretsManager) -> Self {
        Self::of(self.present(), Some(source))
    }

    /// The current set.
    pub(super) fn present(&self) -> Arc<Set> {
        Arc::clone(&self.0.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the key `kid` is in the set. Reads the keys again if it is not, unless that was done
    /// within [`REREAD_INTERVAL`].
    pub async fn fetch(&self, kid: &str) -> bool {
        let Some(source) = &self.0.source else { return self.has(kid) };
        let mut last_read = self.0.last_read.lock().await;
        // Another call may have read the keys while this one waited.
        if self.has(kid) {
            return true;
        }
        if last_read.is_some_and(|at| at.elapsed() < REREAD_INTERVAL) {
            return false;
        }
        *last_read = Some(Instant::now());
        match source.secret::<Self>().await {
            Ok(keys) => {
                let keys = keys.present();
                tracing::info!(kids = ?keys.kids(), "sealing keys read again");
                *self.0.present.write().unwrap_or_else(PoisonError::into_inner) = keys;
            }
            Err(error) => tracing::error!(error = chain(&error), "sealing keys not read again"),
        }
        self.has(kid)
    }

    fn has(&self, kid: &str) -> bool {
        self.present().by_kid(kid).is_some()
    }

    /// Parses a JWK set. The order of the keys is kept.
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
        Ok(Self::of(Arc::new(Set { first, others }), None))
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
        f.debug_list().entries(self.present().kids()).finish()
    }
}

/// A key in JSON. Unknown members (`use`, `key_ops`, …) are ignored, as RFC 7517 requires.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    alg: String,
    kid: String,
    k: Redacted<String>,
}

impl Jwk {
    fn into_key(self) -> Result<SealingKey, InvalidKeys> {
        // A key with a declared use is used for nothing else.
        if self.kty != "oct" || self.alg != "A256GCM" {
            return Err(InvalidKeys::NotForSealing(self.kid));
        }
        let wrong_size = || InvalidKeys::Size(self.kid.clone());
        let bytes = URL_SAFE_NO_PAD.decode(self.k.expose()).map_err(|_| wrong_size())?;
        if bytes.len() != KEY_BYTES {
            return Err(wrong_size());
        }
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| wrong_size())?;
        let code_key = Salt::new(HKDF_SHA256, &[])
            .extract(&bytes)
            .expand(&[CODE_KEY_INFO], hmac::HMAC_SHA256)
            .map_err(|_| wrong_size())?
            .into();
        Ok(SealingKey { kid: Kid::new(self.kid).ok_or(InvalidKeys::Kid)?, cipher, code_key })
    }
}
