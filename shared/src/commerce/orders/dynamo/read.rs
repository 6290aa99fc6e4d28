//! Reading orders: one, or a customer's, newest first.

use std::error::Error;

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::{key, parse};
use crate::commerce::orders::{ListedOrder, Order, OrderQueryError};
use crate::core::cursor::{self, Page};
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{OrderId, UserId};
use crate::platform::dynamo::{DynamoError, Item, RowKey, RowRead, text};
use crate::platform::tables;

/// Name of the listing in its cursors.
const LISTING: &str = "orders";

/// Orders of one customer.
const OF_CUSTOMER: &str = "customerId = :customer";

/// Reads of the orders table. Calls `BatchGetItem`, and `Query` on the index `byCustomer`.
#[derive(Debug, Clone)]
pub struct DynamoOrders {
    client: Client,
    table: String,
}

/// The place behind an order in its customer's list. The customer is never part of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Behind {
    order_id: OrderId,
    #[serde(with = "as_rfc3339")]
    created_at: Timestamp,
}

impl DynamoOrders {
    /// Orders in the table that `ORDERS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::ORDERS.name(env)? })
    }

    /// Reads the customer's order of that id. Consistent: an order is there as soon as it was answered.
    pub fn order<'a>(&'a self, customer_id: &'a UserId, order_id: &OrderId) -> RowRead<'a, Option<Order>> {
        let row = RowKey { table: &self.table, key: key(order_id) };
        RowRead::new(row, move |item| {
            let order = item.map(parse).transpose()?;
            Ok(order.filter(|order| order.customer_id == *customer_id))
        })
    }

    /// A page of the customer's orders, newest first, behind `cursor`. Eventually consistent, as indexes are: an order
    /// of a moment ago may be missing.
    pub async fn list(
        &self,
        customer_id: &UserId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<ListedOrder>, OrderQueryError> {
        let start =
            cursor.map(|cursor| cursor::decode::<Behind>(LISTING, cursor)).transpose()?.map(|behind| {
                let mut start = key(&behind.order_id);
                start.insert("customerId".to_owned(), text(customer_id.as_str()));
                start.insert("createdAt".to_owned(), text(rfc3339(behind.created_at)));
                start
            });
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name("byCustomer")
            .key_condition_expression(OF_CUSTOMER)
            .expression_attribute_values(":customer", text(customer_id.as_str()))
            .scan_index_forward(false)
            .set_exclusive_start_key(start)
            .limit(cursor::rows_to_read(limit))
            .send()
            .await
            .map_err(|error| DynamoError::new("Query", format!("orders of {customer_id}"), error))?;
        let listed =
            |item| from_item(item).map_err(|error| DynamoError::unreadable("read", "a listed order", error));
        let mut items: Vec<ListedOrder> =
            answer.items.unwrap_or_default().into_iter().map(listed).collect::<Result<_, _>>()?;
        let next_cursor = match (cursor::cut(&mut items, limit), answer.last_evaluated_key) {
            (Some(last), _) => Some(Behind { order_id: last.order_id.clone(), created_at: last.created_at }),
            // Less was read than asked for: DynamoDB's megabyte was full.
            (None, Some(key)) => Some(behind(key)?),
            (None, None) => None,
        };
        let next_cursor = next_cursor.as_ref().map(encode).transpose()?;
        Ok(Page { items, next_cursor })
    }
}

fn behind(key: Item) -> Result<Behind, DynamoError> {
    from_item(key).map_err(|error| unreadable(error.into()))
}

fn encode(behind: &Behind) -> Result<String, DynamoError> {
    cursor::encode(LISTING, behind).map_err(|error| unreadable(error.into()))
}

fn unreadable(error: Box<dyn Error + Send + Sync>) -> DynamoError {
    DynamoError::unreadable("Query", "the end of a page of orders", error)
}
