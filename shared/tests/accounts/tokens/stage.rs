//! A signer and a verifier that trust each other, and everything that a forger would like to have.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, ManualClock};
use sojourn::core::env::Env;
use sojourn::core::ids::{self, SessionId, UserId};
use sojourn::core::redacted::Redacted;
use sojourn::identity::principal::Role;
use sojourn::identity::sessions::{SESSION_LIFETIME, Session, SessionCookie, SessionRows};
use sojourn::identity::tokens::keys::InvalidKey;
use sojourn::identity::tokens::{SigningKey, TokenError, TokenSigner, TokenVerifier};
use sojourn_testing::{TestKey, jwks};

pub(super) const ISSUER: &str = "https://sojourn.example";
pub(super) const AUDIENCE: &str = "sojourn";

/// Both sides and the clock they share.
pub(super) struct Stage {
    pub(super) key: TestKey,
    pub(super) clock: Arc<ManualClock>,
    pub(super) verifier: TokenVerifier,
    pub(super) signer: TokenSigner,
    pub(super) user: UserId,
    pub(super) session: SessionId,
}

/// What a function that knows these public keys is given.
pub(super) fn env(jwks: &str) -> Env {
    Env::of([("TOKEN_ISSUER", ISSUER), ("TOKEN_AUDIENCE", AUDIENCE), ("TOKEN_JWKS", jwks)])
}

pub(super) fn signing_key(jwk: &Value) -> Result<SigningKey, InvalidKey> {
    SigningKey::from_jwk(&Redacted::new(jwk.to_string()))
}

pub(super) fn morning() -> Arc<ManualClock> {
    ManualClock::at("2026-11-20T09:30:00Z".parse::<Timestamp>().unwrap())
}

pub(super) fn stage() -> Stage {
    let key = TestKey::new("2026-11");
    let clock = morning();
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
    /// As the signer makes them.
    pub(super) fn genuine(&self) -> String {
        let roles = BTreeSet::from([Role::Operator]);
        self.signer.sign(&self.user, &self.session, self.clock.now(), &roles).unwrap().text.expose().clone()
    }

    pub(super) fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.key.kid})
    }

    pub(super) fn claims(&self) -> Value {
        let now = self.clock.now();
        json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": self.user, "sid": self.session,
            "auth_time_ms": now.as_millisecond(), "roles": ["operator"],
            "iat": now.as_second(), "exp": now.as_second() + 900,
        })
    }

    /// Genuine but for one claim, and properly signed.
    pub(super) fn with_claim(&self, claim: &str, value: Value) -> String {
        let mut claims = self.claims();
        claims[claim] = value;
        signed(&self.header(), &claims, &self.key)
    }

    pub(super) fn without_claim(&self, claim: &str) -> String {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().remove(claim);
        signed(&self.header(), &claims, &self.key)
    }

    /// Genuine but for one header member, and properly signed.
    pub(super) fn with_header(&self, member: &str, value: Value) -> String {
        let mut header = self.header();
        header[member] = value;
        signed(&header, &self.claims(), &self.key)
    }

    pub(super) fn without_header(&self, member: &str) -> String {
        let mut header = self.header();
        header.as_object_mut().unwrap().remove(member);
        signed(&header, &self.claims(), &self.key)
    }

    /// The rows of the session that the tokens are for.
    pub(super) fn session_rows(&self) -> SessionRows {
        let (id, user_id, now) = (self.session.clone(), self.user.clone(), self.clock.now());
        let cookie = SessionCookie::generate(id.clone(), user_id.clone(), BTreeSet::new()).unwrap();
        let session = Session {
            cookie_hash: cookie.hash(),
            id,
            user_id,
            created_at: now,
            last_activity: now,
            expires_at: now + SESSION_LIFETIME,
            idle_timeout: "24".parse().unwrap(),
            region: "local".to_owned(),
        };
        SessionRows { session: Some(session), ..SessionRows::default() }
    }

    #[track_caller]
    pub(super) fn refusal(&self, token: &str) -> TokenError {
        self.verifier.verify(token).unwrap_err()
    }
}

/// Header and claims as they are signed. They may be any text.
pub(super) fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// A token with exactly these texts in it.
pub(super) fn signed_texts(header: &str, claims: &str, key: &TestKey) -> String {
    let message = unsigned(header, claims);
    let signature = key.pair.sign(message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(super) fn signed(header: &Value, claims: &Value, key: &TestKey) -> String {
    signed_texts(&header.to_string(), &claims.to_string(), key)
}
