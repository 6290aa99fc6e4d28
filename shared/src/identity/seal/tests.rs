//! A sealed value opens unchanged or not at all.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::core::redacted::Redacted;

fn key(kid: &str, byte: u8) -> Value {
    use base64::Engine;
    let k = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([byte; 32]);
    json!({"kty": "oct", "alg": "A256GCM", "kid": kid, "k": k})
}

fn read(keys: &[Value]) -> Result<SealingKeys, InvalidKeys> {
    SealingKeys::from_jwks(&Redacted::new(json!({ "keys": keys }).to_string()))
}

fn keys() -> SealingKeys {
    read(&[key("2026-11", 7)]).unwrap()
}

/// Seals bytes as they are, whatever they are said to be.
fn seal_as(packing: Encoding, content: &[u8], keys: &SealingKeys) -> Vec<u8> {
    let header = envelope::header(packing, keys.present().first().kid());
    let mut content = content.to_vec();
    let nonce =
        keys.present().first().cipher().seal_in_place_append_tag(Aad::from(&header), &mut content).unwrap();
    [header.as_slice(), nonce.as_ref(), content.as_slice()].concat()
}

const TAG_REFUSED: OpenError = OpenError::Refused(InvalidCiphertext::Tag);

proptest! {
    #[test]
    fn what_was_sealed_opens_in_its_context(plain: Vec<u8>, context: Vec<u8>) {
        let keys = keys();
        let sealed = keys.seal(&plain, &context).unwrap();
        prop_assert_eq!(keys.open(&sealed, &context), Ok(plain));
    }

    #[test]
    fn a_value_with_any_bit_flipped_does_not_open(plain: Vec<u8>, at: prop::sample::Index) {
        let keys = keys();
        let mut sealed = keys.seal(&plain, b"here").unwrap();
        let bit = at.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(keys.open(&sealed, b"here").is_err(), "bit {}", bit);
    }

    #[test]
    fn a_value_that_was_cut_or_prolonged_is_refused(plain: Vec<u8>, at: prop::sample::Index, more: u8) {
        let keys = keys();
        let sealed = keys.seal(&plain, b"here").unwrap();
        let cut = &sealed[..at.index(sealed.len())];
        prop_assert!(matches!(keys.open(cut, b"here"), Err(OpenError::Refused(_))));
        let prolonged = [sealed.as_slice(), &[more]].concat();
        prop_assert_eq!(keys.open(&prolonged, b"here"), Err(TAG_REFUSED));
    }

    #[test]
    fn a_value_is_refused_in_another_context(plain: Vec<u8>, here: Vec<u8>, there: Vec<u8>) {
        prop_assume!(here != there);
        let keys = keys();
        let sealed = keys.seal(&plain, &here).unwrap();
        prop_assert_eq!(keys.open(&sealed, &there), Err(TAG_REFUSED));
    }

    #[test]
    fn nothing_that_is_opened_makes_it_panic(bytes: Vec<u8>, kid_length in 0_u8..12) {
        let keys = keys();
        prop_assert!(keys.open(&bytes, b"").is_err());
        let envelope = [&[1, 0, kid_length], b"2026-11".as_slice(), &bytes].concat();
        prop_assert!(keys.open(&envelope, b"").is_err());
        prop_assert!(keys.open(&seal_as(Encoding::Gzip, &bytes, &keys), b"").is_err());
    }

    #[test]
    fn no_text_makes_the_reader_of_keys_panic(text in "\\PC{0,200}") {
        prop_assert!(SealingKeys::from_jwks(&Redacted::new(text)).is_err());
    }
}

#[test]
fn an_old_key_still_opens_and_the_new_one_seals() {
    let (old, new) = (key("2026-11", 7), key("2027-11", 8));
    let before = read(std::slice::from_ref(&old)).unwrap();
    let published = read(&[old.clone(), new.clone()]).unwrap();
    let after = read(&[new.clone(), old]).unwrap();
    let end = read(&[new]).unwrap();

    let sealed_before = before.seal(b"tea", b"").unwrap();
    let sealed_after = after.seal(b"tea", b"").unwrap();
    for keys in [&before, &published, &after] {
        assert_eq!(keys.open(&sealed_before, b"").as_deref(), Ok(b"tea".as_slice()));
    }
    for keys in [&published, &after, &end] {
        assert_eq!(keys.open(&sealed_after, b"").as_deref(), Ok(b"tea".as_slice()));
    }
    assert_eq!(end.open(&sealed_before, b""), Err(OpenError::UnknownKey("2026-11".into())));
    assert_eq!(before.open(&sealed_after, b""), Err(OpenError::UnknownKey("2027-11".into())));
}

