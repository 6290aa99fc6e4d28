//! Placing an order: two round trips, or one for a replay.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::OrderWrites;
use crate::catalog;
use crate::dynamo::{CancellationReason, DynamoError, RowKey, Rows};
use crate::idempotency::dynamo::atomic::{Decision, Effect};
use crate::ids::{OrderId, UserId};
use crate::orders::{Order, OrderRequest, OrderStatus, Refusal, price};
use crate::problem::Problem;
use crate::reply::Reply;
use crate::telemetry::{self, Metric};

/// Actions of the transaction that come before those of the lines: the order and its event.
const BEFORE_LINES: usize = 2;

/// The effect of `POST /orders`.
///
/// Reads `BatchGetItem` on products. Writes `PutItem` on orders and outbox, `UpdateItem` on stock.
#[derive(Debug)]
pub struct PlaceOrder<'a> {
    /// Where to.
    pub writes: &'a OrderWrites,
    /// The products table.
    pub products: &'a str,
    /// For whom.
    pub customer_id: &'a UserId,
    /// The id that the order gets, if it comes to one.
    pub order_id: OrderId,
    /// What.
    pub order: &'a OrderRequest,
}

impl Effect for PlaceOrder<'_> {
    fn rows(&self) -> Vec<RowKey<'_>> {
        let lines = self.order.lines().iter();
        lines
            .map(|line| RowKey { table: self.products, key: catalog::dynamo::product_key(&line.product_id) })
            .collect()
    }

    async fn decide(&self, mut rows: Rows, now: Timestamp) -> Result<Decision, DynamoError> {
        let mut prices = BTreeMap::new();
        for item in rows.take(self.products) {
            let product = catalog::dynamo::parse_product(item)?;
            prices.insert(product.product_id, product.draft.price);
        }
        let (lines, total) = match price(self.order.lines(), &prices) {
            Ok(lines_and_total) => lines_and_total,
            Err(refusal) => return Ok(Decision::Refuse(refusal.into())),
        };
        let order = Order {
            order_id: self.order_id.clone(),
            customer_id: self.customer_id.clone(),
            status: OrderStatus::PendingPayment,
            lines,
            total,
            region: self.writes.region.clone(),
            created_at: now,
            updated_at: now,
            version: 1,
            payment_generation: 0,
            payment: None,
            payment_id: None,
        };
        let reply =
            Reply::json(201, order.document()).header("location", format!("/orders/{}", order.order_id));
        Ok(Decision::Commit(self.writes.placed(&order)?, reply))
    }

    /// A line's condition fails when fewer units are left than it wants: final, and every such line is named.
    fn explain(&self, reasons: &[CancellationReason]) -> Option<Problem> {
        let short: Vec<_> = reasons
            .iter()
            .skip(BEFORE_LINES)
            .zip(self.order.lines())
            .filter(|(reason, _)| matches!(reason, CancellationReason::ConditionFailed(_)))
            .map(|(_, line)| line.product_id.clone())
            .collect();
        (!short.is_empty()).then(|| Refusal::OutOfStock(short).into())
    }

    fn committed(&self) {
        telemetry::count(Metric::OrdersPlaced, 1);
    }
}
