//! Orders in DynamoDB.
//!
//! | attribute | |
//! |---|---|
//! | `orderId` | key |
//! | `customerId`, `createdAt` | index `byCustomer`: a customer's orders by time, see [`super::ListedOrder`] |
//! | `dayShard`, `orderId` | index `byDay`: a part of a UTC day's orders |
//! | `pendingShard`, `createdAt` | index `pending`, sparse: only while the order awaits payment |
//! | `status`, `lines`, `total`, `region`, `updatedAt`, `version` | as in [`Order`] |
//! | `cancelReason?` | `customer` or `unpaid`, for the daily report |
//! | `payment?`, `paymentGeneration`, `paymentId?` | see [`crate::commerce::payments`] |
//! | `reservedUnits?` | the order is counted in its customer's row of `unpaid` |

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use jiff::Timestamp;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{CancelReason, DayShard, Order, OrderStatus, PendingShard, UnpaidLimits};
use crate::commerce::catalog;
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{OrderId, PaymentId, SharedIds};
use crate::platform::dynamo::{AttributeValue, Change, DynamoError, Item, number, text};
use crate::platform::outbox::{self, Event, EventType};
use crate::platform::tables;

mod cancel;
mod expire;
mod place;
mod read;
mod settle;
mod unpaid;

pub use cancel::CancelOrder;
pub use expire::DynamoExpiry;
pub use place::{Checkout, PlaceOrder};
pub use read::DynamoOrders;
pub use settle::{Footing, Settling};

/// Order ids are new. What could be in the way is the same order, written by a try whose answer got lost.
const IS_NEW: &str = "attribute_not_exists(orderId)";

/// The order is as it was read: whatever status and payment were decided on still hold, for every write of an order
/// raises its version.
const IS_AS_READ: &str = "version = :seen";

/// Ends the order unpaid. It leaves the index of pending orders, and has no payment that could still be captured.
const CANCEL: Change = Change {
    update: "SET #status = :status, cancelReason = :reason, updatedAt = :now, version = version + :one \
             REMOVE pendingShard, payment",
    condition: Some(IS_AS_READ),
    names: &[("#status", "status")],
};

/// Records a captured payment. The order leaves the index of pending orders.
const PAY: Change = Change {
    update: "SET #status = :status, paymentId = :paymentId, updatedAt = :now, version = version + :one \
             REMOVE pendingShard, payment",
    condition: Some(IS_AS_READ),
    names: &[("#status", "status")],
};

/// The key of an order.
pub fn key(order_id: &OrderId) -> Item {
    Item::from([(tables::ORDERS.key.hash.to_owned(), text(order_id.as_str()))])
}

/// Reads an order.
pub fn parse(item: Item) -> Result<Order, DynamoError> {
    from_item(item).map_err(|error| DynamoError::unreadable("read", "an order", error))
}

/// The writes that change an order, together with its stock and its event.
#[derive(Debug, Clone)]
pub struct OrderWrites {
    orders: String,
    stock: String,
    outbox: String,
    region: String,
    ids: SharedIds,
}

impl OrderWrites {
    /// Writes to the tables that `ORDERS_TABLE`, `STOCK_TABLE` and `OUTBOX_TABLE` name, from the region `AWS_REGION`.
    pub fn from_env(env: &Env, ids: SharedIds) -> Result<Self, ConfigError> {
        Ok(Self {
            orders: tables::ORDERS.name(env)?,
            stock: tables::STOCK.name(env)?,
            outbox: tables::OUTBOX.name(env)?,
            region: crate::platform::aws::region(env)?,
            ids,
        })
    }

    /// The orders table.
    pub fn orders(&self) -> &str {
        &self.orders
    }

