//! Carts in DynamoDB: a row per customer and region.
//!
//! | attribute | |
//! |---|---|
//! | `customerId` | key: the user's id, `#`, the region that writes the row |
//! | `lines` | a list of `productId`, `quantity` and `dot`: `region` and `version` of the write that added the line |
//! | `version`, `updatedAt` | how often and when it was written |
//! | `seen` | for each region, the version of its row that is part of this one; for its own region `version` |
//! | `writeId?` | the latest replacement: see [`super`]. Absent if only orders have written the row |
//!
//! [`CartRows`] is also for orders, which read and empty the cart in their own calls.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{Cart, CartError, DottedLine, Lines, Replacement, Row, VersionVector};
use crate::core::clock::SharedClock;
use crate::core::date_time::as_rfc3339;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{AttemptId, SharedIds, UserId};
use crate::core::retry::Backoff;
use crate::platform::dynamo::{DynamoError, Item, RowKey, RowRead, Write, WriteOutcome, number, text};
use crate::platform::{aws, tables};

/// The region's row has not changed since it was read: versions only rise. Version 0 means no row,
/// and a row is never deleted.
const IS_AS_READ: &str = "attribute_not_exists(customerId) OR version = :seen";

/// The rows of carts, as a region reads and writes them.
#[derive(Debug, Clone)]
pub struct CartRows {
    table: String,
    region: String,
    peers: Vec<String>,
}

