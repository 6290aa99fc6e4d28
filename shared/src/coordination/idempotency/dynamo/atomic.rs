//! The atomic form: record, effect and event in one transaction.
//!
//! 1. Read the record, the caller's session and the effect's own rows in one `BatchGetItem`. A session that has ended
//!    is refused before anything is told; a record answers at once.
//! 2. The effect decides on its rows, for the checked caller: commit, refuse, or read again. What it decides is an outcome
//!    of the domain. The answer to it, which the record keeps, is made by a function of the boundary that asks.
//! 3. Commit is one `TransactWriteItems` with the record, and beside it the stamp that the session is in use, if that is due:
//!    an idle time-out does not end a session that only sends keyed writes. If it is cancelled, the reasons are read in
//!    this order:
//!    - the record was in the way: a duplicate was faster, and this is its answer;
//!    - a conflict at the record: go back to 1, since the rival may be our duplicate, whose effect (stock taken) must not
//!      be mistaken for a reason to refuse;
//!    - a condition of the effect failed: the effect says whether that is final;
//!    - conflicts at other rows only: send the same transaction again. Its conditions look at the record and at those
//!      rows anew, so nothing needs to be read;
//!    - throttling: 503.
//! 4. Both ways of trying again wait with jitter, and share the bounds of [`Backoff::of_conflicts`]. Beyond them the
//!    answer is 503 with `Retry-After`, and nothing was changed.
//! 5. A final refusal is recorded by a conditional put; if a record is in the way, that one is the answer.
//!
//! 6. An effect that finds that it has happened, although there is no record, answers with what it finds, as a replay. Nothing is
//!    written.
//!
//! So a new effect takes two sequential round trips (and what deciding reads on top), and a replay one.

use std::future::Future;

use jiff::Timestamp;

use super::requests::{FirstRead, KeyedRequests};
use super::{parse, put_done};
use crate::coordination::idempotency::{KeyedRequest, KeyedRequestError, REPLAYED, count_replay};
use crate::core::deadline::Deadline;
use crate::core::ids::UserId;
use crate::core::reply::Reply;
use crate::core::retry::Backoff;
use crate::identity::principal::{Credential, Principal};
use crate::platform::dynamo::CancellationReason::Conflict;
use crate::platform::dynamo::{Actions, DynamoError, Reasons, RowKey, Rows, Transaction};
use crate::platform::telemetry::{self, Metric};

/// One effect that fits into a transaction: at most 99 actions, decided on at most 97 rows.
pub trait Effect: Sync {
    /// What has happened when the effect has.
    type Outcome: Send + Sync;
    /// Why it has not.
    type Refusal: Send + Sync;
    /// The names of its actions.
    type Action: Clone + PartialEq + Send + Sync;

    /// The rows to decide on, for the user whom the credential names. They are told to nobody before the check.
    fn rows(&self, user: &UserId) -> Vec<RowKey<'_>>;

    /// Decides for the checked caller, on rows that were read consistently just now.
    fn decide(
        &self,
        caller: &Principal,
        rows: Rows,
        now: Timestamp,
    ) -> impl Future<Output = Result<DecisionOf<Self>, DynamoError>> + Send;

    /// Says what a failed condition among the effect's own actions means. `None`: the rows are not as they were read.
    fn explain(
        &self,
        outcome: &Self::Outcome,
        reasons: &Reasons<Self::Action>,
    ) -> Option<Refused<Self::Refusal>>;

    /// Called when the effect has happened, for its metrics.
    fn committed(&self) {}
}

/// What the effect `E` wants done.
pub type DecisionOf<E> = Decision<<E as Effect>::Outcome, <E as Effect>::Refusal, <E as Effect>::Action>;

/// What an effect wants done.
#[derive(Debug)]
pub enum Decision<O, R, A> {
    /// A change, recorded with the answer to its outcome.
    Commit {
        /// What has happened once the actions have.
        outcome: O,
        actions: Actions<A>,
    },
    /// Nothing: it has happened, and the record of it has expired or has not been replicated yet.
    Happened(O),
    Refuse(Refused<R>),
    /// Deciding has changed the rows.
    ReadAgain,
}

/// A refusal, and whether another try may end otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused<R> {
    /// It never will. Recorded.
    ForGood(R),
    /// It may. Not recorded.
    ForNow(R),
}

