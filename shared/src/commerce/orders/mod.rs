//! Orders: placed, paid or cancelled, and never sold twice.
//!
//! An order goes `PENDING_PAYMENT -> PAID` or `PENDING_PAYMENT -> CANCELLED`, and no further. Every
//! write raises its `version`; most writes are conditional on the version that was read.
//!
//! 1. *Place* ([`dynamo::PlaceOrder`]): the lines come from the client or from the cart, the prices
//!    from the catalogue. One transaction takes the stock (each line on the condition that enough
//!    is left), writes the order, the idempotency record and the event, counts the order among its
//!    customer's unpaid ones (on the condition that [`UnpaidLimits`] hold), and empties the cart
//!    (on the condition that the region's row has not changed).
//! 2. *Pay* (`commerce::payments`) and *cancel* (`commerce::cancellation`): each is one transaction
//!    on the order, its event, and the count of unpaid orders. A cancellation also returns the
//!    stock, exactly once.
//!
//! This module owns the orders table: no other module names its attributes.
//! [`dynamo::DynamoOrders`] has all reads, [`dynamo::OrderWrites`] all writes, as actions for the
//! transactions of payments and cancellations.
//!
//! # Regions
//! 1. The id of an order is derived from the request ([`order_id_of`]), and the ids of its events
//!    from the order. So a retry in another region, before the order has been replicated, makes the
//!    same order there, and consumers see one event.
//! 2. If two orders have one id, the last write wins. Its `region` says from whose stock it was
//!    taken.
//! 3. A region writes stock, counts and reservations only of orders whose `region` it is. By its
//!    [reservation](dynamo::Reservations), each region returns what it took for an order that lost
//!    or that another region ended.
//!
//! Limits: [`MAX_LINES`](crate::commerce::carts::MAX_LINES) lines,
//! [`MAX_QUANTITY`](crate::commerce::carts::MAX_QUANTITY) units a line, one currency an order.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::commerce::carts::{InvalidLines, Quantity};
use crate::coordination::idempotency::{KeyedRequest, time_left};
use crate::core::cursor::InvalidCursor;
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::ids::{self, AttemptId, EventId, OrderId, PaymentId, ProductId, UserId};
use crate::core::money::Money;
use crate::platform::dynamo::DynamoError;
use crate::platform::outbox::EventType;

pub mod dynamo;
mod lines;
mod shards;
pub mod summary;

pub use lines::{InvalidOrder, OrderRequest, price};
pub use shards::{DAY_SHARDS, DayShard, FAILED_SHARDS, PENDING_SHARDS, PendingShard};

/// The id of the order of `request`: the same in every region.
pub fn order_id_of(request: &KeyedRequest) -> OrderId {
    ids::derived("order", &[&request.scope.record_key(), &request.fingerprint.to_text()])
}

/// The id of an order's event: an order has one event of a type at most.
fn event_id_of(order_id: &OrderId, kind: EventType) -> EventId {
    ids::derived("event", &[order_id.as_str(), kind.as_str()])
}

/// An order's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    /// Placed; its stock is taken.
    PendingPayment,
    /// A payment was captured.
    Paid,
    /// Ended without payment; its stock was returned.
    Cancelled,
}

impl OrderStatus {
    /// The stored and answered form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingPayment => "PENDING_PAYMENT",
            Self::Paid => "PAID",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// A quantity of one product, at the price of the time of the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    pub product_id: ProductId,
    pub quantity: Quantity,
    pub unit_price: Money,
}

/// A payment whose outcome is unknown: it is in progress, or its answer was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsettledPayment {
    /// The attempt that claimed it last.
    pub attempt: AttemptId,
    /// When that attempt's claim lapses; then another may take over.
    #[serde(with = "as_rfc3339")]
    pub claim_until: Timestamp,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    pub order_id: OrderId,
    pub customer_id: UserId,
    pub status: OrderStatus,
    /// One line for each product.
    pub lines: Vec<OrderLine>,
    pub total: Money,
    /// The region that placed it, from whose stock it was taken.
    pub region: String,
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
    #[serde(with = "as_rfc3339")]
    pub updated_at: Timestamp,
    /// The number of its writes.
    pub version: u64,
    /// The number of declined payments. Each generation has one payment, with its own key at the
    /// provider.
    pub payment_generation: u32,
    /// The current generation's payment, from its first claim until its outcome is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<UnsettledPayment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_id: Option<PaymentId>,
    /// The units that count towards [`UnpaidLimits`] until it is paid or cancelled.
    pub reserved_units: u64,
}

