//! Sessions on the embedded DynamoDB: what a sign-in stores and hands out, and when it stops to stand.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::Store;
use crate::token_keys::{TestKey, jwks};
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use proptest::prelude::*;
use sojourn::clock::{Clock, ManualClock};
use sojourn::dynamo::Item;
use sojourn::env::Env;
use sojourn::ids::{self, SessionId, SharedIds};
use sojourn::redacted::Redacted;
use sojourn::sessions::dynamo::{self, DynamoSessions};
use sojourn::sessions::{
    Device, SESSION_LIFETIME, Session, SessionError, SessionReader, SessionSecret, SessionStarter,
    SessionWriter, SignedIn, Standing, cookie, standing,
};
use sojourn::tokens::{Principal, SigningKey, TokenSigner, TokenVerifier};
use sojourn::users::User;

/// Everything that signing in takes.
struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    ids: SharedIds,
    starter: SessionStarter<DynamoSessions>,
    verifier: TokenVerifier,
}

fn stage() -> Stage {
    let store = crate::support::store();
    let key = TestKey::new("2026-11");
    let keys = jwks(&[&key]);
    let env =
        Env::of([("TOKEN_ISSUER", "https://i.example"), ("TOKEN_AUDIENCE", "a"), ("TOKEN_JWKS", &keys)]);
    let signing_key = SigningKey::from_jwk(&Redacted::new(key.private_jwk().to_string())).unwrap();
    let clock = ManualClock::at("2026-11-20T09:30:00.123Z".parse::<Timestamp>().unwrap());
    let ids = ids::random();
    Stage {
        starter: SessionStarter {
            store: DynamoSessions::from_env(store.client.clone(), &store.env).unwrap(),
            signer: TokenSigner::from_env(&env, signing_key, clock.clone()).unwrap(),
            clock: clock.clone(),
            ids: ids.clone(),
            region: "local".to_owned(),
        },
        verifier: TokenVerifier::from_env(&env, clock.clone()).unwrap(),
        store,
        clock,
        ids,
    }
}

impl Stage {
    fn user(&self, token_version: u64) -> User {
        User {
            id: self.ids.next(),
            email: "ann@example.com".parse().unwrap(),
            roles: BTreeSet::new(),
            token_version,
            created_at: self.clock.now(),
        }
    }

    async fn sign_in(&self, user: &User) -> (SignedIn, Principal) {
        let signed_in = self.starter.start(user, None).await.unwrap();
        let principal = self.verifier.verify(signed_in.access.text.expose()).unwrap();
        (signed_in, principal)
    }

    async fn read(&self, id: &SessionId) -> Option<Session> {
        self.starter.store.read(id).await.unwrap()
    }

    async fn require_live(&self, principal: &Principal) -> Result<Timestamp, SessionError> {
        self.starter.store.require_live(principal, self.clock.now()).await
    }

    async fn item(&self, id: &SessionId) -> Item {
        let get = self.store.client.get_item().table_name("SessionsTable").set_key(Some(dynamo::key(id)));
        get.send().await.unwrap().item.unwrap()
    }
}

#[tokio::test]
async fn what_is_stored_is_what_is_read() {
    let stage = stage();
    let device: Device = "Ann's phone".parse().unwrap();
    let signed_in = stage.starter.start(&stage.user(3), Some(device)).await.unwrap();
    let read = stage.read(&signed_in.session.id).await.unwrap();
    assert_eq!(read, signed_in.session);
    assert_eq!(read.token_version, 3);
    assert_eq!(read.expires_at.as_second() - stage.clock.now().as_second(), 30 * 24 * 3600);
    assert_eq!(read.device.unwrap().as_str(), "Ann's phone");
}

#[tokio::test]
async fn the_row_holds_hashes_and_none_of_the_secrets() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user(0)).await;
    let item = stage.item(&signed_in.session.id).await;
    let shown = format!("{item:?} {signed_in:?}");
    for secret in [signed_in.refresh.expose(), signed_in.cookie.expose()] {
        let random = secret.split_once('.').unwrap().1;
        assert!(!shown.contains(random), "{shown}");
    }
    assert!(!shown.contains(signed_in.access.text.expose()));
    let expires_at = item["expiresAt"].as_n().unwrap();
    assert_eq!(expires_at, &signed_in.session.expires_at.as_second().to_string());
}

#[tokio::test]
async fn each_secret_matches_its_own_hash_only() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user(0)).await;
    let session = stage.read(&signed_in.session.id).await.unwrap();
    let [refresh, cookie] = [&signed_in.refresh, &signed_in.cookie].map(SessionSecret::expose);
    let [refresh, cookie]: [SessionSecret; 2] = [refresh.parse().unwrap(), cookie.parse().unwrap()];
    assert_eq!(refresh.session_id(), &session.id);
    assert!(session.refresh_hash.matches(&refresh) && session.cookie_hash.matches(&cookie));
    assert!(!session.refresh_hash.matches(&cookie) && !session.cookie_hash.matches(&refresh));
    let other = SessionSecret::generate(session.id.clone()).unwrap();
    assert!(!session.refresh_hash.matches(&other));
}

