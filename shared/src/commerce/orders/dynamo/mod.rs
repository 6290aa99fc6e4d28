//! Orders in DynamoDB.
//!
//! | attribute | |
//! |---|---|
//! | `orderId` | key |
//! | `customerId`, `createdAt` | index `byCustomer`: a customer's orders by time, see [`super::ListedOrder`] |
//! | `dayShard`, `orderId` | index `byDay`: a part of a UTC day's orders |
//! | `status`, `lines`, `total`, `region`, `updatedAt`, `version` | as in [`Order`] |
//! | `cancelReason?` | `customer` or `unpaid`, for the daily report |
//! | `payment?`, `paymentGeneration`, `paymentId?` | see [`UnsettledPayment`](super::UnsettledPayment) |
//! | `reservedUnits` | what the order counts in its customer's row of `unpaid` |
//!
//! Beside the orders, each region has rows of its own: `reservation`, which are the index
//! `pending`, and `unpaid`.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{CancelReason, DayShard, Order, OrderStatus, UnpaidLimits, UnreadableOrder, event_id_of};
use crate::commerce::catalog;
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{OrderId, ProductId};
use crate::platform::dynamo::{
    Actions, AttributeValue, DynamoError, Item, RowKey, RowUpdate, Rows, number, text,
};
use crate::platform::outbox::{self, Event, EventType};
use crate::platform::tables;

mod day;
mod payment;
mod pending;
mod place;
mod read;
mod reservation;
mod unpaid;

pub use day::DayCursor;
pub use pending::PendingReservation;
pub use place::{Checkout, PlaceOrder};
pub use read::DynamoOrders;
pub(super) use read::SummarizedOrder;
pub use reservation::{NoReservationKey, ReservationKey, Reservations, SettleOutcome};

/// The order is new. An existing one is the order of the same request, whose record has expired or
/// is in another region.
const IS_NEW: &str = "attribute_not_exists(orderId)";

/// The order has not changed since it was read: every write of an order raises its version.
const IS_AS_READ: &str = "version = :seen";

/// Cancels the order. It has no payment that could still be captured.
const CANCEL: RowUpdate = RowUpdate {
    update: "SET #status = :status, cancelReason = :reason, updatedAt = :now, version = version + :one \
             REMOVE payment",
    condition: Some(IS_AS_READ),
    names: &[("#status", "status")],
};

/// The names of the actions of a transaction on an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderAction {
    Order,
    Event,
    /// The reservation of its region.
    Reservation,
    /// The count of its customer's unpaid orders.
    Unpaid,
    Stock(ProductId),
    /// The cart of its lines.
    Cart,
    /// The idempotency record of its payment.
    Record,
    /// The lock of the run that cancels it.
    Guard,
}

fn key(order_id: &OrderId) -> Item {
    Item::from([(tables::ORDERS.key.hash.to_owned(), text(order_id.as_str()))])
}

fn parse(item: Item) -> Result<Order, DynamoError> {
    from_item(item).map_err(|error| DynamoError::unreadable("read", "an order", error))
}

/// Parses an order of an index. An unreadable order does not fail the page.
fn parse_listed<O: DeserializeOwned>(item: Item) -> Result<O, UnreadableOrder> {
    let order_id = item.get(tables::ORDERS.key.hash).and_then(|id| id.as_s().ok()).cloned();
    from_item(item)
        .map_err(|error| UnreadableOrder { order_id: order_id.unwrap_or_default(), source: error.into() })
}

/// Builds the writes that change an order, its stock and its event.
#[derive(Debug, Clone)]
pub struct OrderWrites {
    orders: String,
    stock: String,
    outbox: String,
    region: String,
}