/// The limits of one customer's unpaid orders in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpaidLimits {
    /// Orders that await payment.
    pub orders: u32,
    /// Units that they reserve.
    pub units: u64,
}

/// Another order would exceed the customer's [`UnpaidLimits`], until an order is paid, cancelled or
/// expires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{orders} orders with {units} units are unpaid; the limit is {} orders with {} units", limits.orders, limits.units
)]
pub struct TooManyUnpaid {
    /// Orders of the customer that await payment.
    pub orders: u64,
    /// Units that they reserve.
    pub units: u64,
    pub limits: UnpaidLimits,
}

impl Order {
    /// How long the claim of a payment in progress still holds. None if no payment is in progress.
    pub fn payment_in_progress(&self, now: Timestamp) -> Option<Duration> {
        let payment = self.payment.as_ref().filter(|payment| payment.claim_until > now)?;
        Some(time_left(payment.claim_until, now))
    }

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

    /// The order's data in events.
    pub fn summary(&self) -> Value {
        json!({
            "orderId": self.order_id,
            "status": self.status,
            "customerId": self.customer_id,
            "total": self.total,
        })
    }
}

/// An order in its customer's list: the attributes in the index `byCustomer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedOrder {
    pub order_id: OrderId,
    pub status: OrderStatus,
    pub customer_id: UserId,
    pub lines: Vec<OrderLine>,
    pub total: Money,
    /// The region that placed it.
    pub region: String,
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
}

/// A position in a customer's orders, after this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCursor {
    pub order_id: OrderId,
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
}

/// A page of an index, with positions of type `C`.
#[derive(Debug)]
pub struct OrdersPage<O, C> {
    /// The orders that are readable, and errors for the others.
    pub orders: Vec<Result<O, UnreadableOrder>>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<C>,
}

/// An order that is unreadable, however often it is read.
#[derive(Debug, thiserror::Error)]
#[error("the order {order_id} cannot be read")]
pub struct UnreadableOrder {
    pub order_id: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why an order was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CancelReason {
    Customer,
    Unpaid,
}

impl CancelReason {
    /// The form in rows and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Unpaid => "unpaid",
        }
    }
}

/// An order of a day: the attributes in the index `byDay`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderOfDay {
    pub status: OrderStatus,
    pub lines: Vec<OrderLine>,
    pub total: Money,
    /// The number of declined payments.
    #[serde(default)]
    pub payment_generation: u32,
    #[serde(default)]
    pub cancel_reason: Option<CancelReason>,
}

/// Why an order was not placed, paid or cancelled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    /// There is no such order, or it belongs to another customer.
    #[error("there is no order {0}")]
    NotFound(OrderId),
    #[error("the cart is empty")]
    EmptyCart,
    /// The cart has more lines than an order may have: regions added lines concurrently.
    #[error("the cart cannot be ordered: {0}")]
    InvalidCart(InvalidLines),
    /// These products do not exist.
    #[error("there is no product {}", .0.iter().map(ProductId::as_str).collect::<Vec<_>>().join(", "))]
    UnknownProducts(Vec<ProductId>),
    /// The lines have no total.
    #[error("the lines cannot be added up: {0}")]
    NoTotal(crate::core::money::MoneyError),
    /// Of these products fewer units are left than ordered.
    #[error("not enough units in stock of {}", .0.iter().map(ProductId::as_str).collect::<Vec<_>>().join(", "))]
    OutOfStock(Vec<ProductId>),
    #[error(transparent)]
    TooManyUnpaid(TooManyUnpaid),
    /// The order has ended with this status.
    #[error("the order is {}", .0.as_str())]
    State(OrderStatus),
}

/// Why a page of orders was not read.
#[derive(Debug, thiserror::Error)]
pub enum OrderQueryError {
    /// The cursor is not of this list.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    #[error(transparent)]
    Store(#[from] DynamoError),
}
