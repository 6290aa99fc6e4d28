//! Signatures that are none, or another's, or made with what everybody may have (RFC 8725, sections
//! 2.1, 3.1 to 3.3).

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sojourn::identity::tokens::TokenError;
use sojourn_testing::{TestKey, jwks};

use super::stage::{Stage, signed, stage, unsigned};

/// DER before the 32 bytes of an Ed25519 public key: `SubjectPublicKeyInfo` (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The order of Ed25519's group (RFC 8032, section 5.1), least significant byte first.
const GROUP_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Header and claims of a genuine token, but for its `alg`.
fn message_with_alg(stage: &Stage, alg: &str) -> String {
    let mut header = stage.header();
    header["alg"] = alg.into();
    unsigned(&header.to_string(), &stage.claims().to_string())
}

fn with_signature(message: &str, signature: impl AsRef<[u8]>) -> String {
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Message and signature of a token.
fn parts(token: &str) -> (&str, Vec<u8>) {
    let (message, signature) = token.rsplit_once('.').unwrap();
    (message, URL_SAFE_NO_PAD.decode(signature).unwrap())
}

#[test]
fn a_token_with_alg_none_is_refused_in_every_spelling_with_and_without_a_signature() {
    let stage = stage();
    // All sixteen casings of four letters, and what readers have been seen to take for none.
    let casings = (0..16).map(|bits: u8| {
        let letters = "none".chars().enumerate();
        letters.map(|(i, c)| if bits >> i & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect()
    });
    for alg in casings.chain(["", " none", "none ", "null"].map(str::to_owned)) {
        let message = message_with_alg(&stage, &alg);
        let (_, genuine) = parts(&stage.genuine());
        for token in [format!("{message}."), message.clone(), with_signature(&message, genuine)] {
            assert!(matches!(stage.refusal(&token), TokenError::Malformed), "{alg}");
        }
    }
}

#[test]
fn a_token_without_an_alg_is_refused() {
    let stage = stage();
    for alg in [Value::Null, json!(["EdDSA"]), json!(1), json!({"alg": "EdDSA"})] {
        assert!(
            matches!(stage.refusal(&stage.with_header("alg", alg.clone())), TokenError::Malformed),
            "{alg}"
        );
    }
    assert!(matches!(stage.refusal(&stage.without_header("alg")), TokenError::Malformed));
}

#[test]
fn a_token_keyed_with_the_public_key_as_hmac_secret_is_refused_in_every_form_of_that_key() {
    let stage = stage();
    let jwk = stage.key.public_jwk();
    let x = jwk["x"].as_str().unwrap();
    let raw = URL_SAFE_NO_PAD.decode(x).unwrap();
    let der = [&SPKI_PREFIX[..], &raw].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&der));
    let secrets = [
        x.as_bytes().to_vec(),
        STANDARD.encode(&raw).into_bytes(),
        raw,
        jwk.to_string().into_bytes(),
        jwks(&[&stage.key]).into_bytes(),
        der,
        pem.trim().as_bytes().to_vec(),
        pem.into_bytes(),
        Vec::new(),
    ];
    let hashes = [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)];
    for secret in secrets {
        for (alg, hash) in hashes {
            let message = message_with_alg(&stage, alg);
            let tag = hmac::sign(&hmac::Key::new(hash, &secret), message.as_bytes());
            assert!(matches!(stage.refusal(&with_signature(&message, tag)), TokenError::Refused(_)), "{alg}");
        }
    }
}

#[test]
fn a_header_that_names_another_algorithm_is_refused_even_when_the_signature_is_ours() {
    let stage = stage();
    for alg in ["HS256", "HS512", "RS256", "RS512", "PS256", "PS512", "ES256", "ES384"] {
        let token = stage.with_header("alg", alg.into());
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)), "{alg}");
    }
    for alg in ["ES512", "ES256K", "Ed25519", "Ed448", "eddsa", "EDDSA", "hs256", "dir", "RSA1_5"] {
        let token = stage.with_header("alg", alg.into());
        assert!(matches!(stage.refusal(&token), TokenError::Malformed), "{alg}");
    }
}

#[test]
fn a_good_es256_signature_is_refused_even_with_its_key_in_the_header() {
    let stage = stage();
    let thief = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = thief.public_key().as_ref();
    let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut header = stage.header();
    header["alg"] = "ES256".into();
    header["jwk"] =
        json!({"kty": "EC", "crv": "P-256", "x": coordinate(&point[1..33]), "y": coordinate(&point[33..])});
    let message = unsigned(&header.to_string(), &stage.claims().to_string());
    let signature = thief.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    assert!(matches!(stage.refusal(&with_signature(&message, signature)), TokenError::Refused(_)));
}

#[test]
fn a_signature_of_another_key_is_refused_whatever_the_header_says_of_that_key() {
    let stage = stage();
    let thief = TestKey::new(&stage.key.kid);
    let its_own = [
        ("jwk", thief.public_jwk()),
        ("jku", json!("https://evil.example/jwks.json")),
        ("x5u", json!("https://evil.example/certificate.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5t#S256", json!("AAAA")),
        ("cty", json!("JWT")),
    ];
    for (member, value) in its_own {
        let mut header = stage.header();
        header[member] = value;
        let forged = signed(&header, &stage.claims(), &thief);
        assert!(matches!(stage.refusal(&forged), TokenError::Refused(_)), "{member}");
        // The same members change nothing about a token of ours.
        stage.verifier.verify(&signed(&header, &stage.claims(), &stage.key)).unwrap();
    }
}

#[test]
fn a_signature_with_any_bit_flipped_is_refused() {
    let stage = stage();
    let token = stage.genuine();
    let (message, signature) = parts(&token);
    for bit in 0..signature.len() * 8 {
        let mut flipped = signature.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let forged = with_signature(message, flipped);
        assert!(matches!(stage.refusal(&forged), TokenError::Refused(_)), "bit {bit}");
    }
}

#[test]
fn a_signature_has_one_form_only() {
    let stage = stage();
    let token = stage.genuine();
    let (message, signature) = parts(&token);

    // Adding the group's order to S gives the same S to a careless verifier (RFC 8032, section
    // 8.4).
    let mut second = signature.clone();
    let mut carry = 0;
    for (byte, order) in second[32..].iter_mut().zip(GROUP_ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "S and the order fit into 32 bytes together");

    let zeros = vec![0; 64];
    let longer = [&signature[..], &[0]].concat();
    let twice = signature.repeat(2);
    for forged in [second, zeros, longer, twice, signature[..63].to_vec(), Vec::new()] {
        assert!(matches!(stage.refusal(&with_signature(message, forged)), TokenError::Refused(_)));
    }
    stage.verifier.verify(&with_signature(message, signature)).unwrap();
}

#[test]
fn parts_of_two_genuine_tokens_make_no_third() {
    let stage = stage();
    let first = stage.genuine();
    stage.clock.advance(std::time::Duration::from_secs(1));
    let second = stage.genuine();
    let (a, b): (Vec<_>, Vec<_>) = (first.split('.').collect(), second.split('.').collect());
    for mixed in [[a[0], a[1], b[2]], [a[0], b[1], a[2]]] {
        assert!(matches!(stage.refusal(&mixed.join(".")), TokenError::Refused(_)));
    }
}
