//! Cancelling an order by its customer.

use jiff::Timestamp;

use super::settle::{Footing, Settling};
use super::{key, parse};
use crate::commerce::orders::{CancelReason, OrderStatus, Refusal};
use crate::commerce::payments::{PaymentError, PaymentProvider};
use crate::coordination::idempotency::dynamo::atomic::{Commit, Decision, Effect, Explanation};
use crate::core::deadline::Deadline;
use crate::core::ids::{OrderId, UserId};
use crate::core::reply::Reply;
use crate::platform::dynamo::{CancellationReason, DynamoError, RowKey, Rows};
use crate::platform::telemetry::{self, Metric};

/// The effect of `POST /orders/{orderId}/cancel`.
///
/// Reads `BatchGetItem` on orders. Writes `UpdateItem` on orders and stock, `PutItem` on outbox.
#[derive(Debug)]
pub struct CancelOrder<'a, P> {
    /// Settles what a payment left open.
    pub settling: &'a Settling<P>,
    /// Whose order it must be.
    pub customer_id: &'a UserId,
    /// Which.
    pub order_id: &'a OrderId,
    /// By when.
    pub deadline: Deadline,
}

impl<P: PaymentProvider> Effect for CancelOrder<'_, P> {
    type Decided = ();

    fn rows(&self) -> Vec<RowKey<'_>> {
        vec![RowKey { table: self.settling.writes().orders(), key: key(self.order_id) }]
    }

    async fn decide(&self, mut rows: Rows, now: Timestamp) -> Result<Decision, DynamoError> {
        let writes = self.settling.writes();
        let order = rows.take_one(writes.orders()).map(parse).transpose()?;
        let Some(order) = order.filter(|order| order.customer_id == *self.customer_id) else {
            return Ok(Decision::Refuse(Refusal::NotFound(self.order_id.clone()).into()));
        };
        if order.status != OrderStatus::PendingPayment {
            return Ok(Decision::Refuse(Refusal::State(order.status).into()));
        }
        match self.settling.settle(&order, now, self.deadline).await? {
            Footing::Clear => {}
            Footing::Moved => return Ok(Decision::ReadAgain),
            Footing::UnderWay { retry_after } => {
                return Ok(Decision::Defer(PaymentError::InProgress { retry_after }.into()));
            }
            Footing::Unknown => return Ok(Decision::Defer(PaymentError::ProviderUnavailable.into())),
        }
        let (cancelled, actions) = writes.cancelled(&order, CancelReason::Customer, now)?;
        let reply = Reply::json(200, cancelled.document());
        Ok(Decision::Commit(Commit { actions, reply, decided: () }))
    }

    /// The order has changed since it was read: look again.
    fn explain(&self, (): &(), _: &[CancellationReason]) -> Explanation {
        Explanation::ReadAgain
    }

    fn committed(&self) {
        telemetry::count(Metric::OrdersCancelled, 1);
    }
}
