//! Reading a day's orders from the index `byDay` of the orders table.

use aws_sdk_dynamodb::Client;
use serde_dynamo::from_item;

use super::{DailyOrders, OrdersPage, ReportedOrder};
use crate::commerce::orders::DayShard;
use crate::core::env::{ConfigError, Env};
use crate::platform::dynamo::{DynamoError, Item, text};
use crate::platform::tables;

/// One shard of a day.
const OF_SHARD: &str = "dayShard = :shard";

/// What the report needs. It does not make the query cheaper, but the answers smaller.
const NEEDED: &str = "#status, #lines, #total, paymentGeneration, cancelReason, orderId";

/// [`DailyOrders`] over the orders table. Calls `Query` on its index `byDay`, nothing else.
#[derive(Debug, Clone)]
pub struct DynamoDailyOrders {
    client: Client,
    orders: String,
}

impl DynamoDailyOrders {
    /// Reads the table that `ORDERS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, orders: tables::ORDERS.name(env)? })
    }
}

impl DailyOrders for DynamoDailyOrders {
    type Cursor = Item;

    async fn page(&self, shard: DayShard, after: Option<Item>) -> Result<OrdersPage<Item>, DynamoError> {
        let answer = self
            .client
            .query()
            .table_name(&self.orders)
            .index_name("byDay")
            .key_condition_expression(OF_SHARD)
            .projection_expression(NEEDED)
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#lines", "lines")
            .expression_attribute_names("#total", "total")
            .expression_attribute_values(":shard", text(shard.to_string()))
            .set_exclusive_start_key(after)
            .send()
            .await
            .map_err(|error| DynamoError::new("Query", format!("{} byDay {shard}", self.orders), error))?;
        let mut page = OrdersPage { orders: Vec::new(), unreadable: 0, next: answer.last_evaluated_key };
        for item in answer.items.unwrap_or_default() {
            let order_id = item.get("orderId").and_then(|id| id.as_s().ok()).cloned();
            match from_item::<_, ReportedOrder>(item) {
                Ok(order) => page.orders.push(order),
                Err(error) => {
                    tracing::error!(order_id, %error, "an order that cannot be read is left out of the report");
                    page.unreadable += 1;
                }
            }
        }
        Ok(page)
    }
}
