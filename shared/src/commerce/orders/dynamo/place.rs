//! Placing an order: two round trips, three from the cart, or one for a replay.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;

use super::{OrderWrites, unpaid};
use crate::commerce::carts::{self, Lines};
use crate::commerce::catalog;
use crate::commerce::orders::{
    Order, OrderLine, OrderRequest, OrderStatus, Refusal, TooManyUnpaid, UnpaidLimits, price,
};
use crate::coordination::idempotency::dynamo::atomic::{Commit, Decision, Effect, Explanation};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{OrderId, ProductId, UserId};
use crate::core::money::Money;
use crate::core::reply::Reply;
use crate::platform::dynamo::{CancellationReason, DynamoError, Item, RowKey, Rows, read_rows};
use crate::platform::tables;
use crate::platform::telemetry::{self, Metric};

/// Position of the action that counts the order among its customer's unpaid ones.
const COUNT: usize = 2;

/// Actions of the transaction that come before those of the lines: the order, its event and its count. Behind them comes
/// the cart's.
const BEFORE_LINES: usize = COUNT + 1;

/// Where orders are placed.
#[derive(Debug, Clone)]
pub struct Checkout {
    client: Client,
    products: String,
    carts: String,
    writes: OrderWrites,
    limits: UnpaidLimits,
}

impl Checkout {
    /// Orders of products in `PRODUCTS_TABLE`, out of carts in `CARTS_TABLE`, within the [`UnpaidLimits`] of the
    /// environment.
    pub fn from_env(client: Client, env: &Env, writes: OrderWrites) -> Result<Self, ConfigError> {
        let (products, carts) = (tables::PRODUCTS.name(env)?, tables::CARTS.name(env)?);
        Ok(Self { client, products, carts, writes, limits: UnpaidLimits::from_env(env)? })
    }

    fn product_keys<'a>(&'a self, lines: &Lines) -> Vec<RowKey<'a>> {
        let lines = lines.as_slice().iter();
        lines
            .map(|line| RowKey { table: &self.products, key: catalog::dynamo::product_key(&line.product_id) })
            .collect()
    }
}

/// The effect of `POST /orders`.
///
/// Reads `BatchGetItem` on products and carts. Writes `PutItem` on orders and outbox, `UpdateItem` on orders, stock and
/// carts.
#[derive(Debug)]
pub struct PlaceOrder<'a> {
    /// Where.
    pub checkout: &'a Checkout,
    /// For whom.
    pub customer_id: &'a UserId,
    /// The id that the order gets, if it comes to one.
    pub order_id: OrderId,
    /// What.
    pub request: &'a OrderRequest,
    /// By when.
    pub deadline: Deadline,
}

/// What is to be ordered, and what else that takes.
struct Basket {
    lines: Lines,
    products: Vec<Item>,
    emptied_cart: Option<TransactWriteItem>,
}

impl PlaceOrder<'_> {
    /// What is to be ordered; `None`: nothing, for the cart is empty.
    async fn basket(&self, mut rows: Rows, now: Timestamp) -> Result<Option<Basket>, DynamoError> {
        let Checkout { client, products, carts, .. } = self.checkout;
        if let OrderRequest::Lines(lines) = self.request {
            let (lines, products) = (lines.clone(), rows.take(products));
            return Ok(Some(Basket { lines, products, emptied_cart: None }));
        }
        let cart = carts::dynamo::parse(rows.take_one(carts).unwrap_or_default())?;
        if cart.lines.is_empty() {
            return Ok(None);
        }
        // Nobody knew before which products to read.
        let mut rows = read_rows(client, self.checkout.product_keys(&cart.lines), self.deadline).await?;
        let emptied = carts::dynamo::empty(carts, self.customer_id, cart.version, now)?;
        Ok(Some(Basket { lines: cart.lines, products: rows.take(products), emptied_cart: Some(emptied) }))
    }

    fn order(&self, lines: Vec<OrderLine>, total: Money, units: u64, now: Timestamp) -> Order {
        Order {
            order_id: self.order_id.clone(),
            customer_id: self.customer_id.clone(),
            status: OrderStatus::PendingPayment,
            lines,
            total,
            region: self.checkout.writes.region.clone(),
            created_at: now,
            updated_at: now,
            version: 1,
            payment_generation: 0,
            payment: None,
            payment_id: None,
            reserved_units: Some(units),
        }
    }
}

impl Effect for PlaceOrder<'_> {
    /// The products of the lines, in their order.
    type Decided = Vec<ProductId>;

    fn rows(&self) -> Vec<RowKey<'_>> {
        match self.request {
            OrderRequest::Lines(lines) => self.checkout.product_keys(lines),
            OrderRequest::Cart => {
                vec![RowKey { table: &self.checkout.carts, key: carts::dynamo::key(self.customer_id) }]
            }
        }
    }

    async fn decide(&self, rows: Rows, now: Timestamp) -> Result<Decision<Self::Decided>, DynamoError> {
        let Some(Basket { lines, products, emptied_cart }) = self.basket(rows, now).await? else {
            return Ok(Decision::Refuse(Refusal::EmptyCart.into()));
        };
        let (lines, total) = match price(&lines, &prices(products)?) {
            Ok(lines_and_total) => lines_and_total,
            Err(refusal) => return Ok(Decision::Refuse(refusal.into())),
        };
        let limits = self.checkout.limits;
        let units = lines.iter().map(|line| u64::from(line.quantity.get())).sum();
        if units > limits.units {
            return Ok(Decision::Defer(TooManyUnpaid { orders: 0, units: 0, limits }.into()));
        }
        let order = self.order(lines, total, units, now);
        let mut actions = self.checkout.writes.placed(&order, units, limits)?;
        actions.extend(emptied_cart);
        let reply =
            Reply::json(201, order.document()).header("location", format!("/orders/{}", order.order_id));
        let decided = order.lines.into_iter().map(|line| line.product_id).collect();
        Ok(Decision::Commit(Commit { actions, reply, decided }))
    }

    /// The count's condition fails when the customer has too many unpaid orders: that passes. A line's condition fails
    /// when fewer units are left than it wants: final, and every such line is named. Unless somebody was at the cart: then
    /// these may be its lines no longer.
    fn explain(&self, products: &Vec<ProductId>, reasons: &[CancellationReason]) -> Explanation {
        let cart = reasons.get(BEFORE_LINES + products.len());
        if cart.is_some_and(|reason| *reason != CancellationReason::None) {
            return Explanation::ReadAgain;
        }
        if let Some(CancellationReason::ConditionFailed(row)) = reasons.get(COUNT) {
            return Explanation::Defer(unpaid::refusal(row.clone(), self.checkout.limits).into());
        }
        let short: Vec<_> = reasons
            .iter()
            .skip(BEFORE_LINES)
            .zip(products)
            .filter(|(reason, _)| matches!(reason, CancellationReason::ConditionFailed(_)))
            .map(|(_, product_id)| product_id.clone())
            .collect();
        if short.is_empty() {
            Explanation::ReadAgain
        } else {
            Explanation::Refuse(Refusal::OutOfStock(short).into())
        }
    }

    fn committed(&self) {
        telemetry::count(Metric::OrdersPlaced, 1);
    }
}

fn prices(products: Vec<Item>) -> Result<BTreeMap<ProductId, Money>, DynamoError> {
    let products = products.into_iter().map(catalog::dynamo::parse_product);
    products.map(|product| product.map(|product| (product.product_id, product.draft.price))).collect()
}
