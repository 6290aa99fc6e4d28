//! New keys and tokens for tests, in the forms of configuration and secrets.

use aws_lc_rs::encoding::AsBigEndian;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sojourn::core::random;
use sojourn::core::redacted::Redacted;
use sojourn::identity::seal::SealingKeys;
use sojourn::identity::tokens::SigningKey;

/// A key pair and its name.
pub struct TestKey {
    pub pair: Ed25519KeyPair,
    pub kid: String,
}

impl TestKey {
    /// A new pair with this name.
    pub fn new(kid: &str) -> Self {
        Self { pair: Ed25519KeyPair::generate().unwrap(), kid: kid.to_owned() }
    }

    /// The public JWK.
    pub fn public_jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x, "alg": "EdDSA", "use": "sig"})
    }

    /// The private JWK, as the secret holds it.
    pub fn private_jwk(&self) -> Value {
        let mut jwk = self.public_jwk();
        let seed = self.pair.seed().unwrap().as_be_bytes().unwrap();
        jwk["d"] = URL_SAFE_NO_PAD.encode::<&[u8]>(seed.as_ref()).into();
        jwk
    }

    /// The private key, as functions load it.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_jwk(&Redacted::new(self.private_jwk().to_string())).unwrap()
    }
}

/// The text of `TOKEN_JWKS` with these keys.
pub fn jwks(keys: &[&TestKey]) -> String {
    json!({"keys": keys.iter().map(|key| key.public_jwk()).collect::<Vec<_>>()}).to_string()
}

/// A new sealing key, as a JWK.
pub fn sealing_key(kid: &str) -> Value {
    let k = URL_SAFE_NO_PAD.encode(random::bytes::<32>().unwrap());
    json!({"kty": "oct", "alg": "A256GCM", "kid": kid, "k": k})
}

/// Sealing keys; the first one seals.
pub fn sealing_keys(keys: &[Value]) -> SealingKeys {
    SealingKeys::from_jwks(&Redacted::new(json!({ "keys": keys }).to_string())).unwrap()
}
