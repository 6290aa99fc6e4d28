//! The orders of a UTC day: the index `byDay`.

use super::{DynamoOrders, parse_listed};
use crate::commerce::orders::{DayShard, OrderOfDay, OrdersPage};
use crate::platform::dynamo::{DynamoError, Item, text};

/// One shard of a day.
const OF_SHARD: &str = "dayShard = :shard";

/// The attributes of [`OrderOfDay`]. They make the answers smaller, not the query cheaper.
const NEEDED: &str = "#status, #lines, #total, paymentGeneration, cancelReason, orderId";

/// A position in a shard of a day.
#[derive(Debug, Clone, PartialEq)]
pub struct DayCursor(Item);

impl DynamoOrders {
    /// A page of a shard of a day's orders, after `after`. Eventually consistent. Calls `Query` on
    /// the index `byDay`.
    pub async fn of_day(
        &self,
        shard: DayShard,
        after: Option<DayCursor>,
    ) -> Result<OrdersPage<OrderOfDay, DayCursor>, DynamoError> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("byDay")
            .key_condition_expression(OF_SHARD)
            .projection_expression(NEEDED)
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#lines", "lines")
            .expression_attribute_names("#total", "total")
            .expression_attribute_values(":shard", text(shard.to_string()))
            .set_exclusive_start_key(after.map(|DayCursor(key)| key))
            .send()
            .await
            .map_err(|error| DynamoError::new("Query", format!("{} byDay {shard}", self.table), error))?;
        let orders = answer.items.unwrap_or_default().into_iter().map(parse_listed).collect();
        Ok(OrdersPage { orders, next: answer.last_evaluated_key.map(DayCursor) })
    }
}
