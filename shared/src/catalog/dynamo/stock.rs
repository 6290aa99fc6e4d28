//! Changing the units on hand.

use jiff::Timestamp;
use serde_json::json;

use super::{parse_stock, product_key, stock_key};
use crate::aws;
use crate::catalog::{Delta, StockRefusal};
use crate::clock::rfc3339;
use crate::dynamo::{CancellationReason, Change, DynamoError, RowKey, Rows, number, text};
use crate::env::{ConfigError, Env};
use crate::idempotency::dynamo::atomic::{Commit, Decision, Effect};
use crate::ids::{EventId, ProductId};
use crate::outbox::{self, Event, EventType};
use crate::problem::Problem;
use crate::reply::Reply;
use crate::tables;

/// Replaces the units that were read. A transaction tells no new values, so the answer can name the sum only if nothing
/// came in between.
const REPLACE: Change = Change {
    update: "SET available = :sum, updatedAt = :now",
    condition: Some("available = :seen"),
    names: &[],
};

/// The first units in this region.
const BEGIN: Change = Change {
    update: "SET available = :sum, updatedAt = :now",
    condition: Some("attribute_not_exists(productId)"),
    names: &[],
};

/// Where stock changes are written.
#[derive(Debug, Clone)]
pub struct StockTables {
    products: String,
    stock: String,
    outbox: String,
    region: String,
}

impl StockTables {
    /// The tables that `PRODUCTS_TABLE`, `STOCK_TABLE` and `OUTBOX_TABLE` name, in the region `AWS_REGION`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            products: tables::PRODUCTS.name(env)?,
            stock: tables::STOCK.name(env)?,
            outbox: tables::OUTBOX.name(env)?,
            region: aws::region(env)?,
        })
    }
}

/// The effect of `POST /products/{productId}/stock`.
///
/// Reads `BatchGetItem` on products and stock. Writes `UpdateItem` on stock, `PutItem` on outbox.
#[derive(Debug)]
pub struct AdjustStock<'a> {
    /// Where.
    pub tables: &'a StockTables,
    /// Of what.
    pub product_id: &'a ProductId,
    /// By how much.
    pub delta: Delta,
    /// The event's id, if it comes to one.
    pub event_id: EventId,
}

impl Effect for AdjustStock<'_> {
    type Decided = ();

    fn rows(&self) -> Vec<RowKey<'_>> {
        let StockTables { products, stock, region, .. } = self.tables;
        vec![
            RowKey { table: products, key: product_key(self.product_id) },
            RowKey { table: stock, key: stock_key(self.product_id, region) },
        ]
    }

    async fn decide(&self, mut rows: Rows, now: Timestamp) -> Result<Decision, DynamoError> {
        let StockTables { products, stock, outbox, region } = self.tables;
        if rows.take_one(products).is_none() {
            return Ok(Decision::Refuse(StockRefusal::UnknownProduct(self.product_id.clone()).into()));
        }
        let seen = rows.take_one(stock).map(parse_stock).transpose()?.map(|row| row.available);
        let sum = match self.delta.applied_to(seen.unwrap_or(0)) {
            Ok(sum) => sum,
            Err(refusal) => return Ok(Decision::Refuse(refusal.into())),
        };
        let key = stock_key(self.product_id, region);
        let [to, at] = [(":sum", number(sum)), (":now", text(rfc3339(now)))];
        let change = match seen {
            Some(seen) => REPLACE.action(stock, key, [to, at, (":seen", number(seen))])?,
            None => BEGIN.action(stock, key, [to, at])?,
        };
        let event = Event {
            event_id: self.event_id.clone(),
            kind: EventType::StockChanged,
            occurred_at: now,
            region: region.clone(),
            subject: self.product_id.to_string(),
            data: json!({"productId": self.product_id, "region": region, "delta": self.delta, "available": sum}),
        };
        let body = json!({"productId": self.product_id, "region": region, "available": sum});
        let actions = vec![change, outbox::dynamo::put(outbox, &event)?];
        Ok(Decision::Commit(Commit { actions, reply: Reply::json(200, body), decided: () }))
    }

    /// The units have changed since they were read: look again.
    fn explain(&self, (): &(), _: &[CancellationReason]) -> Option<Problem> {
        None
    }

    fn committed(&self) {}
}
