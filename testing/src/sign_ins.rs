//! Users, sessions as a sign-in stores them, and their revocation.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sojourn::core::ids::{SessionId, UserId, random};
use sojourn::identity::principal::Credential;
use sojourn::identity::sessions::dynamo::{DynamoSessions, all_ended_key, end_key};
use sojourn::identity::sessions::{FIRST_VERSION, SESSION_LIFETIME, SealedPayload, Session, SessionCookie};
use sojourn::identity::users::User;
use sojourn::platform::dynamo::text;

use crate::Store;

/// A new user without roles and without a row.
pub fn new_user(now: Timestamp) -> User {
    User {
        id: random().next(),
        email: "ann@example.com".parse().unwrap(),
        roles: BTreeSet::new(),
        ended_before: Timestamp::UNIX_EPOCH,
        created_at: now,
    }
}

/// A session of `user` that begins at `now`, stored, and its caller.
pub async fn sign_in(store: &Store, user: &UserId, now: Timestamp) -> (Session, Credential) {
    sign_in_until(store, user, now, now + SESSION_LIFETIME).await
}

/// A session with its natural end at `end`.
pub async fn sign_in_until(
    store: &Store,
    user: &UserId,
    now: Timestamp,
    end: Timestamp,
) -> (Session, Credential) {
    let id: SessionId = random().next();
    let cookie = SessionCookie::generate(id.clone(), user.clone(), BTreeSet::new()).unwrap();
    let session = Session {
        user_id: user.clone(),
        created_at: now,
        last_activity: now,
        idle_timeout: "24".parse().unwrap(),
        expires_at: Timestamp::from_second(end.as_second()).unwrap(),
        region: "local".to_owned(),
        cookie_hash: cookie.hash(),
        id,
    };
    let sessions = DynamoSessions::from_env(store.client.clone(), &store.env).unwrap();
    // No test opens it.
    let payload = SealedPayload { version: FIRST_VERSION, bytes: Vec::new() };
    sessions.create(&session, &payload, Timestamp::UNIX_EPOCH).await.unwrap();
    (session, cookie.credential())
}

/// Revokes one session.
pub async fn revoke(store: &Store, session: &SessionId) {
    let put = store.client.put_item().table_name("SessionsTable").set_item(Some(end_key(session)));
    put.item("endedAt", text("2026-11-20T10:00:00.000Z")).send().await.unwrap();
}

/// Revokes all sessions of a user, whenever they began.
pub async fn revoke_all(store: &Store, user: &UserId) {
    let row = all_ended_key(user, "local");
    let put = store.client.put_item().table_name("SessionsTable").set_item(Some(row));
    put.item("endedBefore", text("9000-01-01T00:00:00.000Z")).send().await.unwrap();
}
