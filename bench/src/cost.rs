//! The DynamoDB cost of each operation: requests, and capacity units as DynamoDB counts them.

use serde_json::{Value, json};
use sojourn_tests::{TestRegion, fresh_key};

use crate::stage::Stage;
use crate::{Figures, row, section};

/// Measures each operation once: these figures do not vary.
pub(crate) async fn measure(region: &TestRegion, stage: &Stage) -> Figures {
    section("DynamoDB per operation", &["requests", "read units", "write units"]);
    let mut figures = Figures::new();
    let mut note = |name: &str, usage: &Value| {
        let requests = sum(usage, "requests", "requests");
        let (read, write) = (sum(usage, "capacity", "read"), sum(usage, "capacity", "write"));
        row(name, &[format!("{requests}"), format!("{read}"), format!("{write}")]);
        figures.insert(name.into(), json!({"requests": requests, "readUnits": read, "writeUnits": write}));
    };
    let customer = &stage.customer;
    let key = fresh_key();

    region.record().await;
    region.call("GET", "/products/p0").send().await.expect(200);
    note("GET /products/{id}", &region.usage_of("api-*").await);

    region.record().await;
    let placed = region.order(customer, &key, &[("p1", 1)]).await.expect(201);
    note("POST /orders, 1 line", &region.usage_of("api-*").await);

    region.record().await;
    region.order(customer, &key, &[("p1", 1)]).await.expect(201);
    note("POST /orders, replay", &region.usage_of("api-*").await);

    let lines: Vec<(String, u32)> = (0..10).map(|n| (crate::stage::product(n), 1)).collect();
    let lines: Vec<(&str, u32)> = lines.iter().map(|(id, quantity)| (id.as_str(), *quantity)).collect();
    region.record().await;
    region.order(customer, &fresh_key(), &lines).await.expect(201);
    note("POST /orders, 10 lines", &region.usage_of("api-*").await);

    region.record().await;
    region.pay(customer, &fresh_key(), &placed.text_of("orderId"), "tok_ok").await.expect(201);
    note("POST payment", &region.usage_of("api-*").await);

    region.record().await;
    region.call_as(customer, "GET", &format!("/orders/{}", stage.order_id)).send().await.expect(200);
    note("GET /orders/{id}", &region.usage_of("api-*").await);

    let (mut sender, mut receiver) = (region.socket(customer).await, region.socket(&stage.operator).await);
    let message =
        json!({"action": "send", "to": {"userId": stage.operator.user_id}, "type": "chat", "body": {}});
    region.record().await;
    sender.send(&message).await;
    receiver.told("chat").await;
    sender.told("ack").await;
    note("socket message", &region.usage_of("ws-send").await);
    figures
}

/// The total of a member over a list of the usage.
pub(crate) fn sum(usage: &Value, list: &str, member: &str) -> f64 {
    usage[list].as_array().unwrap().iter().map(|entry| entry[member].as_f64().unwrap()).sum()
}
