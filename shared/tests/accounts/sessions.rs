//! Sessions on the embedded DynamoDB: what a sign-in stores and hands out, and when it stops to
//! stand.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use sojourn::core::clock::{Clock, ManualClock};
use sojourn::core::date_time::rfc3339;
use sojourn::core::ids::{self, SessionId, SharedIds, UserId};
use sojourn::identity::principal::{Credential, Role};
use sojourn::identity::sessions::{
    CookieSettings, Device, FIRST_NUMBER, RefreshToken, SESSION_LIFETIME, Session, SessionCookie,
    SessionError, SessionReader, SessionRows, check, dynamo,
};
use sojourn::identity::sign_in::{SessionStarter, SignedIn};
use sojourn::identity::tokens::TokenVerifier;
use sojourn::identity::users::User;
use sojourn::platform::dynamo::{Item, text};
use sojourn_testing::sign_ins::new_user;
use sojourn_testing::{Fixture, Store};

/// Everything that signing in takes.
struct Stage {
    store: Store,
    clock: Arc<ManualClock>,
    ids: SharedIds,
    starter: SessionStarter,
    verifier: TokenVerifier,
}

fn stage() -> Stage {
    let fixture = Fixture::start();
    let starter = fixture.session_starter(fixture.clock.clone());
    let Fixture { store, env, clock, ids, .. } = fixture;
    Stage { starter, verifier: TokenVerifier::from_env(&env, clock.clone()).unwrap(), store, clock, ids }
}

impl Stage {
    fn user(&self) -> User {
        new_user(self.clock.now())
    }

    async fn sign_in(&self, user: &User) -> (SignedIn, Credential) {
        let signed_in = self.starter.start(user, None).await.unwrap();
        let principal = self.verifier.verify(signed_in.access.text.expose()).unwrap();
        (signed_in, principal)
    }

    async fn read(&self, id: &SessionId) -> Option<Session> {
        self.starter.store.read(id, &self.ids.next()).await.unwrap().session
    }

    async fn require_live(&self, principal: &Credential) -> Result<Timestamp, SessionError> {
        Ok(self.starter.store.check(principal).await?.session_ends_at())
    }

    /// Lets time pass while the session is used every 23 hours.
    async fn stay_active_for(&self, principal: &Credential, mut left: Duration) {
        while left > Duration::ZERO {
            let step = left.min(Duration::from_hours(23));
            self.clock.advance(step);
            self.require_live(principal).await.unwrap();
            left -= step;
        }
    }

    async fn payload(&self, id: &SessionId) -> Item {
        let get = self.store.client.get_item().table_name("SessionsTable");
        get.set_key(Some(dynamo::payload_key(id))).send().await.unwrap().item.unwrap()
    }

    /// Writes an instant into a row with this key, and nothing else.
    async fn put_instant(&self, key: Item, attribute: &str, at: Timestamp) {
        let put = self.store.client.put_item().table_name("SessionsTable").set_item(Some(key));
        put.item(attribute, text(rfc3339(at))).send().await.unwrap();
    }

    async fn delete(&self, key: Item) {
        self.store.client.delete_item().table_name("SessionsTable").set_key(Some(key)).send().await.unwrap();
    }

    async fn item(&self, id: &SessionId) -> Item {
        let get = self.store.client.get_item().table_name("SessionsTable").set_key(Some(dynamo::key(id)));
        get.send().await.unwrap().item.unwrap()
    }
}

#[tokio::test]
async fn what_is_stored_is_what_is_read() {
    let stage = stage();
    let signed_in = stage.starter.start(&stage.user(), None).await.unwrap();
    let read = stage.read(&signed_in.session.id).await.unwrap();
    assert_eq!(read, signed_in.session);
    assert_eq!(read.expires_at.as_second() - stage.clock.now().as_second(), 30 * 24 * 3600);
}

