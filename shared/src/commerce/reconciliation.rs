//! Reconciles orders that several regions write: their ends are restored, and this region's
//! reservations for them are settled once.
//!
//! The stream of the region's own copy of the orders table has every change, including replicated
//! ones. Four of them matter:
//!
//! 1. *An order that had ended awaits payment again.* Another region wrote the order without
//!    knowing its end, and the last writer won. The provider knows the end, which is written again.
//! 2. *An order has ended*, or *belongs to another region than before*: two regions placed it, and
//!    one of the two wins. This region's reservation for it is settled ([`Reservations::settle`]).
//! 3. *A payment of an order of this region has begun*, and its claim lapsed [`ABANDONED_AFTER`]
//!    ago, but nobody has recorded the outcome. Its process has died, perhaps with the region, or
//!    got no answer from the provider and told the customer to try again, who could not. If the
//!    provider has charged, the payment is recorded. A payment in progress is waited for. Later
//!    changes wait in the stream meanwhile; most are old enough when they are read. A process that
//!    charges even later is left to the clean-up job.
//!
//! Each order is read in its current state, so a batch that is delivered again finds nothing to do.
//! The clean-up job ([`cleanup`](crate::commerce::cancellation::cleanup)) settles what the stream
//! has missed.
//!
//! A single region has nothing to reconcile: its event source is off.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use serde_dynamo::{AttributeValue, Item};
use tokio::time::Instant;

use super::orders::dynamo::{DynamoOrders, OrderAction, OrderWrites, Reservations, SettleOutcome};
use super::orders::{CancelReason, Order, OrderStatus};
use super::payments::{OrderEnd, PROVIDER_TIMEOUT, PaymentProvider, ProviderError, end_order, find_captured};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::OrderId;
use crate::core::retry::Backoff;
use crate::platform::dynamo::{Actions, DynamoError, Transaction};
use crate::platform::stream::Change;
use crate::platform::tables;
use crate::platform::telemetry::{self, Metric, chain};

/// How long after the end of its claim a payment counts as abandoned. Until then the customer may
/// try again, and gets the answer to the payment.
pub const ABANDONED_AFTER: Duration = Duration::from_secs(2);

/// How often a payment in progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The time to ask the provider and to record its answer.
const TIME_TO_SETTLE: Duration = PROVIDER_TIMEOUT.saturating_add(Duration::from_secs(2));

/// Reconciles this region's orders and reservations with the writes of other regions.
///
/// Calls `GetItem` on orders; in transactions `UpdateItem` on orders, `PutItem` on outbox; and the
/// calls of [`Reservations`] and the provider.
#[derive(Debug, Clone)]
pub struct Reconciler<P> {
    client: Client,
    orders: DynamoOrders,
    writes: OrderWrites,
    reservations: Reservations,
    provider: P,
    clock: SharedClock,
}

/// Why an order could not be reconciled.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error(transparent)]
    Store(#[from] DynamoError),
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error("the payment of the order is in progress for longer than this invocation lasts")]
    PaymentInProgress,
}