impl CartRows {
    /// Rows in the table that `CARTS_TABLE` names, written as the region `AWS_REGION` and read of
    /// the regions of `PEER_REGIONS` too.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let (region, peers) = (aws::region(env)?, aws::peer_regions(env));
        Ok(Self { table: tables::CARTS.name(env)?, region, peers })
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The keys of a customer's cart: one row per region.
    pub fn of(&self, customer_id: &UserId) -> Vec<RowKey<'_>> {
        let keys = self.keys(customer_id).into_iter();
        keys.map(|key| RowKey { table: &self.table, key }).collect()
    }

    fn keys(&self, customer_id: &UserId) -> Vec<Item> {
        let regions = std::iter::once(&self.region).chain(&self.peers);
        regions.map(|region| key(customer_id, region)).collect()
    }

    /// The cart of these rows.
    pub fn parse(&self, items: Vec<Item>) -> Result<Cart, DynamoError> {
        let rows: Vec<Row> = items.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Cart::merged(&rows, &self.peers))
    }

    /// Empties the cart, in the transaction that orders its lines. `writeId` stays: that
    /// replacement has happened.
    pub fn emptied(
        &self,
        customer_id: &UserId,
        cart: &Cart,
        now: Timestamp,
    ) -> Result<TransactWriteItem, DynamoError> {
        let own = cart.row_of(&self.region);
        let write_id = own.and_then(|row| row.write_id.clone());
        let row = cart.next_row(&self.region, &Lines::default(), now, write_id);
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item(customer_id, row)?))
            .condition_expression(IS_AS_READ)
            .expression_attribute_values(":seen", number(own.map_or(0, Row::version)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| DynamoError::unreadable("build", target(customer_id), error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

/// Carts, for their customers. Calls `BatchGetItem` and `PutItem` on the carts table.
#[derive(Debug, Clone)]
pub struct Carts {
    client: Client,
    rows: CartRows,
    clock: SharedClock,
    ids: SharedIds,
}

/// The result of a compare-and-swap.
enum Swap {
    /// The row was written.
    Done,
    /// The row has this version instead. Nothing was changed.
    Overtaken(Row),
    /// Another write was in progress. Nothing was changed.
    Conflict,
}

impl Carts {
    /// Carts in the table that `CARTS_TABLE` names, of the regions `AWS_REGION` and `PEER_REGIONS`.
    pub fn from_env(
        client: Client,
        env: &Env,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Result<Self, ConfigError> {
        Ok(Self { client, rows: CartRows::from_env(env)?, clock, ids })
    }

    /// Reads the customer's cart as the region knows it. Consistent: it has every write of this
    /// region.
    pub fn cart(&self, customer_id: &UserId) -> RowRead<'_, Cart> {
        let keys = self.rows.keys(customer_id);
        RowRead::of_several(&self.rows.table, keys, |items| self.rows.parse(items))
    }

    /// Replaces the cart, which was read as `seen`, and returns the new one. An empty cart is not
    /// written to be emptied again.
    pub async fn replace(
        &self,
        customer_id: &UserId,
        mut seen: Cart,
        replacement: Replacement,
        deadline: Deadline,
    ) -> Result<Cart, CartError> {
        let Replacement { lines, preconditions } = replacement;
        let (now, write_id): (_, AttemptId) = (self.clock.now(), self.ids.next());
        let mut backoff = Backoff::within(deadline);
        loop {
            if !preconditions.admit(&seen.current()) {
                return Err(CartError::Stale(seen.tag));
            }
            if lines.is_empty() && seen.is_empty() {
                return Ok(seen);
            }
            let next = seen.next_row(&self.rows.region, &lines, now, Some(write_id.clone()));
            match self.swap(customer_id, &seen, &next).await? {
                Swap::Overtaken(row) if row.write_id.as_ref() != Some(&write_id) => {
                    seen = seen.with(row, &self.rows.peers);
                }
                Swap::Done | Swap::Overtaken(_) => return Ok(seen.with(next, &self.rows.peers)),
                Swap::Conflict => {}
            }
            if !backoff.wait().await {
                return Err(CartError::Contended);
            }
        }
    }

    /// Replaces the region's row that is part of `seen`.
    async fn swap(&self, customer_id: &UserId, seen: &Cart, next: &Row) -> Result<Swap, DynamoError> {
        let version = seen.row_of(&self.rows.region).map_or(0, Row::version);
        let request = self
            .client
            .put_item()
            .table_name(&self.rows.table)
            .set_item(Some(item(customer_id, next.clone())?))
            .condition_expression(IS_AS_READ)
            .expression_attribute_values(":seen", number(version))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        Ok(match Box::pin(request.send()).await.outcome("PutItem", &target(customer_id))? {
            Write::Done(_) => Swap::Done,
            Write::Refused(item) => Swap::Overtaken(parse(item)?),
            Write::Conflict => Swap::Conflict,
        })
    }
}

/// The row as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRow {
    customer_id: String,
    lines: Vec<DottedLine>,
    version: u64,
    seen: VersionVector,
    #[serde(with = "as_rfc3339")]
    updated_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    write_id: Option<AttemptId>,
}

fn name(customer_id: &UserId, region: &str) -> String {
    format!("{customer_id}#{region}")
}

fn key(customer_id: &UserId, region: &str) -> Item {
    Item::from([(tables::CARTS.key.hash.to_owned(), text(name(customer_id, region)))])
}

fn parse(item: Item) -> Result<Row, DynamoError> {
    let stored: StoredRow =
        from_item(item).map_err(|error| DynamoError::unreadable("read", "a cart", error))?;
    let StoredRow { customer_id, lines, version, mut seen, updated_at, write_id } = stored;
    let Some((_, region)) = customer_id.split_once('#') else {
        return Err(DynamoError::unreadable("read", "a cart", "its key names no region"));
    };
    seen.raise(region, version);
    Ok(Row { region: region.to_owned(), lines, seen, updated_at, write_id })
}

fn item(customer_id: &UserId, row: Row) -> Result<Item, DynamoError> {
    let version = row.version();
    let Row { region, lines, seen, updated_at, write_id } = row;
    let customer = name(customer_id, &region);
    let stored = StoredRow { customer_id: customer, lines, version, seen, updated_at, write_id };
    to_item(stored).map_err(|error| DynamoError::unreadable("write", target(customer_id), error))
}

fn target(customer_id: &UserId) -> String {
    format!("the cart of {customer_id}")
}
