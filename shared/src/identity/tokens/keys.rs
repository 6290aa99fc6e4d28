//! The keys, as JSON Web Keys (RFC 7517, RFC 8037): Ed25519 only.
//!
//! Public keys are configuration (`TOKEN_JWKS`) of every function that verifies tokens, and the
//! answer of `/.well-known/jwks.json`. The private key is a secret that one function reads when it
//! starts. [`super::rotation`] describes how keys are rotated.

use std::fmt;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};

use crate::core::env::{ConfigError, Env};
use crate::core::redacted::Redacted;
use crate::platform::secrets_manager::Secret;

/// The variable with the public keys.
pub const TOKEN_JWKS: &str = "TOKEN_JWKS";
/// Size of an Ed25519 public key.
const PUBLIC_KEY_BYTES: usize = 32;

/// Why text is not a key or a key set. The messages never contain the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not JSON of the right shape.
    #[error(
        "it is not a JSON Web Key with kty, crv, kid and x (and d, if private), at line {line} column {column}"
    )]
    NotAKey {
        /// Position of the error, from 1.
        line: usize,
        column: usize,
    },
    /// Not `kty: OKP`, `crv: Ed25519`, and, if given, `alg: EdDSA` and `use: sig`.
    #[error("the key {0:?} is not an Ed25519 key for EdDSA")]
    NotEd25519(String),
    /// A key without an id.
    #[error("a key has an empty kid")]
    Nameless,
    /// `x` is not 32 bytes in base64url.
    #[error("the x of the key {0:?} is not 32 bytes in base64url")]
    PublicPart(String),
    /// `d` is not the private part of `x`.
    #[error("the d of the key {0:?} is not the private part of its x")]
    PrivatePart(String),
    /// A private key in the public set.
    #[error("the key {0:?} contains its private part: replace that key, it is not secret any more")]
    Exposed(String),
    /// Two keys have this id.
    #[error("two keys have the kid {0:?}")]
    Repeated(String),
    /// A set without keys.
    #[error("the set holds no key")]
    Empty,
}

impl From<serde_json::Error> for InvalidKey {
    fn from(error: serde_json::Error) -> Self {
        // Only the position: serde's message may quote the text, which may be a private key.
        Self::NotAKey { line: error.line(), column: error.column() }
    }
}

/// A key in JSON. Unknown members (`key_ops`, `x5t`, …) are ignored, as RFC 7517 requires.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    kid: String,
    x: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    d: Option<Redacted<String>>,
}

impl Jwk {
    fn public(&self) -> Result<PublicKey, InvalidKey> {
        if self.kid.is_empty() {
            return Err(InvalidKey::Nameless);
        }
        let absent_or = |member: &Option<String>, value| member.as_deref().is_none_or(|text| text == value);
        let signs = absent_or(&self.alg, "EdDSA") && absent_or(&self.purpose, "sig");
        if self.kty != "OKP" || self.crv != "Ed25519" || !signs {
            return Err(InvalidKey::NotEd25519(self.kid.clone()));
        }
        match URL_SAFE_NO_PAD.decode(&self.x) {
            Ok(x) if x.len() == PUBLIC_KEY_BYTES => Ok(PublicKey { kid: self.kid.clone(), x }),
            _ => Err(InvalidKey::PublicPart(self.kid.clone())),
        }
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kid: String,
    x: Vec<u8>,
}

impl PublicKey {
    /// The id in token headers.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn decoding_key(&self) -> DecodingKey {
        DecodingKey::from_ed_der(&self.x)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Members<'a> {
            kty: &'static str,
            crv: &'static str,
            kid: &'a str,
            x: String,
            alg: &'static str,
            #[serde(rename = "use")]
            purpose: &'static str,
        }
        let x = URL_SAFE_NO_PAD.encode(&self.x);
        Members { kty: "OKP", crv: "Ed25519", kid: &self.kid, x, alg: "EdDSA", purpose: "sig" }
            .serialize(serializer)
    }
}

/// The public keys for verification. Serialises as the JWK set for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicKeys {
    keys: Vec<PublicKey>,
}

impl PublicKeys {
    /// Reads `TOKEN_JWKS`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        env.parse(TOKEN_JWKS)
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter()
    }

    /// Whether this set verifies tokens signed by `key`.
    pub fn verify_what_signs(&self, key: &SigningKey) -> bool {
        self.keys.contains(key.public())
    }
}

impl std::str::FromStr for PublicKeys {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Jwk>,
        }
        let mut keys: Vec<PublicKey> = Vec::new();
        for jwk in serde_json::from_str::<Set>(text)?.keys {
            if jwk.d.is_some() {
                return Err(InvalidKey::Exposed(jwk.kid));
            }
            let key = jwk.public()?;
            if keys.iter().any(|known| known.kid == key.kid) {
                return Err(InvalidKey::Repeated(key.kid));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(InvalidKey::Empty) } else { Ok(Self { keys }) }
    }
}

/// A private key with its public part. `Debug` shows the public part only.
#[derive(Clone)]
pub struct SigningKey {
    public: PublicKey,
    private: EncodingKey,
}

impl SigningKey {
    /// The public part.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn encoding_key(&self) -> &EncodingKey {
        &self.private
    }

    /// Parses a private JWK, and checks that its two parts belong together: a wrong `x` would sign
    /// tokens that nobody can verify.
    pub fn from_jwk(text: &Redacted<String>) -> Result<Self, InvalidKey> {
        let jwk: Jwk = serde_json::from_str(text.expose())?;
        let public = jwk.public()?;
        let mismatch = || InvalidKey::PrivatePart(jwk.kid.clone());
        let d = jwk.d.as_ref().ok_or_else(mismatch)?;
        let seed = URL_SAFE_NO_PAD.decode(d.expose()).map_err(|_| mismatch())?;
        if seed.len() != PUBLIC_KEY_BYTES {
            return Err(mismatch());
        }
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public.x).map_err(|_| mismatch())?;
        let document = pair.to_pkcs8v1().map_err(|_| mismatch())?;
        Ok(Self { public, private: EncodingKey::from_ed_der(document.as_ref()) })
    }
}

impl Secret for SigningKey {
    const VARIABLE: &'static str = "TOKEN_SIGNING_KEY_SECRET";
    const CONTENT: &'static str = "a private Ed25519 JWK";
    type Invalid = InvalidKey;

    fn read(text: &Redacted<String>) -> Result<Self, InvalidKey> {
        Self::from_jwk(text)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}
