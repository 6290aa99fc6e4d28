//! Access tokens: what is signed verifies, and nothing else does (RFC 8725).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::token_keys::{TestKey, jwks};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use sojourn::clock::{Clock, ManualClock};
use sojourn::env::Env;
use sojourn::ids::{self, SessionId, UserId};
use sojourn::redacted::Redacted;
use sojourn::tokens::keys::InvalidKey;
use sojourn::tokens::{
    ACCESS_TOKEN_LIFETIME, CLOCK_SKEW, MAX_TOKEN_BYTES, PublicKeys, Role, SigningKey, TokenError,
    TokenSigner, TokenVerifier,
};

const ISSUER: &str = "https://sojourn.example";
const AUDIENCE: &str = "sojourn";

/// A signer and a verifier that trust each other, and the clock they share.
struct Stage {
    key: TestKey,
    clock: Arc<ManualClock>,
    verifier: TokenVerifier,
    signer: TokenSigner,
    user: UserId,
    session: SessionId,
}

fn env(jwks: &str) -> Env {
    Env::of([("TOKEN_ISSUER", ISSUER), ("TOKEN_AUDIENCE", AUDIENCE), ("TOKEN_JWKS", jwks)])
}

fn signing_key(jwk: &Value) -> Result<SigningKey, InvalidKey> {
    SigningKey::from_jwk(&Redacted::new(jwk.to_string()))
}

fn stage() -> Stage {
    let key = TestKey::new("2026-11");
    let clock = ManualClock::at("2026-11-20T09:30:00Z".parse::<Timestamp>().unwrap());
    let env = env(&jwks(&[&key]));
    Stage {
        verifier: TokenVerifier::from_env(&env, clock.clone()).unwrap(),
        signer: TokenSigner::from_env(&env, signing_key(&key.private_jwk()).unwrap(), clock.clone()).unwrap(),
        user: ids::random().next(),
        session: ids::random().next(),
        clock,
        key,
    }
}

impl Stage {
    fn genuine(&self) -> String {
        let roles = BTreeSet::from([Role::Operator]);
        self.signer.sign(&self.user, &self.session, 7, &roles).unwrap().text.expose().clone()
    }

    fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.key.kid})
    }

    fn claims(&self) -> Value {
        let now = self.clock.now().as_second();
        json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": self.user, "sid": self.session, "ver": 7, "roles": ["operator"],
            "iat": now, "exp": now + 900,
        })
    }

    /// Genuine but for one claim, and properly signed.
    fn with_claim(&self, claim: &str, value: Value) -> String {
        let mut claims = self.claims();
        claims[claim] = value;
        signed(&self.header(), &claims, &self.key)
    }

    fn without_claim(&self, claim: &str) -> String {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().remove(claim);
        signed(&self.header(), &claims, &self.key)
    }

    /// Genuine but for one header member, and properly signed.
    fn with_header(&self, member: &str, value: Value) -> String {
        let mut header = self.header();
        header[member] = value;
        signed(&header, &self.claims(), &self.key)
    }

    fn without_header(&self, member: &str) -> String {
        let mut header = self.header();
        header.as_object_mut().unwrap().remove(member);
        signed(&header, &self.claims(), &self.key)
    }

    fn refusal(&self, token: &str) -> TokenError {
        self.verifier.verify(token).unwrap_err()
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

fn signed(header: &Value, claims: &Value, key: &TestKey) -> String {
    let message = unsigned(header, claims);
    let signature = key.pair.sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_signed_token_proves_its_caller() {
    let stage = stage();
    let principal = stage.verifier.verify(&stage.genuine()).unwrap();
    assert_eq!(principal.user_id(), &stage.user);
    assert_eq!(principal.session_id(), &stage.session);
    assert_eq!(principal.token_version(), 7);
    assert!(principal.has_role(Role::Operator));
}

#[test]
fn the_forged_tokens_of_these_tests_verify_when_nothing_is_wrong_with_them() {
    let stage = stage();
    stage.verifier.verify(&signed(&stage.header(), &stage.claims(), &stage.key)).unwrap();
}

#[test]
fn an_unsigned_token_with_alg_none_is_refused() {
    let stage = stage();
    for alg in ["none", "None", "NONE", ""] {
        let mut header = stage.header();
        header["alg"] = alg.into();
        let token = format!("{}.", unsigned(&header, &stage.claims()));
        assert!(matches!(stage.refusal(&token), TokenError::Malformed), "{alg}");
    }
}

#[test]
fn a_token_keyed_with_the_public_key_as_hs256_secret_is_refused() {
    let stage = stage();
    let mut header = stage.header();
    header["alg"] = "HS256".into();
    let message = unsigned(&header, &stage.claims());
    let public = stage.key.public_jwk()["x"].as_str().unwrap().to_owned();
    let raw = URL_SAFE_NO_PAD.decode(&public).unwrap();
    for secret in [raw, public.into_bytes(), stage.key.public_jwk().to_string().into_bytes()] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
        let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)));
    }
}

