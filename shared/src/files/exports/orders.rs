//! The orders of an export, and their CSV lines.

use std::future::Future;

use super::Period;
use crate::commerce::orders::dynamo::DynamoOrders;
use crate::commerce::orders::{ListedOrder, OrderCursor, OrdersPage};
use crate::core::csv::write_row;
use crate::core::date_time::rfc3339;
use crate::core::ids::UserId;
use crate::platform::dynamo::DynamoError;

/// The first line.
const HEADER: [&str; 8] = ["orderId", "createdAt", "status", "region", "currency", "total", "units", "lines"];

/// Writes the header.
pub(super) fn write_header(text: &mut String) {
    write_row(text, &HEADER);
}

/// Writes one order: amounts in minor units, its lines as `productId*quantity@unitPrice`, joined by
/// `;`.
pub(super) fn write_order(text: &mut String, order: &ListedOrder) {
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

/// Reads a customer's orders of a period. Tests have an implementation with pages of any size.
pub trait CustomerOrders: Send + Sync {
    /// The page after `after`; `None` is the first. Eventually consistent.
    fn page(
        &self,
        customer_id: &UserId,
        period: &Period,
        after: Option<&OrderCursor>,
    ) -> impl Future<Output = Result<OrdersPage<ListedOrder, OrderCursor>, DynamoError>> + Send;
}

impl CustomerOrders for DynamoOrders {
    async fn page(
        &self,
        customer_id: &UserId,
        period: &Period,
        after: Option<&OrderCursor>,
    ) -> Result<OrdersPage<ListedOrder, OrderCursor>, DynamoError> {
        self.of_period(customer_id, (period.from(), period.last()), after).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_order_is_one_line_under_the_header() {
        let price = |amount: u64| json!({"amount": amount, "currency": "TWD"});
        let order: ListedOrder = serde_json::from_value(json!({
            "orderId": "ord_01KAGCQ5T7V9X1Z3B5D7F9H1K3",
            "createdAt": "2026-11-20T09:30:08.125Z",
            "status": "PENDING_PAYMENT",
            "region": "ap-northeast-1",
            "customerId": "usr_01KAGCQ5T7V9X1Z3B5D7F9H1K3",
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
