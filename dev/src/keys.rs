//! The keys of a region: token signing keys and sealing keys.
//!
//! - The key pairs that access tokens are signed and verified with. A region has a [`KeyRing`] of
//!   them. `cargo dev -- keygen` prints a new pair for a region in the cloud. Form: a private OKP
//!   JWK (RFC 8037), and a JWKS (RFC 7517) with its public half. The `kid` is the key's thumbprint
//!   (RFC 7638).
//! - The keys that session payloads are sealed with ([`SealingKeys`]), in a secret.

mod ring;
mod sealing;

use std::path::PathBuf;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use ring::KeyRing;
pub(crate) use sealing::{SealingKeys, SealingKeysError};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The library refused.
    #[error("a key can't be generated")]
    Generate,
    /// Nobody has made any.
    #[error("there are no token signing keys in {}: a region makes them when it first starts there", folder.display())]
    None { folder: PathBuf },
    /// The file can't be read or written.
    #[error("the token signing keys {} can't be read or written: {source}", path.display())]
    File {
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("the token signing keys {} are damaged ({source}); remove them to have a new one made", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

/// An Ed25519 key pair as a private JWK. Debug shows its id only.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SigningKey {
    kty: String,
    crv: String,
    kid: String,
    x: String,
    d: String,
    alg: String,
    #[serde(rename = "use")]
    usage: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new pair.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?;
        let seed = pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(|_| KeyError::Generate)?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        // RFC 7638: the required members, in lexical order, without spaces.
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        Ok(Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            kid,
            x,
            d: URL_SAFE_NO_PAD.encode(seed.as_ref()),
            alg: "EdDSA".to_owned(),
            usage: "sig".to_owned(),
        })
    }

    /// Its name in token headers.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The private JWK: what the signing function's secret holds.
    pub(crate) fn private_jwk(&self) -> String {
        json!(self).to_string()
    }

    /// The public half.
    fn public_jwk(&self) -> Value {
        let Self { kty, crv, kid, x, alg, usage, .. } = self;
        json!({"kty": kty, "crv": crv, "kid": kid, "x": x, "alg": alg, "use": usage})
    }

    /// The JWKS with the public half: what every verifying function gets.
    pub(crate) fn public_jwks(&self) -> String {
        json!({"keys": [self.public_jwk()]}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn the_public_half_verifies_what_the_private_half_signs_and_holds_no_secret() {
        let key = SigningKey::generate().unwrap();
        let seed = URL_SAFE_NO_PAD.decode(&key.d).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let jwks: serde_json::Value = serde_json::from_str(&key.public_jwks()).unwrap();
        let public = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
        UnparsedPublicKey::new(&ED25519, public).verify(b"text", pair.sign(b"text").as_ref()).unwrap();
        assert!(!key.public_jwks().contains(&key.d));
        assert!(!format!("{key:?}").contains(&key.d));
    }
}
