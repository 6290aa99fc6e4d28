//! The actions that revoke, for transactions: each with its event.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{key, version_key};
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, SharedIds, UserId};
use crate::platform::aws;
use crate::platform::dynamo::{Change, DynamoError, number, text};
use crate::platform::outbox::{self, Event, EventType};
use crate::platform::tables;

/// A session is revoked once, by its own user, while it lasts.
const REVOKE: Change = Change {
    update: "SET revokedAt = :now",
    condition: Some("userId = :user AND attribute_not_exists(revokedAt) AND expiresAt > :nowSeconds"),
    names: &[],
};
/// What was issued before stops to count. The first time there is no row yet.
const RAISE: Change = Change { update: "ADD ver :one", condition: None, names: &[] };
/// The same, from a version that was read: a session is spared only if nobody revoked it meanwhile.
const RAISE_FROM: Change = Change {
    update: "SET ver = :next",
    condition: Some("attribute_not_exists(ver) OR ver = :known"),
    names: &[],
};
/// The spared session goes on with the new version. One of an older version than the known one has ended with all others
/// already, and must not come back.
const SPARE: Change = Change {
    update: "SET ver = :next",
    condition: Some("userId = :user AND attribute_not_exists(revokedAt) AND ver = :known"),
    names: &[],
};

/// Which sessions of a user end.
enum Ended<'a> {
    All,
    Only(&'a SessionId),
    AllBut(&'a SessionId),
}

/// Makes the actions.
#[derive(Debug, Clone)]
pub struct SessionWrites {
    sessions: String,
    outbox: String,
    region: String,
    ids: SharedIds,
}

impl SessionWrites {
    /// Writes to `SESSIONS_TABLE` and `OUTBOX_TABLE`, from `AWS_REGION`.
    pub fn from_env(env: &Env, ids: SharedIds) -> Result<Self, ConfigError> {
        Ok(Self {
            sessions: tables::SESSIONS.name(env)?,
            outbox: tables::OUTBOX.name(env)?,
            region: aws::region(env)?,
            ids,
        })
    }

    /// Ends one session of `user`. The first action is refused when there is nothing to end.
    pub(super) fn one(
        &self,
        id: &SessionId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let values = [
            (":now", text(rfc3339(now))),
            (":nowSeconds", number(now.as_second())),
            (":user", text(user.as_str())),
        ];
        Ok(vec![REVOKE.action(&self.sessions, key(id), values)?, self.event(user, &Ended::Only(id), now)?])
    }

    /// Ends all sessions of `user`.
    pub(crate) fn all(&self, user: &UserId, now: Timestamp) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let raise = RAISE.action(&self.sessions, version_key(user), [(":one", number(1))])?;
        Ok(vec![raise, self.event(user, &Ended::All, now)?])
    }

    /// Ends all sessions of `user` but one, from the token version `known`. Refused when that is not the version any
    /// more, or the spared session has ended.
    pub(crate) fn all_but(
        &self,
        spared: &SessionId,
        user: &UserId,
        known: u64,
        now: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let next = || number(known.saturating_add(1));
        let raise = [(":next", next()), (":known", number(known))];
        let spare = [(":next", next()), (":known", number(known)), (":user", text(user.as_str()))];
        Ok(vec![
            RAISE_FROM.action(&self.sessions, version_key(user), raise)?,
            SPARE.action(&self.sessions, key(spared), spare)?,
            self.event(user, &Ended::AllBut(spared), now)?,
        ])
    }

    fn event(
        &self,
        user: &UserId,
        ended: &Ended<'_>,
        now: Timestamp,
    ) -> Result<TransactWriteItem, DynamoError> {
        let event = Event {
            event_id: self.ids.next(),
            kind: EventType::SessionsRevoked,
            occurred_at: now,
            region: self.region.clone(),
            subject: user.to_string(),
            data: ended.data(user),
        };
        outbox::dynamo::put(&self.outbox, &event)
    }
}

impl Ended<'_> {
    fn data(&self, user: &UserId) -> Value {
        match self {
            Self::All => json!({"userId": user}),
            Self::Only(id) => json!({"userId": user, "sessionId": id}),
            Self::AllBut(id) => json!({"userId": user, "exceptSessionId": id}),
        }
    }
}