impl<P: PaymentProvider> Reconciler<P> {
    /// In the tables that the environment names, with payments at `provider`.
    pub fn from_env(client: Client, env: &Env, provider: P, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self {
            orders: DynamoOrders::from_env(client.clone(), env)?,
            writes: OrderWrites::from_env(env)?,
            reservations: Reservations::from_env(client.clone(), env, clock.clone())?,
            client,
            provider,
            clock,
        })
    }

    /// Reconciles the orders of a batch of changes. Returns the position of the first change that
    /// failed.
    pub async fn process(&self, changes: &[Change], deadline: Deadline) -> Option<String> {
        for change in changes {
            let Some(order_id) = order_of(change) else { continue };
            match self.reconcile(&order_id, is_reopened(change), deadline).await {
                Ok(settled @ (SettleOutcome::GivenBack | SettleOutcome::TakenAgain)) => {
                    tracing::info!(%order_id, ?settled, "the order's reservation was settled");
                }
                Ok(SettleOutcome::Sold | SettleOutcome::Kept | SettleOutcome::Nothing) => {}
                Err(ReconcileError::PaymentInProgress) => {
                    tracing::info!(%order_id, "a payment is still in progress; the change comes again");
                    return Some(change.sequence_number.clone());
                }
                Err(error) => {
                    tracing::error!(%order_id, error = chain(&error), "an order could not be reconciled");
                    return Some(change.sequence_number.clone());
                }
            }
        }
        None
    }

    async fn reconcile(
        &self,
        order_id: &OrderId,
        is_reopened: bool,
        deadline: Deadline,
    ) -> Result<SettleOutcome, ReconcileError> {
        let Some(mut order) = self.orders.get(order_id).await? else { return Ok(SettleOutcome::Nothing) };
        if is_reopened {
            order = Box::pin(self.restore_end(order, deadline)).await?;
        }
        let settled = self.reservations.settle(&order, deadline).await?;
        Box::pin(self.settle_payment(order, deadline)).await?;
        Ok(settled)
    }

    /// Records a captured payment that nobody else has recorded. Waits as long as the
    /// process or the customer may still do so.
    async fn settle_payment(&self, order: Order, deadline: Deadline) -> Result<(), ReconcileError> {
        let Some(wait) = self.time_until_abandoned(&order) else { return Ok(()) };
        let is_unchanged =
            async || Ok::<_, DynamoError>(self.orders.get(&order.order_id).await?.as_ref() == Some(&order));
        let abandoned_at = Instant::now() + wait;
        while Instant::now() < abandoned_at {
            if deadline.remaining() < TIME_TO_SETTLE {
                return Err(ReconcileError::PaymentInProgress);
            }
            tokio::time::sleep_until(abandoned_at.min(Instant::now() + LOOK_EVERY)).await;
            if !is_unchanged().await? {
                return Ok(());
            }
        }
        let payment_id = match find_captured(&self.provider, &order, deadline).await {
            Ok(Some(payment_id)) => payment_id,
            Ok(None) => return Ok(()),
            // Other orders do not wait for the provider.
            Err(error) => {
                tracing::warn!(order_id = %order.order_id, %error, "the outcome of a payment is not known");
                return Ok(());
            }
        };
        let mut backoff = Backoff::of_conflicts(deadline);
        while is_unchanged().await? {
            let (now, target) = (self.clock.now(), order.order_id.as_str());
            let actions = self.writes.paid(&order, &payment_id, now)?;
            match actions.commit(&self.client, target).await? {
                Transaction::Committed => {
                    tracing::info!(order_id = target, "an abandoned payment was recorded");
                    telemetry::count_case(Metric::Payments, "settled", 1);
                    return Ok(());
                }
                // The order has changed, or had ended before: that is a change of its own.
                Transaction::Cancelled(reasons) if reasons.refused().next().is_some() => return Ok(()),
                Transaction::Cancelled(_) => {}
            }
            if !backoff.wait().await {
                return Err(DynamoError::contended("TransactWriteItems", target).into());
            }
        }
        Ok(())
    }

    /// How long the payment of an order of this region may still be recorded by its process or its
    /// customer. `None` if there is nothing to record.
    fn time_until_abandoned(&self, order: &Order) -> Option<Duration> {
        let is_ours = order.status == OrderStatus::PendingPayment && order.region == self.writes.region();
        let payment = order.payment.as_ref().filter(|_| is_ours)?;
        let abandoned_at = payment.claim_until.checked_add(ABANDONED_AFTER).unwrap_or(Timestamp::MAX);
        Some(Duration::try_from(abandoned_at.duration_since(self.clock.now())).unwrap_or_default())
    }

    /// Writes the end of an order that has ended at the provider. Returns the order with its end.
    async fn restore_end(&self, mut order: Order, deadline: Deadline) -> Result<Order, ReconcileError> {
        let mut backoff = Backoff::of_conflicts(deadline);
        while order.status == OrderStatus::PendingPayment {
            let now = self.clock.now();
            // The order has ended, so this voids nothing and returns the original reason.
            let write = match end_order(&self.provider, &order, CancelReason::Customer, deadline).await? {
                OrderEnd::Paid(payment_id) => self.writes.pay_order(&order, &payment_id, now)?,
                OrderEnd::Cancelled(reason) => self.writes.cancel_order(&order, reason, now)?,
            };
            let actions = Actions::from([(OrderAction::Order, write)]);
            let target = order.order_id.as_str();
            if actions.commit(&self.client, target).await? == Transaction::Committed {
                tracing::info!(order_id = target, "the end of the order was written again");
                telemetry::count_case(Metric::OrdersReconciled, "ended-again", 1);
            } else if !backoff.wait().await {
                return Err(DynamoError::contended("TransactWriteItems", target).into());
            }
            order = self.orders.get(&order.order_id).await?.unwrap_or(order);
        }
        Ok(order)
    }
}

/// The changed order. Counts and reservations are not orders.
fn order_of(change: &Change) -> Option<OrderId> {
    text(&change.keys, tables::ORDERS.key.hash)?.parse().ok()
}

/// Whether an order that had ended awaits payment again.
fn is_reopened(change: &Change) -> bool {
    let status =
        |image: &Option<Item>| image.as_ref().and_then(|image| text(image, "status")).map(str::to_owned);
    let pending = Some(OrderStatus::PendingPayment.as_str());
    let (old, new) = (status(&change.old_image), status(&change.new_image));
    old.is_some() && old.as_deref() != pending && new.as_deref() == pending
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    match item.get(name)? {
        AttributeValue::S(text) => Some(text),
        _ => None,
    }
}
