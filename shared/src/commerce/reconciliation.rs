//! Orders of two regions under one id, and orders that another region has ended: the units that this region has reserved for them come
//! back, once.
//!
//! 1. The stream of the region's own copy of the orders table tells that an order of this region was replaced by another region's, or
//!    has ended. Replicated writes are in the stream like local ones.
//! 2. Each order of the batch is read as it is now, and its reservation is settled ([`Reservations::settle`]). What the region's own
//!    transactions have settled already has nothing left to settle.
//! 3. A batch that is delivered again finds nothing left. What the stream never tells is settled by the clean-up job
//!    ([`cleanup`](crate::commerce::cancellation::cleanup)).
//!
//! A stack without other regions has nothing to reconcile: its event source is off.

use aws_sdk_dynamodb::Client;
use serde_dynamo::AttributeValue;

use super::orders::dynamo::{DynamoOrders, Reservations, Settled};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::OrderId;
use crate::platform::dynamo::DynamoError;
use crate::platform::stream::Change;
use crate::platform::tables;
use crate::platform::telemetry::chain;

/// Settles this region's reservations for orders that have changed. Calls `GetItem` on orders, and what [`Reservations`] calls.
#[derive(Debug, Clone)]
pub struct Reconciler {
    orders: DynamoOrders,
    reservations: Reservations,
}

impl Reconciler {
    /// In the tables that the environment names.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let orders = DynamoOrders::from_env(client.clone(), env)?;
        Ok(Self { orders, reservations: Reservations::from_env(client, env, clock)? })
    }

    /// Settles what a batch of changes is about. Gives the place of the first change that could not be settled.
    pub async fn hear(&self, changes: &[Change], deadline: Deadline) -> Option<String> {
        for change in changes {
            let Some(order_id) = order_of(change) else { continue };
            match self.settle(&order_id, deadline).await {
                Ok(Settled::GivenBack) => tracing::info!(%order_id, "the order's units were given back"),
                Ok(Settled::Sold | Settled::Kept | Settled::Nothing) => {}
                Err(error) => {
                    tracing::error!(%order_id, error = chain(&error), "a reservation could not be settled");
                    return Some(change.sequence_number.clone());
                }
            }
        }
        None
    }

    async fn settle(&self, order_id: &OrderId, deadline: Deadline) -> Result<Settled, DynamoError> {
        match self.orders.get(order_id).await? {
            Some(order) => self.reservations.settle(&order, deadline).await,
            None => Ok(Settled::Nothing),
        }
    }
}

/// The order that has changed. Counts and reservations are no orders.
fn order_of(change: &Change) -> Option<OrderId> {
    match change.keys.get(tables::ORDERS.key.hash)? {
        AttributeValue::S(id) => id.parse().ok(),
        _ => None,
    }
}
