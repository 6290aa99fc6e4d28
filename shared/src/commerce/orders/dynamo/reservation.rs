//! Reservations: the units that a region has taken for an order from its own stock.
//!
//! Two regions may place the same order before either sees the other's. One of the two wins, and
//! the region of the other one has to return its units. It knows them by its reservation, a row of
//! the orders table: `orderId` is `<order>#reserved#<region>`. Only that region writes the row, so
//! replication never has to choose between two writers.
//!
//! 1. The transaction that places an order puts the reservation: the lines, the customer, and
//!    `unpaidUnits`.
//! 2. The transaction that pays the order removes `unpaidUnits`: the order has left the count of
//!    unpaid ones.
//! 3. The transaction that returns the units deletes the reservation, on the condition that it has
//!    not changed since it was read. So units are returned once, and the order leaves the count
//!    once: cancellation, clean-up and settling exclude each other, whichever is repeated or dies.
//! 4. [`Reservations::settle`] compares the reservation with the order. If the order is another
//!    region's now, or another region has cancelled it, the units are returned. If another region
//!    has recorded its payment, the order leaves the count. If the order is this region's again
//!    after its units were returned, the units are taken again.
//! 5. The region's stream of the orders table invokes `order-reconciler` at once
//!    (`commerce::reconciliation`). The clean-up job finds every reservation in the index `pending`
//!    when its order is old enough to expire, and settles what the stream has missed.
//! 6. The reservation of a paid order then leaves the index. It stays in the table: if the order is
//!    replaced later, its units are returned all the same.
//!
//! So units are taken exactly as long as there is a reservation, and in the end there is a
//! reservation exactly if the order is this region's and not cancelled. The order can change its
//! region more than once: a third region that has not seen the second order yet may write the first
//! one once more.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{IS_NEW, OrderAction, OrderWrites, unpaid};
use crate::commerce::carts::Line;
use crate::commerce::catalog;
use crate::commerce::orders::{Order, OrderLine, OrderStatus, PendingShard};
use crate::core::clock::SharedClock;
use crate::core::date_time::as_rfc3339;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{OrderId, UserId};
use crate::core::retry::Backoff;
use crate::platform::dynamo::{
    Actions, DynamoError, Item, Reasons, RowUpdate, Transaction, WriteOutcome, number, text,
};
use crate::platform::tables;
use crate::platform::telemetry::{self, Metric};

/// Between the order and the region in a reservation's key.
const RESERVED: &str = "#reserved#";

/// The order has left the count of unpaid ones. The reservation as it was read is counted, and
/// nobody else has uncounted it.
const LEAVE_COUNT: RowUpdate =
    RowUpdate { update: "REMOVE unpaidUnits", condition: Some("unpaidUnits = :units"), names: &[] };

/// The reservation has not changed: it is counted with these units, so nobody else has returned or
/// uncounted them.
const IS_COUNTED: &str = "unpaidUnits = :units";

/// The reservation has not changed: it exists and is not counted. Nobody else has returned the
/// units.
const IS_NOT_COUNTED: &str = "attribute_exists(orderId) AND attribute_not_exists(unpaidUnits)";

/// The order is paid: the clean-up need not read the reservation again.
const LEAVE_INDEX: RowUpdate = RowUpdate {
    update: "REMOVE pendingShard",
    condition: Some("attribute_exists(pendingShard)"),
    names: &[],
};

/// The key of a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReservationKey {
    pub order_id: OrderId,
    /// The region that has taken the units.
    pub region: String,
}

/// Text that is not the key of a reservation.
#[derive(Debug, thiserror::Error)]
#[error("a reservation's key is an order's id, {RESERVED} and a region")]
pub struct NoReservationKey;

impl From<ReservationKey> for String {
    fn from(key: ReservationKey) -> Self {
        format!("{}{RESERVED}{}", key.order_id, key.region)
    }
}

impl TryFrom<String> for ReservationKey {
    type Error = NoReservationKey;

    fn try_from(text: String) -> Result<Self, NoReservationKey> {
        let (order_id, region) = text.split_once(RESERVED).ok_or(NoReservationKey)?;
        let order_id = order_id.parse().map_err(|_| NoReservationKey)?;
        Ok(Self { order_id, region: region.to_owned() })
    }
}

/// A reservation as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reservation {
    #[serde(rename = "orderId")]
    key: ReservationKey,
    /// The order's customer. Named `customerId`, it would make the row one of the customer's
    /// orders.
    customer: UserId,
    lines: Vec<Line>,
    /// The units that count towards the limits of the customer. `None` once the order is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unpaid_units: Option<u64>,
    #[serde(with = "as_rfc3339")]
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending_shard: Option<String>,
}

