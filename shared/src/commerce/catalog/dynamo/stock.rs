//! Changes of the units on hand.
//!
//! The change is an addition, so it succeeds while the product sells: its only conditions are the
//! bounds. A transaction does not return new values. So the answer has the units that were read
//! just before, plus the change; concurrent orders make the true number another one.

use jiff::Timestamp;
use serde_json::json;

use super::{parse_stock, product_key, stock_key};
use crate::commerce::catalog::{Delta, MAX_UNITS, StockLevel, StockRefusal};
use crate::coordination::idempotency::dynamo::atomic::{Decision, DecisionOf, Effect, Refused};
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{EventId, ProductId, UserId};
use crate::identity::principal::Principal;
use crate::platform::aws;
use crate::platform::dynamo::{Actions, DynamoError, Item, Reasons, RowKey, RowUpdate, Rows, number, text};
use crate::platform::outbox::{self, Event, EventType};
use crate::platform::tables;

/// Adds units. No row means none. The sum stays below a region's maximum.
const ADD: RowUpdate = RowUpdate {
    update: "SET available = if_not_exists(available, :zero) + :delta, updatedAt = :now",
    condition: Some("attribute_not_exists(available) OR available <= :most"),
    names: &[],
};

/// Removes units, if enough are left.
const REMOVE: RowUpdate = RowUpdate {
    update: "SET available = available + :delta, updatedAt = :now",
    condition: Some("available >= :least"),
    names: &[],
};

/// The tables that a stock change writes to.
#[derive(Debug, Clone)]
pub struct StockTables {
    products: String,
    stock: String,
    outbox: String,
    region: String,
}

impl StockTables {
    /// The tables that `PRODUCTS_TABLE`, `STOCK_TABLE` and `OUTBOX_TABLE` name, in the region
    /// `AWS_REGION`.
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
    pub tables: &'a StockTables,
    pub product_id: &'a ProductId,
    pub delta: Delta,
    /// The id of the event, if the change succeeds.
    pub event_id: EventId,
}

/// The names of the transaction's actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockAction {
    Stock,
    Event,
}

impl Effect for AdjustStock<'_> {
    type Outcome = StockLevel;
    type Refusal = StockRefusal;
    type Action = StockAction;

    fn rows(&self, _: &UserId) -> Vec<RowKey<'_>> {
        let StockTables { products, stock, region, .. } = self.tables;
        vec![
            RowKey { table: products, key: product_key(self.product_id) },
            RowKey { table: stock, key: stock_key(self.product_id, region) },
        ]
    }

    async fn decide(
        &self,
        _: &Principal,
        mut rows: Rows,
        now: Timestamp,
    ) -> Result<DecisionOf<Self>, DynamoError> {
        let StockTables { products, stock, outbox, region } = self.tables;
        if rows.take_one(products).is_none() {
            let unknown = StockRefusal::UnknownProduct(self.product_id.clone());
            return Ok(Decision::Refuse(Refused::ForGood(unknown)));
        }
        let seen = units_of(rows.take_one(stock).unwrap_or_default())?;
        let key = stock_key(self.product_id, region);
        let units = self.delta.units();
        let [by, at] = [(":delta", number(units)), (":now", text(rfc3339(now)))];
        let change = if units < 0 {
            REMOVE.action(stock, key, [by, at, (":least", number(units.unsigned_abs()))])?
        } else {
            let most = MAX_UNITS.saturating_sub(units.unsigned_abs());
            ADD.action(stock, key, [by, at, (":zero", number(0)), (":most", number(most))])?
        };
        let event = Event {
            event_id: self.event_id.clone(),
            kind: EventType::StockChanged,
            occurred_at: now,
            region: region.clone(),
            subject: self.product_id.to_string(),
            data: json!({"productId": self.product_id, "region": region, "delta": self.delta}),
        };
        let outcome = StockLevel {
            product_id: self.product_id.clone(),
            region: region.clone(),
            available: seen.saturating_add_signed(units),
        };
        let event = outbox::dynamo::put(outbox, &event)?;
        let actions = Actions::from([(StockAction::Stock, change), (StockAction::Event, event)]);
        Ok(Decision::Commit { outcome, actions })
    }

    /// The bound of the stock failed; the returned row has the current units.
    fn explain(&self, _: &StockLevel, reasons: &Reasons<StockAction>) -> Option<Refused<StockRefusal>> {
        let stock = reasons.row_refusing(&StockAction::Stock)?;
        let available = units_of(stock.clone()).ok()?;
        self.delta.applied_to(available).err().map(Refused::ForGood)
    }
}

/// The units of a stock row. No row means none.
fn units_of(row: Item) -> Result<u64, DynamoError> {
    if row.is_empty() { Ok(0) } else { parse_stock(row).map(|row| row.available) }
}