impl OrderWrites {
    /// Writes to the tables that `ORDERS_TABLE`, `STOCK_TABLE` and `OUTBOX_TABLE` name, from the
    /// region `AWS_REGION`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            orders: tables::ORDERS.name(env)?,
            stock: tables::STOCK.name(env)?,
            outbox: tables::OUTBOX.name(env)?,
            region: crate::platform::aws::region(env)?,
        })
    }

    /// The region of these writes.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The key of an order, for a read before the write.
    pub fn row(&self, order_id: &OrderId) -> RowKey<'_> {
        RowKey { table: &self.orders, key: key(order_id) }
    }

    /// The order among the rows that were read, if it exists.
    pub fn order(&self, rows: &mut Rows) -> Result<Option<Order>, DynamoError> {
        rows.take_one(&self.orders).map(parse).transpose()
    }

    /// A new order: the order, its event, its reservation, its count among the customer's unpaid
    /// orders, and the stock of each line.
    fn placed(&self, order: &Order, limits: UnpaidLimits) -> Result<Actions<OrderAction>, DynamoError> {
        let mut actions = Actions::from([
            (OrderAction::Order, self.put_order(order)?),
            (OrderAction::Event, self.event(EventType::OrderPlaced, order, order.summary())?),
            (OrderAction::Unpaid, unpaid::count(&self.orders, order, limits)?),
            (OrderAction::Reservation, reservation::put(&self.orders, order, true)?),
        ]);
        actions.extend(self.stock(order, catalog::dynamo::take, order.created_at)?);
        Ok(actions)
    }

    /// Cancels the order as it was read: the order and its event. In the order's own region also
    /// its reservation and its count, and its stock is returned. In another region, the order's own
    /// region does these ([`Reservations::settle`]).
    pub fn cancelled(
        &self,
        order: &Order,
        reason: CancelReason,
        now: Timestamp,
    ) -> Result<(Order, Actions<OrderAction>), DynamoError> {
        let cancelled = Order { status: OrderStatus::Cancelled, payment: None, ..written(order, now) };
        let mut data = cancelled.summary();
        data["reason"] = reason.as_str().into();
        let mut actions = Actions::from([
            (OrderAction::Order, self.cancel_order(order, reason, now)?),
            (OrderAction::Event, self.event(EventType::OrderCancelled, &cancelled, data)?),
        ]);
        if self.reserved_here(order) {
            let reserved = reservation::row_key(&order.order_id, &order.region);
            let gone = reservation::delete(&self.orders, reserved, Some(order.reserved_units))?;
            actions.extend([(OrderAction::Reservation, gone), self.uncounted(order, now)?]);
            actions.extend(self.stock(order, catalog::dynamo::release_stock, now)?);
        }
        Ok((cancelled, actions))
    }

    /// Cancels the order as it was read, and nothing else.
    pub(in crate::commerce) fn cancel_order(
        &self,
        order: &Order,
        reason: CancelReason,
        now: Timestamp,
    ) -> Result<TransactWriteItem, DynamoError> {
        let [now_value, one, seen] = as_read(order, now);
        let status = (":status", text(OrderStatus::Cancelled.as_str()));
        let values = [status, (":reason", text(reason.as_str())), now_value, one, seen];
        CANCEL.action(&self.orders, key(&order.order_id), values)
    }

    /// Whether this region has the order's stock, count and reservation, and so may write them.
    fn reserved_here(&self, order: &Order) -> bool {
        order.region == self.region
    }

    /// Removes the order from the count of unpaid ones.
    fn uncounted(
        &self,
        order: &Order,
        now: Timestamp,
    ) -> Result<(OrderAction, TransactWriteItem), DynamoError> {
        let counted = (&order.customer_id, order.region.as_str());
        Ok((OrderAction::Unpaid, unpaid::uncount(&self.orders, counted, order.reserved_units, now)?))
    }

    /// Applies `change` to the stock of each line.
    fn stock(
        &self,
        order: &Order,
        change: impl Fn(&str, &ProductId, &str, u32, Timestamp) -> Result<TransactWriteItem, DynamoError>,
        now: Timestamp,
    ) -> Result<Vec<(OrderAction, TransactWriteItem)>, DynamoError> {
        let lines = order.lines.iter().map(|line| {
            let action = change(&self.stock, &line.product_id, &order.region, line.quantity.get(), now)?;
            Ok((OrderAction::Stock(line.product_id.clone()), action))
        });
        lines.collect()
    }

    fn put_order(&self, order: &Order) -> Result<TransactWriteItem, DynamoError> {
        let mut item: Item = to_item(order)
            .map_err(|error| DynamoError::unreadable("write", order.order_id.as_str(), error))?;
        let day = DayShard::of(&order.order_id, order.created_at).to_string();
        item.insert("dayShard".to_owned(), text(day));
        let put = Put::builder()
            .table_name(&self.orders)
            .set_item(Some(item))
            .condition_expression(IS_NEW)
            .build()
            .map_err(|error| DynamoError::unreadable("build", &self.orders, error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    fn event(
        &self,
        kind: EventType,
        order: &Order,
        data: serde_json::Value,
    ) -> Result<TransactWriteItem, DynamoError> {
        let event = Event {
            event_id: event_id_of(&order.order_id, kind),
            kind,
            occurred_at: order.updated_at,
            region: self.region.clone(),
            subject: order.order_id.to_string(),
            data,
        };
        outbox::dynamo::put(&self.outbox, &event)
    }
}

/// The order after one more write.
fn written(order: &Order, now: Timestamp) -> Order {
    Order { updated_at: now, version: order.version + 1, ..order.clone() }
}

/// The values of every write that is conditional on the order as it was read.
fn as_read(order: &Order, now: Timestamp) -> [(&'static str, AttributeValue); 3] {
    [(":now", text(rfc3339(now))), (":one", number(1)), (":seen", number(order.version))]
}
