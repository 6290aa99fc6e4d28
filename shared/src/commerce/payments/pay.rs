//! Claim, act, complete.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{
    Charge, ChargeOutcome, PaymentError, PaymentKey, PaymentProvider, PaymentToken, ProviderError, charge,
};
use crate::commerce::orders::{Order, OrderStatus, Refusal};
use crate::coordination::idempotency::{Claim, KeyedRequest, KeyedRequestError, Settlement, time_left};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::{OrderId, PaymentId};
use crate::core::problem::Problem;
use crate::core::reply::Reply;
use crate::core::retry::Backoff;
use crate::identity::principal::Credential;
use crate::platform::telemetry::{self, Metric};

/// Time kept back from the provider, to record how the charge ended before the invocation ends.
const COMPLETION_MARGIN: Duration = Duration::from_secs(1);

/// The right to record how a payment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentClaim {
    /// The idempotency record's part of it.
    pub claim: Claim,
    /// The order as it was claimed.
    pub order: Order,
}

/// What the first read found.
#[derive(Debug)]
pub enum Opened {
    /// The answer that was given before.
    Answered(Reply),
    /// No answer yet; this is the order, if there is one.
    Order(Option<Order>),
}

/// What came of a try to claim.
#[derive(Debug)]
pub enum Claiming {
    /// It is ours.
    Claimed(Box<PaymentClaim>),
    /// A duplicate was faster, and this is its answer.
    Answered(Reply),
    /// Record or order are not as they were read.
    Moved,
}

/// Record and order, read and written together.
pub trait PaymentStore: Send + Sync {
    /// Reads order, record and session.
    fn open(
        &self,
        caller: &Credential,
        request: &KeyedRequest,
        order_id: &OrderId,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Opened, KeyedRequestError>> + Send;

    /// Claims the payment of `order`, if order and record are as they were read.
    fn claim(
        &self,
        request: &KeyedRequest,
        order: &Order,
        now: Timestamp,
    ) -> impl Future<Output = Result<Claiming, KeyedRequestError>> + Send;

    /// Records a captured payment and its answer.
    fn complete(
        &self,
        claim: &PaymentClaim,
        payment_id: &PaymentId,
        reply: &Reply,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Settlement, KeyedRequestError>> + Send;

    /// Records a decline and its answer, and begins the order's next generation.
    fn decline(
        &self,
        claim: &PaymentClaim,
        reply: &Reply,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Settlement, KeyedRequestError>> + Send;

    /// Ends the claim of a payment whose key was voided, and begins the order's next generation.
    fn begin_anew(
        &self,
        claim: &PaymentClaim,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Settlement, KeyedRequestError>> + Send;

    /// Ends the claim without an outcome.
    fn let_go(
        &self,
        claim: &PaymentClaim,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Settlement, KeyedRequestError>> + Send;

    /// Records a final refusal that no claim was needed for. If a duplicate has recorded something, that is the answer.
    fn refuse(
        &self,
        request: &KeyedRequest,
        problem: Problem,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Reply, KeyedRequestError>> + Send;
}

/// Payments of orders.
#[derive(Debug, Clone)]
pub struct Payments<S, P> {
    store: S,
    provider: P,
    clock: SharedClock,
}

impl<S: PaymentStore, P: PaymentProvider> Payments<S, P> {
    /// Payments by `provider`, remembered in `store`.
    pub fn new(store: S, provider: P, clock: SharedClock) -> Self {
        Self { store, provider, clock }
    }

    /// Pays the caller's order: the module's protocol, steps 1 to 5.
    pub async fn pay(
        &self,
        caller: &Credential,
        request: &KeyedRequest,
        order_id: &OrderId,
        token: &PaymentToken,
        deadline: Deadline,
    ) -> Result<Reply, KeyedRequestError> {
        let mut backoff = Backoff::of_conflicts(deadline);
        loop {
            let order = match self.store.open(caller, request, order_id, deadline).await? {
                Opened::Answered(reply) => return Ok(reply),
                Opened::Order(order) => order.filter(|order| order.customer_id == *caller.user_id()),
            };
            let Some(order) = order else {
                let refusal = Refusal::NotFound(order_id.clone());
                return self.store.refuse(request, refusal.into(), deadline).await;
            };
            if order.status != OrderStatus::PendingPayment {
                return self.store.refuse(request, Refusal::State(order.status).into(), deadline).await;
            }
            let now = self.clock.now();
            if let Some(rival) = order.payment.as_ref().filter(|payment| payment.claim_until > now) {
                let retry_after = time_left(rival.claim_until, now);
                return refused(PaymentError::InProgress { retry_after });
            }
            match self.store.claim(request, &order, now).await? {
                Claiming::Answered(reply) => return Ok(reply),
                Claiming::Claimed(claim) => {
                    if let Some(reply) = self.act(&claim, token, deadline).await? {
                        return Ok(reply);
                    }
                    tracing::info!(%order_id, "overtaken or voided while paying");
                }
                Claiming::Moved => telemetry::count(Metric::TransactionConflicts, 1),
            }
            if !backoff.wait().await {
                return Err(KeyedRequestError::Contended);
            }
        }
    }

    /// Charges and records the outcome. `None`: a successor took over and knows better, or a cancellation has voided the
    /// payment.
    async fn act(
        &self,
        claim: &PaymentClaim,
        token: &PaymentToken,
        deadline: Deadline,
    ) -> Result<Option<Reply>, KeyedRequestError> {
        let order = &claim.order;
        let wanted =
            Charge { key: PaymentKey::of(order), token, amount: order.total, order_id: &order.order_id };
        match charge(&self.provider, &wanted, deadline.earlier_by(COMPLETION_MARGIN)).await {
            Ok(ChargeOutcome::Captured(payment_id)) => {
                let reply = captured(order, &payment_id);
                let settlement = self.store.complete(claim, &payment_id, &reply, deadline).await?;
                count("captured", settlement);
                Ok((settlement == Settlement::Recorded).then_some(reply))
            }
            Ok(ChargeOutcome::Declined { reason }) => {
                let problem = Problem::from(PaymentError::Declined { reason });
                let reply = problem.clone().into_reply();
                let settlement = self.store.decline(claim, &reply, deadline).await?;
                count("declined", settlement);
                match settlement {
                    Settlement::Recorded => Err(KeyedRequestError::Refused(problem)),
                    Settlement::Superseded => Ok(None),
                }
            }
            Ok(ChargeOutcome::Voided) => {
                count("voided", self.store.begin_anew(claim, deadline).await?);
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(order_id = %order.order_id, %error, "no outcome from the payment provider");
                let (case, answer) = match error {
                    ProviderError::Timeout(_) => ("unknown", PaymentError::OutcomeUnknown),
                    ProviderError::Unavailable(_) => ("unavailable", PaymentError::ProviderUnavailable),
                };
                count(case, self.store.let_go(claim, deadline).await?);
                refused(answer)
            }
        }
    }
}

fn captured(order: &Order, payment_id: &PaymentId) -> Reply {
    let body = json!({
        "paymentId": payment_id,
        "orderId": order.order_id,
        "status": "CAPTURED",
        "amount": order.total,
    });
    Reply::json(201, body)
}

fn refused<T>(error: PaymentError) -> Result<T, KeyedRequestError> {
    Err(KeyedRequestError::Refused(error.into()))
}

fn count(case: &str, settlement: Settlement) {
    if settlement == Settlement::Recorded {
        telemetry::count_case(Metric::Payments, case, 1);
    }
}
