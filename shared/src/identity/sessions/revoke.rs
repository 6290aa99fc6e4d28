//! Revoking: one session, all sessions of a user, or all but one.
//!
//! 1. Each revocation is one transaction, with the event `sessions.revoked` in the outbox.
//!    [`SessionRevoker::revoke`] and [`SessionRevoker::revoke_all`] run a transaction of their own. A new password and a
//!    withdrawn role ([`crate::identity::users`]) take the actions into theirs.
//! 2. After the commit and before the answer, [`SessionRevoker::ended`] drops the copies of the rows in Redis, and closes
//!    the sockets of the ended sessions in this region ([`CloseSockets`]). This also happens when the condition refused
//!    because the session had been revoked before: that invocation may have been cut off before this step.
//!
//! A revocation holds from the moment it is answered: every function reads the rows that it writes, consistently, before
//! it tells or changes anything. Closing sockets is best effort inside the deadline. A socket that stays open is closed
//! when the event has been published, seconds later: `ws-deliver` does that in every region.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::types::TransactWriteItem;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dynamo::{key, version_key};
use super::{SessionError, SessionStore};
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, SharedIds, UserId};
use crate::core::retry::Backoff;
use crate::platform::aws;
use crate::platform::dynamo::{Actions, Change, DynamoError, Transaction, number, text};
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

/// Which sessions of a user have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedSessions {
    /// All of them.
    All,
    /// One.
    One(SessionId),
    /// All but one.
    AllBut(SessionId),
}

impl EndedSessions {
    /// Whether this session of the user is among them.
    pub fn include(&self, session_id: &SessionId) -> bool {
        match self {
            Self::All => true,
            Self::One(ended) => ended == session_id,
            Self::AllBut(spared) => spared != session_id,
        }
    }
}

/// The data of the event `sessions.revoked`: one session, all but one, or all that a user had then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionsRevoked {
    /// Whose.
    pub user_id: UserId,
    /// The one that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The one that was spared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except_session_id: Option<SessionId>,
}

impl SessionsRevoked {
    fn new(user: &UserId, ended: &EndedSessions) -> Self {
        let (session_id, except_session_id) = match ended {
            EndedSessions::All => (None, None),
            EndedSessions::One(id) => (Some(id.clone()), None),
            EndedSessions::AllBut(id) => (None, Some(id.clone())),
        };
        Self { user_id: user.clone(), session_id, except_session_id }
    }

    /// Which sessions of the user have ended.
    pub fn ended(&self) -> EndedSessions {
        match (&self.session_id, &self.except_session_id) {
            (Some(id), _) => EndedSessions::One(id.clone()),
            (None, Some(id)) => EndedSessions::AllBut(id.clone()),
            (None, None) => EndedSessions::All,
        }
    }
}

/// Outcome of revoking one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// The session was live until now.
    Revoked,
    /// The user has no such session, or it was revoked before or has expired. (One that ended with all others is as
    /// good as revoked: naming it again is answered [`Self::Revoked`] and changes nothing.)
    NotThere,
}

/// Closes the sockets of ended sessions.
pub trait CloseSockets: fmt::Debug + Send + Sync {
    /// Closes those of the user's sockets in this region whose sessions have ended, as far as the time until `deadline`
    /// reaches. It reports failures itself: a revocation holds without it.
    fn close_sockets<'a>(
        &'a self,
        user: &'a UserId,
        ended: &'a EndedSessions,
        deadline: Deadline,
    ) -> BoxFuture<'a, ()>;
}

/// Revokes sessions, and sees to their copies and sockets.
#[derive(Debug, Clone)]
pub struct SessionRevoker {
    store: SessionStore,
    sockets: Option<Arc<dyn CloseSockets>>,
    outbox: String,
    region: String,
    ids: SharedIds,
}

impl SessionRevoker {
    /// Revokes sessions of `store`, with events in `OUTBOX_TABLE` from `AWS_REGION`. Sockets stay open until their next
    /// frame.
    pub fn from_env(store: SessionStore, env: &Env, ids: SharedIds) -> Result<Self, ConfigError> {
        let (outbox, region) = (tables::OUTBOX.name(env)?, aws::region(env)?);
        Ok(Self { store, sockets: None, outbox, region, ids })
    }

    /// Has `sockets` close the sockets of ended sessions.
    #[must_use]
    pub fn with_sockets(self, sockets: impl CloseSockets + 'static) -> Self {
        Self { sockets: Some(Arc::new(sockets)), ..self }
    }

