//! A payment's claim: order and idempotency record, written together.

use jiff::Timestamp;

use super::{PayError, Payments};
use crate::commerce::orders::dynamo::OrderAction;
use crate::commerce::orders::{CancelReason, Order, UnsettledPayment};
use crate::commerce::payments::{CLAIM_LIFETIME, PaymentProvider};
use crate::coordination::idempotency::dynamo as records;
use crate::coordination::idempotency::{Claim, ClaimCompletion, KeyedRequest, KeyedRequestError};
use crate::core::deadline::Deadline;
use crate::core::ids::PaymentId;
use crate::core::reply::Reply;
use crate::core::retry::Backoff;
use crate::platform::dynamo::{Actions, Transaction};
use crate::platform::telemetry::{self, Metric};

/// The right to record the outcome of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PaymentClaim {
    /// The claim of the idempotency record.
    claim: Claim,
    pub(super) order: Order,
}

/// The result of claiming.
#[derive(Debug)]
pub(super) enum ClaimOutcome {
    /// This attempt has the claim.
    Claimed(Box<PaymentClaim>),
    /// A duplicate was faster, and this is its answer.
    Answered(Reply),
    /// Record or order have changed since they were read.
    Changed,
}

impl<P: PaymentProvider> Payments<P> {
    /// Claims the payment of `order`, if order and record have not changed.
    pub(super) async fn claim(
        &self,
        request: &KeyedRequest,
        order: &Order,
        now: Timestamp,
    ) -> Result<ClaimOutcome, PayError> {
        let until = now.checked_add(CLAIM_LIFETIME).unwrap_or(Timestamp::MAX);
        let claim = Claim { request: request.clone(), attempt: self.ids.next(), until };
        let payment = UnsettledPayment { attempt: claim.attempt.clone(), claim_until: until };
        let (order, of_order) = self.orders.claimed(order, payment, now)?;
        let record = records::put_claimed(self.requests.records(), &claim, now)?;
        let actions = Actions::from([(OrderAction::Record, record), (OrderAction::Order, of_order)]);
        match actions.commit(&self.client, &request.scope.record_key()).await? {
            Transaction::Committed => Ok(ClaimOutcome::Claimed(Box::new(PaymentClaim { claim, order }))),
            Transaction::Cancelled(reasons) => match reasons.row_refusing(&OrderAction::Record) {
                Some(record) => {
                    let record = records::parse(record.clone())?;
                    let answer = self.requests.admitted(Some(record), request)?;
                    Ok(answer.map_or(ClaimOutcome::Changed, ClaimOutcome::Answered))
                }
                None => Ok(ClaimOutcome::Changed),
            },
        }
    }

    /// Records a captured payment and its answer.
    pub(super) async fn complete(
        &self,
        claim: &PaymentClaim,
        payment_id: &PaymentId,
        reply: &Reply,
        deadline: Deadline,
    ) -> Result<ClaimCompletion, PayError> {
        let now = self.clock.now();
        let mut actions = self.orders.paid(&claim.order, payment_id, now)?;
        let record = records::put_completed(self.requests.records(), &claim.claim, reply, now)?;
        actions.extend([(OrderAction::Record, record)]);
        self.settle(claim, actions, deadline).await
    }

    /// Records a decline and its answer, and starts the order's next generation.
    pub(super) async fn decline(
        &self,
        claim: &PaymentClaim,
        reply: &Reply,
        deadline: Deadline,
    ) -> Result<ClaimCompletion, PayError> {
        let now = self.clock.now();
        let record = records::put_completed(self.requests.records(), &claim.claim, reply, now)?;
        let order = self.orders.next_generation(&claim.order, now)?;
        let actions = Actions::from([(OrderAction::Record, record), (OrderAction::Order, order)]);
        self.settle(claim, actions, deadline).await
    }

    /// Records that the payment's key was voided, which cancels the order, and the answer to that.
    pub(super) async fn cancel(
        &self,
        claim: &PaymentClaim,
        reason: CancelReason,
        reply: &Reply,
        deadline: Deadline,
    ) -> Result<ClaimCompletion, PayError> {
        let now = self.clock.now();
        let (_, mut actions) = self.orders.cancelled(&claim.order, reason, now)?;
        let record = records::put_completed(self.requests.records(), &claim.claim, reply, now)?;
        actions.extend([(OrderAction::Record, record)]);
        self.settle(claim, actions, deadline).await
    }

    /// Ends the claim without an outcome, in the record and in the order, so that the key can be
    /// used again.
    pub(super) async fn release_claim(
        &self,
        claim: &PaymentClaim,
        deadline: Deadline,
    ) -> Result<ClaimCompletion, PayError> {
        let now = self.clock.now();
        let order = self.orders.release_claim(&claim.order, now)?;
        let record = records::lapse(self.requests.records(), &claim.claim, now)?;
        let actions = Actions::from([(OrderAction::Record, record), (OrderAction::Order, order)]);
        self.settle(claim, actions, deadline).await
    }

    /// Runs the transaction that ends a claim. A failed condition means that a successor took over.
    /// Conflicts are retried for as long as the claim lasts: the provider may have charged, and
    /// nobody else records it sooner.
    async fn settle(
        &self,
        claim: &PaymentClaim,
        actions: Actions<OrderAction>,
        deadline: Deadline,
    ) -> Result<ClaimCompletion, PayError> {
        let target = claim.claim.request.scope.record_key();
        let mut backoff = Backoff::within(deadline.min(Deadline::after(CLAIM_LIFETIME)));
        loop {
            match actions.commit(&self.client, &target).await? {
                Transaction::Committed => return Ok(ClaimCompletion::Recorded),
                Transaction::Cancelled(reasons) if reasons.refused().next().is_some() => {
                    return Ok(ClaimCompletion::Superseded);
                }
                Transaction::Cancelled(_) => telemetry::count(Metric::TransactionConflicts, 1),
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        }
    }
}
