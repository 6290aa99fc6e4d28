//! The commands. Failures are logged here, and cost the caller only time.

use std::time::Duration;

use ::redis::Pipeline;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::CopyLifetimes;
use super::entry::{FillLease, Found, copy};
use super::seal::CopyKey;
use crate::core::clock::SharedClock;
use crate::core::date_time::as_rfc3339;
use crate::core::ids::{SessionId, UserId};
use crate::identity::sessions::dynamo::DynamoSessions;
use crate::identity::sessions::dynamo::SessionRow;
use crate::identity::sessions::{
    EndedSessions, SealedPayload, Session, SessionError, SessionReader, SessionRows,
};
use crate::platform::redis::{Incarnation, RedisClient, RedisError};
use crate::platform::telemetry::{self, Metric, chain};

/// How long a lease keeps others from filling. A read from DynamoDB takes milliseconds; a slower
/// reader fills nothing, and the next reader may.
const LEASE_LIFETIME: Duration = Duration::from_secs(1);

/// Interval between two tries to delete copies that a revocation waits for.
const WITHDRAWAL_INTERVAL: Duration = Duration::from_millis(100);

/// Sets each key that still holds the lease ARGV[1]: to its value (ARGV[3], ..), until ARGV[2].
const FILL_IN: &str = "
for i = 1, #KEYS do
    if redis.call('GET', KEYS[i]) == ARGV[1] then
        redis.call('SET', KEYS[i], ARGV[i + 2], 'PXAT', ARGV[2])
    end
end";

/// Whose rows a copy contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyOf<'a> {
    Session(&'a SessionId),
    User(&'a UserId),
}

/// The rows of a session. An end or a row that spares it may be absent; the session itself exists.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SessionCopy {
    session: SessionRow,
    has_end: bool,
    #[serde(with = "as_rfc3339")]
    spared_at: Timestamp,
}

/// The rows of a user. All of them may be absent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserCopy {
    #[serde(with = "as_rfc3339")]
    ended_before: Timestamp,
}

/// Copies of the rows of one table.
#[derive(Debug)]
pub(crate) struct RedisCopies {
    redis: RedisClient,
    table: String,
    clock: SharedClock,
    terms: CopyLifetimes,
    key: CopyKey,
}

/// The result of looking up a session's rows.
enum Lookup {
    Copied(Box<SessionRows>),
    /// Not both exist; absent ones now have a lease.
    Missing(Missing),
    Unanswered,
}

/// Leases of the copies to be filled.
struct Missing {
    lease: FillLease,
    session: Option<String>,
    user: Option<String>,
}

impl RedisCopies {
    pub(crate) fn new(
        redis: RedisClient,
        table: &str,
        clock: SharedClock,
        terms: CopyLifetimes,
        key: CopyKey,
    ) -> Self {
        Self { redis, table: table.to_owned(), clock, terms, key }
    }

    /// The rows of the check: from the copies, or from `rows`, which fills the copies.
    pub(crate) async fn read(
        &self,
        rows: &DynamoSessions,
        id: &SessionId,
        user: &UserId,
    ) -> Result<SessionRows, SessionError> {
        let missing = match self.look_up(id, user).await {
            // A copy may lack the last stamp, and the two copies may be of different moments: one
            // may contain a replicated end of all and the other not the row that spares the
            // session. So copies do not decide that a session is idle or has ended with all others.
            Lookup::Copied(copied)
                if !copied.may_be_spared()
                    && !copied.session.as_ref().is_some_and(|copy| copy.is_idle(self.clock.now())) =>
            {
                return Ok(*copied);
            }
            Lookup::Copied(_) | Lookup::Unanswered => return rows.read(id, user).await,
            Lookup::Missing(missing) => missing,
        };
        let before = self.clock.now();
        let read = rows.read(id, user).await?;
        let user = UserCopy { ended_before: read.ended_before };
        self.fill_in(missing, session_copy(&read), Some(user), before).await;
        Ok(read)
    }

