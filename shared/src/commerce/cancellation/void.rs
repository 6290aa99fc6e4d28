//! Voids the payment key of an order before the order ends unpaid.

use jiff::Timestamp;

use super::Cancellations;
use crate::commerce::orders::{CancelReason, Order};
use crate::commerce::payments::{OrderEnd, PaymentProvider, end_order};
use crate::core::deadline::Deadline;
use crate::platform::dynamo::{DynamoError, Transaction};
use crate::platform::telemetry::{self, Metric};

/// Whether an order may end unpaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VoidDecision {
    /// The provider has voided it: nothing was charged, and nothing can be charged any more.
    Voided {
        /// The reason of the first void.
        reason: CancelReason,
    },
    /// The order has changed: a payment turned out to be captured and the order was paid, or
    /// another write happened.
    OrderChanged,
    /// The provider does not answer.
    Unknown,
}

impl<P: PaymentProvider> Cancellations<P> {
    /// Makes sure that `order`, which was read as pending, is not charged and cannot be charged any
    /// more.
    ///
    /// The provider is asked even if the order shows no payment: a copy of the order may lack a
    /// claim that was made in another region, and the provider knows of every charge.
    pub(super) async fn void(
        &self,
        order: &Order,
        reason: CancelReason,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<VoidDecision, DynamoError> {
        let order_id = &order.order_id;
        match end_order(&self.provider, order, reason, deadline).await {
            Ok(OrderEnd::Cancelled(reason)) => Ok(VoidDecision::Voided { reason }),
            Ok(OrderEnd::Paid(payment_id)) => {
                let paid = self.writes.paid(order, &payment_id, now)?;
                if paid.commit(&self.client, order_id.as_str()).await? == Transaction::Committed {
                    telemetry::count_case(Metric::Payments, "settled", 1);
                }
                Ok(VoidDecision::OrderChanged)
            }
            Err(error) => {
                tracing::warn!(%order_id, %error, "the payment could not be voided");
                Ok(VoidDecision::Unknown)
            }
        }
    }
}
