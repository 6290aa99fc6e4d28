//! The text: three parts in base64url, spelled in one way. No text makes the verifier panic, and no
//! changed token verifies.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use sojourn::identity::tokens::{MAX_TOKEN_BYTES, TokenError};

use super::stage::{signed, signed_texts, stage};

#[test]
fn every_truncation_of_a_token_is_refused_from_both_ends() {
    let stage = stage();
    let token = stage.genuine();
    for length in 0..token.len() {
        assert!(stage.verifier.verify(&token[..length]).is_err(), "the first {length} bytes");
        assert!(stage.verifier.verify(&token[token.len() - length..]).is_err(), "the last {length} bytes");
    }
}

#[test]
fn an_oversized_token_is_refused_unread() {
    let stage = stage();
    let token = stage.with_claim("padding", "x".repeat(MAX_TOKEN_BYTES).into());
    assert!(token.len() > MAX_TOKEN_BYTES);
    assert!(matches!(stage.refusal(&token), TokenError::Malformed));
    stage.verifier.verify(&stage.with_claim("padding", "x".repeat(MAX_TOKEN_BYTES / 2).into())).unwrap();
}

#[test]
fn a_token_is_spelled_in_one_way() {
    let stage = stage();
    let token = stage.genuine();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three parts") };
    let spellings = [
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{header}\n.{claims}.{signature}"),
        format!("{header}. {claims}.{signature}"),
        format!("{token}="),
        format!("{token}=="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}=.{signature}"),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{signature}"),
        format!("{header}..{claims}.{signature}"),
        format!("\"{token}\""),
        format!("Bearer {token}"),
        token.replace('.', "%2E"),
        format!("\u{feff}{token}"),
    ];
    for text in spellings {
        assert!(stage.verifier.verify(&text).is_err(), "{text:?}");
    }
}

#[test]
fn the_bits_that_the_last_character_of_a_signature_does_not_use_are_zero() {
    let stage = stage();
    let token = stage.genuine();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = token.split_at(token.len() - 1);
    for other in alphabet.chars().filter(|other| !last.starts_with(*other)) {
        assert!(matches!(stage.refusal(&format!("{rest}{other}")), TokenError::Refused(_)), "{other}");
    }
}

#[test]
fn the_other_base64_is_not_read() {
    let stage = stage();
    // Claims in which the two alphabets differ, with and without a signature over exactly this
    // text.
    let claims = stage.claims().to_string().replacen('{', "{\"note\":\"~~~???>>>\",", 1);
    let genuine = signed_texts(&stage.header().to_string(), &claims, &stage.key);
    stage.verifier.verify(&genuine).unwrap();
    let parts: Vec<&str> = genuine.split('.').collect();
    let message = format!("{}.{}", parts[0], STANDARD.encode(&claims));
    assert_ne!(message, format!("{}.{}", parts[0], parts[1]));
    let resigned = format!("{message}.{}", base64_url(stage.key.pair.sign(message.as_bytes()).as_ref()));
    for token in [format!("{message}.{}", parts[2]), resigned] {
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)));
    }
}

fn base64_url(bytes: &[u8]) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
fn encrypted_and_json_serialised_forms_are_refused() {
    let stage = stage();
    let token = stage.genuine();
    let parts: Vec<&str> = token.split('.').collect();
    let mut jwe = stage.header();
    jwe["alg"] = "dir".into();
    jwe["enc"] = "A256GCM".into();
    let five = format!("{}..AAAA.{}.AAAA", base64_url(jwe.to_string().as_bytes()), parts[1]);
    let general =
        json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]});
    let flat = json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]});
    for text in [five, general.to_string(), flat.to_string()] {
        assert!(matches!(stage.refusal(&text), TokenError::Malformed), "{text}");
    }
}

/// Any JSON that fits into a token.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-z]{0,4}", inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_is_a_token(text in "(?s).{0,300}") {
        prop_assert!(stage().verifier.verify(&text).is_err());
    }

    #[test]
    fn no_three_parts_are_a_token(parts in vec("[A-Za-z0-9_-]{0,80}", 3)) {
        prop_assert!(stage().verifier.verify(&parts.join(".")).is_err());
    }

    #[test]
    fn no_bytes_that_are_properly_signed_make_the_verifier_panic(header in vec(any::<u8>(), 0..60), claims in vec(any::<u8>(), 0..60)) {
        let stage = stage();
        let message = format!("{}.{}", base64_url(&header), base64_url(&claims));
        let token = format!("{message}.{}", base64_url(stage.key.pair.sign(message.as_bytes()).as_ref()));
        prop_assert!(stage.verifier.verify(&token).is_err());
    }

    #[test]
    fn no_claim_whatever_it_holds_makes_the_verifier_panic(
        claim in prop::sample::select(vec!["iss", "aud", "sub", "sid", "auth_time_ms", "roles", "iat", "exp", "nbf", "other"]),
        value in any_json(),
    ) {
        let stage = stage();
        let accepted = stage.verifier.verify(&stage.with_claim(claim, value)).is_ok();
        // Only what may differ from token to token may be whatever it is.
        prop_assert!(!accepted || ["auth_time_ms", "roles", "iat", "exp", "nbf", "other"].contains(&claim), "{}", claim);
    }

    #[test]
    fn no_header_member_whatever_it_holds_makes_the_verifier_panic(
        member in prop::sample::select(vec!["alg", "typ", "kid", "crit"]),
        value in any_json().prop_filter("a null is an absent member", |value| !value.is_null()),
    ) {
        let stage = stage();
        prop_assert!(stage.verifier.verify(&stage.with_header(member, value)).is_err(), "{}", member);
    }

    #[test]
    fn no_other_character_anywhere_in_a_token_verifies(at in 0_usize..10_000, other in "[A-Za-z0-9_.-]") {
        let stage = stage();
        let mut token = stage.genuine();
        let at = at % token.len();
        prop_assume!(token[at..=at] != other);
        token.replace_range(at..=at, &other);
        prop_assert!(stage.verifier.verify(&token).is_err(), "position {}", at);
    }

    #[test]
    fn no_character_more_less_or_moved_verifies(at in 0_usize..10_000, to in 0_usize..10_000, more in "[ -~]") {
        let stage = stage();
        let token = stage.genuine();
        let (at, to) = (at % token.len(), to % token.len());
        let mut longer = token.clone();
        longer.insert_str(at, &more);
        let mut shorter = token.clone();
        let taken = shorter.remove(at);
        let mut moved = shorter.clone();
        moved.insert(to, taken);
        for changed in [longer, shorter, moved] {
            prop_assert!(changed == token || stage.verifier.verify(&changed).is_err(), "{}", changed);
        }
    }

    #[test]
    fn no_claim_of_a_signed_token_can_be_changed_afterwards(
        claim in prop::sample::select(vec!["iss", "aud", "sub", "sid", "auth_time_ms", "roles", "iat", "exp", "more"]),
        value in any_json(),
    ) {
        let stage = stage();
        let genuine = signed(&stage.header(), &stage.claims(), &stage.key);
        let mut claims = stage.claims();
        prop_assume!(claims[claim] != value);
        claims[claim] = value;
        let forged = signed(&stage.header(), &claims, &stage.key);
        let (changed, _) = forged.rsplit_once('.').unwrap();
        let (_, signature) = genuine.rsplit_once('.').unwrap();
        let forged = format!("{changed}.{signature}");
        prop_assert!(stage.verifier.verify(&forged).is_err());
    }
}