#[tokio::test]
async fn the_row_holds_hashes_and_none_of_the_secrets() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user()).await;
    let item = stage.item(&signed_in.session.id).await;
    let shown = format!("{item:?} {signed_in:?}");
    for secret in [signed_in.refresh.expose(), signed_in.cookie.expose()] {
        let random = secret.rsplit_once('.').unwrap().1;
        assert!(!shown.contains(random), "{shown}");
    }
    assert!(!shown.contains(signed_in.access.text.expose()));
    let expires_at = item["expiresAt"].as_n().unwrap();
    assert_eq!(expires_at, &signed_in.session.expires_at.as_second().to_string());
}

#[tokio::test]
async fn each_secret_matches_its_own_hash_only() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user()).await;
    let session = stage.read(&signed_in.session.id).await.unwrap();
    let refresh: RefreshToken = signed_in.refresh.expose().parse().unwrap();
    let cookie: SessionCookie = signed_in.cookie.expose().parse().unwrap();
    assert_eq!(refresh.session_id(), &session.id);
    assert_eq!((refresh.session(), refresh.number()), (&session, FIRST_NUMBER));
    refresh.verify(&stage.starter.sealing_keys).await.unwrap();
    assert_eq!(session.cookie_hash, cookie.hash());
}

#[tokio::test]
async fn a_session_stands_until_its_end_and_not_a_second_longer() {
    let stage = stage();
    let (signed_in, principal) = stage.sign_in(&stage.user()).await;
    assert_eq!(stage.require_live(&principal).await.unwrap(), signed_in.session.expires_at);
    stage.stay_active_for(&principal, SESSION_LIFETIME.saturating_sub(Duration::from_secs(1))).await;
    stage.clock.advance(Duration::from_secs(1));
    // The row is still there: TTL deletes late.
    assert!(stage.read(&signed_in.session.id).await.is_some());
    assert!(matches!(stage.require_live(&principal).await, Err(SessionError::Ended)));
}

#[tokio::test]
async fn a_session_that_nobody_uses_ends_after_its_idle_time_out_and_use_puts_that_off() {
    let stage = stage();
    let (_, principal) = stage.sign_in(&stage.user()).await;
    stage.stay_active_for(&principal, Duration::from_hours(23 * 5)).await;
    stage.clock.advance(Duration::from_hours(24).saturating_sub(Duration::from_millis(1)));
    stage.require_live(&principal).await.unwrap();
    stage.clock.advance(Duration::from_hours(24));
    assert!(matches!(stage.require_live(&principal).await, Err(SessionError::Ended)));
    // A client that goes on asking does not bring it back.
    stage.clock.advance(Duration::from_mins(1));
    assert!(matches!(stage.require_live(&principal).await, Err(SessionError::Ended)));
}

#[tokio::test]
async fn the_rows_of_the_check_are_below_a_kilobyte_and_the_payload_is_a_row_of_its_own() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user()).await;
    let (row, payload) =
        (stage.item(&signed_in.session.id).await, stage.payload(&signed_in.session.id).await);
    assert!(!row.contains_key("payload") && !row.contains_key("version"), "{row:?}");
    let size: usize = format!("{row:?}").len();
    assert!(size < 1_024, "{size} bytes, with the names of the types");
    assert_eq!(payload["owner"].as_s().unwrap(), signed_in.session.user_id.as_str());
    assert_eq!(payload["expiresAt"], row["expiresAt"]);
    assert!(!payload.contains_key("userId") && !payload.contains_key("createdAt"), "it is in no index");
}

#[tokio::test]
async fn an_access_token_is_good_without_the_row_until_an_end_arrives_and_a_cookie_is_not() {
    let stage = stage();
    let (signed_in, by_token) = stage.sign_in(&stage.user()).await;
    let (id, by_cookie) = (&signed_in.session.id, signed_in.cookie.credential());
    stage.delete(dynamo::key(id)).await;
    assert_eq!(stage.require_live(&by_token).await.unwrap(), signed_in.session.expires_at);
    assert!(matches!(stage.require_live(&by_cookie).await, Err(SessionError::Ended)));
    stage.put_instant(dynamo::end_key(id), "endedAt", stage.clock.now()).await;
    assert!(matches!(stage.require_live(&by_token).await, Err(SessionError::Ended)));
}

