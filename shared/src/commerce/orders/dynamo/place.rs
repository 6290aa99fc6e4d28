//! Placing an order: two round trips, three from the cart, or one for a replay.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;

use super::{OrderAction, OrderWrites, unpaid};
use crate::commerce::carts::Lines;
use crate::commerce::carts::dynamo::CartRows;
use crate::commerce::catalog;
use crate::commerce::orders::{
    Order, OrderLine, OrderRefusal, OrderRequest, OrderStatus, TooManyUnpaid, UnpaidLimits, price,
};
use crate::coordination::idempotency::dynamo::atomic::{Decision, DecisionOf, Effect, Refused};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{OrderId, ProductId, UserId};
use crate::core::money::Money;
use crate::identity::principal::Principal;
use crate::platform::dynamo::{CancellationReason, DynamoError, Item, Reasons, RowKey, Rows, read_rows};
use crate::platform::tables;
use crate::platform::telemetry::{self, Metric};

/// The tables and limits for placing orders.
#[derive(Debug, Clone)]
pub struct Checkout {
    client: Client,
    products: String,
    carts: CartRows,
    writes: OrderWrites,
    limits: UnpaidLimits,
}

impl Checkout {
    /// Products in `PRODUCTS_TABLE`, carts in `CARTS_TABLE`, with the [`UnpaidLimits`] of the
    /// environment.
    pub fn from_env(client: Client, env: &Env, writes: OrderWrites) -> Result<Self, ConfigError> {
        let (products, carts) = (tables::PRODUCTS.name(env)?, CartRows::from_env(env)?);
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
/// Reads `BatchGetItem` on orders, products and carts. Writes `PutItem` on orders, outbox and
/// carts, `UpdateItem` on orders and stock.
#[derive(Debug)]
pub struct PlaceOrder<'a> {
    pub checkout: &'a Checkout,
    /// The id of the new order: that of [`order_id_of`](crate::commerce::orders::order_id_of).
    pub order_id: OrderId,
    /// The lines, or the cart.
    pub request: &'a OrderRequest,
    pub deadline: Deadline,
}

/// The lines of an order, their products, and the cart that they come from.
struct Basket {
    lines: Lines,
    products: Vec<Item>,
    emptied_cart: Option<TransactWriteItem>,
}

impl PlaceOrder<'_> {
    /// The lines of the order with their products.
    async fn basket(
        &self,
        customer_id: &UserId,
        mut rows: Rows,
        now: Timestamp,
    ) -> Result<Result<Basket, OrderRefusal>, DynamoError> {
        let Checkout { client, products, carts, .. } = self.checkout;
        if let OrderRequest::Lines(lines) = self.request {
            let (lines, products) = (lines.clone(), rows.take(products));
            return Ok(Ok(Basket { lines, products, emptied_cart: None }));
        }
        let cart = carts.parse(rows.take(carts.table()))?;
        if cart.is_empty() {
            return Ok(Err(OrderRefusal::EmptyCart));
        }
        let lines = match Lines::try_from(cart.lines().collect::<Vec<_>>()) {
            Ok(lines) => lines,
            Err(unfit) => return Ok(Err(OrderRefusal::InvalidCart(unfit))),
        };
        // The cart names the products to read.
        let mut rows = read_rows(client, self.checkout.product_keys(&lines), self.deadline).await?;
        let emptied = carts.emptied(customer_id, &cart, now)?;
        Ok(Ok(Basket { lines, products: rows.take(products), emptied_cart: Some(emptied) }))
    }

    fn order(
        &self,
        customer_id: &UserId,
        (lines, total): (Vec<OrderLine>, Money),
        units: u64,
        now: Timestamp,
    ) -> Order {
        Order {
            order_id: self.order_id.clone(),
            customer_id: customer_id.clone(),
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
            reserved_units: units,
        }
    }
}

impl Effect for PlaceOrder<'_> {
    type Outcome = Order;
    type Refusal = OrderRefusal;
    type Action = OrderAction;

    fn rows(&self, customer_id: &UserId) -> Vec<RowKey<'_>> {
        let mut rows = match self.request {
            OrderRequest::Lines(lines) => self.checkout.product_keys(lines),
            OrderRequest::Cart => self.checkout.carts.of(customer_id),
        };
        rows.push(self.checkout.writes.row(&self.order_id));
        rows
    }

    async fn decide(
        &self,
        caller: &Principal,
        mut rows: Rows,
        now: Timestamp,
    ) -> Result<DecisionOf<Self>, DynamoError> {
        // The record has expired, or the order was replicated before its record.
        if let Some(order) = self.checkout.writes.order(&mut rows)? {
            return Ok(Decision::Happened(order));
        }
        let for_good = |refusal| Ok(Decision::Refuse(Refused::ForGood(refusal)));
        let basket = self.basket(caller.user_id(), rows, now).await?;
        let Basket { lines, products, emptied_cart } = match basket {
            Ok(basket) => basket,
            Err(refusal) => return for_good(refusal),
        };
        let (lines, total) = match price(&lines, &prices(products)?) {
            Ok(lines_and_total) => lines_and_total,
            Err(refusal) => return for_good(refusal),
        };
        let limits = self.checkout.limits;
        let units = lines.iter().map(|line| u64::from(line.quantity.get())).sum();
        if units > limits.units {
            let too_many = TooManyUnpaid { orders: 0, units: 0, limits };
            return Ok(Decision::Refuse(Refused::ForNow(OrderRefusal::TooManyUnpaid(too_many))));
        }
        let order = self.order(caller.user_id(), (lines, total), units, now);
        let mut actions = self.checkout.writes.placed(&order, limits)?;
        actions.extend(emptied_cart.map(|cart| (OrderAction::Cart, cart)));
        Ok(Decision::Commit { outcome: order, actions })
    }

    /// A reason at the cart is read first: its lines may have changed. If the count's condition
    /// failed, the customer has too many unpaid orders, which is temporary. If a line's condition
    /// failed, fewer units are left than ordered, which is final; every such line is named.
    fn explain(&self, _: &Order, reasons: &Reasons<OrderAction>) -> Option<Refused<OrderRefusal>> {
        if *reasons.of(&OrderAction::Cart) != CancellationReason::None {
            return None;
        }
        if let Some(row) = reasons.row_refusing(&OrderAction::Unpaid) {
            let too_many = unpaid::refusal(row.clone(), self.checkout.limits);
            return Some(Refused::ForNow(OrderRefusal::TooManyUnpaid(too_many)));
        }
        let short: Vec<ProductId> = reasons
            .refused()
            .filter_map(|(action, _)| match action {
                OrderAction::Stock(product_id) => Some(product_id.clone()),
                _ => None,
            })
            .collect();
        (!short.is_empty()).then_some(Refused::ForGood(OrderRefusal::OutOfStock(short)))
    }

    fn committed(&self) {
        telemetry::count(Metric::OrdersPlaced, 1);
    }
}

fn prices(products: Vec<Item>) -> Result<BTreeMap<ProductId, Money>, DynamoError> {
    let products = products.into_iter().map(catalog::dynamo::parse_product);
    products.map(|product| product.map(|product| (product.product_id, product.draft.price))).collect()
}
