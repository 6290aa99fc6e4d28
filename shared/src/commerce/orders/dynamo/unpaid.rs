//! The count of a customer's unpaid orders and their reserved units.
//!
//! One row of the orders table counts both, for one customer in one region: `orderId` is
//! `<customer>#unpaid#<region>`, and the row is in no index. The transaction that places an order
//! adds to the row, on the condition that the limits hold afterwards; the one that pays, cancels or
//! expires the order subtracts from it. So the count is exact at any time.
//!
//! `changedAt` is when the last of these transactions took place. Summaries read it
//! ([`changed_at`]), because an index does not show that it lacks a change.
//!
//! The price: transactions on orders of one customer conflict at this row and run one after the
//! other.
//!
//! The [reservation](super::reservation) of an order says whether it is counted. Only the order's
//! own region writes both rows.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use serde::Deserialize;
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use crate::commerce::orders::{Order, TooManyUnpaid, UnpaidLimits};
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::UserId;
use crate::platform::dynamo::{AttributeValue, DynamoError, Item, RowUpdate, number, text};
use crate::platform::tables;

/// Counts an order, if the limits allow it.
const COUNT: RowUpdate = RowUpdate {
    update: "SET changedAt = :now ADD unpaidOrders :one, reservedUnits :units",
    condition: Some(
        "(attribute_not_exists(unpaidOrders) OR unpaidOrders < :maxOrders) \
         AND (attribute_not_exists(reservedUnits) OR reservedUnits <= :unitsLeft)",
    ),
    names: &[],
};

/// Adds to the count, or subtracts. Unconditional: the condition on the reservation says whether
/// the order is counted.
const ADD: RowUpdate = RowUpdate {
    update: "SET changedAt = :now ADD unpaidOrders :orders, reservedUnits :units",
    condition: None,
    names: &[],
};

/// The counts of the row.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Count {
    #[serde(default)]
    unpaid_orders: i64,
    #[serde(default)]
    reserved_units: i64,
    #[serde(default)]
    changed_at: Option<String>,
}

impl UnpaidLimits {
    /// `UNPAID_ORDERS_PER_CUSTOMER` and `RESERVED_UNITS_PER_CUSTOMER`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let (orders, units) = ("UNPAID_ORDERS_PER_CUSTOMER", "RESERVED_UNITS_PER_CUSTOMER");
        Ok(Self { orders: env.parse(orders)?, units: env.parse(units)? })
    }
}

/// The row that counts the unpaid orders of a customer in a region.
pub(super) fn row_key(customer_id: &UserId, region: &str) -> Item {
    let key = format!("{customer_id}#unpaid#{region}");
    Item::from([(tables::ORDERS.key.hash.to_owned(), text(key))])
}

/// Counts a new order. Its reserved units are not above the limit.
pub(super) fn count(
    orders: &str,
    order: &Order,
    limits: UnpaidLimits,
) -> Result<TransactWriteItem, DynamoError> {
    let units = order.reserved_units;
    let values = [
        (":now", text(rfc3339(order.updated_at))),
        (":one", number(1)),
        (":units", number(units)),
        (":maxOrders", number(limits.orders)),
        (":unitsLeft", number(limits.units.saturating_sub(units))),
    ];
    COUNT.action(orders, row_key(&order.customer_id, &order.region), values)
}

/// Counts an order that is unpaid already, regardless of the limits.
pub(super) fn count_unconditionally(
    orders: &str,
    order: &Order,
    now: Timestamp,
) -> Result<TransactWriteItem, DynamoError> {
    let key = row_key(&order.customer_id, &order.region);
    ADD.action(orders, key, added(1, i128::from(order.reserved_units), now))
}

/// Uncounts an order with so many units that no longer awaits payment.
pub(super) fn uncount(
    orders: &str,
    (customer_id, region): (&UserId, &str),
    units: u64,
    now: Timestamp,
) -> Result<TransactWriteItem, DynamoError> {
    ADD.action(orders, row_key(customer_id, region), added(-1, -i128::from(units), now))
}

fn added(orders: i32, units: i128, now: Timestamp) -> [(&'static str, AttributeValue); 3] {
    [(":now", text(rfc3339(now))), (":orders", number(orders)), (":units", number(units))]
}

/// When an order of the customer last changed in the region, from the row.
pub(super) fn changed_at(row: Item) -> Option<Timestamp> {
    from_item::<Count>(row).ok()?.changed_at?.parse().ok()
}

/// The refusal, from the row that failed the condition.
pub(super) fn refusal(row: Item, limits: UnpaidLimits) -> TooManyUnpaid {
    let count: Count = from_item(row).unwrap_or_default();
    let [orders, units] =
        [count.unpaid_orders, count.reserved_units].map(|count| u64::try_from(count).unwrap_or(0));
    TooManyUnpaid { orders, units, limits }
}
