//! The keys as they are configured: what stops a function at its start, and what it says then.

use serde_json::{Value, json};
use sojourn::identity::tokens::keys::InvalidKey;
use sojourn::identity::tokens::{PublicKeys, TokenSigner, TokenVerifier};
use sojourn_testing::{TestKey, jwks};

use super::stage::{env, morning, signing_key};

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

#[test]
fn a_signer_whose_tokens_nobody_could_verify_does_not_start() {
    let (ours, other) = (TestKey::new("2026-11"), TestKey::new("2026-12"));
    let same_name = TestKey::new("2026-11");
    for published in [&other, &same_name] {
        let key = signing_key(&ours.private_jwk()).unwrap();
        let error = TokenSigner::from_env(&env(&jwks(&[published])), key, morning()).unwrap_err();
        assert!(error.to_string().contains("TOKEN_JWKS") && error.to_string().contains("2026-11"), "{error}");
    }
}

#[test]
fn the_published_set_holds_public_members_only_and_every_key() {
    let (old, next) = (TestKey::new("2026-11"), TestKey::new("2026-12"));
    let keys = PublicKeys::from_env(&env(&jwks(&[&old, &next]))).unwrap();
    assert_eq!(serde_json::to_value(&keys).unwrap(), json!({"keys": [old.public_jwk(), next.public_jwk()]}));
}

#[test]
fn a_set_that_cannot_be_used_stops_every_function_with_a_sentence_that_names_the_variable() {
    let (first, second) = (TestKey::new("2026-11"), TestKey::new("2026-12"));
    let with = |member: &str, value: Value| {
        let mut jwk = second.public_jwk();
        jwk[member] = value;
        jwk
    };
    let rsa = json!({"kty": "RSA", "kid": "2026-12", "n": "AQAB", "e": "AQAB", "alg": "RS256"});
    let named = [
        ("the same key twice", first.public_jwk(), "two keys have the kid \"2026-11\""),
        (
            "another key of the same name",
            TestKey::new("2026-11").public_jwk(),
            "two keys have the kid \"2026-11\"",
        ),
        ("a private key", second.private_jwk(), "\"2026-12\" contains its private part"),
        ("another curve", with("crv", json!("X25519")), "\"2026-12\" is not an Ed25519 key"),
        ("another curve for EdDSA", with("crv", json!("Ed448")), "\"2026-12\" is not an Ed25519 key"),
        ("a key for secrets", with("kty", json!("oct")), "\"2026-12\" is not an Ed25519 key"),
        ("another algorithm", with("alg", json!("HS256")), "\"2026-12\" is not an Ed25519 key"),
        ("a key for something else", with("use", json!("enc")), "\"2026-12\" is not an Ed25519 key"),
        ("no key", with("x", json!("AAAA")), "the x of the key \"2026-12\""),
        (
            "base64 with padding",
            with("x", json!(format!("{}=", "A".repeat(43)))),
            "the x of the key \"2026-12\"",
        ),
        ("an RSA key", rsa, "is not a JSON Web Key with kty, crv, kid and x"),
        ("a key without a name", with("kid", Value::Null), "is not a JSON Web Key with kty, crv, kid and x"),
        ("a key with an empty name", with("kid", json!("")), "a key has an empty kid"),
    ];
    for (what, jwk, expected) in named {
        let text = set(&[first.public_jwk(), jwk]);
        let error = TokenVerifier::from_env(&env(&text), morning()).unwrap_err().to_string();
        assert!(error.contains("TOKEN_JWKS") && error.contains(expected), "{what}: {error}");
        let key = signing_key(&first.private_jwk()).unwrap();
        assert_eq!(
            TokenSigner::from_env(&env(&text), key, morning()).unwrap_err().to_string(),
            error,
            "{what}"
        );
        let secret = second.private_jwk()["d"].as_str().unwrap().to_owned();
        assert!(!error.contains(&secret), "{what}: {error}");
    }
    for text in ["{\"keys\":[]}", "{}", "[]", "keys", "{\"keys\":{}}"] {
        let error = TokenVerifier::from_env(&env(text), morning()).unwrap_err().to_string();
        assert!(error.contains("TOKEN_JWKS"), "{text}: {error}");
    }
}

#[test]
fn a_private_key_must_fit_its_public_part() {
    let (key, other) = (TestKey::new("2026-11"), TestKey::new("2026-11"));
    let mut mixed = key.private_jwk();
    mixed["d"] = other.private_jwk()["d"].clone();
    let mut without = key.private_jwk();
    without.as_object_mut().unwrap().remove("d");
    let mut short = key.private_jwk();
    short["d"] = "AAAA".into();
    for jwk in [mixed, without, short] {
        assert_eq!(signing_key(&jwk).unwrap_err(), InvalidKey::PrivatePart("2026-11".into()));
    }
}
