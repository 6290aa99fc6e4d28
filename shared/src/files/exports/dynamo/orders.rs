//! A customer's orders of a period, from the index `byCustomer` of the orders table.

use aws_sdk_dynamodb::Client;
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use crate::commerce::orders;
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::UserId;
use crate::files::exports::{CustomerOrders, ExportedOrder, OrderCursor, OrdersPage, Period, Unreadable};
use crate::platform::dynamo::{DynamoError, Item, text};
use crate::platform::tables;

/// Both ends are part of it: the last one is the period's last millisecond.
const OF_PERIOD: &str = "customerId = :customer AND createdAt BETWEEN :first AND :last";

/// What a line needs. It does not make the query cheaper, but the answers smaller.
const NEEDED: &str = "orderId, createdAt, #status, #region, #total, #lines";

/// [`CustomerOrders`] over the orders table. Calls `Query` on its index `byCustomer`, nothing else. A page is what DynamoDB
/// makes one: 1 MB of rows.
#[derive(Debug, Clone)]
pub struct DynamoCustomerOrders {
    client: Client,
    table: String,
}

impl DynamoCustomerOrders {
    /// Reads the table that `ORDERS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::ORDERS.name(env)? })
    }
}

impl CustomerOrders for DynamoCustomerOrders {
    async fn page(
        &self,
        customer_id: &UserId,
        period: &Period,
        after: Option<&OrderCursor>,
    ) -> Result<OrdersPage, Unreadable> {
        let start = after.map(|after| {
            let mut start = orders::dynamo::key(&after.order_id);
            start.insert("customerId".to_owned(), text(customer_id.as_str()));
            start.insert("createdAt".to_owned(), text(rfc3339(after.created_at)));
            start
        });
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("byCustomer")
            .key_condition_expression(OF_PERIOD)
            .projection_expression(NEEDED)
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#region", "region")
            .expression_attribute_names("#total", "total")
            .expression_attribute_names("#lines", "lines")
            .expression_attribute_values(":customer", text(customer_id.as_str()))
            .expression_attribute_values(":first", text(rfc3339(period.from())))
            .expression_attribute_values(":last", text(rfc3339(period.last())))
            .set_exclusive_start_key(start)
            .send()
            .await
            .map_err(|error| DynamoError::new("Query", format!("orders of {customer_id}"), error))?;
        let next = answer
            .last_evaluated_key
            .map(|last| {
                from_item::<OrderCursor>(last)
                    .map_err(|error| DynamoError::unreadable("Query", "the end of a page of orders", error))
            })
            .transpose()?;
        let orders =
            answer.items.unwrap_or_default().into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        Ok(OrdersPage { orders, next })
    }
}

fn parse(item: Item) -> Result<ExportedOrder, Unreadable> {
    let order_id = item.get("orderId").and_then(|id| id.as_s().ok()).cloned().unwrap_or_default();
    from_item(item).map_err(|error| Unreadable::Order { order_id, source: error.into() })
}