    /// Stores a new session in `rows`, with a copy of it.
    pub(crate) async fn create(
        &self,
        rows: &DynamoSessions,
        session: &Session,
        payload: &SealedPayload,
        ended_before: Timestamp,
    ) -> Result<(), SessionError> {
        let lookup = self.look_up(&session.id, &session.user_id).await;
        let before = self.clock.now();
        rows.create(session, payload, ended_before).await?;
        if let Lookup::Missing(missing) = lookup {
            // An end, or a row that spares it, would be written later, and its writer drops this
            // copy. The user's instant was read before the lease, so it must not be copied.
            let copy = SessionRows { session: Some(session.clone()), ..SessionRows::default() };
            self.fill_in(missing, session_copy(&copy), None, before).await;
        }
        Ok(())
    }

    /// Looks both rows up atomically, and leaves leases for absent ones.
    async fn look_up(&self, id: &SessionId, user: &UserId) -> Lookup {
        let lease = match FillLease::generate() {
            Ok(lease) => lease,
            Err(error) => {
                tracing::error!(error = chain(&error), "no lease token could be generated");
                return Lookup::Unanswered;
            }
        };
        let rows = [CopyOf::Session(id), CopyOf::User(user)];
        let asked = self.redis.ask::<(Option<Vec<u8>>, Option<Vec<u8>>)>(|server| {
            let mut commands = Pipeline::new();
            // Atomically: a session that was spared must not be seen without the instant that it
            // was spared from.
            commands.atomic();
            for key in rows.map(|row| self.name(server, row)) {
                let set = commands.cmd("SET").arg(key).arg(lease.as_bytes());
                set.arg("NX").arg("GET").arg("PX").arg(millis(LEASE_LIFETIME));
            }
            commands
        });
        let answer = match asked.await {
            Ok(answer) => answer,
            Err(error) => return unanswered(&error),
        };
        let now = self.clock.now();
        let (session, of_user) = &answer.value;
        let [session_name, user_name] = rows.map(|row| self.name(&answer.from, row));
        let session = Found::<SessionCopy>::read(session.as_deref(), &self.key, &session_name, now);
        let of_user = Found::<UserCopy>::read(of_user.as_deref(), &self.key, &user_name, now);
        match (session, of_user) {
            (Found::Copy(copy), Found::Copy(of_user)) => match Session::try_from(copy.session) {
                Ok(session) => Lookup::Copied(Box::new(SessionRows {
                    session: Some(session),
                    has_end: copy.has_end,
                    ended_before: of_user.ended_before,
                    spared_at: copy.spared_at,
                })),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a copy of a session is unreadable");
                    self.forget(&rows).await;
                    Lookup::Unanswered
                }
            },
            (Found::Forged, _) | (_, Found::Forged) => {
                telemetry::count(Metric::ForgedSessionCopies, 1);
                tracing::warn!(session = %id, "Redis has a copy of a session that is not authentic");
                self.forget(&rows).await;
                Lookup::Unanswered
            }
            (Found::Garbage, _) | (_, Found::Garbage) => {
                tracing::warn!(session = %id, "Redis has a copy of a session from another version");
                self.forget(&rows).await;
                Lookup::Unanswered
            }
            (session, of_user) => Lookup::Missing(Missing {
                lease,
                session: matches!(session, Found::Leased).then_some(session_name),
                user: matches!(of_user, Found::Leased).then_some(user_name),
            }),
        }
    }

    /// Fills the copies whose leases still exist. `before` is an instant before the rows were read.
    async fn fill_in(
        &self,
        missing: Missing,
        session: Option<SessionCopy>,
        user: Option<UserCopy>,
        before: Timestamp,
    ) {
        let lifetime = SignedDuration::try_from(self.terms.lifetime).unwrap_or(SignedDuration::ZERO);
        let until_ms = before.saturating_add(lifetime).unwrap_or(before).as_millisecond();
        let session = missing
            .session
            .zip(session)
            .and_then(|(name, row)| Some((copy(&self.key, &name, row, until_ms)?, name)));
        let user = missing
            .user
            .zip(user)
            .and_then(|(name, row)| Some((copy(&self.key, &name, row, until_ms)?, name)));
        let copies: Vec<(Vec<u8>, String)> = session.into_iter().chain(user).collect();
        if copies.is_empty() {
            return;
        }
        let filled = self.redis.ask::<()>(|_| {
            let mut commands = Pipeline::new();
            let (values, keys): (Vec<_>, Vec<_>) = copies.iter().cloned().unzip();
            let script = commands.cmd("EVAL").arg(FILL_IN).arg(keys.len()).arg(keys);
            script.arg(missing.lease.as_bytes()).arg(until_ms).arg(values).ignore();
            commands
        });
        if let Err(error) = filled.await {
            report(&error);
        }
    }

    /// Deletes the copy and the lease of a session's row that was changed and stays live.
    pub(crate) async fn forget_session(&self, id: &SessionId) {
        self.forget(&[CopyOf::Session(id)]).await;
    }

    async fn forget(&self, rows: &[CopyOf<'_>]) {
        if let Err(error) = self.delete(rows).await {
            report(&error);
        }
    }

    /// Returns when no copy from before the change is valid any more.
    pub(crate) async fn invalidate(&self, user: &UserId, ended: &EndedSessions) {
        let rows: &[CopyOf<'_>] = match ended {
            EndedSessions::All => &[CopyOf::User(user)],
            EndedSessions::One(id) => &[CopyOf::Session(id)],
            // Both: an earlier copy of the spared session does not say that it is spared.
            EndedSessions::AllBut(spared) => &[CopyOf::User(user), CopyOf::Session(spared)],
        };
        let all_lapsed = Instant::now() + self.terms.lifetime + self.terms.clock_skew;
        while let Err(error) = self.delete(rows).await {
            report(&error);
            let next = Instant::now() + WITHDRAWAL_INTERVAL;
            tokio::time::sleep_until(next.min(all_lapsed)).await;
            if next >= all_lapsed {
                tracing::warn!("Redis did not answer; the revocation waited until all copies had expired");
                return;
            }
        }
    }

    async fn delete(&self, rows: &[CopyOf<'_>]) -> Result<(), RedisError> {
        let deleted = self.redis.ask::<()>(|server| {
            let mut commands = Pipeline::new();
            // One command: both rows of a session are deleted atomically.
            let keys: Vec<_> = rows.iter().map(|row| self.name(server, *row)).collect();
            commands.cmd("DEL").arg(keys).ignore();
            commands
        });
        deleted.await.map(drop)
    }

    /// The Redis key of a row's copy. Tables of several stacks may share a Redis.
    fn name(&self, server: &Incarnation, row: CopyOf<'_>) -> String {
        let Self { table, .. } = self;
        match row {
            CopyOf::Session(id) => format!("sojourn:{table}:{server}:{id}"),
            CopyOf::User(user) => format!("sojourn:{table}:{server}:{user}"),
        }
    }
}

/// A copy of a session's rows. A session that has not arrived is not copied: it may arrive in a
/// moment.
fn session_copy(rows: &SessionRows) -> Option<SessionCopy> {
    let session = SessionRow::from(rows.session.as_ref()?);
    Some(SessionCopy { session, has_end: rows.has_end, spared_at: rows.spared_at })
}

fn unanswered(error: &RedisError) -> Lookup {
    report(error);
    Lookup::Unanswered
}

/// Logs a failed call. An open circuit breaker keeps this to one a second.
fn report(error: &RedisError) {
    match error {
        RedisError::CircuitOpen => tracing::debug!("Redis is not called: the circuit breaker is open"),
        RedisError::Connecting => tracing::debug!("Redis is not connected yet"),
        error => tracing::warn!(error = chain(error), "Redis gave no answer; DynamoDB is asked instead"),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