    /// Revokes one session of `user`.
    pub async fn revoke(
        &self,
        id: &SessionId,
        user: &UserId,
        deadline: Deadline,
    ) -> Result<Revocation, SessionError> {
        let now = self.store.now();
        let ended = EndedSessions::One(id.clone());
        let values = [
            (":now", text(rfc3339(now))),
            (":nowSeconds", number(now.as_second())),
            (":user", text(user.as_str())),
        ];
        let revoke = REVOKE.action(self.store.table(), key(id), values)?;
        let actions = [revoke, self.event(user, &ended, now)?];
        let revocation = self.commit(&format!("session {id}"), actions, deadline).await?;
        self.ended(user, &ended, deadline).await;
        Ok(revocation)
    }

    /// Revokes all sessions of `user`, however many there are.
    pub async fn revoke_all(&self, user: &UserId, deadline: Deadline) -> Result<(), SessionError> {
        let actions = self.actions_for_all(user)?;
        self.commit(&format!("sessions of {user}"), actions, deadline).await?;
        self.ended(user, &EndedSessions::All, deadline).await;
        Ok(())
    }

    /// Runs the actions. Only the condition of [`REVOKE`] can refuse them.
    async fn commit(
        &self,
        target: &str,
        actions: impl IntoIterator<Item = TransactWriteItem>,
        deadline: Deadline,
    ) -> Result<Revocation, SessionError> {
        let actions: Actions<()> = actions.into_iter().map(|action| ((), action)).collect();
        let mut backoff = Backoff::within(deadline);
        loop {
            match actions.commit(self.store.rows().client(), target).await? {
                Transaction::Committed => return Ok(Revocation::Revoked),
                Transaction::Cancelled(reasons) if reasons.refused().next().is_some() => {
                    return Ok(Revocation::NotThere);
                }
                Transaction::Cancelled(_) if backoff.wait().await => {}
                Transaction::Cancelled(_) => return Err(SessionError::Busy),
            }
        }
    }

    /// The actions that end all sessions of `user`. Whoever has committed them calls [`Self::ended`].
    pub(crate) fn actions_for_all(&self, user: &UserId) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let raise = RAISE.action(self.store.table(), version_key(user), [(":one", number(1))])?;
        Ok(vec![raise, self.event(user, &EndedSessions::All, self.store.now())?])
    }

    /// The actions that end all sessions of `user` but one, from the token version `known`. Refused when the version is
    /// another by now, or the spared session has ended. Whoever has committed them calls [`Self::ended`].
    pub(crate) fn actions_for_all_but(
        &self,
        spared: &SessionId,
        user: &UserId,
        known: u64,
    ) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let next = || number(known.saturating_add(1));
        let raise = [(":next", next()), (":known", number(known))];
        let spare = [(":next", next()), (":known", number(known)), (":user", text(user.as_str()))];
        Ok(vec![
            RAISE_FROM.action(self.store.table(), version_key(user), raise)?,
            SPARE.action(self.store.table(), key(spared), spare)?,
            self.event(user, &EndedSessions::AllBut(spared.clone()), self.store.now())?,
        ])
    }

    /// Drops the copies of what has ended, and closes its sockets. Called after the commit and before the answer.
    pub(crate) async fn ended(&self, user: &UserId, ended: &EndedSessions, deadline: Deadline) {
        self.drop_copies(user, ended).await;
        if let Some(sockets) = &self.sockets {
            sockets.close_sockets(user, ended, deadline).await;
        }
    }

    /// Only drops the copies: for a write that was refused and may have been committed before, or never.
    pub(crate) async fn drop_copies(&self, user: &UserId, ended: &EndedSessions) {
        self.store.drop_copies(user, ended).await;
    }

    fn event(
        &self,
        user: &UserId,
        ended: &EndedSessions,
        now: Timestamp,
    ) -> Result<TransactWriteItem, DynamoError> {
        let event = Event {
            event_id: self.ids.next(),
            kind: EventType::SessionsRevoked,
            occurred_at: now,
            region: self.region.clone(),
            subject: user.to_string(),
            data: json!(SessionsRevoked::new(user, ended)),
        };
        outbox::dynamo::put(&self.outbox, &event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::random;

    #[test]
    fn ended_sessions_name_one_session_or_spare_one() {
        let (one, other): (SessionId, SessionId) = (random().next(), random().next());
        assert!(EndedSessions::One(one.clone()).include(&one));
        assert!(!EndedSessions::One(one.clone()).include(&other));
        assert!(!EndedSessions::AllBut(one.clone()).include(&one));
        assert!(EndedSessions::AllBut(one.clone()).include(&other));
        assert!(EndedSessions::All.include(&one));
    }
}