    /// A new order of so many units: the order, its event, its count among the customer's unpaid orders, and a stock
    /// action for each line, in the order of the lines.
    fn placed(
        &self,
        order: &Order,
        units: u64,
        limits: UnpaidLimits,
    ) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let mut actions = vec![
            self.put_order(order)?,
            self.event(EventType::OrderPlaced, order)?,
            unpaid::count(&self.orders, order, units, limits)?,
        ];
        for line in &order.lines {
            actions.push(catalog::dynamo::take(
                &self.stock,
                &line.product_id,
                &order.region,
                line.quantity.get(),
                order.created_at,
            )?);
        }
        Ok(actions)
    }

    /// The order as it was read, cancelled: the order first, then its event, then its count and its stock given back.
    fn cancelled(
        &self,
        order: &Order,
        reason: CancelReason,
        now: Timestamp,
    ) -> Result<(Order, Vec<TransactWriteItem>), DynamoError> {
        let cancelled = Order {
            status: OrderStatus::Cancelled,
            updated_at: now,
            version: order.version + 1,
            payment: None,
            ..order.clone()
        };
        let mut data = cancelled.summary();
        let reason = match reason {
            CancelReason::Customer => "customer",
            CancelReason::Unpaid => "unpaid",
        };
        data["reason"] = reason.into();
        let [status, at, one, seen] = transition(order, OrderStatus::Cancelled, now);
        let values = [status, at, one, seen, (":reason", text(reason))];
        let mut actions = vec![
            CANCEL.action(&self.orders, key(&order.order_id), values)?,
            self.event_with(EventType::OrderCancelled, &cancelled, data)?,
        ];
        actions.extend(unpaid::uncount(&self.orders, order)?);
        for line in &order.lines {
            actions.push(catalog::dynamo::give_back(
                &self.stock,
                &line.product_id,
                &order.region,
                line.quantity.get(),
                now,
            )?);
        }
        Ok((cancelled, actions))
    }

    /// The order as it was read, paid: the order first, then its event, then its count.
    pub(crate) fn paid(
        &self,
        order: &Order,
        payment_id: &PaymentId,
        now: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let paid = Order {
            status: OrderStatus::Paid,
            updated_at: now,
            version: order.version + 1,
            payment: None,
            payment_id: Some(payment_id.clone()),
            ..order.clone()
        };
        let [status, at, one, seen] = transition(order, OrderStatus::Paid, now);
        let values = [status, at, one, seen, (":paymentId", text(payment_id.as_str()))];
        let mut actions = vec![
            PAY.action(&self.orders, key(&order.order_id), values)?,
            self.event(EventType::OrderPaid, &paid)?,
        ];
        actions.extend(unpaid::uncount(&self.orders, order)?);
        Ok(actions)
    }

    fn put_order(&self, order: &Order) -> Result<TransactWriteItem, DynamoError> {
        let mut item: Item = to_item(order)
            .map_err(|error| DynamoError::unreadable("write", order.order_id.as_str(), error))?;
        let day = DayShard::of(&order.order_id, order.created_at).to_string();
        let pending = PendingShard::of(&order.order_id).key(&order.region);
        item.insert("dayShard".to_owned(), text(day));
        item.insert("pendingShard".to_owned(), text(pending));
        let put = Put::builder()
            .table_name(&self.orders)
            .set_item(Some(item))
            .condition_expression(IS_NEW)
            .build()
            .map_err(|error| DynamoError::unreadable("build", &self.orders, error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    fn event(&self, kind: EventType, order: &Order) -> Result<TransactWriteItem, DynamoError> {
        self.event_with(kind, order, order.summary())
    }

    fn event_with(
        &self,
        kind: EventType,
        order: &Order,
        data: serde_json::Value,
    ) -> Result<TransactWriteItem, DynamoError> {
        let event = Event {
            event_id: self.ids.next(),
            kind,
            occurred_at: order.updated_at,
            region: self.region.clone(),
            subject: order.order_id.to_string(),
            data,
        };
        outbox::dynamo::put(&self.outbox, &event)
    }
}

/// What every change of status fills in.
fn transition(order: &Order, status: OrderStatus, now: Timestamp) -> [(&'static str, AttributeValue); 4] {
    [
        (":status", text(status.as_str())),
        (":now", text(rfc3339(now))),
        (":one", number(1)),
        (":seen", number(order.version)),
    ]
}