#[test]
fn a_header_that_names_another_algorithm_is_refused_even_when_the_signature_is_ours() {
    let stage = stage();
    for alg in ["RS256", "PS512", "ES256", "HS512"] {
        let token = stage.with_header("alg", alg.into());
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)), "{alg}");
    }
}

#[test]
fn a_token_of_another_type_is_refused() {
    let stage = stage();
    for typ in ["JWT", "id+jwt", "application/jwt", ""] {
        assert!(
            matches!(stage.refusal(&stage.with_header("typ", typ.into())), TokenError::WrongType),
            "{typ}"
        );
    }
    assert!(matches!(stage.refusal(&stage.without_header("typ")), TokenError::WrongType));
}

#[test]
fn a_token_of_another_issuer_is_refused() {
    let stage = stage();
    for issuer in [json!("https://evil.example"), json!("https://sojourn.example/"), json!(null), json!(1)] {
        let token = stage.with_claim("iss", issuer.clone());
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)), "{issuer}");
    }
    assert!(matches!(stage.refusal(&stage.without_claim("iss")), TokenError::Refused(_)));
}

#[test]
fn a_token_for_another_audience_is_refused() {
    let stage = stage();
    for audience in [json!("another"), json!([]), json!(["another"]), json!("")] {
        let token = stage.with_claim("aud", audience.clone());
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)), "{audience}");
    }
    assert!(matches!(stage.refusal(&stage.without_claim("aud")), TokenError::Refused(_)));
}

#[test]
fn a_token_of_an_unknown_key_is_refused() {
    let stage = stage();
    assert!(matches!(stage.refusal(&stage.with_header("kid", "2020-01".into())), TokenError::UnknownKey));
    assert!(matches!(stage.refusal(&stage.without_header("kid")), TokenError::UnknownKey));
}

#[test]
fn a_key_that_a_token_brings_along_is_not_trusted() {
    let stage = stage();
    let thief = TestKey::new(&stage.key.kid);
    let mut header = stage.header();
    header["jwk"] = thief.public_jwk();
    header["jku"] = "https://evil.example/jwks.json".into();
    assert!(matches!(stage.refusal(&signed(&header, &stage.claims(), &thief)), TokenError::Refused(_)));
}

#[test]
fn a_signature_of_another_key_is_refused() {
    let stage = stage();
    let stranger = TestKey::new(&stage.key.kid);
    assert!(matches!(
        stage.refusal(&signed(&stage.header(), &stage.claims(), &stranger)),
        TokenError::Refused(_)
    ));
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
    let stage = stage();
    for exp in [json!(null), json!("2030-01-01"), json!(-1), json!(1e300)] {
        let token = stage.with_claim("exp", exp.clone());
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)), "{exp}");
    }
    assert!(matches!(stage.refusal(&stage.without_claim("exp")), TokenError::Refused(_)));
    assert!(matches!(stage.refusal(&stage.with_claim("exp", json!(i64::MAX))), TokenError::Malformed));
}

#[test]
fn a_token_of_the_future_is_refused_beyond_the_allowed_skew() {
    let stage = stage();
    let (now, skew) = (stage.clock.now().as_second(), i64::try_from(CLOCK_SKEW.as_secs()).unwrap());
    stage.verifier.verify(&stage.with_claim("iat", json!(now + skew))).unwrap();
    let token = stage.with_claim("iat", json!(now + skew + 1));
    assert!(matches!(stage.refusal(&token), TokenError::NotYetValid));
}

#[test]
fn a_token_whose_subject_is_no_user_is_refused() {
    let stage = stage();
    for claim in ["sub", "sid", "ver"] {
        let token = stage.with_claim(claim, json!("root"));
        assert!(matches!(stage.refusal(&token), TokenError::Refused(_)), "{claim}");
        assert!(matches!(stage.refusal(&stage.without_claim(claim)), TokenError::Refused(_)), "no {claim}");
    }
}

#[test]
fn every_truncation_of_a_token_is_refused() {
    let stage = stage();
    let token = stage.genuine();
    for length in 0..token.len() {
        assert!(stage.verifier.verify(&token[..length]).is_err(), "{length} of {} bytes", token.len());
    }
}

#[test]
fn an_oversized_token_is_refused_unread() {
    let stage = stage();
    let token = stage.with_claim("padding", "x".repeat(MAX_TOKEN_BYTES).into());
    assert!(token.len() > MAX_TOKEN_BYTES);
    assert!(matches!(stage.refusal(&token), TokenError::Malformed));
}