#[tokio::test]
async fn a_session_stands_until_its_end_and_not_a_second_longer() {
    let stage = stage();
    let (signed_in, principal) = stage.sign_in(&stage.user(0)).await;
    assert_eq!(stage.require_live(&principal).await.unwrap(), signed_in.session.expires_at);
    stage.clock.advance(SESSION_LIFETIME.saturating_sub(Duration::from_secs(1)));
    stage.require_live(&principal).await.unwrap();
    stage.clock.advance(Duration::from_secs(1));
    // The row is still there: TTL deletes late.
    assert!(stage.read(&signed_in.session.id).await.is_some());
    assert!(matches!(stage.require_live(&principal).await, Err(SessionError::Ended)));
}

#[tokio::test]
async fn a_deleted_row_ends_the_session() {
    let stage = stage();
    let (signed_in, principal) = stage.sign_in(&stage.user(0)).await;
    let key = dynamo::key(&signed_in.session.id);
    stage.store.client.delete_item().table_name("SessionsTable").set_key(Some(key)).send().await.unwrap();
    assert!(matches!(stage.require_live(&principal).await, Err(SessionError::Ended)));
}

#[tokio::test]
async fn a_revoked_row_ends_the_session() {
    let stage = stage();
    let (signed_in, principal) = stage.sign_in(&stage.user(0)).await;
    stage
        .store
        .client
        .update_item()
        .table_name("SessionsTable")
        .set_key(Some(dynamo::key(&signed_in.session.id)))
        .update_expression("SET revokedAt = :now")
        .expression_attribute_values(":now", AttributeValue::S("2026-11-20T09:31:00.000Z".into()))
        .send()
        .await
        .unwrap();
    let session = stage.read(&signed_in.session.id).await.unwrap();
    assert_eq!(session.revoked_at.unwrap().to_string(), "2026-11-20T09:31:00Z");
    assert!(matches!(stage.require_live(&principal).await, Err(SessionError::Ended)));
}

#[tokio::test]
async fn a_session_renewed_with_a_higher_version_ends_older_tokens() {
    let stage = stage();
    let (signed_in, principal) = stage.sign_in(&stage.user(4)).await;
    let now = stage.clock.now();
    let renewed = Session { token_version: 5, ..signed_in.session.clone() };
    assert_eq!(standing(&principal, Some(&renewed), now), Standing::Ended);
    let older = Session { token_version: 3, ..signed_in.session };
    assert!(matches!(standing(&principal, Some(&older), now), Standing::Live { .. }));
}

#[tokio::test]
async fn somebody_elses_session_does_not_stand_for_the_caller() {
    let stage = stage();
    let (_, ann) = stage.sign_in(&stage.user(0)).await;
    let (bobs, _) = stage.sign_in(&stage.user(0)).await;
    let now = stage.clock.now();
    assert_eq!(standing(&ann, Some(&bobs.session), now), Standing::Ended);
    let forged = Session { id: ann.session_id().clone(), ..bobs.session };
    assert_eq!(standing(&ann, Some(&forged), now), Standing::Ended);
    assert_eq!(standing(&ann, None, now), Standing::Ended);
}

#[tokio::test]
async fn storing_the_same_session_again_is_no_failure_and_another_one_is() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user(0)).await;
    stage.starter.store.create(&signed_in.session).await.unwrap();
    let other = SessionSecret::generate(signed_in.session.id.clone()).unwrap();
    let intruder = Session { refresh_hash: other.hash(), ..signed_in.session.clone() };
    assert!(matches!(stage.starter.store.create(&intruder).await, Err(SessionError::Store(_))));
    assert_eq!(stage.read(&signed_in.session.id).await.unwrap(), signed_in.session);
}

#[tokio::test]
async fn the_cookie_is_for_browsers_only_and_lasts_as_long_as_the_session() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user(0)).await;
    let cookie = cookie::issue(&signed_in.session, &signed_in.cookie, stage.clock.now());
    let expected = format!(
        "SESSION={}; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax",
        signed_in.cookie.expose()
    );
    assert_eq!(cookie, expected);
}

#[test]
fn a_device_has_a_name_of_1_to_100_characters() {
    assert!(Device::MAX_CHARS == 100 && "語".repeat(100).parse::<Device>().is_ok());
    for text in ["", "  ", &"x".repeat(101), "two\nlines", "bell\u{7}"] {
        assert!(text.parse::<Device>().is_err(), "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_secret_parser_panic_and_what_parses_says_the_same(text in "\\PC{0,120}") {
        prop_assert!(text.parse::<SessionSecret>().map_or(true, |secret| secret.expose() == text));
    }

    #[test]
    fn secrets_have_one_spelling(random in "[A-Za-z0-9_-]{42,44}") {
        let id: SessionId = ids::random().next();
        let text = format!("{id}.{random}");
        prop_assert!(text.parse::<SessionSecret>().map_or(true, |secret| secret.expose() == text));
    }
}
