//! Idempotency keys: one effect per key, whatever is sent twice, crashes or comes late.
//!
//! A client names a write with `Idempotency-Key`. The first request with a key has the effect; every later one gets
//! the first one's answer again, final refusals included. A record per [`RequestScope`] (operation, caller, key) keeps the
//! answer for [`RETENTION`]. There are two forms, by where the effect happens.
//!
//! **Atomic**: the effect is in DynamoDB too ([`dynamo::atomic`], which has the details).
//! 1. Read the record together with whatever else the effect reads: one round trip. A record answers at once.
//! 2. Write record, effect and event in one transaction, on the condition that there is no record: one round trip.
//! 3. If the record was in the way, it came back with the refusal: a duplicate was faster. Give its answer.
//! 4. A final refusal is recorded by a conditional put of its own; who loses that put gives what is there.
//!
//! The record keeps an answer ([`Reply`]) as it was given, and does not look into it. Who runs the request says what the
//! answer to each outcome is.
//!
//! **External**: the effect is somewhere else, so it cannot share a transaction with its record ([`dynamo::DynamoClaims`]).
//! 1. *Claim*: write the record as claimed by a fresh attempt, if there is none, or if the last attempt's claim has
//!    lapsed. The record that is in the way comes back with the refusal.
//! 2. *Act*, before the claim lapses, and so that doing it twice does no harm (the other side dedups by a key
//!    derived from ours): a claim proves who may record the outcome, not that nobody else is acting.
//! 3. *Complete* with the answer, or *release* when it is certain that nothing happened. Both are conditional on the
//!    attempt, so a zombie (paused, overtaken, woken up) changes nothing.
//!
//! The payload's SHA-256 is part of the record: the same key with another payload is a [`IdempotencyCheck::Mismatch`],
//! also after a release. `expiresAt` is held against the clock on every read; TTL only collects the garbage.
//!
//! Limits: the record excludes duplicates where the table's conditions do, so regions that share keys share the table
//! (see ARCHITECTURE.md). Answers of status 500 and above are never recorded.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::core::ids::{AttemptId, UserId};
use crate::core::reply::Reply;
use crate::identity::principal::Credential;
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::{self, Metric};

pub mod dynamo;
mod fingerprint;
mod key;

pub use fingerprint::Fingerprint;
pub use key::{IdempotencyKey, KeyError, MAX_KEY_BYTES};

/// How long an answer is kept, and its key must not be used for anything else.
pub const RETENTION: Duration = Duration::from_hours(24);
/// Header of a request that names it.
pub const HEADER: &str = "idempotency-key";
/// Header of an answer that was given before.
pub const REPLAYED: &str = "idempotent-replayed";
/// Shortest `Retry-After` of [`IdempotencyCheck::InProgress`]: headers know whole seconds only.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

/// Who wants what done, by which name: two requests of one scope are the same request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestScope {
    operation: &'static str,
    user_id: UserId,
    key: IdempotencyKey,
}

impl RequestScope {
    /// The scope of `key` for one caller's use of `operation`, which must not contain `#`.
    pub fn new(operation: &'static str, user_id: &UserId, key: IdempotencyKey) -> Self {
        Self { operation, user_id: user_id.clone(), key }
    }

    /// Key of the record. Unambiguous, since neither operations nor user ids contain `#`.
    pub fn record_key(&self) -> String {
        format!("{}#{}#{}", self.operation, self.user_id, self.key)
    }

    /// The operation, for logs.
    pub fn operation(&self) -> &'static str {
        self.operation
    }
}

/// A request that carries a key: what it is called and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    pub scope: RequestScope,
    pub fingerprint: Fingerprint,
}

impl KeyedRequest {
    /// `caller`'s use of `operation` under `key`, asking for `payload`: the body, and what the path adds to it.
    pub fn new(operation: &'static str, caller: &Credential, key: IdempotencyKey, payload: &Value) -> Self {
        let scope = RequestScope::new(operation, caller.user_id(), key);
        Self { scope, fingerprint: Fingerprint::of(payload) }
    }
}

/// Why a request with a key got no answer. `R` is why the request itself was refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyedRequestError<R> {
    /// The caller's session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// The key belongs to another payload.
    #[error("the key was used for another payload")]
    Mismatch,
    /// Another attempt is in progress.
    #[error("another attempt is in progress")]
    InProgress {
        /// When its claim lapses.
        retry_after: Duration,
    },
    /// Every try met a conflict at the same rows; nothing was changed.
    #[error("every try met a conflict at the same rows")]
    Contended,
    /// The request itself was refused.
    #[error("refused: {0}")]
    Refused(R),
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// What is known of a scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The first request's payload.
    pub fingerprint: Fingerprint,
    /// How far it came.
    pub state: State,
    /// When the record counts for nothing any more.
    pub expires_at: Timestamp,
}

