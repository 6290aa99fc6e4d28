//! What is there before anything is measured: people, products, an order.

use std::path::Path;

use serde_json::Value;
use sojourn_tests::{Customer, TestRegion, fresh_key};

/// Units on hand; no benchmark sells that many.
const UNITS: i64 = 1_000_000;
/// Products that load is spread over, as in a shop: one row would measure contention.
pub(crate) const PRODUCTS: usize = 64;

/// The stage.
#[derive(Debug)]
pub(crate) struct Stage {
    /// May do everything.
    pub(crate) operator: Customer,
    /// Orders.
    pub(crate) customer: Customer,
    /// An order that is there to be read.
    pub(crate) order_id: String,
}

/// Sets the stage.
pub(crate) async fn set(region: &TestRegion) -> Stage {
    let operator = region.operator().await;
    for n in 0..PRODUCTS {
        region.stock(&operator, &product(n), UNITS).await;
    }
    let customer = region.customer().await;
    let order = region.order(&customer, &fresh_key(), &[("p0", 1)]).await.expect(201);
    Stage { operator, customer, order_id: order.text_of("orderId") }
}

/// Id of the n-th product.
pub(crate) fn product(n: usize) -> String {
    format!("p{}", n % PRODUCTS)
}

impl Stage {
    /// An event of `events/`, with a token that verifies.
    pub(crate) fn event(&self, path: &Path) -> Value {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text
            .replace("${ACCESS_TOKEN}", &self.customer.token)
            .replace("${OPERATOR_TOKEN}", &self.operator.token)
            .replace("${ORDER_ID}", &self.order_id);
        serde_json::from_str(&text).unwrap()
    }
}
