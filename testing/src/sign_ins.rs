//! Users, their sessions as a sign-in leaves them, and the end of those.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use sojourn::core::ids::{SessionId, UserId, random};
use sojourn::identity::principal::Credential;
use sojourn::identity::sessions::dynamo::{DynamoSessions, key, version_key};
use sojourn::identity::sessions::{
    FIRST_VERSION, RefreshToken, SESSION_LIFETIME, SealedPayload, Session, SessionCookie,
};
use sojourn::identity::users::User;

use crate::Store;

/// A new user without roles, who has no row.
pub fn new_user(now: Timestamp) -> User {
    User {
        id: random().next(),
        email: "ann@example.com".parse().unwrap(),
        roles: BTreeSet::new(),
        token_version: 0,
        created_at: now,
    }
}

/// A session of `user` that begins at `now`, stored, and its caller.
pub async fn sign_in(store: &Store, user: &UserId, now: Timestamp) -> (Session, Credential) {
    sign_in_until(store, user, now, now + SESSION_LIFETIME).await
}

/// A session that ends by itself at `end`.
pub async fn sign_in_until(
    store: &Store,
    user: &UserId,
    now: Timestamp,
    end: Timestamp,
) -> (Session, Credential) {
    let id: SessionId = random().next();
    let cookie = SessionCookie::generate(id.clone(), user.clone(), 0, BTreeSet::new()).unwrap();
    let session = Session {
        user_id: user.clone(),
        token_version: 0,
        created_at: now,
        last_activity: now,
        idle_timeout: "24".parse().unwrap(),
        expires_at: Timestamp::from_second(end.as_second()).unwrap(),
        revoked_at: None,
        region: "local".to_owned(),
        tokens: RefreshToken::generate(id.clone()).unwrap().family(),
        cookie_hash: cookie.hash(),
        id,
    };
    let sessions = DynamoSessions::from_env(store.client.clone(), &store.env).unwrap();
    // Nobody here opens it.
    let payload = SealedPayload { version: FIRST_VERSION, bytes: Vec::new() };
    sessions.create(&session, &payload).await.unwrap();
    (session, cookie.credential())
}

/// Revokes one session.
pub async fn revoke(store: &Store, session: &SessionId) {
    let update = store.client.update_item().table_name("SessionsTable").set_key(Some(key(session)));
    let update = update.update_expression("SET revokedAt = :now");
    let now = AttributeValue::S("2026-11-20T10:00:00.000Z".to_owned());
    update.expression_attribute_values(":now", now).send().await.unwrap();
}

/// Revokes all sessions of a user.
pub async fn revoke_all(store: &Store, user: &UserId) {
    let update = store.client.update_item().table_name("SessionsTable").set_key(Some(version_key(user)));
    let update = update.update_expression("ADD ver :one");
    update.expression_attribute_values(":one", AttributeValue::N("1".to_owned())).send().await.unwrap();
}