/// How far a request came.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Done(Reply),
    /// An attempt is in progress.
    Claimed {
        attempt: AttemptId,
        /// When the claim lapses and the next attempt may take over.
        until: Timestamp,
    },
}

/// What a request with a key may do. `T` is what starting takes: nothing, or a [`Claim`].
#[derive(Debug, Clone, PartialEq)]
pub enum IdempotencyCheck<T = ()> {
    /// There is no answer, and no attempt is in progress.
    Start(T),
    /// It has been done; this is the answer, marked as given before.
    Replay(Reply),
    /// Another attempt is in progress. 409.
    InProgress {
        /// When its claim lapses.
        retry_after: Duration,
    },
    /// The key belongs to another payload. 422.
    Mismatch,
}

impl Record {
    /// What the record (if there is one) lets a request with this payload do at `now`.
    pub fn admit(record: Option<Self>, fingerprint: Fingerprint, now: Timestamp) -> IdempotencyCheck {
        let Some(record) = record.filter(|record| record.expires_at > now) else {
            return IdempotencyCheck::Start(());
        };
        if record.fingerprint != fingerprint {
            return IdempotencyCheck::Mismatch;
        }
        match record.state {
            State::Done(reply) => IdempotencyCheck::Replay(reply.header(REPLAYED, "true")),
            State::Claimed { until, .. } if until <= now => IdempotencyCheck::Start(()),
            State::Claimed { until, .. } => {
                IdempotencyCheck::InProgress { retry_after: time_left(until, now) }
            }
        }
    }
}

/// The time from `now` to the end of a claim, as a `Retry-After`.
pub(crate) fn time_left(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default().max(SHORTEST_RETRY)
}

/// Logs and counts a stored answer that is given again. The key is the client's own text, and not for logs.
pub fn count_replay(scope: &RequestScope) {
    tracing::info!(operation = scope.operation, "duplicate answered from its record");
    telemetry::count(Metric::IdempotentReplays, 1);
}

/// Logs and counts a key that was used for another payload.
pub fn count_mismatch(scope: &RequestScope) {
    tracing::info!(operation = scope.operation, "the key was used for another payload");
    telemetry::count(Metric::IdempotencyMismatches, 1);
}

/// The right to record a request's outcome, until it lapses or is taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub request: KeyedRequest,
    pub attempt: AttemptId,
    pub until: Timestamp,
}

/// Whether a claim's holder could record how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimCompletion {
    Recorded,
    /// The claim had lapsed and a later attempt took over. Nothing was changed.
    Superseded,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(state: State) -> Record {
        Record {
            fingerprint: Fingerprint::of(&json!("first")),
            state,
            expires_at: Timestamp::from_second(1_000).unwrap(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn claimed() -> Record {
        record(State::Claimed { attempt: crate::core::ids::random().next(), until: at(100) })
    }

    #[test]
    fn an_expired_record_counts_for_nothing_even_with_another_payload() {
        let done = record(State::Done(Reply::empty(204)));
        let other = Fingerprint::of(&json!("second"));
        assert_eq!(Record::admit(Some(done.clone()), other, at(999)), IdempotencyCheck::Mismatch);
        assert_eq!(Record::admit(Some(done), other, at(1_000)), IdempotencyCheck::Start(()));
    }

    #[test]
    fn a_replay_is_marked_as_one() {
        let done = record(State::Done(Reply::empty(204)));
        let admission = Record::admit(Some(done), Fingerprint::of(&json!("first")), at(1));
        assert_eq!(
            admission,
            IdempotencyCheck::Replay(Reply::empty(204).header("Idempotent-Replayed", "true"))
        );
    }

    #[test]
    fn a_claim_holds_others_off_until_it_lapses() {
        let same = Fingerprint::of(&json!("first"));
        let wait = IdempotencyCheck::InProgress { retry_after: Duration::from_secs(40) };
        assert_eq!(Record::admit(Some(claimed()), same, at(60)), wait);
        assert_eq!(Record::admit(Some(claimed()), same, at(100)), IdempotencyCheck::Start(()));
    }

    #[test]
    fn a_lapsed_claim_is_not_free_for_another_payload() {
        let other = Fingerprint::of(&json!("second"));
        assert_eq!(Record::admit(Some(claimed()), other, at(200)), IdempotencyCheck::Mismatch);
    }
}