#[tokio::test]
async fn without_the_row_the_end_of_all_sessions_counts_from_the_instant_in_the_token() {
    let stage = stage();
    let user = stage.user();
    let (signed_in, caller) = stage.sign_in(&user).await;
    stage.delete(dynamo::key(&signed_in.session.id)).await;
    let (began, millisecond) = (signed_in.session.created_at, Duration::from_millis(1));
    let key = dynamo::all_ended_key(&user.id, "local");
    stage.put_instant(key.clone(), "endedBefore", began - millisecond).await;
    stage.require_live(&caller).await.unwrap();
    stage.put_instant(key, "endedBefore", began).await;
    assert!(matches!(stage.require_live(&caller).await, Err(SessionError::Ended)));
    stage.put_instant(dynamo::spared_key(&signed_in.session.id), "sparedAt", began).await;
    stage.require_live(&caller).await.unwrap();
}

#[tokio::test]
async fn a_token_without_a_row_ends_with_the_natural_end_of_its_session() {
    let stage = stage();
    let (_, caller) = stage.sign_in(&stage.user()).await;
    let rows = SessionRows::default();
    let end = stage.clock.now() + SESSION_LIFETIME;
    // In whole seconds, as it is stored.
    let end = Timestamp::from_second(end.as_second()).unwrap();
    check(&caller, &rows, end - Duration::from_millis(1)).unwrap();
    assert!(matches!(check(&caller, &rows, end), Err(SessionError::Ended)));
}

#[tokio::test]
async fn an_end_of_its_own_ends_a_session_whatever_else_is_written() {
    let stage = stage();
    let (signed_in, principal) = stage.sign_in(&stage.user()).await;
    let id = &signed_in.session.id;
    stage.put_instant(dynamo::end_key(id), "endedAt", stage.clock.now()).await;
    assert!(matches!(stage.require_live(&principal).await, Err(SessionError::Ended)));
    // A request that was let in just before stamps it just after.
    stage.clock.advance(Duration::from_mins(1));
    stage.starter.store.touch(id, stage.clock.now()).await.unwrap();
    assert!(
        matches!(stage.require_live(&principal).await, Err(SessionError::Ended)),
        "a stamp revives nothing"
    );
}

#[tokio::test]
async fn the_end_of_all_sessions_ends_those_that_began_by_then() {
    let stage = stage();
    let user = stage.user();
    let (first, ann) = stage.sign_in(&user).await;
    let (_, anns_other) = stage.sign_in(&user).await;
    let (key, began) = (dynamo::all_ended_key(&user.id, "local"), first.session.created_at);
    stage.put_instant(key.clone(), "endedBefore", began - Duration::from_millis(1)).await;
    stage.require_live(&ann).await.unwrap();
    stage.put_instant(key, "endedBefore", began).await;
    for principal in [&ann, &anns_other] {
        assert!(matches!(stage.require_live(principal).await, Err(SessionError::Ended)));
    }
    stage.put_instant(dynamo::spared_key(&first.session.id), "sparedAt", began).await;
    stage.require_live(&ann).await.unwrap();
    assert!(matches!(stage.require_live(&anns_other).await, Err(SessionError::Ended)));
}

#[tokio::test]
async fn somebody_elses_session_does_not_stand_for_the_caller() {
    let stage = stage();
    let (_, ann) = stage.sign_in(&stage.user()).await;
    let (bobs, _) = stage.sign_in(&stage.user()).await;
    let now = stage.clock.now();
    let rows = |session| SessionRows { session, ..SessionRows::default() };
    assert!(matches!(check(&ann, &rows(Some(bobs.session.clone())), now), Err(SessionError::Ended)));
    let forged = Session { id: ann.session_id().clone(), ..bobs.session };
    assert!(matches!(check(&ann, &rows(Some(forged)), now), Err(SessionError::Ended)));
}

