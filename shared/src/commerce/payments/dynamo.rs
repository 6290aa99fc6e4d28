//! Payments on the tables of orders and idempotency records.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;

use super::CLAIM_LIFETIME;
use super::pay::{Claiming, Opened, PaymentClaim, PaymentStore};
use crate::commerce::orders::dynamo::{OrderWrites, key, parse};
use crate::commerce::orders::{Order, UnsettledPayment};
use crate::coordination::idempotency::dynamo::{self as records, KeyedRequests, Opening};
use crate::coordination::idempotency::{Claim, KeyedRequest, KeyedRequestError, Settlement};
use crate::core::clock::SharedClock;
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::ids::{OrderId, PaymentId, SharedIds};
use crate::core::problem::Problem;
use crate::core::reply::Reply;
use crate::core::retry::Backoff;
use crate::identity::principal::Credential;
use crate::platform::dynamo::CancellationReason::ConditionFailed;
use crate::platform::dynamo::{
    AttributeValue, Change, DynamoError, Item, RowKey, Transaction, number, text, transact,
};
use crate::platform::telemetry::{self, Metric};

/// Claims the payment. As it was read, the order awaits payment and no claim on it is live; and its generation, from
/// which the payment key is made, is still the same.
const CLAIM: Change = Change {
    update: "SET payment = :payment, updatedAt = :now, version = version + :one",
    condition: Some("version = :seen"),
    names: &[],
};

/// Ends the generation: it was declined for good, or voided. As it was claimed, the order has no other attempt's claim.
const END_GENERATION: Change = Change {
    update: "SET paymentGeneration = paymentGeneration + :one, updatedAt = :now, version = version + :one \
             REMOVE payment",
    condition: Some("version = :seen"),
    names: &[],
};

/// Lets the claim lapse, and leaves the payment unsettled: an earlier attempt's charge may still be on its way, even
/// when this one's came to nothing. As it was claimed, the order has no other attempt's claim.
const LET_GO: Change = Change {
    update: "SET payment.claimUntil = :now, updatedAt = :now, version = version + :one",
    condition: Some("version = :seen"),
    names: &[],
};

/// Payments in DynamoDB.
///
/// Calls `BatchGetItem` on orders, records and sessions, `PutItem` on records; in transactions `UpdateItem` on orders,
/// `PutItem` and `UpdateItem` on records, `PutItem` on outbox.
#[derive(Debug, Clone)]
pub struct DynamoPayments {
    client: Client,
    requests: KeyedRequests,
    writes: OrderWrites,
    clock: SharedClock,
    ids: SharedIds,
}

