//! The claims: from whom, for whom, when, and about whom (RFC 8725, sections 3.8 and 3.9).

use std::time::Duration;

use serde_json::{Value, json};
use sojourn::core::clock::Clock;
use sojourn::identity::tokens::{ACCESS_TOKEN_LIFETIME, CLOCK_SKEW, TokenError};

use super::stage::{AUDIENCE, ISSUER, signed_texts, stage};

fn skew() -> i64 {
    i64::try_from(CLOCK_SKEW.as_secs()).unwrap()
}

/// Each of these as the claim, and no such claim at all, is refused by verification itself.
fn assert_refused(claim: &str, values: impl IntoIterator<Item = Value>) {
    let stage = stage();
    for value in values {
        let refusal = stage.refusal(&stage.with_claim(claim, value.clone()));
        assert!(matches!(refusal, TokenError::Refused(_)), "{claim}: {value}");
    }
    assert!(matches!(stage.refusal(&stage.without_claim(claim)), TokenError::Refused(_)), "no {claim}");
}

#[test]
fn a_token_of_another_issuer_is_refused() {
    let strange = [
        "https://evil.example",
        "https://sojourn.example/",
        "HTTPS://SOJOURN.EXAMPLE",
        "sojourn.example",
        "",
    ];
    assert_refused("iss", strange.map(Value::from));
    // A list with us in it is a list: RFC 7519 has one issuer.
    assert_refused("iss", [json!(null), json!(1), json!([ISSUER]), json!([]), json!({ISSUER: true})]);
}

#[test]
fn a_token_for_another_audience_is_refused() {
    assert_refused("aud", ["another", "Sojourn", "sojourn ", "sojourn,another", ""].map(Value::from));
    assert_refused("aud", [json!([]), json!(["another"]), json!(null), json!(1), json!({AUDIENCE: true})]);
}

#[test]
fn a_list_of_audiences_is_refused_even_with_us_in_it() {
    // What others may use as well, they could replay here; our signer never makes one.
    assert_refused("aud", [json!([AUDIENCE]), json!([AUDIENCE, "another"])]);
}

#[test]
fn a_token_ends_when_its_lifetime_and_the_allowed_skew_are_over() {
    let stage = stage();
    let token = stage.genuine();
    stage.clock.advance((ACCESS_TOKEN_LIFETIME + CLOCK_SKEW).saturating_sub(Duration::from_secs(1)));
    stage.verifier.verify(&token).unwrap();
    stage.clock.advance(Duration::from_secs(1));
    assert!(matches!(stage.refusal(&token), TokenError::Refused(_)));
}

#[test]
fn a_token_without_a_readable_end_is_refused() {
    let strange = [json!(null), json!("2030-01-01"), json!("9999999999"), json!(-1), json!(0), json!(1.5)];
    assert_refused("exp", strange);
    assert_refused(
        "exp",
        [json!(i64::MIN), json!(u64::MAX), json!(1e300), json!([9_999_999_999_i64]), json!(true)],
    );
    let stage = stage();
    for beyond_time in [i64::MAX, 1_000_000_000_000] {
        let token = stage.with_claim("exp", json!(beyond_time));
        assert!(matches!(stage.refusal(&token), TokenError::Malformed), "{beyond_time}");
    }
}

#[test]
fn a_token_of_the_future_is_refused_beyond_the_allowed_skew() {
    let stage = stage();
    let now = stage.clock.now().as_second();
    for claim in ["iat", "nbf"] {
        stage.verifier.verify(&stage.with_claim(claim, json!(now + skew()))).unwrap();
        for future in [now + skew() + 1, i64::MAX] {
            let token = stage.with_claim(claim, json!(future));
            assert!(matches!(stage.refusal(&token), TokenError::NotYetValid), "{claim}: {future}");
        }
    }
}

#[test]
fn a_token_without_a_readable_beginning_is_refused() {
    let strange = [json!("yesterday"), json!("0"), json!(1.5), json!(1e300), json!(u64::MAX), json!([0])];
    assert_refused("iat", strange.clone().into_iter().chain([json!(null)]));
    let stage = stage();
    for nbf in strange {
        let refusal = stage.refusal(&stage.with_claim("nbf", nbf.clone()));
        assert!(matches!(refusal, TokenError::Refused(_)), "{nbf}");
    }
}

#[test]
fn a_token_whose_subject_is_no_user_or_session_is_refused() {
    let ulid = "01K9Z3M5R7T9V1X3Z5B7D9F1H3";
    let wrong_for_both =
        [ulid.to_owned(), format!("ord_{ulid}"), "root".to_owned(), "usr_".to_owned(), String::new()]
            .map(Value::from);
    for claim in ["sub", "sid"] {
        assert_refused(claim, wrong_for_both.clone());
        assert_refused(claim, [json!(null), json!(1), json!([format!("usr_{ulid}")]), json!({})]);
    }
    assert_refused("sub", [format!("ses_{ulid}"), format!("usr_{}", ulid.to_lowercase())].map(Value::from));
    assert_refused("sid", [format!("usr_{ulid}"), format!("ses_{ulid}x")].map(Value::from));
}

#[test]
fn a_token_without_a_readable_instant_of_its_sign_in_is_refused() {
    assert_refused("auth_time_ms", [json!(null), json!("7"), json!(7.5), json!(1e300), json!([7])]);
    let stage = stage();
    let beyond_the_calendar = stage.with_claim("auth_time_ms", json!(i64::MAX));
    assert!(matches!(stage.refusal(&beyond_the_calendar), TokenError::Malformed));
}

#[test]
fn a_token_with_roles_that_are_none_is_refused() {
    let stage = stage();
    for roles in
        [json!(null), json!("operator"), json!(["root"]), json!(["Operator"]), json!({"operator": true})]
    {
        let refusal = stage.refusal(&stage.with_claim("roles", roles.clone()));
        assert!(matches!(refusal, TokenError::Refused(_)), "{roles}");
    }
    let nobody = stage.verifier.verify(&stage.without_claim("roles")).unwrap();
    assert!(nobody.roles().is_empty(), "no roles said, none given");
}

#[test]
fn claims_that_say_something_twice_are_refused() {
    let stage = stage();
    let claims = stage.claims();
    for (claim, value) in claims.as_object().unwrap() {
        let text = claims.to_string();
        let doubled = text.replacen('{', &format!("{{\"{claim}\":{value},"), 1);
        let token = signed_texts(&stage.header().to_string(), &doubled, &stage.key);
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)), "{claim}");
    }
}

#[test]
fn claims_that_are_no_object_are_refused() {
    let stage = stage();
    let (inner, claims) = (stage.genuine(), stage.claims().to_string());
    // The last but one is a nested token, as `cty: JWT` announces; the array has the claims in the
    // order of their declaration.
    let now = stage.clock.now().as_second();
    let array = json!([ISSUER, AUDIENCE, stage.user, stage.session, 7, [], now, now + 900]).to_string();
    for text in ["", "null", "[]", "\"\"", "{}", &format!("{claims}{claims}"), &inner, &array] {
        let token = signed_texts(&stage.header().to_string(), text, &stage.key);
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)), "{text}");
    }
}
