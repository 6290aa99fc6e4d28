//! Orders: placed, paid or cancelled, and never sold twice.
//!
//! An order goes `PENDING_PAYMENT -> PAID` or `PENDING_PAYMENT -> CANCELLED`, and nowhere from there. Every write raises
//! its `version`; most writes are conditional on the version that was read, so none works on a picture that is out of
//! date.
//!
//! 1. *Place* ([`dynamo::PlaceOrder`]): the lines come from the client or from its cart, the prices from the catalogue.
//!    One transaction takes the stock (each line on the condition that enough is left), writes the order, the
//!    idempotency record and the event, counts the order among its customer's unpaid ones (on the condition that
//!    [`UnpaidLimits`] hold), and empties the cart (on the condition that it is as it was read).
//! 2. *Pay*: [`crate::commerce::payments`].
//! 3. *Cancel* ([`dynamo::CancelOrder`]) and *expire* ([`Expiry`], for orders that stay unpaid): one transaction ends
//!    the order and gives the stock back, so it comes back exactly once. Like a payment, it takes the order from the count
//!    of the unpaid ones.
//! 4. Before 3 ends an order, the provider voids its payment key, whether or not the order shows a payment. If the
//!    provider has captured a payment, the order becomes paid instead. While a payment is under way, 3 waits for it.
//!
//! Stock is taken from and given back to the rows of the region that placed the order.
//!
//! Limits: [`MAX_LINES`](crate::commerce::carts::MAX_LINES) lines, [`MAX_QUANTITY`](crate::commerce::carts::MAX_QUANTITY) units a line, one
//! currency an order.

use std::future::Future;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::commerce::carts::Quantity;
use crate::core::cursor::InvalidCursor;
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::deadline::Deadline;
use crate::core::ids::{AttemptId, OrderId, PaymentId, ProductId, UserId};
use crate::core::money::Money;
use crate::core::shards::ShardPage;
use crate::platform::dynamo::DynamoError;

pub mod cleanup;
pub mod dynamo;
mod lines;
mod shards;

pub use lines::{OrderRequest, UnfitOrder, price};
pub use shards::{DAY_SHARDS, DayShard, FAILED_SHARDS, PENDING_SHARDS, PendingShard};

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    /// Placed; its stock is taken.
    PendingPayment,
    /// A payment was captured.
    Paid,
    /// Ended without payment; its stock was given back.
    Cancelled,
}

impl OrderStatus {
    /// As it is stored and answered.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingPayment => "PENDING_PAYMENT",
            Self::Paid => "PAID",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// Some units of one product, at the price of the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    /// What.
    pub product_id: ProductId,
    /// How many.
    pub quantity: Quantity,
    /// For how much each.
    pub unit_price: Money,
}

/// A payment whose outcome is not known: under way, or its answer was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsettledPayment {
    /// Who claimed it last.
    pub attempt: AttemptId,
    /// Until when that attempt is at it; then another may take over.
    #[serde(with = "as_rfc3339")]
    pub claim_until: Timestamp,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Its id.
    pub order_id: OrderId,
    /// Whose it is.
    pub customer_id: UserId,
    /// Where it stands.
    pub status: OrderStatus,
    /// What was ordered; one line a product.
    pub lines: Vec<OrderLine>,
    /// The sum of the lines.
    pub total: Money,
    /// The region that placed it, from whose stock it was taken.
    pub region: String,
    /// When it was placed.
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
    /// When it was last written.
    #[serde(with = "as_rfc3339")]
    pub updated_at: Timestamp,
    /// How often it was written.
    pub version: u64,
    /// How many payments of it were declined. Each generation has one payment, with one key at the provider.
    pub payment_generation: u32,
    /// The present generation's payment, from its first claim until its outcome is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<UnsettledPayment>,
    /// The captured payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<PaymentId>,
    /// The units by which it counts towards [`UnpaidLimits`] until it is paid or cancelled; `None` if it was placed before
    /// there were limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_units: Option<u64>,
}

/// What one customer may have unpaid in a region at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpaidLimits {
    /// Orders that await payment.
    pub orders: u32,
    /// Units that those orders reserve.
    pub units: u64,
}