#[test]
fn tokens_of_the_old_and_of_the_next_key_verify_during_a_rotation() {
    let (old, next) = (TestKey::new("2026-10"), TestKey::new("2026-11"));
    let clock = ManualClock::at("2026-11-20T09:30:00Z".parse::<Timestamp>().unwrap());
    let env = env(&jwks(&[&old, &next]));
    let verifier = TokenVerifier::from_env(&env, clock.clone()).unwrap();
    for key in [&old, &next] {
        let key = signing_key(&key.private_jwk()).unwrap();
        let signer = TokenSigner::from_env(&env, key, clock.clone()).unwrap();
        let ids = ids::random();
        let token = signer.sign(&ids.next(), &ids.next(), 0, &BTreeSet::new()).unwrap();
        verifier.verify(token.text.expose()).unwrap();
    }
}

#[test]
fn a_signer_whose_tokens_nobody_could_verify_does_not_start() {
    let (ours, other) = (TestKey::new("2026-11"), TestKey::new("2026-12"));
    let same_name = TestKey::new("2026-11");
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
    for published in [&other, &same_name] {
        let key = signing_key(&ours.private_jwk()).unwrap();
        let error = TokenSigner::from_env(&env(&jwks(&[published])), key, clock.clone()).unwrap_err();
        assert!(error.to_string().contains("TOKEN_JWKS") && error.to_string().contains("2026-11"), "{error}");
    }
}

#[test]
fn the_published_set_holds_public_members_only() {
    let key = TestKey::new("2026-11");
    let keys = PublicKeys::from_env(&env(&jwks(&[&key]))).unwrap();
    assert_eq!(serde_json::to_value(&keys).unwrap(), json!({"keys": [key.public_jwk()]}));
}

#[test]
fn a_private_key_among_the_public_ones_stops_the_function() {
    let key = TestKey::new("2026-11");
    let set = json!({"keys": [key.private_jwk()]}).to_string();
    assert_eq!(set.parse::<PublicKeys>(), Err(InvalidKey::Exposed("2026-11".into())));
}

#[test]
fn public_keys_that_cannot_be_used_are_named() {
    let key = TestKey::new("2026-11");
    let with = |member: &str, value: Value| {
        let mut jwk = key.public_jwk();
        jwk[member] = value;
        json!({"keys": [jwk]}).to_string().parse::<PublicKeys>().unwrap_err()
    };
    let kid = || "2026-11".to_owned();
    assert_eq!(with("crv", json!("X25519")), InvalidKey::NotEd25519(kid()));
    assert_eq!(with("kty", json!("RSA")), InvalidKey::NotEd25519(kid()));
    assert_eq!(with("alg", json!("HS256")), InvalidKey::NotEd25519(kid()));
    assert_eq!(with("x", json!("AAAA")), InvalidKey::PublicPart(kid()));
    assert!(matches!(with("kid", Value::Null), InvalidKey::NotAKey { .. }));
    assert_eq!("{\"keys\":[]}".parse::<PublicKeys>(), Err(InvalidKey::Empty));
    assert_eq!(jwks(&[&key, &key]).parse::<PublicKeys>(), Err(InvalidKey::Repeated(kid())));
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

#[test]
fn no_debug_output_and_no_error_shows_the_private_key() {
    let key = TestKey::new("2026-11");
    let jwk = key.private_jwk();
    let secret = jwk["d"].as_str().unwrap();
    let stage = stage();
    let token = stage.signer.sign(&stage.user, &stage.session, 0, &BTreeSet::new()).unwrap();
    let mut broken = jwk.clone();
    broken["x"] = json!(1);
    let shown = [
        format!("{:?}", signing_key(&jwk).unwrap()),
        format!("{:?}", stage.signer),
        format!("{:?}", stage.verifier),
        format!("{token:?}"),
        format!("{0:?} {0}", signing_key(&broken).unwrap_err()),
        format!("{0:?} {0}", signing_key(&json!(secret)).unwrap_err()),
        format!("{0:?} {0}", signing_key(&json!({"keys": [jwk.clone()]})).unwrap_err()),
    ];
    for text in shown {
        assert!(!text.contains(secret) && !text.contains(token.text.expose()), "{text}");
    }
    assert!(!format!("{:?}", stage.signer).contains(stage.key.private_jwk()["d"].as_str().unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_is_a_token(text in "\\PC{0,300}") {
        prop_assert!(stage().verifier.verify(&text).is_err());
    }

    #[test]
    fn no_three_parts_are_a_token(parts in proptest::collection::vec("[A-Za-z0-9_-]{0,80}", 3)) {
        prop_assert!(stage().verifier.verify(&parts.join(".")).is_err());
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
}
