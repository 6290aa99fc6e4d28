//! Before an order may end unpaid: the provider voids its payment key.

use std::time::Duration;

use jiff::Timestamp;

use super::Cancellations;
use crate::commerce::orders::Order;
use crate::commerce::payments::{PaymentKey, PaymentProvider, VoidOutcome, void};
use crate::coordination::idempotency::time_left;
use crate::core::deadline::Deadline;
use crate::platform::dynamo::{DynamoError, Transaction};
use crate::platform::telemetry::{self, Metric};

/// Most generations that one call voids. Each decline and each void that came to nothing is one. Customers give up much sooner.
const GENERATIONS_AHEAD: usize = 100;

/// Whether an order may end unpaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voiding {
    /// It may: nothing was charged, and nothing can be charged any more. Holds as long as the order is as it was read.
    Voided,
    /// The order is not as it was read: a payment turned out to be captured and the order was paid, or somebody else
    /// wrote it.
    OrderChanged,
    /// Not now: a payment is in progress.
    PaymentInProgress {
        /// When its claim lapses.
        retry_after: Duration,
    },
    /// Nobody can tell: the provider does not answer.
    Unknown,
}

impl<P: PaymentProvider> Cancellations<P> {
    /// Makes sure that `order`, which was read as pending, is not charged and cannot be charged any more.
    ///
    /// The provider is asked even if the order shows no payment: a copy of the order may lack a claim that was made
    /// elsewhere, and the provider knows of every charge. It is asked for later generations too, if the copy's one has ended.
    pub(super) async fn void(
        &self,
        order: &Order,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Voiding, DynamoError> {
        if let Some(payment) = order.payment.as_ref().filter(|payment| payment.claim_until > now) {
            return Ok(Voiding::PaymentInProgress { retry_after: time_left(payment.claim_until, now) });
        }
        let order_id = &order.order_id;
        let generations = order.payment_generation..;
        for generation in generations.take(GENERATIONS_AHEAD) {
            match void(&self.provider, &PaymentKey::of_generation(order_id, generation), deadline).await {
                Ok(VoidOutcome::Voided) => return Ok(Voiding::Voided),
                Ok(VoidOutcome::AlreadyEnded) => {}
                Ok(VoidOutcome::AlreadyCaptured(payment_id)) => {
                    let paid = self.writes.paid(order, &payment_id, now)?;
                    if paid.commit(&self.client, order_id.as_str()).await? == Transaction::Committed {
                        telemetry::count_case(Metric::Payments, "settled", 1);
                    }
                    return Ok(Voiding::OrderChanged);
                }
                Err(error) => {
                    tracing::warn!(%order_id, %error, "payment could not be voided");
                    return Ok(Voiding::Unknown);
                }
            }
        }
        tracing::error!(%order_id, "more generations of payments have ended than are looked at");
        Ok(Voiding::Unknown)
    }
}
