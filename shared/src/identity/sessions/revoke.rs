//! Revocation of one session, all sessions of a user, or all but one.
//!
//! 1. Each revocation is one transaction, with the event `sessions.revoked` in the outbox.
//!    [`SessionRevoker::revoke`] and [`SessionRevoker::revoke_all`] run a transaction of their own.
//!    A new password and a withdrawn role ([`crate::identity::users`]) include the actions in
//!    theirs.
//! 2. After the commit and before the answer, [`SessionRevoker::ended`] drops the copies of the
//!    rows in Redis, and closes the sockets of the ended sessions in this region
//!    ([`CloseSockets`]). It does so also if the session had been revoked before: that invocation
//!    may have been cut off before this step.
//!
//! A revocation holds in its region from the moment it is answered: every function reads its rows,
//! consistently, before it shows or changes anything. In another region it holds when the rows have
//! arrived there. Closing sockets is best effort within the deadline. A socket that stays open is
//! closed when the event has been published, seconds later: `ws-deliver` does that in every region.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::types::TransactWriteItem;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dynamo::{HAS_NO_END, end_key, key, parse_all_ended, row_expiry, spared_key};
use super::{END_AHEAD, SessionError, SessionStore, just_after};
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SessionId, SharedIds, UserId};
use crate::core::retry::Backoff;
use crate::platform::aws;
use crate::platform::dynamo::{Actions, DynamoError, Item, RowUpdate, Transaction, number, text};
use crate::platform::outbox::{self, Event, EventType};
use crate::platform::tables;

/// It is a session of the user, and has not expired.
const IS_OF_USER: &str = "userId = :user AND expiresAt > :nowSeconds";
/// Ends earlier sessions. The instant only rises.
const RAISE: RowUpdate = RowUpdate {
    update: "SET endedBefore = :at",
    condition: Some("attribute_not_exists(endedBefore) OR endedBefore < :at"),
    names: &[],
};
/// The same, from an instant that was read: a session is spared only if nobody ended all of them
/// meanwhile.
const RAISE_FROM: RowUpdate = RowUpdate {
    update: "SET endedBefore = :at",
    condition: Some("attribute_not_exists(endedBefore) OR endedBefore <= :known"),
    names: &[],
};
/// The session stays live, though it began before the instant.
const SPARE: RowUpdate =
    RowUpdate { update: "SET sparedAt = :at, expiresAt = :expiresAt", condition: None, names: &[] };
/// The same for a session that is live only because it was spared before. A session that was not
/// spared has ended already and must not come back.
const SPARE_AGAIN: RowUpdate = RowUpdate { condition: Some("sparedAt >= :known"), ..SPARE };

/// Which sessions of a user have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedSessions {
    All,
    One(SessionId),
    AllBut(SessionId),
}

impl EndedSessions {
    /// Whether this session of the user has ended.
    pub fn include(&self, session_id: &SessionId) -> bool {
        match self {
            Self::All => true,
            Self::One(ended) => ended == session_id,
            Self::AllBut(spared) => spared != session_id,
        }
    }
}

/// The data of the event `sessions.revoked`: one session, all but one, or all sessions of a user at
/// that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionsRevoked {
    pub user_id: UserId,
    /// The ended session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// The spared session.
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

/// The result of revoking one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// The session was live until now.
    Revoked,
    /// The user has no such session in this region, or it was revoked before or has expired. (A
    /// session that ended with all others is not told apart: [`Self::Revoked`], and nothing
    /// changes.)
    NotThere,
}

/// The names of the actions of a transaction that ends all sessions of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndAll {
    Instant,
    Event,
}

/// Closes the sockets of ended sessions.
pub trait CloseSockets: fmt::Debug + Send + Sync {
    /// Closes the user's sockets in this region whose sessions have ended, as far as `deadline`
    /// allows. Reports failures itself: a revocation holds without it.
    fn close_sockets<'a>(
        &'a self,
        user: &'a UserId,
        ended: &'a EndedSessions,
        deadline: Deadline,
    ) -> BoxFuture<'a, ()>;
}

/// Revokes sessions, drops their copies and closes their sockets.
#[derive(Debug, Clone)]
pub struct SessionRevoker {
    store: SessionStore,
    sockets: Option<Arc<dyn CloseSockets>>,
    outbox: String,
    region: String,
    ids: SharedIds,
}

impl SessionRevoker {
    /// Revokes sessions of `store`, with events in `OUTBOX_TABLE` from `AWS_REGION`. Without
    /// [`Self::with_sockets`], sockets stay open until their next frame.
    pub fn from_env(store: SessionStore, env: &Env, ids: SharedIds) -> Result<Self, ConfigError> {
        let (outbox, region) = (tables::OUTBOX.name(env)?, aws::region(env)?);
        Ok(Self { store, sockets: None, outbox, region, ids })
    }

    /// Closes the sockets of ended sessions through `sockets`.
    #[must_use]
    pub fn with_sockets(self, sockets: impl CloseSockets + 'static) -> Self {
        Self { sockets: Some(Arc::new(sockets)), ..self }
    }

    /// Revokes one session, if it is one of `user`.
    pub async fn revoke(
        &self,
        id: &SessionId,
        user: &UserId,
        deadline: Deadline,
    ) -> Result<Revocation, SessionError> {
        let values = [(":user", text(user.as_str())), (":nowSeconds", number(self.store.now().as_second()))];
        let is_of_user = self.store.rows().require(key(id), IS_OF_USER, values)?;
        self.end_if(Some(is_of_user), id, user, deadline).await
    }

