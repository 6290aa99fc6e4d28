//! Cancellations: an unpaid order is cancelled by its customer, or because it stays unpaid for too
//! long.
//!
//! 1. The customer cancels it ([`CancelOrder`]), or the clean-up job does ([`cleanup`]).
//! 2. First the provider voids the order's payment key, whether or not the order shows a payment.
//!    That is the decision: from then on the order is cancelled. If the provider has captured a
//!    payment, the order becomes paid instead. A cancellation that finds a payment in
//!    progress is refused. A payment that begins after the void captures nothing, and the
//!    cancellation writes over its claim.
//! 3. One transaction ends the order, removes it from the count of unpaid ones and returns the
//!    stock, on the condition that the order and its reservation have not changed since they were
//!    read.
//! 4. A region that cancels another region's order writes the order and its event only. The other
//!    region returns its units ([`Reservations::settle`]).

use aws_sdk_dynamodb::Client;

use crate::commerce::orders::dynamo::{DynamoOrders, OrderWrites, Reservations};
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};

mod cancel;
pub mod cleanup;
mod expire;
mod void;

pub use cancel::CancelOrder;
pub use expire::Expiration;

/// Cancels orders.
///
/// Calls `Query` on the index `pending` of orders, `GetItem` and `UpdateItem` on orders; in
/// transactions `UpdateItem` and `DeleteItem` on orders, `UpdateItem` on stock, `PutItem` on
/// outbox, and the guard.
#[derive(Debug, Clone)]
pub struct Cancellations<P> {
    client: Client,
    orders: DynamoOrders,
    writes: OrderWrites,
    reservations: Reservations,
    provider: P,
    clock: SharedClock,
}

impl<P> Cancellations<P> {
    /// Cancellations in the tables that the environment names, with payments at `provider`.
    pub fn from_env(client: Client, env: &Env, provider: P, clock: SharedClock) -> Result<Self, ConfigError> {
        let orders = DynamoOrders::from_env(client.clone(), env)?;
        let reservations = Reservations::from_env(client.clone(), env, clock.clone())?;
        Ok(Self { client, orders, writes: OrderWrites::from_env(env)?, reservations, provider, clock })
    }
}
