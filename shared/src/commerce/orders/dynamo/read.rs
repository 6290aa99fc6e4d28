//! Reading orders: one, or a customer's.

use std::error::Error;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use jiff::Timestamp;
use serde::Deserialize;
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::{key, parse, parse_listed, unpaid};
use crate::commerce::orders::{
    ListedOrder, Order, OrderCursor, OrderQueryError, OrderStatus, OrdersPage, UnreadableOrder,
};
use crate::core::cursor::{self, Page};
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{OrderId, UserId};
use crate::core::money::Money;
use crate::platform::dynamo::{DynamoError, Item, RowKey, RowRead, text};
use crate::platform::tables;

/// Name of the listing in its cursors.
const LISTING: &str = "orders";

/// The index of a customer's orders by time.
const BY_CUSTOMER: &str = "byCustomer";

/// Orders of one customer.
const OF_CUSTOMER: &str = "customerId = :customer";

/// Both ends are included: the last one is the period's last millisecond.
const OF_PERIOD: &str = "customerId = :customer AND createdAt BETWEEN :first AND :last";

/// The attributes of a list. They make the answers smaller, not the query cheaper.
const LISTED: &str = "orderId, createdAt, #status, #region, #total, #lines";

/// The attributes of a summary.
const SUMMARIZED: &str = "orderId, createdAt, #status, #total";

/// The attribute with an order's customer.
const CUSTOMER: &str = "customerId";

/// An order as a summary counts it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::commerce::orders) struct SummarizedOrder {
    pub(in crate::commerce::orders) status: OrderStatus,
    pub(in crate::commerce::orders) total: Money,
    #[serde(with = "as_rfc3339")]
    pub(in crate::commerce::orders) created_at: Timestamp,
}

/// Reads of the orders table. Each method documents its calls, which the function's policy must
/// allow.
#[derive(Debug, Clone)]
pub struct DynamoOrders {
    pub(super) client: Client,
    pub(super) table: String,
}

