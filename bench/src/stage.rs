//! The data of the benchmarks: people, products, an order.

use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn_tests::{Customer, TestRegion, fresh_key, workspace};

/// Units on hand; no benchmark sells that many.
const UNITS: i64 = 1_000_000;
/// Products that the load is spread over, as in a shop: a single row would measure contention.
pub(crate) const PRODUCTS: usize = 64;
/// People who sign in and stay signed in: twice as many as the load has connections.
const CROWD: usize = 64;
/// The product that the events name.
const PRODUCT_OF_EVENTS: &str = "espresso-beans-1kg";
/// The people whom the events name.
const PEOPLE_OF_EVENTS: [&str; 2] = ["ada@example.com", "grace@example.com"];

/// The stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) operator: Customer,
    pub(crate) customer: Customer,
    pub(crate) crowd: Vec<Customer>,
    /// An order to be read.
    pub(crate) order_id: String,
    /// When the socket of the events was opened, epoch milliseconds: recent, or its row would count
    /// as expired.
    connected_at: i64,
}

/// Creates the data.
pub(crate) async fn set(region: &TestRegion) -> Stage {
    let operator = region.operator().await;
    for n in 0..PRODUCTS {
        region.stock(&operator, &product(n), UNITS).await;
    }
    region.stock(&operator, PRODUCT_OF_EVENTS, UNITS).await;
    for email in PEOPLE_OF_EVENTS {
        region.sign_up(email).await.expect(201);
    }
    let customer = region.customer().await;
    let order = region.order(&customer, &fresh_key(), &[("p0", 1)]).await.expect(201);
    let mut crowd = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        crowd.push(region.customer().await);
    }
    let connected_at = SystemClock.now().as_millisecond();
    Stage { operator, customer, crowd, order_id: order.text_of("orderId"), connected_at }
}

/// Id of the n-th product.
pub(crate) fn product(n: usize) -> String {
    format!("p{}", n % PRODUCTS)
}

impl Stage {
    /// An event of `events/`, with a token that verifies.
    pub(crate) fn event(&self, function: &str, case: &str) -> Value {
        let path = workspace().join("events").join(function).join(format!("{case}.json"));
        let text = std::fs::read_to_string(path)
            .unwrap()
            .replace("${ACCESS_TOKEN}", &self.customer.token)
            .replace("${USER_ID}", &self.crowd[0].user_id)
            .replace("${OPERATOR_TOKEN}", &self.operator.token)
            .replace("${ORDER_ID}", &self.order_id);
        let mut event: Value = serde_json::from_str(&text).unwrap();
        if let Some(connected_at) = event.pointer_mut("/requestContext/connectedAt") {
            *connected_at = json!(self.connected_at);
        }
        event
    }
}
