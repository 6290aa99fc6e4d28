//! Cancellation of an order by its customer.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use super::Cancellations;
use super::void::VoidDecision;
use crate::commerce::orders::dynamo::OrderAction;
use crate::commerce::orders::{self, CancelReason, Order, OrderStatus};
use crate::commerce::payments::{PaymentProvider, PaymentRefusal};
use crate::coordination::idempotency::dynamo::atomic::{Decision, DecisionOf, Effect, Refused};
use crate::core::deadline::Deadline;
use crate::core::ids::{OrderId, UserId};
use crate::identity::principal::Principal;
use crate::platform::dynamo::{Actions, DynamoError, Reasons, RowKey, Rows};
use crate::platform::telemetry::{self, Metric};

/// The effect of `POST /orders/{orderId}/cancel`.
///
/// Reads `BatchGetItem` on orders. Writes `UpdateItem` on orders and stock, `PutItem` on outbox.
#[derive(Debug)]
pub struct CancelOrder<'a, P> {
    cancellations: &'a Cancellations<P>,
    order_id: &'a OrderId,
    deadline: Deadline,
    /// Whether this request has voided the order's payment. Then it counts as cancelled by this
    /// request, whoever writes that.
    has_voided: AtomicBool,
}

impl<'a, P> CancelOrder<'a, P> {
    /// Cancels an order of the caller, until the deadline.
    pub fn new(cancellations: &'a Cancellations<P>, order_id: &'a OrderId, deadline: Deadline) -> Self {
        Self { cancellations, order_id, deadline, has_voided: AtomicBool::new(false) }
    }
}

impl<P: PaymentProvider> Effect for CancelOrder<'_, P> {
    type Outcome = Order;
    type Refusal = PaymentRefusal;
    type Action = OrderAction;

    fn rows(&self, _: &UserId) -> Vec<RowKey<'_>> {
        vec![self.cancellations.writes.row(self.order_id)]
    }

    async fn decide(
        &self,
        caller: &Principal,
        mut rows: Rows,
        now: Timestamp,
    ) -> Result<DecisionOf<Self>, DynamoError> {
        let writes = &self.cancellations.writes;
        let for_good = |refusal: orders::OrderRefusal| Ok(Decision::Refuse(Refused::ForGood(refusal.into())));
        let for_now = |refusal| Ok(Decision::Refuse(Refused::ForNow(refusal)));
        let order = writes.order(&mut rows)?.filter(|order| order.customer_id == *caller.user_id());
        let Some(order) = order else {
            // An order of another region may not have been replicated yet.
            return for_now(orders::OrderRefusal::NotFound(self.order_id.clone()).into());
        };
        if order.status == OrderStatus::Cancelled && self.has_voided.load(Ordering::Relaxed) {
            return Ok(Decision::Commit { outcome: order, actions: Actions::from([]) });
        }
        if order.status != OrderStatus::PendingPayment {
            return for_good(orders::OrderRefusal::State(order.status));
        }
        // Once the key is voided no payment can be captured, so a claim of another request is
        // written over.
        if !self.has_voided.load(Ordering::Relaxed)
            && let Some(retry_after) = order.payment_in_progress(now)
        {
            return for_now(PaymentRefusal::InProgress { retry_after });
        }
        let voiding = self.cancellations.void(&order, CancelReason::Customer, now, self.deadline).await?;
        let reason = match voiding {
            VoidDecision::Voided { reason } => {
                self.has_voided.store(true, Ordering::Relaxed);
                reason
            }
            VoidDecision::OrderChanged => return Ok(Decision::ReadAgain),
            VoidDecision::Unknown => return for_now(PaymentRefusal::ProviderUnavailable),
        };
        let (cancelled, actions) = writes.cancelled(&order, reason, now)?;
        Ok(Decision::Commit { outcome: cancelled, actions })
    }

    /// The order has changed since it was read.
    fn explain(&self, _: &Order, _: &Reasons<OrderAction>) -> Option<Refused<PaymentRefusal>> {
        None
    }

    fn committed(&self) {
        telemetry::count(Metric::OrdersCancelled, 1);
    }
}
