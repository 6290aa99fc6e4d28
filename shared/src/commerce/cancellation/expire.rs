//! Cancellation of an unpaid order by the clean-up job.

use super::Cancellations;
use super::void::VoidDecision;
use crate::commerce::orders::dynamo::{OrderAction, SettleOutcome};
use crate::commerce::orders::{CancelReason, Order, OrderStatus};
use crate::commerce::payments::PaymentProvider;
use crate::core::deadline::Deadline;
use crate::core::ids::OrderId;
use crate::core::retry::Backoff;
use crate::platform::dynamo::{DynamoError, Guard, Transaction};
use crate::platform::telemetry::{self, Metric};

/// The result for an unpaid order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiration {
    /// This call cancelled it.
    Expired,
    /// Another region had cancelled it, or its id is another region's order. This call returned the
    /// units that this region had reserved.
    GivenBack,
    /// It had been cancelled already, or its id is another region's order, and this region has
    /// nothing reserved.
    AlreadyEnded,
    /// It is paid; possibly since this call, if a payment of unknown outcome turned out to be
    /// captured.
    Paid,
    /// A payment is in progress, or the provider does not answer. The next run tries again.
    PaymentUnsettled,
    /// There is no such order.
    Unknown,
    /// The lock's guard failed: the run was overtaken, and must stop.
    Fenced,
    /// Every try conflicted. Nothing was changed.
    Contended,
}

impl<P: PaymentProvider> Cancellations<P> {
    /// Cancels an order of `region` if it still awaits payment, on the condition that `guard`
    /// holds. If the region is this one, the same transaction returns its stock, and a reservation
    /// for an order that has ended otherwise is settled.
    pub async fn expire(
        &self,
        order_id: &OrderId,
        region: &str,
        guard: Option<&Guard>,
        deadline: Deadline,
    ) -> Result<Expiration, DynamoError> {
        let mut backoff = Backoff::of_conflicts(deadline);
        loop {
            // Boxed: a job runs many of these concurrently, and SDK calls are futures of many
            // kilobytes.
            if let Some(expiration) = Box::pin(self.try_to_expire(order_id, region, guard, deadline)).await? {
                return Ok(expiration);
            }
            telemetry::count(Metric::TransactionConflicts, 1);
            if !backoff.wait().await {
                return Ok(Expiration::Contended);
            }
        }
    }

    /// One try. `None`: the order has changed since it was read.
    async fn try_to_expire(
        &self,
        order_id: &OrderId,
        region: &str,
        guard: Option<&Guard>,
        deadline: Deadline,
    ) -> Result<Option<Expiration>, DynamoError> {
        let Some(order) = self.orders.get(order_id).await? else { return Ok(Some(Expiration::Unknown)) };
        if order.status != OrderStatus::PendingPayment || order.region != region {
            return self.settle(&order, deadline).await.map(Some);
        }
        let now = self.clock.now();
        if order.payment_in_progress(now).is_some() {
            return Ok(Some(Expiration::PaymentUnsettled));
        }
        let reason = match self.void(&order, CancelReason::Unpaid, now, deadline).await? {
            VoidDecision::Voided { reason } => reason,
            VoidDecision::OrderChanged => return Ok(None),
            VoidDecision::Unknown => return Ok(Some(Expiration::PaymentUnsettled)),
        };
        let (_, mut actions) = self.writes.cancelled(&order, reason, now)?;
        actions.extend(guard.map(|Guard(check)| (OrderAction::Guard, check.clone())));
        Ok(match actions.commit(&self.client, order_id.as_str()).await? {
            Transaction::Committed => {
                telemetry::count(Metric::OrdersExpired, 1);
                Some(Expiration::Expired)
            }
            Transaction::Cancelled(reasons) => {
                reasons.row_refusing(&OrderAction::Guard).map(|_| Expiration::Fenced)
            }
        })
    }

    /// Settles the reservation for an order that this region must not cancel.
    async fn settle(&self, order: &Order, deadline: Deadline) -> Result<Expiration, DynamoError> {
        match self.reservations.settle(order, deadline).await? {
            SettleOutcome::GivenBack => Ok(Expiration::GivenBack),
            SettleOutcome::Sold => {
                self.reservations.leave_index(&order.order_id).await?;
                Ok(Expiration::Paid)
            }
            SettleOutcome::Nothing | SettleOutcome::Kept | SettleOutcome::TakenAgain => {
                Ok(Expiration::AlreadyEnded)
            }
        }
    }
}
