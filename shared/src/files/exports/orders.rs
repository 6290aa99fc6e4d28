//! The orders of an export, and their lines of CSV.

use std::future::Future;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Period;
use crate::commerce::orders::{OrderLine, OrderStatus};
use crate::core::csv::write_row;
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::ids::{OrderId, UserId};
use crate::core::money::Money;
use crate::platform::dynamo::DynamoError;

/// The first line.
const HEADER: [&str; 8] = ["orderId", "createdAt", "status", "region", "currency", "total", "units", "lines"];

/// What an export tells of an order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedOrder {
    /// Its id.
    pub order_id: OrderId,
    /// When it was placed.
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
    /// Its state.
    pub status: OrderStatus,
    /// The region that placed it.
    pub region: String,
    /// The sum.
    pub total: Money,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
}

/// Writes the header.
pub(super) fn write_header(text: &mut String) {
    write_row(text, &HEADER);
}

/// Writes one order: amounts in minor units, its lines as `productId*quantity@unitPrice`, joined by `;`.
pub(super) fn write_order(text: &mut String, order: &ExportedOrder) {
    let units: u64 = order.lines.iter().map(|line| u64::from(line.quantity.get())).sum();
    let lines: Vec<String> = order
        .lines
        .iter()
        .map(|line| format!("{}*{}@{}", line.product_id, line.quantity.get(), line.unit_price.amount))
        .collect();
    write_row(
        text,
        &[
            order.order_id.as_str(),
            &rfc3339(order.created_at),
            order.status.as_str(),
            &order.region,
            order.total.currency.as_str(),
            &order.total.amount.to_string(),
            &units.to_string(),
            &lines.join(";"),
        ],
    );
}

/// A place in a customer's orders, behind the order it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCursor {
    /// The order.
    pub order_id: OrderId,
    /// When it was placed.
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
}

/// Some of a customer's orders, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdersPage {
    /// The orders.
    pub orders: Vec<ExportedOrder>,
    /// Where the next page starts; none after the last.
    pub next: Option<OrderCursor>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DynamoError),
    /// A malformed order. Reading it again does not help.
    #[error("the order {order_id} cannot be read")]
    Order {
        /// Which one.
        order_id: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Reads a customer's orders of a period. A test reads pages that no table would make.
pub trait CustomerOrders: Send + Sync {
    /// A page behind `after`, the first if that is none. Eventually consistent, as indexes are.
    fn page(
        &self,
        customer_id: &UserId,
        period: &Period,
        after: Option<&OrderCursor>,
    ) -> impl Future<Output = Result<OrdersPage, Unreadable>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_order_is_one_line_under_the_header() {
        let price = |amount: u64| json!({"amount": amount, "currency": "TWD"});
        let order: ExportedOrder = serde_json::from_value(json!({
            "orderId": "ord_01KAGCQ5T7V9X1Z3B5D7F9H1K3",
            "createdAt": "2026-11-20T09:30:08.125Z",
            "status": "PENDING_PAYMENT",
            "region": "ap-northeast-1",
            "total": price(33_000),
            "lines": [
                {"productId": "tea", "quantity": 2, "unitPrice": price(9_000)},
                {"productId": "pot", "quantity": 1, "unitPrice": price(15_000)},
            ],
        }))
        .unwrap();
        let mut text = String::new();
        write_header(&mut text);
        write_order(&mut text, &order);
        assert_eq!(
            text,
            "orderId,createdAt,status,region,currency,total,units,lines\r\n\
             ord_01KAGCQ5T7V9X1Z3B5D7F9H1K3,2026-11-20T09:30:08.125Z,PENDING_PAYMENT,ap-northeast-1,TWD,33000,3,\
             tea*2@9000;pot*1@15000\r\n"
        );
    }
}