impl DynamoPayments {
    /// Payments of requests that `requests` knows, on orders that `writes` writes.
    pub fn new(
        client: Client,
        requests: KeyedRequests,
        writes: OrderWrites,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Self {
        Self { client, requests, writes, clock, ids }
    }

    async fn transact(
        &self,
        request: &KeyedRequest,
        actions: Vec<TransactWriteItem>,
    ) -> Result<Transaction, KeyedRequestError> {
        Ok(transact(&self.client, &request.scope.record_key(), actions).await?)
    }

    /// Runs the transaction that ends a claim. A failed condition is a successor's. Conflicts are waited out for as long
    /// as the claim lasts, not for a few tries only: the provider has charged perhaps, and nobody else records it sooner.
    async fn settle(
        &self,
        claim: &PaymentClaim,
        actions: Vec<TransactWriteItem>,
        deadline: Deadline,
    ) -> Result<Settlement, KeyedRequestError> {
        let mut backoff = Backoff::within(deadline.min(Deadline::after(CLAIM_LIFETIME)));
        loop {
            match self.transact(&claim.claim.request, actions.clone()).await? {
                Transaction::Committed => return Ok(Settlement::Recorded),
                Transaction::Cancelled(reasons)
                    if reasons.iter().any(|reason| matches!(reason, ConditionFailed(_))) =>
                {
                    return Ok(Settlement::Superseded);
                }
                Transaction::Cancelled(_) => telemetry::count(Metric::TransactionConflicts, 1),
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        }
    }

    /// Ends an attempt that charged nothing: its record lapses, so that the key is free, and the order is changed with it.
    async fn end_attempt(
        &self,
        claim: &PaymentClaim,
        change: &Change,
        deadline: Deadline,
    ) -> Result<Settlement, KeyedRequestError> {
        let now = self.clock.now();
        let actions = vec![
            records::lapse(self.requests.records(), &claim.claim, now)?,
            self.change(change, &claim.order, now)?,
        ];
        self.settle(claim, actions, deadline).await
    }

    fn change(
        &self,
        change: &Change,
        order: &Order,
        now: Timestamp,
    ) -> Result<TransactWriteItem, DynamoError> {
        change.action(self.writes.orders(), key(&order.order_id), seen(order, now))
    }
}

fn seen(order: &Order, now: Timestamp) -> [(&'static str, AttributeValue); 3] {
    [(":now", text(rfc3339(now))), (":one", number(1)), (":seen", number(order.version))]
}

impl PaymentStore for DynamoPayments {
    async fn open(
        &self,
        caller: &Credential,
        request: &KeyedRequest,
        order_id: &OrderId,
        deadline: Deadline,
    ) -> Result<Opened, KeyedRequestError> {
        let order = RowKey { table: self.writes.orders(), key: key(order_id) };
        match self.requests.open(caller, request, vec![order], deadline).await? {
            Opening::Answered(reply) => Ok(Opened::Answered(reply)),
            Opening::New(mut rows, stamp) => {
                // Due at most once a minute, and an order of a moment ago has sent it.
                stamp.send().await;
                Ok(Opened::Order(rows.take_one(self.writes.orders()).map(parse).transpose()?))
            }
        }
    }

    async fn claim(
        &self,
        request: &KeyedRequest,
        order: &Order,
        now: Timestamp,
    ) -> Result<Claiming, KeyedRequestError> {
        let until = now.checked_add(CLAIM_LIFETIME).unwrap_or(Timestamp::MAX);
        let claim = Claim { request: request.clone(), attempt: self.ids.next(), until };
        let payment = UnsettledPayment { attempt: claim.attempt.clone(), claim_until: until };
        let [at, one, version] = seen(order, now);
        let stored = serde_dynamo::to_attribute_value(&payment)
            .map_err(|error| DynamoError::unreadable("write", order.order_id.as_str(), error))?;
        let actions = vec![
            records::put_claimed(self.requests.records(), &claim, now)?,
            CLAIM.action(
                self.writes.orders(),
                key(&order.order_id),
                [at, one, version, (":payment", stored)],
            )?,
        ];
        let reasons = match self.transact(request, actions).await? {
            Transaction::Committed => {
                let order = Order {
                    payment: Some(payment),
                    updated_at: now,
                    version: order.version + 1,
                    ..order.clone()
                };
                return Ok(Claiming::Claimed(Box::new(PaymentClaim { claim, order })));
            }
            Transaction::Cancelled(reasons) => reasons,
        };
        if let Some(ConditionFailed(record)) = reasons.first() {
            let record: Item = record.clone();
            let answer = self.requests.admitted(Some(records::parse(record)?), request)?;
            return Ok(answer.map_or(Claiming::Moved, Claiming::Answered));
        }
        Ok(Claiming::Moved)
    }

    async fn complete(
        &self,
        claim: &PaymentClaim,
        payment_id: &PaymentId,
        reply: &Reply,
        deadline: Deadline,
    ) -> Result<Settlement, KeyedRequestError> {
        let now = self.clock.now();
        let mut actions = vec![records::put_completed(self.requests.records(), &claim.claim, reply, now)?];
        actions.extend(self.writes.paid(&claim.order, payment_id, now)?);
        self.settle(claim, actions, deadline).await
    }

    async fn decline(
        &self,
        claim: &PaymentClaim,
        reply: &Reply,
        deadline: Deadline,
    ) -> Result<Settlement, KeyedRequestError> {
        let now = self.clock.now();
        let actions = vec![
            records::put_completed(self.requests.records(), &claim.claim, reply, now)?,
            self.change(&END_GENERATION, &claim.order, now)?,
        ];
        self.settle(claim, actions, deadline).await
    }

    async fn begin_anew(
        &self,
        claim: &PaymentClaim,
        deadline: Deadline,
    ) -> Result<Settlement, KeyedRequestError> {
        self.end_attempt(claim, &END_GENERATION, deadline).await
    }

    async fn let_go(
        &self,
        claim: &PaymentClaim,
        deadline: Deadline,
    ) -> Result<Settlement, KeyedRequestError> {
        self.end_attempt(claim, &LET_GO, deadline).await
    }

    async fn refuse(
        &self,
        request: &KeyedRequest,
        problem: Problem,
        deadline: Deadline,
    ) -> Result<Reply, KeyedRequestError> {
        self.requests.refuse(request, problem, deadline).await
    }
}
