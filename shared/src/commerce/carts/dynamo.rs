//! Carts in DynamoDB: a row each.
//!
//! | attribute | |
//! |---|---|
//! | `customerId` | key: the user's id |
//! | `lines` | a list of `productId` and `quantity` |
//! | `version`, `updatedAt` | how often and when it was written |
//! | `writeId` | by whom: see [`super`] |
//!
//! [`key`], [`parse`] and [`empty`] are for orders, which read and empty the cart in calls of their own.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{Cart, CartError, Lines, Replacement, Written};
use crate::core::clock::SharedClock;
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{AttemptId, SharedIds, UserId};
use crate::core::retry::Backoff;
use crate::platform::dynamo::{
    AttributeValue, Change, DynamoError, Item, RowKey, RowRead, Write, WriteOutcome, number, text,
};
use crate::platform::tables;

/// Nobody has written since the cart was seen: versions only rise. Version 0 is no row, and a row never goes.
const IS_AS_SEEN: &str = "attribute_not_exists(customerId) OR version = :seen";

/// Empties the cart that was seen, whose lines become an order. `writeId` stays: the write that it names has happened.
const EMPTY: Change = Change {
    update: "SET #lines = :none, updatedAt = :now, version = version + :one",
    condition: Some("version = :seen"),
    names: &[("#lines", "lines")],
};

/// Carts, for their customers. Calls `BatchGetItem` and `PutItem` on the carts table.
#[derive(Debug, Clone)]
pub struct Carts {
    client: Client,
    table: String,
    clock: SharedClock,
    ids: SharedIds,
}

/// What became of a swap.
enum Swap {
    /// The cart was written.
    Done,
    /// The cart has another version: this one. Nothing was changed.
    Overtaken(Cart),
    /// Another write was in progress. Nothing was changed.
    Conflict,
}

/// The key of a customer's cart.
pub fn key(customer_id: &UserId) -> Item {
    Item::from([(tables::CARTS.key.hash.to_owned(), text(customer_id.as_str()))])
}

/// Reads a cart. An empty item is no row.
pub fn parse(item: Item) -> Result<Cart, DynamoError> {
    if item.is_empty() {
        return Ok(Cart::default());
    }
    let row: Row = from_item(item).map_err(|error| DynamoError::unreadable("read", "a cart", error))?;
    let written = Written { at: row.updated_at, by: row.write_id };
    Ok(Cart { lines: row.lines, version: row.version, written: Some(written) })
}

/// Empties the cart at version `seen`, in the transaction that makes an order of its lines.
pub fn empty(
    table: &str,
    customer_id: &UserId,
    seen: u64,
    now: Timestamp,
) -> Result<TransactWriteItem, DynamoError> {
    let values = [
        (":none", AttributeValue::L(Vec::new())),
        (":now", text(rfc3339(now))),
        (":one", number(1)),
        (":seen", number(seen)),
    ];
    EMPTY.action(table, key(customer_id), values)
}

impl Carts {
    /// Carts in the table that `CARTS_TABLE` names.
    pub fn from_env(
        client: Client,
        env: &Env,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::CARTS.name(env)?, clock, ids })
    }

    /// Reads the customer's cart as it stands. Consistent.
    pub fn cart(&self, customer_id: &UserId) -> RowRead<'_, Cart> {
        let row = RowKey { table: &self.table, key: key(customer_id) };
        RowRead::new(row, |item| parse(item.unwrap_or_default()))
    }

    /// Replaces the cart, which was `seen` a moment ago, and tells what it was made. A cart without lines is not written
    /// to be without lines.
    pub async fn replace(
        &self,
        customer_id: &UserId,
        mut seen: Cart,
        replacement: Replacement,
        deadline: Deadline,
    ) -> Result<Cart, CartError> {
        let Replacement { lines, preconditions } = replacement;
        let mark = Written { at: self.clock.now(), by: self.ids.next() };
        let mut backoff = Backoff::within(deadline);
        loop {
            if !preconditions.admit(&seen.current()) {
                return Err(CartError::Stale { version: seen.version });
            }
            if lines.is_empty() && seen.lines.is_empty() {
                return Ok(seen);
            }
            match self.swap(customer_id, seen.version, &lines, &mark).await? {
                Swap::Overtaken(cart) if !cart.is_written_by(&mark.by) => seen = cart,
                Swap::Done | Swap::Overtaken(_) => {
                    return Ok(Cart { lines, version: seen.version + 1, written: Some(mark) });
                }
                Swap::Conflict => {}
            }
            if !backoff.wait().await {
                return Err(CartError::Contended);
            }
        }
    }

    /// Replaces the lines of the cart at version `seen`, and marks it.
    async fn swap(
        &self,
        customer_id: &UserId,
        seen: u64,
        lines: &Lines,
        mark: &Written,
    ) -> Result<Swap, DynamoError> {
        let row = Row {
            customer_id: customer_id.clone(),
            lines: lines.clone(),
            version: seen + 1,
            updated_at: mark.at,
            write_id: mark.by.clone(),
        };
        let item =
            to_item(row).map_err(|error| DynamoError::unreadable("write", target(customer_id), error))?;
        let request = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(IS_AS_SEEN)
            .expression_attribute_values(":seen", number(seen))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        Ok(match Box::pin(request.send()).await.outcome("PutItem", &target(customer_id))? {
            Write::Done(_) => Swap::Done,
            Write::Refused(item) => Swap::Overtaken(parse(item)?),
            Write::Conflict => Swap::Conflict,
        })
    }
}

/// The row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    customer_id: UserId,
    lines: Lines,
    version: u64,
    #[serde(with = "as_rfc3339")]
    updated_at: Timestamp,
    write_id: AttemptId,
}

fn target(customer_id: &UserId) -> String {
    format!("the cart of {customer_id}")
}