    /// Revokes one session that a token or a cookie has proven to be one of `user`. Its row need
    /// not have arrived in this region.
    pub async fn revoke_proven(
        &self,
        id: &SessionId,
        user: &UserId,
        deadline: Deadline,
    ) -> Result<Revocation, SessionError> {
        self.end_if(None, id, user, deadline).await
    }

    async fn end_if(
        &self,
        guard: Option<TransactWriteItem>,
        id: &SessionId,
        user: &UserId,
        deadline: Deadline,
    ) -> Result<Revocation, SessionError> {
        let (now, ended) = (self.store.now(), EndedSessions::One(id.clone()));
        let end = self.store.rows().put_end(id, now)?;
        let actions = [end, self.event(user, &ended, now)?].into_iter().chain(guard);
        let actions: Actions<()> = actions.map(|action| ((), action)).collect();
        let target = format!("session {id}");
        let mut backoff = Backoff::within(deadline);
        let revocation = loop {
            match actions.commit(self.store.rows().client(), &target).await? {
                Transaction::Committed => break Revocation::Revoked,
                Transaction::Cancelled(reasons) if reasons.refused().next().is_some() => {
                    break Revocation::NotThere;
                }
                Transaction::Cancelled(_) if backoff.wait().await => {}
                Transaction::Cancelled(_) => return Err(SessionError::Busy),
            }
        };
        self.ended(user, &ended, deadline).await;
        Ok(revocation)
    }

    /// Revokes all sessions of `user`.
    pub async fn revoke_all(&self, user: &UserId, deadline: Deadline) -> Result<(), SessionError> {
        let target = format!("sessions of {user}");
        let mut known = Timestamp::UNIX_EPOCH;
        let mut backoff = Backoff::within(deadline);
        loop {
            let [raise, event] = self.actions_for_all(user, known)?;
            let actions = Actions::from([(EndAll::Instant, raise), (EndAll::Event, event)]);
            match actions.commit(self.store.rows().client(), &target).await? {
                Transaction::Committed => break,
                Transaction::Cancelled(reasons) => match reasons.row_refusing(&EndAll::Instant) {
                    // All sessions were ended a moment ago, and a session may have begun right
                    // after that instant.
                    Some(row) => known = parse_all_ended(row)?,
                    None if backoff.wait().await => {}
                    None => return Err(SessionError::Busy),
                },
            }
        }
        self.ended(user, &EndedSessions::All, deadline).await;
        Ok(())
    }

    /// The actions that end all sessions of `user`: the instant and the event. The first fails if
    /// the instant in the region's row is not lower. `known` is the latest known instant. The
    /// caller calls [`Self::ended`] after the commit.
    pub(crate) fn actions_for_all(
        &self,
        user: &UserId,
        known: Timestamp,
    ) -> Result<[TransactWriteItem; 2], DynamoError> {
        let at = [(":at", text(rfc3339(self.instant_after(known))))];
        let raise = RAISE.action(self.store.table(), self.own_row(user), at)?;
        Ok([raise, self.event(user, &EndedSessions::All, self.store.now())?])
    }

    /// The actions that end all sessions of `user` but one, which began at `began_at`. `known` is
    /// the latest known instant. They fail if all sessions have ended again since, or the spared
    /// session has ended. The caller calls [`Self::ended`] after the commit.
    pub(crate) fn actions_for_all_but(
        &self,
        spared: &SessionId,
        began_at: Timestamp,
        user: &UserId,
        known: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let (now, at) = (self.store.now(), self.instant_after(known));
        let at = || (":at", text(rfc3339(at)));
        let (known_at, expires_at) = ((":known", text(rfc3339(known))), (":expiresAt", row_expiry(now)));
        let row = spared_key(spared);
        let spare = if began_at > known {
            SPARE.action(self.store.table(), row, [at(), expires_at])?
        } else {
            SPARE_AGAIN.action(self.store.table(), row, [at(), expires_at, known_at.clone()])?
        };
        Ok(vec![
            RAISE_FROM.action(self.store.table(), self.own_row(user), [at(), known_at])?,
            spare,
            self.store.rows().require(end_key(spared), HAS_NO_END, [])?,
            self.event(user, &EndedSessions::AllBut(spared.clone()), now)?,
        ])
    }

    /// The instant that ends all sessions that have begun by now.
    fn instant_after(&self, known: Timestamp) -> Timestamp {
        let ahead = self.store.now().checked_add(END_AHEAD).unwrap_or(Timestamp::MAX);
        ahead.max(just_after(known))
    }

    fn own_row(&self, user: &UserId) -> Item {
        self.store.rows().own_all_ended_key(user)
    }

    /// Drops the copies of ended sessions and closes their sockets. Called after the commit and
    /// before the answer.
    pub(crate) async fn ended(&self, user: &UserId, ended: &EndedSessions, deadline: Deadline) {
        self.drop_copies(user, ended).await;
        if let Some(sockets) = &self.sockets {
            sockets.close_sockets(user, ended, deadline).await;
        }
    }

    /// Only drops the copies: for a write that was refused and may have been committed before, or
    /// never.
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