/// Another order would pass the customer's [`UnpaidLimits`]. 409. Not recorded under the request's key: it passes when an
/// order is paid, cancelled or expires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{orders} orders with {units} units await payment; a customer may have {} with {} at the same time", limits.orders, limits.units
)]
pub struct TooManyUnpaid {
    /// Orders of the customer that await payment.
    pub orders: u64,
    /// Units that they reserve.
    pub units: u64,
    /// The limits.
    pub limits: UnpaidLimits,
}

impl Order {
    /// The order as its customer sees it.
    pub fn document(&self) -> Value {
        json!({
            "orderId": self.order_id,
            "status": self.status,
            "customerId": self.customer_id,
            "lines": self.lines,
            "total": self.total,
            "region": self.region,
            "createdAt": rfc3339(self.created_at),
        })
    }

    /// What events tell of the order.
    pub fn summary(&self) -> Value {
        json!({
            "orderId": self.order_id,
            "status": self.status,
            "customerId": self.customer_id,
            "total": self.total,
        })
    }
}

/// An order in its customer's list: what the index `byCustomer` has of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedOrder {
    /// Its id.
    pub order_id: OrderId,
    /// Where it stands.
    pub status: OrderStatus,
    /// Whose it is.
    pub customer_id: UserId,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
    /// The sum of the lines.
    pub total: Money,
    /// The region that placed it.
    pub region: String,
    /// When it was placed.
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
}

/// Why an order was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// Its customer wanted so.
    Customer,
    /// It stayed unpaid.
    Unpaid,
}

/// A final refusal of something about an order. Recorded under the request's key and given again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such order, or somebody else's. 404.
    #[error("there is no order {0}")]
    NotFound(OrderId),
    /// There is nothing in the cart. 422.
    #[error("the cart is empty")]
    EmptyCart,
    /// These products have no price. 422.
    #[error("there is no product {}", .0.iter().map(ProductId::as_str).collect::<Vec<_>>().join(", "))]
    UnknownProducts(Vec<ProductId>),
    /// The lines have no total. 422.
    #[error("the lines have no total: {0}")]
    NoTotal(crate::core::money::MoneyError),
    /// Of these products fewer units are left than were ordered. 409.
    #[error("too few units are left of {}", .0.iter().map(ProductId::as_str).collect::<Vec<_>>().join(", "))]
    OutOfStock(Vec<ProductId>),
    /// The order has ended otherwise. 409.
    #[error("the order is {}", .0.as_str())]
    State(OrderStatus),
}

/// Why there is no page of orders.
#[derive(Debug, thiserror::Error)]
pub enum OrderQueryError {
    /// The cursor is of no page of this list. 400.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The store failed. 503 when it will pass, else 500.
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// What became of an unpaid order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiration {
    /// It was cancelled just now, by this call.
    Expired,
    /// It had been cancelled already.
    AlreadyCancelled,
    /// It is paid; perhaps since just now, when a payment of unknown outcome turned out to be captured.
    Paid,
    /// A payment is under way, or the provider does not tell. Try again at the next run.
    PaymentUnsettled,
    /// There is no such order.
    Unknown,
    /// The caller's guard refused: it was overtaken, and must stop.
    Fenced,
    /// Others were at the same rows with every try. Nothing was changed.
    Contended,
}

/// An order in a shard of those that await payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingOrder {
    /// The order.
    pub order_id: OrderId,
    /// When it was placed.
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
}

/// Cancels orders that stay unpaid: what the clean-up job may do.
pub trait Expiry: Send + Sync {
    /// A store that did not answer.
    type Error: std::error::Error + Send + Sync + 'static;
    /// A condition of the caller's, checked in the same transaction.
    type Guard: Clone + Send + Sync;

    /// A page of this region's orders in `shard` that were placed before `placed_before` and await payment. Eventually
    /// consistent: an order may have been paid since; [`Expiry::expire`] looks again.
    fn pending(
        &self,
        shard: PendingShard,
        placed_before: Timestamp,
        after: Option<PendingOrder>,
    ) -> impl Future<Output = Result<ShardPage<PendingOrder>, Self::Error>> + Send;

    /// Moves an order that could not be cancelled to another shard, if it still awaits payment.
    fn put_behind(
        &self,
        order_id: &OrderId,
        shard: PendingShard,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Cancels one order if it still awaits payment, and gives its stock back, both or neither, on the condition that
    /// `guard` holds.
    fn expire(
        &self,
        order_id: &OrderId,
        guard: Option<Self::Guard>,
        deadline: Deadline,
    ) -> impl Future<Output = Result<Expiration, Self::Error>> + Send;
}
