//! A customer moves between regions while these have not heard of each other's writes: sessions go
//! on and stay ended, one request makes one order.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::json;
use sojourn_tests::{Customer, TestRegion, TestRegions, fresh_key};

/// Longest wait for a stream's reader, which needs a second. In tries of a tenth of a second.
const TRIES: usize = 600;

async fn three() -> TestRegions {
    TestRegions::start(&["taiwan", "tokyo", "singapore"]).await
}

/// Whether the region serves the holder of the access token.
async fn serves(region: &TestRegion, customer: &Customer) -> bool {
    match region.call_as(customer, "GET", "/orders").send().await.status {
        200 => true,
        401 => false,
        other => panic!("{other}"),
    }
}

/// Units that a region has of the lamp.
async fn lamps(region: &TestRegion) -> i64 {
    let row = region.dynamodb().get_item().table_name(region.table("StockTable")).consistent_read(true);
    let row = row.key("productId", AttributeValue::S("lamp".to_owned()));
    let row = row.key("region", AttributeValue::S(region.aws_region().to_owned())).send().await.unwrap();
    row.item.unwrap()["available"].as_n().unwrap().parse().unwrap()
}

/// Waits until the region has that many lamps.
async fn until_lamps(region: &TestRegion, units: i64) {
    for _ in 0..TRIES {
        if lamps(region).await == units {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{} lamps instead of {units}", lamps(region).await);
}

#[tokio::test]
async fn a_session_that_began_just_before_its_region_was_lost_goes_on_in_another() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let customer = taiwan.customer().await;
    regions.heal().await;
    regions.isolate("taiwan").await;
    let customer = taiwan.sign_in(&customer.email).await;
    regions.down("taiwan").await;

    assert!(serves(tokyo, &customer).await, "the access token proves the session");
    let refreshed = tokyo.refresh(&customer.refresh_token).await.expect(200);
    assert_eq!(refreshed.body["sessionId"], customer.session_id.as_str());
    let listed = tokyo.call_as(&customer, "GET", "/sessions").send().await.expect(200);
    assert!(listed.text.contains(&customer.session_id), "it can be seen, and ended: {}", listed.text);
    tokyo.call_as(&customer, "DELETE", "/sessions/current").send().await.expect(204);
    assert!(!serves(tokyo, &customer).await);

    // The region comes back with rows that know of no end.
    regions.up("taiwan").await;
    assert!(serves(taiwan, &customer).await, "it has not heard of the end");
    regions.heal().await;
    for (name, region) in regions.all() {
        assert!(!serves(region, &customer).await, "{name}");
        region.refresh(&refreshed.text_of("refreshToken")).await.expect_problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn nothing_that_another_region_writes_brings_an_ended_session_back() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let customer = taiwan.customer().await;
    let other = taiwan.sign_in(&customer.email).await;
    regions.heal().await;
    regions.isolate("taiwan").await;
    tokyo.call_as(&customer, "DELETE", "/sessions/current").send().await.expect(204);
    tokyo.call_as(&other, "DELETE", "/sessions").send().await.expect(204);

    // Later writes of a region that knows of neither end.
    for who in [&customer, &other] {
        let preferences = taiwan.call_as(who, "PATCH", "/sessions/current/preferences");
        let preferences = preferences.header("content-type", "application/merge-patch+json");
        preferences.json(&json!({"theme": "dark"})).send().await.expect(200);
        taiwan.refresh(&who.refresh_token).await.expect(200);
    }
    regions.heal().await;
    for (name, region) in regions.all() {
        for who in [&customer, &other] {
            assert!(!serves(region, who).await, "{name}");
            region.refresh(&who.refresh_token).await.expect_problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn a_stolen_refresh_token_is_found_out_in_any_region_once_rows_have_arrived() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let customer = taiwan.customer().await;
    let second = taiwan.refresh(&customer.refresh_token).await.expect(200).text_of("refreshToken");
    taiwan.refresh(&second).await.expect(200);
    regions.heal().await;
    tokyo.refresh(&customer.refresh_token).await.expect_problem(401, "unauthenticated");
    assert!(!serves(tokyo, &customer).await, "the session has ended, for the thief and for the owner");
    regions.heal().await;
    assert!(!serves(taiwan, &customer).await);
}

#[tokio::test]
async fn one_request_in_two_regions_makes_one_order_and_takes_its_units_once() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let operator = taiwan.operator().await;
    regions.heal().await;
    taiwan.stock(&operator, "lamp", 10).await;
    regions.heal().await;
    tokyo.stock(&operator, "lamp", 10).await;
    let customer = taiwan.customer().await;
    regions.heal().await;

    regions.isolate("taiwan").await;
    let key = fresh_key();
    let one = taiwan.order(&customer, &key, &[("lamp", 2)]).await.expect(201);
    let other = tokyo.order(&customer, &key, &[("lamp", 2)]).await.expect(201);
    assert_eq!(one.body["orderId"], other.body["orderId"]);
    assert_eq!((lamps(taiwan).await, lamps(tokyo).await), (8, 8));
    regions.heal().await;

    // The later write stands: the order of Tokyo. Taiwan gives its units back.
    until_lamps(taiwan, 10).await;
    assert_eq!(lamps(tokyo).await, 8);
    let listed = taiwan.call_as(&customer, "GET", "/orders").send().await.expect(200);
    let listed = listed.body["items"].as_array().unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["region"], "ap-northeast-1");

    // Cancelled in Taiwan, it gives Tokyo's units back to Tokyo.
    let path = format!("/orders/{}/cancel", one.text_of("orderId"));
    taiwan.call_as(&customer, "POST", &path).key(&fresh_key()).send().await.expect(200);
    until_lamps(tokyo, 10).await;
    assert_eq!(lamps(taiwan).await, 10);
}

/// Waits until the front door thinks so of a region.
async fn until_healthy_is(regions: &TestRegions, name: &str, healthy: bool) {
    for _ in 0..TRIES {
        if regions.list().await.iter().any(|region| region["name"] == name && region["healthy"] == healthy) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{name} is not healthy={healthy}: {:?}", regions.list().await);
}

#[tokio::test]
async fn an_evacuated_region_gets_no_clients_until_it_is_readmitted() {
    let regions = three().await;
    let tokyo = regions.region("tokyo");
    let command = json!({"evacuate": {"region": "ap-east-2"}});
    let shown = tokyo.invoke("admin-regions", &command).await.expect(200);
    let evacuated = shown.body["regions"].as_array().unwrap().iter();
    let evacuated: Vec<_> = evacuated.filter(|region| region["evacuation"].is_object()).collect();
    assert_eq!(evacuated.len(), 1, "{shown:?}");
    assert_eq!((&evacuated[0]["region"], &evacuated[0]["fence"]), (&json!("ap-east-2"), &json!(1)));

    until_healthy_is(&regions, "taiwan", false).await;
    let health = regions.region("taiwan").call("GET", "/health").send().await;
    health.expect_problem(503, "unavailable");
    let http = reqwest::Client::new();
    for _ in 0..5 {
        let url = format!("{}/health", regions.front());
        let answer = http.get(&url).header("x-local-region-near", "taiwan").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_ne!(answer.headers()["x-local-region"], "taiwan");
    }
    // What reaches it all the same is served.
    let customer = regions.region("taiwan").customer().await;
    assert!(serves(regions.region("taiwan"), &customer).await);

    // The way to the lost region is not needed to readmit it.
    let command = json!({"readmit": {"region": "ap-east-2"}});
    regions.region("singapore").invoke("admin-regions", &command).await.expect(200);
    until_healthy_is(&regions, "taiwan", true).await;
}

#[tokio::test]
async fn a_customer_pays_and_cancels_anywhere_and_all_regions_end_an_order_alike() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let operator = tokyo.operator().await;
    regions.heal().await;
    tokyo.stock(&operator, "lamp", 10).await;
    let customer = tokyo.customer().await;
    let mut orders = Vec::new();
    for _ in 0..2 {
        let order = tokyo.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
        orders.push(order.text_of("orderId"));
    }
    regions.heal().await;

    // Taiwan hears nothing of Tokyo's tables, and reaches the provider.
    regions.control("POST", "/lag").json(&json!({"minMs": 60_000, "maxMs": 60_000})).send().await.expect(204);
    let pay = async |region: &TestRegion, order: &str| {
        let path = format!("/orders/{order}/payments");
        let call = region.call_as(&customer, "POST", &path).key(&fresh_key());
        call.json(&json!({"paymentToken": "tok_ok"})).send().await
    };
    let cancel = async |region: &TestRegion, order: &str| {
        let path = format!("/orders/{order}/cancel");
        region.call_as(&customer, "POST", &path).key(&fresh_key()).send().await
    };
    pay(taiwan, &orders[0]).await.expect(201);
    cancel(tokyo, &orders[0]).await.expect_problem(409, "order-state-conflict");
    cancel(taiwan, &orders[1]).await.expect(200);
    pay(tokyo, &orders[1]).await.expect_problem(409, "order-state-conflict");
    for (order, status) in orders.iter().zip(["PAID", "CANCELLED"]) {
        for region in [taiwan, tokyo] {
            let path = format!("/orders/{order}");
            let read = region.call_as(&customer, "GET", &path).send().await.expect(200);
            assert_eq!(read.body["status"], status);
        }
    }
    assert_eq!(lamps(tokyo).await, 9, "one is sold, and one was given back by the region that had it");
}
