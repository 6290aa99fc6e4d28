//! The header: type, key and what it may not demand (RFC 8725, sections 3.10 and 3.11; RFC 9068,
//! section 4).

use serde_json::json;
use sojourn::identity::tokens::TokenError;

use super::stage::{signed_texts, stage};

#[test]
fn both_spellings_of_the_type_are_accepted_in_any_case() {
    let stage = stage();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        stage.verifier.verify(&stage.with_header("typ", typ.into())).unwrap();
    }
}

#[test]
fn a_token_of_another_type_is_refused() {
    let stage = stage();
    let others = [
        "JWT",
        "jwt",
        "id+jwt",
        "rt+jwt",
        "dpop+jwt",
        "logout+jwt",
        "application/jwt",
        "application/",
        "text/at+jwt",
        "application/application/at+jwt",
        "at+jwt ",
        "at+jwt; charset=utf-8",
        "at",
        "+jwt",
        "",
    ];
    for typ in others {
        let token = stage.with_header("typ", typ.into());
        assert!(matches!(stage.refusal(&token), TokenError::WrongType), "{typ}");
    }
    assert!(matches!(stage.refusal(&stage.without_header("typ")), TokenError::WrongType));
    assert!(matches!(stage.refusal(&stage.with_header("typ", json!(null))), TokenError::WrongType));
    assert!(matches!(stage.refusal(&stage.with_header("typ", json!(["at+jwt"]))), TokenError::Malformed));
}

#[test]
fn a_token_of_an_unknown_key_is_refused() {
    let stage = stage();
    let strange = [
        "2020-01",
        "",
        "2026-1",
        "2026-11 ",
        " 2026-11",
        "2026-11\0",
        "../../../../dev/null",
        "/etc/passwd",
        "' OR '1'='1",
        "https://evil.example/key",
        "*",
        "\u{212a}",
    ];
    for kid in strange {
        let token = stage.with_header("kid", kid.into());
        assert!(matches!(stage.refusal(&token), TokenError::UnknownKey), "{kid:?}");
    }
    let huge = "k".repeat(2_000);
    assert!(matches!(stage.refusal(&stage.with_header("kid", huge.into())), TokenError::UnknownKey));
    assert!(matches!(stage.refusal(&stage.without_header("kid")), TokenError::UnknownKey));
    for kid in [json!(0), json!(["2026-11"]), json!({"2026-11": true})] {
        assert!(
            matches!(stage.refusal(&stage.with_header("kid", kid.clone())), TokenError::Malformed),
            "{kid}"
        );
    }
}

#[test]
fn a_token_that_demands_an_extension_is_refused() {
    let stage = stage();
    // Empty is against RFC 7515, section 4.1.11; `exp` is nothing of the header's; `b64` would
    // change what is signed.
    for crit in [json!([]), json!(["exp"]), json!(["b64"]), json!(["urn:example:x"])] {
        let token = stage.with_header("crit", crit.clone());
        assert!(matches!(stage.refusal(&token), TokenError::Critical), "{crit}");
    }
    assert!(matches!(stage.refusal(&stage.with_header("crit", json!("exp"))), TokenError::Malformed));
}

#[test]
fn a_header_that_says_something_twice_is_refused() {
    let stage = stage();
    let header = stage.header().to_string();
    for (member, value) in [("alg", "none"), ("alg", "EdDSA"), ("typ", "JWT"), ("kid", "2026-11")] {
        let first = header.replacen('{', &format!("{{\"{member}\":\"{value}\","), 1);
        let last = header.replacen('}', &format!(",\"{member}\":\"{value}\"}}"), 1);
        for doubled in [first, last] {
            let token = signed_texts(&doubled, &stage.claims().to_string(), &stage.key);
            assert!(matches!(stage.refusal(&token), TokenError::Malformed), "{doubled}");
        }
    }
}