#[test]
fn another_key_of_the_same_name_does_not_open() {
    let sealed = keys().seal(b"tea", b"").unwrap();
    assert_eq!(read(&[key("2026-11", 8)]).unwrap().open(&sealed, b""), Err(TAG_REFUSED));
}

#[test]
fn gzip_is_used_when_it_helps_and_only_then() {
    let keys = keys();
    let long = keys.seal(&[b'a'; 10_000], b"").unwrap();
    assert!(long.len() < 200, "{}", long.len());
    let short = keys.seal(b"a", b"").unwrap();
    assert_eq!(short.len(), "\u{1}\u{0}\u{7}2026-11".len() + 12 + 1 + 16);
    assert_eq!(short[..10], *b"\x01\x00\x072026-11");
    assert_eq!(long[..10], *b"\x01\x01\x072026-11");
}

#[test]
fn the_same_value_is_never_sealed_to_the_same_bytes() {
    let keys = keys();
    assert_ne!(keys.seal(b"tea", b"").unwrap(), keys.seal(b"tea", b"").unwrap());
}

#[test]
fn another_format_and_unknown_flags_are_refused() {
    let keys = keys();
    let sealed = keys.seal(b"tea", b"").unwrap();
    for (byte, value) in [(0, 0), (0, 2), (1, 2), (1, 0x80)] {
        let mut changed = sealed.clone();
        changed[byte] = value;
        assert_eq!(keys.open(&changed, b""), Err(OpenError::Refused(InvalidCiphertext::Envelope)));
    }
}

#[test]
fn a_bomb_is_refused_and_the_longest_value_is_not() {
    let keys = keys();
    let longest = vec![0; MAX_PLAIN_BYTES];
    let sealed = keys.seal(&longest, b"").unwrap();
    assert_eq!(keys.open(&sealed, b""), Ok(longest));

    let too_long = vec![0; MAX_PLAIN_BYTES + 1];
    assert_eq!(keys.seal(&too_long, b""), Err(SealError::TooLarge(MAX_PLAIN_BYTES + 1)));
    let bomb = gzip(&vec![0; 10 * MAX_PLAIN_BYTES]).unwrap();
    for content in [bomb, gzip(&too_long).unwrap()] {
        let sealed = seal_as(Encoding::Gzip, &content, &keys);
        assert_eq!(keys.open(&sealed, b""), Err(OpenError::Refused(InvalidCiphertext::Gzip)));
    }
}

#[test]
fn what_is_no_set_of_sealing_keys_is_refused_with_the_reason() {
    let but = |member: &str, value: Value| {
        let mut key = key("a", 7);
        key[member] = value;
        read(&[key]).unwrap_err()
    };
    assert_eq!(read(&[]).unwrap_err(), InvalidKeys::Empty);
    assert_eq!(read(&[key("a", 7), key("a", 8)]).unwrap_err(), InvalidKeys::Repeated("a".into()));
    assert_eq!(but("kty", json!("OKP")), InvalidKeys::NotForSealing("a".into()));
    assert_eq!(but("alg", json!("A128GCM")), InvalidKeys::NotForSealing("a".into()));
    assert_eq!(but("kid", json!("")), InvalidKeys::Kid);
    assert_eq!(but("kid", json!("x".repeat(256))), InvalidKeys::Kid);
    assert_eq!(but("k", json!("BwcHBw")), InvalidKeys::Size("a".into()));
    assert_eq!(but("k", json!("not base64url")), InvalidKeys::Size("a".into()));
    assert!(matches!(but("k", Value::Null), InvalidKeys::NotASet { .. }));
    assert!(read(&[key(&"x".repeat(255), 7)]).is_ok());
}

#[test]
fn neither_debug_nor_a_refusal_shows_a_key() {
    let jwk = key("2026-11", 7);
    let secret = jwk["k"].as_str().unwrap().to_owned();
    let text = |text: String| SealingKeys::from_jwks(&Redacted::new(text)).unwrap_err();
    let shown = [
        format!("{:?}", read(&[jwk.clone(), key("next", 8)]).unwrap()),
        format!("{:?}", text(jwk.to_string())),
        format!("{:?} {0}", text(json!({"keys": [secret]}).to_string())),
        format!("{:?} {0}", text(json!({"keys": [{"kty": "oct", "k": secret}]}).to_string())),
        format!("{:?}", keys().seal(b"tea", b"")),
    ];
    assert_eq!(shown[0], r#"["2026-11", "next"]"#);
    for text in shown {
        assert!(!text.contains(&secret) && !text.contains("7, 7, 7"), "{text}");
    }
}
