//! Sealing keys for tests: made anew, in the form that the secret has.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sojourn::random;

/// A key as a JWK.
pub(crate) fn sealing_key(kid: &str) -> Value {
    let k = URL_SAFE_NO_PAD.encode(random::bytes::<32>().unwrap());
    json!({"kty": "oct", "alg": "A256GCM", "kid": kid, "k": k})
}

/// The text of the secret with these keys; the first seals.
pub(crate) fn sealing_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}
