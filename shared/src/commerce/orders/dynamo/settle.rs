//! Before an order may end unpaid: the provider voids its payment key.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use super::OrderWrites;
use crate::commerce::orders::Order;
use crate::commerce::payments::{PaymentKey, PaymentProvider, VoidOutcome, void};
use crate::coordination::idempotency::time_left;
use crate::core::deadline::Deadline;
use crate::platform::dynamo::{DynamoError, Transaction, transact};
use crate::platform::telemetry::{self, Metric};

/// Settles open payments.
#[derive(Debug, Clone)]
pub struct Settling<P> {
    client: Client,
    writes: OrderWrites,
    provider: P,
}

/// Whether an order may end unpaid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Footing {
    /// It may: nothing was charged, and nothing can be charged any more. Holds as long as the order is as it was read.
    Clear,
    /// Not as it was read: a payment turned out to be captured and the order was paid, or somebody else wrote it.
    Moved,
    /// Not now: a payment is under way.
    UnderWay {
        /// When its claim lapses.
        retry_after: Duration,
    },
    /// Nobody can tell: the provider does not answer.
    Unknown,
}

impl<P: PaymentProvider> Settling<P> {
    /// Settles with `provider`.
    pub fn new(client: Client, writes: OrderWrites, provider: P) -> Self {
        Self { client, writes, provider }
    }

    pub(super) fn writes(&self) -> &OrderWrites {
        &self.writes
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Makes sure that `order`, which was read as pending, is not charged and cannot be charged any more.
    ///
    /// The provider is asked even if the order shows no payment: a copy of the order may lack a claim that was made
    /// elsewhere, and the provider knows of every charge.
    pub(super) async fn settle(
        &self,
        order: &Order,
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Footing, DynamoError> {
        if let Some(payment) = order.payment.as_ref().filter(|payment| payment.claim_until > now) {
            return Ok(Footing::UnderWay { retry_after: time_left(payment.claim_until, now) });
        }
        match void(&self.provider, &PaymentKey::of(order), deadline).await {
            Ok(VoidOutcome::Voided) => Ok(Footing::Clear),
            Ok(VoidOutcome::AlreadyCaptured(payment_id)) => {
                let paid = self.writes.paid(order, &payment_id, now)?;
                if transact(&self.client, order.order_id.as_str(), paid).await? == Transaction::Committed {
                    telemetry::count_case(Metric::Payments, "settled", 1);
                }
                Ok(Footing::Moved)
            }
            Err(error) => {
                tracing::warn!(order_id = %order.order_id, %error, "payment could not be voided");
                Ok(Footing::Unknown)
            }
        }
    }
}