/// The result of settling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettleOutcome {
    /// This call returned the units.
    GivenBack,
    /// The units had been returned, and this call took them again.
    TakenAgain,
    /// The order is paid, and the units are sold.
    Sold,
    /// The order awaits payment, and the units stay reserved.
    Kept,
    /// The region has no reservation, and needs none.
    Nothing,
}

/// The reservations of this region.
///
/// Calls `GetItem` and `UpdateItem` on orders; in transactions `UpdateItem` and `DeleteItem` on
/// orders, `UpdateItem` on stock.
#[derive(Debug, Clone)]
pub struct Reservations {
    client: Client,
    writes: OrderWrites,
    clock: SharedClock,
}

pub(super) fn row_key(order_id: &OrderId, region: &str) -> Item {
    let key = ReservationKey { order_id: order_id.clone(), region: region.to_owned() };
    Item::from([(tables::ORDERS.key.hash.to_owned(), text(String::from(key)))])
}

/// Puts the reservation of an order that has none in this region.
pub(super) fn put(orders: &str, order: &Order, is_counted: bool) -> Result<TransactWriteItem, DynamoError> {
    let line = |line: &OrderLine| Line { product_id: line.product_id.clone(), quantity: line.quantity };
    let reservation = Reservation {
        key: ReservationKey { order_id: order.order_id.clone(), region: order.region.clone() },
        customer: order.customer_id.clone(),
        lines: order.lines.iter().map(line).collect(),
        unpaid_units: is_counted.then_some(order.reserved_units),
        created_at: order.created_at,
        pending_shard: Some(PendingShard::of(&order.order_id).key(&order.region)),
    };
    let item = to_item(reservation)
        .map_err(|error| DynamoError::unreadable("write", order.order_id.as_str(), error))?;
    let put = Put::builder()
        .table_name(orders)
        .set_item(Some(item))
        .condition_expression(IS_NEW)
        .build()
        .map_err(|error| DynamoError::unreadable("build", orders, error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

/// Records that the counted order leaves the count: it is paid.
pub(super) fn leave_count(orders: &str, order: &Order) -> Result<TransactWriteItem, DynamoError> {
    let key = row_key(&order.order_id, &order.region);
    LEAVE_COUNT.action(orders, key, [(":units", number(order.reserved_units))])
}

/// Deletes a reservation that has not changed since it was read: `unpaid_units` are the units that
/// it counts.
pub(super) fn delete(
    orders: &str,
    key: Item,
    unpaid_units: Option<u64>,
) -> Result<TransactWriteItem, DynamoError> {
    let delete = Delete::builder().table_name(orders).set_key(Some(key));
    let delete = match unpaid_units {
        Some(units) => {
            delete.condition_expression(IS_COUNTED).expression_attribute_values(":units", number(units))
        }
        None => delete.condition_expression(IS_NOT_COUNTED),
    };
    let delete = delete.build().map_err(|error| DynamoError::unreadable("build", orders, error))?;
    Ok(TransactWriteItem::builder().delete(delete).build())
}

/// Takes the units of an order of this region again, with a reservation.
fn reserve_again(
    writes: &OrderWrites,
    order: &Order,
    now: Timestamp,
) -> Result<Actions<OrderAction>, DynamoError> {
    let is_counted = order.status == OrderStatus::PendingPayment;
    let mut actions = Actions::from([(OrderAction::Reservation, put(&writes.orders, order, is_counted)?)]);
    if is_counted {
        actions.extend([(OrderAction::Unpaid, unpaid::count_unconditionally(&writes.orders, order, now)?)]);
    }
    actions.extend(writes.stock(order, catalog::dynamo::take, now)?);
    Ok(actions)
}

fn is_out_of_stock(reasons: &Reasons<OrderAction>) -> bool {
    reasons.refused().any(|(action, _)| matches!(action, OrderAction::Stock(_)))
}

impl Reservation {
    /// Returns the units, and uncounts the order if it is counted.
    fn release_stock(
        &self,
        writes: &OrderWrites,
        now: Timestamp,
    ) -> Result<Actions<OrderAction>, DynamoError> {
        let ReservationKey { order_id, region } = &self.key;
        let gone = delete(&writes.orders, row_key(order_id, region), self.unpaid_units)?;
        let mut actions = Actions::from([(OrderAction::Reservation, gone)]);
        actions.extend(self.uncount(writes, now)?);
        for Line { product_id, quantity } in &self.lines {
            let stock =
                catalog::dynamo::release_stock(&writes.stock, product_id, region, quantity.get(), now)?;
            actions.extend([(OrderAction::Stock(product_id.clone()), stock)]);
        }
        Ok(actions)
    }

    /// Uncounts the paid order. `None` if it is not counted.
    fn sell(
        &self,
        writes: &OrderWrites,
        now: Timestamp,
    ) -> Result<Option<Actions<OrderAction>>, DynamoError> {
        let (Some(uncount), Some(units)) = (self.uncount(writes, now)?, self.unpaid_units) else {
            return Ok(None);
        };
        let ReservationKey { order_id, region } = &self.key;
        let key = row_key(order_id, region);
        let left = LEAVE_COUNT.action(&writes.orders, key, [(":units", number(units))])?;
        Ok(Some(Actions::from([(OrderAction::Reservation, left), uncount])))
    }

    fn uncount(
        &self,
        writes: &OrderWrites,
        now: Timestamp,
    ) -> Result<Option<(OrderAction, TransactWriteItem)>, DynamoError> {
        let counted = (&self.customer, self.key.region.as_str());
        let uncount = self.unpaid_units.map(|units| unpaid::uncount(&writes.orders, counted, units, now));
        Ok(uncount.transpose()?.map(|action| (OrderAction::Unpaid, action)))
    }
}

impl Reservations {
    /// The region's reservations, in the tables that [`OrderWrites`] names.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self { client, writes: OrderWrites::from_env(env)?, clock })
    }

    /// Settles the reservation of this region for `order`, which was just read.
    pub async fn settle(&self, order: &Order, deadline: Deadline) -> Result<SettleOutcome, DynamoError> {
        let mut backoff = Backoff::of_conflicts(deadline);
        let target = order.order_id.as_str();
        loop {
            let now = self.clock.now();
            let wanted = order.region == self.writes.region && order.status != OrderStatus::Cancelled;
            let paid = order.status == OrderStatus::Paid;
            let (actions, settled) = match self.get(&order.order_id).await? {
                None if !wanted => return Ok(SettleOutcome::Nothing),
                None => (reserve_again(&self.writes, order, now)?, SettleOutcome::TakenAgain),
                Some(reservation) if !wanted => {
                    (reservation.release_stock(&self.writes, now)?, SettleOutcome::GivenBack)
                }
                Some(_) if !paid => return Ok(SettleOutcome::Kept),
                Some(reservation) => match reservation.sell(&self.writes, now)? {
                    Some(actions) => (actions, SettleOutcome::Sold),
                    None => return Ok(SettleOutcome::Sold),
                },
            };
            match Box::pin(actions.commit(&self.client, target)).await? {
                Transaction::Committed => {
                    let case = match settled {
                        SettleOutcome::GivenBack => Some("given-back"),
                        SettleOutcome::TakenAgain => Some("taken-again"),
                        _ => None,
                    };
                    case.inspect(|case| telemetry::count_case(Metric::OrdersReconciled, case, 1));
                    return Ok(settled);
                }
                Transaction::Cancelled(reasons) if is_out_of_stock(&reasons) => {
                    tracing::error!(%order.order_id, "the order's units were released and sold to others");
                    telemetry::count_case(Metric::OrdersReconciled, "oversold", 1);
                    return Ok(SettleOutcome::Nothing);
                }
                Transaction::Cancelled(_) => {}
            }
            // It was settled concurrently, or other transactions use its rows.
            telemetry::count(Metric::TransactionConflicts, 1);
            if !backoff.wait().await {
                return Err(DynamoError::contended("TransactWriteItems", target));
            }
        }
    }

    /// Takes the reservation of a paid order out of the index, so that the clean-up skips it.
    pub async fn leave_index(&self, order_id: &OrderId) -> Result<(), DynamoError> {
        let key = row_key(order_id, &self.writes.region);
        let request = LEAVE_INDEX.request(&self.client, &self.writes.orders, key, []);
        // A failed condition or a conflict: it has left the index, or was returned.
        Box::pin(request.send()).await.outcome("UpdateItem", order_id.as_str()).map(drop)
    }

    /// The region's reservation for an order, if there is one. Consistent.
    async fn get(&self, order_id: &OrderId) -> Result<Option<Reservation>, DynamoError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.writes.orders)
            .set_key(Some(row_key(order_id, &self.writes.region)))
            .consistent_read(true);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("GetItem", order_id.as_str(), error))?;
        let parse =
            |item| from_item(item).map_err(|error| DynamoError::unreadable("read", order_id.as_str(), error));
        answer.item.map(parse).transpose()
    }
}
