//! Cancellations: an unpaid order ends, because its customer cancels it or because it stays unpaid for too long.
//!
//! 1. The customer cancels it ([`CancelOrder`]), or the clean-up job does ([`cleanup`]).
//! 2. The provider voids the order's payment key first, whether or not the order shows a payment. If the
//!    provider has captured a payment, the order becomes paid instead. While a payment is in progress, nothing is cancelled.
//! 3. One transaction ends the order, takes it from the count of unpaid ones and gives the stock back, on the condition that
//!    the order is as it was read.

use aws_sdk_dynamodb::Client;

use crate::commerce::orders::dynamo::{DynamoOrders, OrderWrites};
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::SharedIds;

mod cancel;
pub mod cleanup;
mod expire;
mod void;

pub use cancel::CancelOrder;
pub use expire::Expiration;

/// Cancels orders.
///
/// Calls `Query` on the index `pending` of orders, `GetItem` and `UpdateItem` on orders; in transactions `UpdateItem` on orders
/// and stock, `PutItem` on outbox, and what the guard is.
#[derive(Debug, Clone)]
pub struct Cancellations<P> {
    client: Client,
    orders: DynamoOrders,
    writes: OrderWrites,
    provider: P,
    clock: SharedClock,
}

impl<P> Cancellations<P> {
    /// Cancellations in the tables that the environment names, with payments at `provider`.
    pub fn from_env(
        client: Client,
        env: &Env,
        provider: P,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Result<Self, ConfigError> {
        let orders = DynamoOrders::from_env(client.clone(), env)?;
        Ok(Self { client, orders, writes: OrderWrites::from_env(env, ids)?, provider, clock })
    }
}
