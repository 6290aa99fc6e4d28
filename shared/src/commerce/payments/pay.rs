//! A payment: claim, act, complete.

mod claim;

use std::time::Duration;

use aws_sdk_dynamodb::Client;

use claim::{ClaimOutcome, PaymentClaim};

use super::{
    CapturedPayment, Charge, ChargeOutcome, PaymentKey, PaymentProvider, PaymentRefusal, PaymentToken,
    ProviderError, charge,
};
use crate::commerce::orders::dynamo::OrderWrites;
use crate::commerce::orders::{self, OrderStatus};
use crate::coordination::idempotency::dynamo::{FirstRead, KeyedRequests};
use crate::coordination::idempotency::{ClaimCompletion, KeyedRequest, KeyedRequestError};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::{OrderId, SharedIds};
use crate::core::reply::Reply;
use crate::core::retry::Backoff;
use crate::identity::principal::Credential;
use crate::platform::telemetry::{self, Metric};

/// Time reserved for recording the outcome of the charge before the invocation ends.
const COMPLETION_MARGIN: Duration = Duration::from_secs(1);

/// Payments of orders.
///
/// Calls `BatchGetItem` on orders, records and sessions, `PutItem` on records; in transactions
/// `UpdateItem` on orders, `PutItem` and `UpdateItem` on records, `PutItem` on outbox.
#[derive(Debug, Clone)]
pub struct Payments<P> {
    pub(super) client: Client,
    pub(super) requests: KeyedRequests,
    pub(super) orders: OrderWrites,
    provider: P,
    pub(super) clock: SharedClock,
    pub(super) ids: SharedIds,
}

pub(super) type PayError = KeyedRequestError<PaymentRefusal>;

impl<P: PaymentProvider> Payments<P> {
    /// Payments by `provider`, with idempotency by `requests`, on orders written by `orders`.
    pub fn new(
        client: Client,
        requests: KeyedRequests,
        orders: OrderWrites,
        provider: P,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Self {
        Self { client, requests, orders, provider, clock, ids }
    }

    /// Pays the caller's order: the module's protocol, steps 1 to 5. The record keeps the answer
    /// that `answer` gives to the outcome.
    pub async fn pay(
        &self,
        credential: &Credential,
        request: &KeyedRequest,
        order_id: &OrderId,
        token: &PaymentToken,
        answer: impl Fn(Result<&CapturedPayment, &PaymentRefusal>) -> Reply,
        deadline: Deadline,
    ) -> Result<Reply, PayError> {
        let mut backoff = Backoff::of_conflicts(deadline);
        loop {
            let keys = vec![self.orders.row(order_id)];
            let (caller, mut rows) = match self.requests.open(credential, request, keys, deadline).await? {
                FirstRead::Answered(reply) => return Ok(reply),
                FirstRead::New { caller, rows, stamp } => {
                    // Due at most once a minute; the order that was just placed has usually sent
                    // it.
                    stamp.send().await;
                    (caller, rows)
                }
            };
            let order = self.orders.order(&mut rows)?.filter(|order| order.customer_id == *caller.user_id());
            // Not final: an order of another region may not have been replicated yet.
            let order = order.ok_or_else(|| {
                KeyedRequestError::Refused(orders::OrderRefusal::NotFound(order_id.clone()).into())
            })?;
            let order = match order.status {
                OrderStatus::PendingPayment => order,
                status => {
                    let refusal = PaymentRefusal::Order(orders::OrderRefusal::State(status));
                    let reply = answer(Err(&refusal));
                    return self.requests.refuse(request, refusal, &reply, deadline).await;
                }
            };
            let now = self.clock.now();
            if let Some(retry_after) = order.payment_in_progress(now) {
                return Err(KeyedRequestError::Refused(PaymentRefusal::InProgress { retry_after }));
            }
            match self.claim(request, &order, now).await? {
                ClaimOutcome::Answered(reply) => return Ok(reply),
                ClaimOutcome::Claimed(claim) => {
                    if let Some(reply) = self.act(&claim, token, &answer, deadline).await? {
                        return Ok(reply);
                    }
                    tracing::info!(%order_id, "overtaken while paying");
                }
                ClaimOutcome::Changed => telemetry::count(Metric::TransactionConflicts, 1),
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        }
    }

    /// Charges and records the outcome. `None`: a successor took over.
    async fn act(
        &self,
        claim: &PaymentClaim,
        token: &PaymentToken,
        answer: &impl Fn(Result<&CapturedPayment, &PaymentRefusal>) -> Reply,
        deadline: Deadline,
    ) -> Result<Option<Reply>, PayError> {
        let order = &claim.order;
        let (key, order_id, amount) = (PaymentKey::of(order), &order.order_id, order.total);
        let wanted = Charge { key, token, amount, order_id };
        match charge(&self.provider, &wanted, deadline.earlier_by(COMPLETION_MARGIN)).await {
            Ok(ChargeOutcome::Captured(payment_id)) => {
                let payment = CapturedPayment { payment_id, order_id: order_id.clone(), amount };
                let reply = answer(Ok(&payment));
                let settlement = self.complete(claim, &payment.payment_id, &reply, deadline).await?;
                count("captured", settlement);
                Ok((settlement == ClaimCompletion::Recorded).then_some(reply))
            }
            Ok(ChargeOutcome::Declined { reason }) => {
                let refusal = PaymentRefusal::Declined { reason };
                let settlement = self.decline(claim, &answer(Err(&refusal)), deadline).await?;
                count("declined", settlement);
                refused(settlement, refusal)
            }
            Ok(ChargeOutcome::Voided { reason }) => {
                let refusal = PaymentRefusal::Order(orders::OrderRefusal::State(OrderStatus::Cancelled));
                let reply = answer(Err(&refusal));
                let settlement = self.cancel(claim, reason, &reply, deadline).await?;
                count("voided", settlement);
                refused(settlement, refusal)
            }
            Err(error) => {
                tracing::warn!(%order_id, %error, "no outcome from the payment provider");
                let (case, refusal) = match error {
                    ProviderError::Timeout(_) => ("unknown", PaymentRefusal::OutcomeUnknown),
                    ProviderError::Unavailable(_) => ("unavailable", PaymentRefusal::ProviderUnavailable),
                };
                count(case, self.release_claim(claim, deadline).await?);
                Err(KeyedRequestError::Refused(refusal))
            }
        }
    }
}

/// The answer to a refused payment, if the refusal was recorded.
fn refused(settlement: ClaimCompletion, refusal: PaymentRefusal) -> Result<Option<Reply>, PayError> {
    match settlement {
        ClaimCompletion::Recorded => Err(KeyedRequestError::Refused(refusal)),
        ClaimCompletion::Superseded => Ok(None),
    }
}

fn count(case: &str, settlement: ClaimCompletion) {
    if settlement == ClaimCompletion::Recorded {
        telemetry::count_case(Metric::Payments, case, 1);
    }
}