#[tokio::test]
async fn a_cookie_is_believed_only_as_it_was_issued() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user()).await;
    let text = signed_in.cookie.expose();
    let caller = |text: &str| text.parse::<SessionCookie>().unwrap().credential();
    stage.require_live(&caller(&text)).await.unwrap();
    let promoted = text.replace("..", ".operator.");
    assert!(promoted != text && caller(&promoted).has_role(Role::Operator));
    let (other, _) = stage.sign_in(&stage.user()).await;
    for claimed in
        [promoted, text.replace(signed_in.session.user_id.as_str(), other.session.user_id.as_str())]
    {
        assert!(matches!(stage.require_live(&caller(&claimed)).await, Err(SessionError::Ended)), "{claimed}");
    }
}

#[tokio::test]
async fn activity_is_written_once_a_minute_and_never_on_what_has_ended() {
    let stage = stage();
    let (signed_in, principal) = stage.sign_in(&stage.user()).await;
    let id = &signed_in.session.id;
    let began = stage.clock.now();
    stage.clock.advance(Duration::from_secs(59));
    stage.require_live(&principal).await.unwrap();
    assert_eq!(stage.read(id).await.unwrap().last_activity, began);
    stage.clock.advance(Duration::from_secs(1));
    stage.require_live(&principal).await.unwrap();
    let stamped = stage.clock.now();
    assert_eq!(stage.read(id).await.unwrap().last_activity, stamped);
    stage.clock.advance(Duration::from_secs(30));
    stage.starter.store.touch(id, stage.clock.now()).await.unwrap();
    assert_eq!(stage.read(id).await.unwrap().last_activity, stamped, "somebody was faster");
    let nobodys: SessionId = stage.ids.next();
    stage.starter.store.touch(&nobodys, stage.clock.now()).await.unwrap();
    assert!(stage.read(&nobodys).await.is_none(), "a stamp makes no session");
}

#[tokio::test]
async fn storing_the_same_session_again_is_no_failure_and_another_one_is() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user()).await;
    let payload = dynamo::parse_payload(&stage.payload(&signed_in.session.id).await).unwrap();
    let create =
        async |session: &Session| stage.starter.store.create(session, &payload, Timestamp::UNIX_EPOCH).await;
    create(&signed_in.session).await.unwrap();
    let (other, _) = stage.sign_in(&stage.user()).await;
    let intruder = Session { cookie_hash: other.session.cookie_hash, ..signed_in.session.clone() };
    assert!(matches!(create(&intruder).await, Err(SessionError::Store(_))));
    assert_eq!(stage.read(&signed_in.session.id).await.unwrap(), signed_in.session);
}

#[tokio::test]
async fn the_cookie_is_for_browsers_only_and_lasts_as_long_as_the_session() {
    let stage = stage();
    let (signed_in, _) = stage.sign_in(&stage.user()).await;
    let cookie =
        CookieSettings::default().issue(&signed_in.cookie, signed_in.session.expires_at, stage.clock.now());
    let expected = format!(
        "__Host-SESSION={}; Max-Age=2592000; Path=/; HttpOnly; Secure; SameSite=Lax",
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
    fn no_text_makes_the_cookie_parser_panic_and_what_parses_says_the_same(
        text in "\\PC{0,160}",
        roles in "(operator|\\+){0,3}",
        random in "[A-Za-z0-9_-]{42,44}",
    ) {
        let ids = ids::random();
        let (session, user): (SessionId, UserId) = (ids.next(), ids.next());
        for text in [text, format!("{session}.{user}.{roles}.{random}")] {
            prop_assert!(text.parse::<SessionCookie>().map_or(true, |cookie| cookie.expose() == text));
        }
    }
}