/// The names of a transaction's actions.
#[derive(Clone, PartialEq)]
enum ActionName<A> {
    Record,
    Effect(A),
}

/// What became of one try.
enum TryOutcome<R> {
    /// The effect has happened.
    Committed,
    /// There is an answer already.
    Recorded(Reply),
    Refused(Refused<R>),
    Again,
}

impl KeyedRequests {
    /// The answer to `request`: `answer` to what `effect` comes to, if this is the first request with its key, else the
    /// answer that was given.
    pub async fn run<E: Effect>(
        &self,
        credential: &Credential,
        request: &KeyedRequest,
        effect: &E,
        answer: impl Fn(Result<&E::Outcome, &E::Refusal>) -> Reply,
        deadline: Deadline,
    ) -> Result<Reply, KeyedRequestError<E::Refusal>> {
        let mut backoff = Backoff::of_conflicts(deadline);
        let keys = || effect.rows(credential.user_id());
        loop {
            let (caller, rows, stamp) = match self.open(credential, request, keys(), deadline).await? {
                FirstRead::Answered(reply) => return Ok(reply),
                FirstRead::New { caller, rows, stamp } => (caller, rows, stamp),
            };
            let now = self.clock.now();
            let tried = match effect.decide(&caller, rows, now).await? {
                Decision::Commit { outcome, actions } => {
                    let reply = answer(Ok(&outcome));
                    let mut all =
                        Actions::from([(ActionName::Record, put_done(&self.records, request, &reply, now)?)]);
                    all.extend(actions.into_iter().map(|(name, action)| (ActionName::Effect(name), action)));
                    let commit = self.commit(request, effect, &outcome, &all, &mut backoff);
                    match tokio::join!(commit, Box::pin(stamp.send())).0? {
                        TryOutcome::Committed => return Ok(reply),
                        tried => tried,
                    }
                }
                Decision::Happened(outcome) => {
                    count_replay(&request.scope);
                    return Ok(answer(Ok(&outcome)).header(REPLAYED, "true"));
                }
                Decision::Refuse(refused) => TryOutcome::Refused(refused),
                Decision::ReadAgain => TryOutcome::Again,
            };
            match tried {
                TryOutcome::Recorded(reply) => return Ok(reply),
                TryOutcome::Refused(Refused::ForNow(refusal)) => {
                    return Err(KeyedRequestError::Refused(refusal));
                }
                TryOutcome::Refused(Refused::ForGood(refusal)) => {
                    let reply = answer(Err(&refusal));
                    return self.refuse(request, refusal, &reply, deadline).await;
                }
                TryOutcome::Committed | TryOutcome::Again => {
                    telemetry::count(Metric::TransactionConflicts, 1)
                }
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        }
    }

    /// Runs the transaction, again and again while it meets others at the effect's rows only.
    async fn commit<E: Effect>(
        &self,
        request: &KeyedRequest,
        effect: &E,
        outcome: &E::Outcome,
        actions: &Actions<ActionName<E::Action>>,
        backoff: &mut Backoff,
    ) -> Result<TryOutcome<E::Refusal>, KeyedRequestError<E::Refusal>> {
        let target = request.scope.record_key();
        let reasons = loop {
            match actions.send(&self.client, &target).await? {
                Transaction::Committed => {
                    effect.committed();
                    return Ok(TryOutcome::Committed);
                }
                Transaction::Cancelled(reasons)
                    if reasons.are_conflicts() && *reasons.of(&ActionName::Record) != Conflict =>
                {
                    telemetry::count(Metric::TransactionConflicts, 1);
                }
                Transaction::Cancelled(reasons) => break reasons,
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        };
        if let Some(record) = reasons.row_refusing(&ActionName::Record) {
            let recorded = self.admitted(Some(parse(record.clone())?), request)?;
            return Ok(recorded.map_or(TryOutcome::Again, TryOutcome::Recorded));
        }
        if *reasons.of(&ActionName::Record) == Conflict {
            return Ok(TryOutcome::Again);
        }
        let of_effect = reasons.clone().renamed(|name| match name {
            ActionName::Effect(name) => Some(name),
            ActionName::Record => None,
        });
        if of_effect.refused().next().is_some()
            && let Some(refused) = effect.explain(outcome, &of_effect)
        {
            return Ok(TryOutcome::Refused(refused));
        }
        reasons.require_no_error(&target)?;
        Ok(TryOutcome::Again)
    }
}
