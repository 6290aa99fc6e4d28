//! The atomic form: record, effect and event in one transaction.
//!
//! 1. Read the record, the caller's session and the effect's own rows in one `BatchGetItem`. A session that has ended
//!    is refused before anything is told; a record answers at once.
//! 2. The effect decides on its rows: commit, refuse for good, put off, or read again.
//! 3. Commit is one `TransactWriteItems` with the record at position 0, and beside it the stamp that the session is in use,
//!    if that is due: an idle time-out does not end a session that only sends keyed writes. If it is cancelled, the reasons are read in
//!    this order:
//!    - the record was in the way: a duplicate was faster, and this is its answer;
//!    - somebody is at the record right now: go back to 1, since it may be our duplicate, whose effect (stock taken)
//!      must not be mistaken for a reason to refuse;
//!    - a condition of the effect failed: the effect says whether that is final;
//!    - conflicts at other rows only: send the same transaction again. Its conditions look at the record and at those
//!      rows anew, so nothing needs to be read;
//!    - throttling: 503.
//! 4. Both ways of trying again wait with jitter, and share the bounds of [`Backoff::of_conflicts`]. Beyond them the
//!    answer is 503 with `Retry-After`, and nothing was changed.
//! 5. A final refusal is recorded by a conditional put; if a record is in the way, that one is the answer.
//!
//! So a new effect takes two sequential round trips (and what deciding reads on top), and a replay one.

use std::future::Future;

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;

use super::requests::{KeyedRequests, Opening};
use super::{parse, put_done};
use crate::coordination::idempotency::{KeyedRequest, KeyedRequestError};
use crate::core::deadline::Deadline;
use crate::core::problem::Problem;
use crate::core::reply::Reply;
use crate::core::retry::Backoff;
use crate::identity::principal::Credential;
use crate::platform::dynamo::CancellationReason::{ConditionFailed, Conflict};
use crate::platform::dynamo::{CancellationReason, DynamoError, RowKey, Rows, Transaction};
use crate::platform::telemetry::{self, Metric};

/// One effect that fits into a transaction: at most 99 actions, decided on at most 97 rows.
pub trait Effect: Sync {
    /// What was decided, as far as explaining a refusal needs it.
    type Decided: Send + Sync;

    /// The rows to decide on.
    fn rows(&self) -> Vec<RowKey<'_>>;

    /// Decides, on rows that were read consistently just now.
    fn decide(
        &self,
        rows: Rows,
        now: Timestamp,
    ) -> impl Future<Output = Result<Decision<Self::Decided>, DynamoError>> + Send;

    /// Says what a failed condition among the effect's own actions means. The reasons are in the order of the actions.
    fn explain(&self, decided: &Self::Decided, reasons: &[CancellationReason]) -> Explanation;

    /// Called when the effect has happened, for its metrics.
    fn committed(&self);
}

/// What an effect wants done.
#[derive(Debug)]
pub enum Decision<T = ()> {
    /// A change, recorded with its answer.
    Commit(Commit<T>),
    /// A final refusal, recorded.
    Refuse(Problem),
    /// A refusal that will pass, not recorded.
    Defer(Problem),
    /// Deciding has changed the rows.
    ReadAgain,
}

/// A change that an effect has decided on.
#[derive(Debug)]
pub struct Commit<T = ()> {
    /// Its writes.
    pub actions: Vec<TransactWriteItem>,
    /// Its answer.
    pub reply: Reply,
    /// What [`Effect::explain`] is told of it.
    pub decided: T,
}

/// What a failed condition of an effect means.
#[derive(Debug)]
pub enum Explanation {
    /// A final refusal, recorded.
    Refuse(Problem),
    /// A refusal that will pass, not recorded.
    Defer(Problem),
    /// The rows are not as they were read.
    ReadAgain,
}

/// What became of one try.
enum Try {
    Answered(Reply),
    Refused(Problem),
    Again,
}

impl KeyedRequests {
    /// The answer to `request`: `effect`'s, if this is the first with its key, else the one that was given.
    pub async fn run(
        &self,
        caller: &Credential,
        request: &KeyedRequest,
        effect: &impl Effect,
        deadline: Deadline,
    ) -> Result<Reply, KeyedRequestError> {
        let mut backoff = Backoff::of_conflicts(deadline);
        loop {
            let (rows, stamp) = match self.open(caller, request, effect.rows(), deadline).await? {
                Opening::Answered(reply) => return Ok(reply),
                Opening::New(rows, stamp) => (rows, stamp),
            };
            let now = self.clock.now();
            let tried = match effect.decide(rows, now).await? {
                Decision::Commit(commit) => {
                    let commit = self.commit(request, effect, commit, now, &mut backoff);
                    let (tried, ()) = tokio::join!(commit, Box::pin(stamp.send()));
                    tried?
                }
                Decision::Refuse(problem) => Try::Refused(problem),
                Decision::Defer(problem) => return Err(KeyedRequestError::Refused(problem)),
                Decision::ReadAgain => Try::Again,
            };
            match tried {
                Try::Answered(reply) => return Ok(reply),
                Try::Refused(problem) => return self.refuse(request, problem, deadline).await,
                Try::Again => telemetry::count(Metric::TransactionConflicts, 1),
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        }
    }

    async fn commit<E: Effect>(
        &self,
        request: &KeyedRequest,
        effect: &E,
        Commit { actions, reply, decided }: Commit<E::Decided>,
        now: Timestamp,
        backoff: &mut Backoff,
    ) -> Result<Try, KeyedRequestError> {
        let mut items = vec![put_done(&self.records, request, &reply, now)?];
        items.extend(actions);
        let reasons = loop {
            let send = self.client.transact_write_items().set_transact_items(Some(items.clone())).send();
            match Transaction::outcome(Box::pin(send).await, &request.scope.record_key())? {
                Transaction::Committed => {
                    effect.committed();
                    return Ok(Try::Answered(reply));
                }
                Transaction::Cancelled(reasons) if !met_others_at_the_effect_only(&reasons) => break reasons,
                Transaction::Cancelled(_) => telemetry::count(Metric::TransactionConflicts, 1),
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        };
        let (record, effects) = reasons.split_first().unwrap_or((&CancellationReason::None, &[]));
        match record {
            ConditionFailed(item) => {
                return match self.admitted(Some(parse(item.clone())?), request)? {
                    Some(reply) => Ok(Try::Answered(reply)),
                    None => Ok(Try::Again),
                };
            }
            Conflict => return Ok(Try::Again),
            _ => {}
        }
        if effects.iter().any(|reason| matches!(reason, ConditionFailed(_))) {
            match effect.explain(&decided, effects) {
                Explanation::Refuse(problem) => return Ok(Try::Refused(problem)),
                Explanation::Defer(problem) => return Err(KeyedRequestError::Refused(problem)),
                Explanation::ReadAgain => {}
            }
        }
        match reasons.iter().find_map(CancellationReason::error_code) {
            Some(code) => Err(DynamoError::cancelled(request.scope.record_key(), code).into()),
            None => Ok(Try::Again),
        }
    }
}

/// Whether a transaction was cancelled by conflicts alone, none of them at the record, which is its first action.
fn met_others_at_the_effect_only(reasons: &[CancellationReason]) -> bool {
    let Some((CancellationReason::None, effects)) = reasons.split_first() else { return false };
    effects.contains(&Conflict) && effects.iter().all(|r| matches!(r, CancellationReason::None | Conflict))
}
