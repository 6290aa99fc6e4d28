//! Idempotency keys: each key has one effect, whatever is retried, crashes or arrives late. Known
//! from [Stripe's API](https://docs.stripe.com/api/idempotent_requests).
//!
//! A client names a write with `Idempotency-Key`. The first request with a key has the effect;
//! every later request gets the same answer, final refusals included. A record per [`RequestScope`]
//! (operation, caller, key) keeps the answer for [`RETENTION`]. Where the effect happens decides
//! between two forms.
//!
//! **Atomic**: the effect is in DynamoDB too ([`dynamo::atomic`]).
//! 1. Read the record together with the rows of the effect: one round trip. If there is a record,
//!    return its answer.
//! 2. Write record, effect and event in one transaction, on the condition that there is no record:
//!    one round trip.
//! 3. If the condition fails, a duplicate was faster. DynamoDB returns the existing record; return
//!    its answer.
//! 4. Record a final refusal by a conditional put. If a record exists, return its answer.
//!
//! A record keeps the answer ([`Reply`]) as bytes. The caller decides the answer to each outcome.
//!
//! **External**: the effect is in another system and cannot share a transaction with its record
//! ([`dynamo::DynamoClaims`]).
//! 1. *Claim*: write the record as claimed by a new attempt, if there is none or the last claim has
//!    lapsed. Otherwise DynamoDB returns the existing record.
//! 2. *Act* before the claim lapses, with an effect that may be repeated: the other system
//!    deduplicates by a key derived from this one. A claim says who may record the outcome, not
//!    that nobody else is acting.
//! 3. *Complete* with the answer, or *release* if certainly nothing happened. Both are conditional
//!    on the attempt, so an attempt that was paused and overtaken changes nothing.
//!
//! The record contains the SHA-256 of the payload: the same key with another payload is a
//! [`IdempotencyCheck::Mismatch`], also after a release. Every read compares `expiresAt` with the
//! clock; TTL only removes old items.
//!
//! Limits: regions that share keys must share the table (see ARCHITECTURE.md). Answers of status
//! 500 and above are never recorded.
//!
//! # Example
//! ```
//! use std::time::Duration;
//!
//! use jiff::Timestamp;
//! use serde_json::json;
//! use sojourn::coordination::idempotency::{Fingerprint, IdempotencyCheck, Record, State};
//! use sojourn::core::reply::Reply;
//!
//! let now: Timestamp = "2026-11-20T09:00:00Z".parse()?;
//! let payload = Fingerprint::of(&json!({"lines": [{"productId": "lamp", "quantity": 2}]}));
//!
//! // No record: the request may start.
//! assert_eq!(Record::admit(None, payload, now), IdempotencyCheck::Start(()));
//!
//! // Its answer was recorded: a duplicate gets the same answer.
//! let reply = Reply::json(201, json!({"orderId": "ord_1"}));
//! let expires_at = now + Duration::from_secs(60);
//! let record = Record { fingerprint: payload, state: State::Done(reply), expires_at };
//! let check = Record::admit(Some(record.clone()), payload, now);
//! assert!(matches!(check, IdempotencyCheck::Replay(reply) if reply.status == 201));
//!
//! // The same key with another payload is refused.
//! let other = Fingerprint::of(&json!({"lines": []}));
//! assert_eq!(Record::admit(Some(record), other, now), IdempotencyCheck::Mismatch);
//! # Ok::<(), jiff::Error>(())
//! ```

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

/// How long an answer is kept. A client must not reuse the key within this time.
pub const RETENTION: Duration = Duration::from_hours(24);
/// The request header that carries the key.
pub const HEADER: &str = "idempotency-key";
/// The response header that marks a replay.
pub const REPLAYED: &str = "idempotent-replayed";
/// Shortest `Retry-After` of [`IdempotencyCheck::InProgress`]: the header has whole seconds.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

/// Operation, caller and key: two requests with the same scope are the same request.
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

/// A request with a key: its scope and its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    pub scope: RequestScope,
    pub fingerprint: Fingerprint,
}

impl KeyedRequest {
    /// `caller`'s use of `operation` under `key`. `payload` is the body and the parameters of the
    /// path.
    pub fn new(operation: &'static str, caller: &Credential, key: IdempotencyKey, payload: &Value) -> Self {
        let scope = RequestScope::new(operation, caller.user_id(), key);
        Self { scope, fingerprint: Fingerprint::of(payload) }
    }
}

/// Why a request with a key got no answer. `R` is the refusal of the request itself.
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
    /// Every try conflicted at the same rows; nothing was changed.
    #[error("every try conflicted at the same rows")]
    Contended,
    /// The request itself was refused.
    #[error("refused: {0}")]
    Refused(R),
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// The record of a scope.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The first request's payload.
    pub fingerprint: Fingerprint,
    /// How far the first request came.
    pub state: State,
    /// From when the record is ignored.
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

/// What a request with a key may do. `T` is what starting returns: nothing, or a [`Claim`].
#[derive(Debug, Clone, PartialEq)]
pub enum IdempotencyCheck<T = ()> {
    /// There is no answer, and no attempt is in progress.
    Start(T),
    /// The request was answered before; this is the answer, marked as a replay.
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
    /// What the record, if there is one, lets a request with this payload do at `now`.
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

/// Logs and counts a replay. The key is the client's own text and is not logged.
pub fn count_replay(scope: &RequestScope) {
    tracing::info!(operation = scope.operation, "duplicate answered from the record");
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

/// Whether the outcome of a claim was recorded.
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