impl DynamoOrders {
    /// Orders in the table that `ORDERS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::ORDERS.name(env)? })
    }

    /// The order with this id, of any customer. Consistent. Calls `GetItem`.
    pub async fn get(&self, order_id: &OrderId) -> Result<Option<Order>, DynamoError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(order_id)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoError::new("GetItem", order_id.as_str(), error))?;
        answer.item.map(parse).transpose()
    }

    /// Reads the customer's order with this id. Consistent: an order is visible as soon as it was
    /// answered. Calls `BatchGetItem`.
    pub fn order(&self, customer_id: &UserId, order_id: &OrderId) -> RowRead<'_, Option<Order>> {
        let customer_id = customer_id.clone();
        let row = RowKey { table: &self.table, key: key(order_id) };
        RowRead::new(row, move |item| {
            let order = item.map(parse).transpose()?;
            Ok(order.filter(|order| order.customer_id == customer_id))
        })
    }

    /// A page of the customer's orders, newest first, after `cursor`. Eventually consistent: a very
    /// recent order may be missing. Calls `Query` on the index `byCustomer`.
    pub async fn list(
        &self,
        customer_id: &UserId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<ListedOrder>, OrderQueryError> {
        let after = cursor.map(|cursor| cursor::decode(LISTING, cursor)).transpose()?;
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(BY_CUSTOMER)
            .key_condition_expression(OF_CUSTOMER)
            .expression_attribute_values(":customer", text(customer_id.as_str()))
            .scan_index_forward(false)
            .set_exclusive_start_key(after.as_ref().map(|after| start_key(customer_id, after)))
            .limit(cursor::rows_to_read(limit))
            .send()
            .await
            .map_err(|error| DynamoError::new("Query", format!("orders of {customer_id}"), error))?;
        let listed =
            |item| from_item(item).map_err(|error| DynamoError::unreadable("read", "a listed order", error));
        let mut items: Vec<ListedOrder> =
            answer.items.unwrap_or_default().into_iter().map(listed).collect::<Result<_, _>>()?;
        let next_cursor = match (cursor::cut(&mut items, limit), answer.last_evaluated_key) {
            (Some(last), _) => {
                Some(OrderCursor { order_id: last.order_id.clone(), created_at: last.created_at })
            }
            // Fewer rows were read than requested: DynamoDB's limit of a megabyte.
            (None, Some(key)) => Some(end(key)?),
            (None, None) => None,
        };
        let next_cursor = next_cursor.as_ref().map(encode).transpose()?;
        Ok(Page { items, next_cursor })
    }

    /// A page of the customer's orders that were placed from `first` to `last`, oldest first, after
    /// `after`. DynamoDB limits a page to 1 MB of rows. Eventually consistent. Calls `Query` on the
    /// index `byCustomer`.
    pub async fn of_period(
        &self,
        customer_id: &UserId,
        (first, last): (Timestamp, Timestamp),
        after: Option<&OrderCursor>,
    ) -> Result<OrdersPage<ListedOrder, OrderCursor>, DynamoError> {
        let query = self
            .client
            .query()
            .key_condition_expression(OF_PERIOD)
            .projection_expression(LISTED)
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#region", "region")
            .expression_attribute_names("#total", "total")
            .expression_attribute_names("#lines", "lines")
            .expression_attribute_values(":first", text(rfc3339(first)))
            .expression_attribute_values(":last", text(rfc3339(last)));
        let listed = |mut item: Item| {
            item.insert(CUSTOMER.to_owned(), text(customer_id.as_str()));
            parse_listed(item)
        };
        self.page(query, customer_id, after, listed).await
    }

    /// A page of the customer's orders, newest first, after `after`. DynamoDB limits a page to 1 MB
    /// of rows. Eventually consistent. Calls `Query` on the index `byCustomer`.
    pub(in crate::commerce::orders) async fn summarized(
        &self,
        customer_id: &UserId,
        after: Option<&OrderCursor>,
    ) -> Result<OrdersPage<SummarizedOrder, OrderCursor>, DynamoError> {
        let query = self
            .client
            .query()
            .key_condition_expression(OF_CUSTOMER)
            .projection_expression(SUMMARIZED)
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#total", "total")
            .scan_index_forward(false);
        self.page(query, customer_id, after, parse_listed).await
    }

    /// A page of a query of `byCustomer`, whose condition names the customer `:customer`.
    async fn page<T>(
        &self,
        query: QueryFluentBuilder,
        customer_id: &UserId,
        after: Option<&OrderCursor>,
        row: impl Fn(Item) -> Result<T, UnreadableOrder>,
    ) -> Result<OrdersPage<T, OrderCursor>, DynamoError> {
        let answer = query
            .table_name(&self.table)
            .index_name(BY_CUSTOMER)
            .expression_attribute_values(":customer", text(customer_id.as_str()))
            .set_exclusive_start_key(after.map(|after| start_key(customer_id, after)))
            .send()
            .await
            .map_err(|error| DynamoError::new("Query", format!("orders of {customer_id}"), error))?;
        let orders = answer.items.unwrap_or_default().into_iter().map(row).collect();
        Ok(OrdersPage { orders, next: answer.last_evaluated_key.map(end).transpose()? })
    }

    /// When an order of the customer last changed in the region, if ever. Consistent. Calls
    /// `GetItem`.
    pub(in crate::commerce::orders) async fn changed_at(
        &self,
        customer_id: &UserId,
        region: &str,
    ) -> Result<Option<Timestamp>, DynamoError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(unpaid::row_key(customer_id, region)))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoError::new("GetItem", format!("orders of {customer_id}"), error))?;
        Ok(answer.item.and_then(unpaid::changed_at))
    }

    /// The order's customer; `None` if there is no such order. Consistent. Calls `GetItem`, for one
    /// attribute.
    pub async fn owner(&self, order_id: &OrderId) -> Result<Option<UserId>, DynamoError> {
        let target = || format!("{} {order_id}", self.table);
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(order_id)))
            .projection_expression(CUSTOMER)
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| DynamoError::new("GetItem", target(), error))?;
        let Some(item) = answer.item else { return Ok(None) };
        match item.get(CUSTOMER).map(|owner| owner.as_s()) {
            Some(Ok(owner)) => {
                owner.parse().map(Some).map_err(|error| DynamoError::unreadable("GetItem", target(), error))
            }
            _ => Err(DynamoError::unreadable("GetItem", target(), "an order without a customer")),
        }
    }
}

/// The position `after` in the index of the customer's orders. A cursor never contains the
/// customer.
fn start_key(customer_id: &UserId, after: &OrderCursor) -> Item {
    let mut start = key(&after.order_id);
    start.insert(CUSTOMER.to_owned(), text(customer_id.as_str()));
    start.insert("createdAt".to_owned(), text(rfc3339(after.created_at)));
    start
}

fn end(key: Item) -> Result<OrderCursor, DynamoError> {
    from_item(key).map_err(|error| unreadable(error.into()))
}

fn encode(cursor: &OrderCursor) -> Result<String, DynamoError> {
    cursor::encode(LISTING, cursor).map_err(|error| unreadable(error.into()))
}

fn unreadable(error: Box<dyn Error + Send + Sync>) -> DynamoError {
    DynamoError::unreadable("Query", "the end of a page of orders", error)
}
