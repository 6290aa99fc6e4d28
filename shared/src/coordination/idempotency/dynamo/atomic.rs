//! The atomic form: record, effect and event in one transaction.
//!
//! 1. Read the record, the caller's session and the effect's own rows in one `BatchGetItem`. A
//!    session that has ended is refused first. If there is a record, its answer is returned.
//! 2. The effect decides on its rows, for the checked caller: commit, refuse, or read again. The
//!    decision is a domain outcome; the caller of [`KeyedRequests::run`] turns it into the answer
//!    that the record keeps.
//! 3. Commit is one `TransactWriteItems` that includes the record. The session's activity stamp is
//!    written concurrently if it is due. If the transaction is cancelled, the reasons are read in
//!    this order:
//!    - The record exists: a duplicate was faster. Return its answer.
//!    - A conflict at the record: go back to step 1. The other writer may be our duplicate, and its
//!      effect (stock taken) must not be mistaken for a reason to refuse.
//!    - A condition of the effect failed: the effect says whether that is final.
//!    - Conflicts at other rows only: send the same transaction again. Its conditions check the
//!      current rows, so nothing needs to be read.
//!    - Throttling: 503.
//! 4. Both kinds of retry wait with jitter and share the bounds of [`Backoff::of_conflicts`].
//!    Beyond them the answer is 503 with `Retry-After`, and nothing was changed.
//! 5. A final refusal is recorded by a conditional put. If a record exists by then, its answer is
//!    returned.
//! 6. An effect may find that it has already happened although there is no record. It then answers
//!    with what it finds, as a replay, and writes nothing.
//!
//! A new effect takes two sequential round trips plus what the decision reads; a replay takes one.

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

/// An effect that fits into a transaction: at most 99 actions, decided on at most 97 rows.
pub trait Effect: Sync {
    /// The result of a committed effect.
    type Outcome: Send + Sync;
    /// Why the effect was refused.
    type Refusal: Send + Sync;
    /// The names of the effect's actions.
    type Action: Clone + PartialEq + Send + Sync;

    /// The rows to decide on, for the user whom the credential names. They are not shown to anybody
    /// before the session is checked.
    fn rows(&self, user: &UserId) -> Vec<RowKey<'_>>;

    /// Decides for the checked caller. `rows` were just read consistently.
    fn decide(
        &self,
        caller: &Principal,
        rows: Rows,
        now: Timestamp,
    ) -> impl Future<Output = Result<DecisionOf<Self>, DynamoError>> + Send;

    /// Explains a failed condition among the effect's own actions. `None`: the rows have changed
    /// since they were read.
    fn explain(
        &self,
        outcome: &Self::Outcome,
        reasons: &Reasons<Self::Action>,
    ) -> Option<Refused<Self::Refusal>>;

    /// Called after the commit, for metrics.
    fn committed(&self) {}
}

/// The decision of effect `E`.
pub type DecisionOf<E> = Decision<<E as Effect>::Outcome, <E as Effect>::Refusal, <E as Effect>::Action>;

/// What an effect decides.
#[derive(Debug)]
pub enum Decision<O, R, A> {
    /// Write these actions, and record the answer to `outcome`.
    Commit {
        /// The result if the transaction commits.
        outcome: O,
        actions: Actions<A>,
    },
    /// Write nothing: the effect has already happened, and its record has expired or is not
    /// replicated yet.
    Happened(O),
    Refuse(Refused<R>),
    /// The decision itself has changed rows: read again.
    ReadAgain,
}

/// A refusal, and whether a retry may succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused<R> {
    /// Final; recorded.
    ForGood(R),
    /// Temporary; not recorded.
    ForNow(R),
}

/// The names of a transaction's actions.
#[derive(Clone, PartialEq)]
enum ActionName<A> {
    Record,
    Effect(A),
}

/// The result of one try.
enum TryOutcome<R> {
    Committed,
    /// A record exists, with this answer.
    Recorded(Reply),
    Refused(Refused<R>),
    Again,
}

impl KeyedRequests {
    /// The answer to `request`. The first request with its key runs `effect` and maps the result by
    /// `answer`; later ones get the recorded answer.
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
                    telemetry::count(Metric::TransactionConflicts, 1);
                }
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        }
    }

    /// Sends the transaction until it commits, is refused, or conflicts at the record.
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
