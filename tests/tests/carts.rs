//! Carts: one for each customer, on every device, until an order takes it.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::stream::{self, StreamExt};
use rand::RngExt;
use serde_json::{Value, json};
use sojourn::platform::tables;
use sojourn_tests::{Answer, Customer, TestRegion, fresh_key, order_of};

/// Customers who order while processes are killed.
const SHOPPERS: usize = 6;
/// How often the processes of a function are killed.
const KILLS: usize = 30;

async fn put(region: &TestRegion, who: &Customer, if_match: &str, lines: &[(&str, u32)]) -> Answer {
    region.call_as(who, "PUT", "/cart").header("if-match", if_match).json(&order_of(lines)).send().await
}

fn etag(answer: &Answer) -> &str {
    answer.header("etag").unwrap()
}

async fn orders(region: &TestRegion) -> Vec<HashMap<String, AttributeValue>> {
    let scan = region.dynamodb().scan().table_name(tables::ORDERS.logical_id).consistent_read(true);
    let scan = scan.filter_expression("attribute_exists(customerId)");
    scan.into_paginator().items().send().collect::<Result<_, _>>().await.unwrap()
}

#[tokio::test]
async fn a_cart_outlives_its_sessions_and_is_on_every_device() {
    let region = TestRegion::start().await;
    let laptop = region.customer().await;
    let none = region.cart(&laptop).await;
    assert_eq!((etag(&none), &none.body), ("\"0\"", &json!({"lines": []})));

    let filled = region.fill_cart(&laptop, &[("lamp", 2), ("chair", 1)]).await;
    let phone = region.sign_in(&laptop.email).await;
    let seen = region.cart(&phone).await;
    assert_eq!((&seen.body, etag(&seen)), (&filled.body, "\"1\""));
    assert_eq!(
        put(&region, &phone, "\"1\"", &[("lamp", 3)]).await.expect(200).body["lines"][0]["quantity"],
        3
    );

    region.call_as(&laptop, "DELETE", "/sessions").send().await.expect(204);
    let ended = region.call_as(&laptop, "GET", "/cart").send().await;
    ended.expect_problem(401, "unauthenticated");
    let ended = region.call_as(&phone, "PUT", "/cart").json(&order_of(&[])).send().await;
    ended.expect_problem(401, "unauthenticated");
    let back = region.sign_in(&laptop.email).await;
    let kept = region.cart(&back).await;
    assert_eq!((etag(&kept), &kept.body["lines"]), ("\"2\"", &json!([{"productId": "lamp", "quantity": 3}])));
}

#[tokio::test]
async fn somebody_elses_cart_is_not_to_be_seen() {
    let region = TestRegion::start().await;
    let (owner, stranger) = (region.customer().await, region.customer().await);
    region.fill_cart(&owner, &[("lamp", 1)]).await;
    assert_eq!(region.cart(&stranger).await.body, json!({"lines": []}));
    region.call_as(&stranger, "DELETE", "/cart").send().await.expect(204);
    put(&region, &stranger, "\"1\"", &[("chair", 1)]).await.expect_problem(412, "stale-version");
    let order = region.order_cart(&stranger, &fresh_key()).await;
    order.expect_problem(422, "unprocessable");
    assert_eq!(etag(&region.cart(&owner).await), "\"1\"");
}

#[tokio::test]
async fn a_device_that_missed_a_change_is_told_the_version_that_stands() {
    let region = TestRegion::start().await;
    let laptop = region.customer().await;
    let phone = region.sign_in(&laptop.email).await;
    region.fill_cart(&laptop, &[("lamp", 1)]).await;
    put(&region, &phone, "\"1\"", &[("lamp", 2)]).await.expect(200);
    let stale = put(&region, &laptop, "\"1\"", &[("lamp", 3)]).await.expect_problem(412, "stale-version");
    assert_eq!((etag(&stale), &stale.body["version"]), ("\"2\"", &json!(2)));
    let delete = region.call_as(&laptop, "DELETE", "/cart").header("if-match", "\"1\"");
    delete.send().await.expect_problem(412, "stale-version");
    put(&region, &laptop, "W/\"2\"", &[]).await.expect_problem(412, "stale-version");
    put(&region, &laptop, "2", &[]).await.expect_problem(400, "invalid-request");
    assert_eq!(region.cart(&laptop).await.body["lines"][0]["quantity"], 2);
    put(&region, &laptop, etag(&stale), &[("lamp", 3)]).await.expect(200);
}

#[tokio::test]
async fn of_fifty_devices_that_know_one_cart_one_may_change_it() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let answers: Vec<Answer> = stream::iter(1..=50)
        .map(|quantity| {
            let (region, customer) = (&region, &customer);
            async move { put(region, customer, "\"0\"", &[("lamp", quantity)]).await }
        })
        .buffer_unordered(50)
        .collect()
        .await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 49));
    for answer in lost {
        assert_eq!(answer.expect_problem(412, "stale-version").body["version"], 1);
    }
    assert_eq!(region.cart(&customer).await.body, won[0].body);
}

#[tokio::test]
async fn an_order_of_the_cart_has_its_lines_and_empties_it() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 5).await;
    let customer = region.customer().await;
    region.fill_cart(&customer, &[("lamp", 6)]).await;
    region.order_cart(&customer, &fresh_key()).await.expect_problem(409, "out-of-stock");
    assert_eq!(etag(&region.cart(&customer).await), "\"1\"", "a refusal leaves the cart");

    region.fill_cart(&customer, &[("lamp", 2)]).await;
    let key = fresh_key();
    let placed = region.order_cart(&customer, &key).await.expect(201);
    assert_eq!(placed.body["total"], json!({"amount": 25_800, "currency": "TWD"}));
    let read = region.call_as(&customer, "GET", placed.header("location").unwrap()).send().await.expect(200);
    assert_eq!(read.body, placed.body);
    let left = region.cart(&customer).await;
    assert_eq!((etag(&left), &left.body["lines"]), ("\"3\"", &json!([])));
    assert_eq!(region.available("lamp").await, 3);

    let again = region.order_cart(&customer, &key).await.expect(201);
    assert_eq!((again.header("idempotent-replayed"), &again.text), (Some("true"), &placed.text));
    region.order_cart(&customer, &fresh_key()).await.expect_problem(422, "unprocessable");
}

#[tokio::test]
async fn a_process_killed_around_the_transaction_leaves_the_lines_in_the_cart_or_in_one_order() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    for (when, lines_in_cart) in [("before", 1), ("after", 0)] {
        let customer = region.customer().await;
        region.fill_cart(&customer, &[("lamp", 1)]).await;
        let placed_before = orders(&region).await.len();
        let rule = region
            .fault(&json!({
                "match": {"service": "dynamodb", "operation": "TransactWriteItems", "caller": "api-orders"},
                "times": 1, "effect": {"kind": "hold", "when": when},
            }))
            .await;
        let key = fresh_key();
        let (first, ()) = tokio::join!(region.order_cart(&customer, &key), async {
            region.until_held(rule).await;
            region.kill("api-orders").await;
        });
        first.expect_crash();
        let in_cart = region.cart(&customer).await.body["lines"].as_array().unwrap().len();
        let in_orders = orders(&region).await.len() - placed_before;
        assert_eq!((in_cart, in_orders), (lines_in_cart, 1 - lines_in_cart), "killed {when} it");

        region.lift(rule).await;
        until_final(&region, &customer, &key).await.expect(201);
        assert_eq!(orders(&region).await.len() - placed_before, 1);
        assert_eq!(etag(&region.cart(&customer).await), "\"2\"");
    }
    assert_eq!(region.available("lamp").await, 8);
}

/// Repeats an order of the cart until it has a final answer.
async fn until_final(region: &TestRegion, who: &Customer, key: &str) -> Answer {
    let body = json!({"fromCart": true});
    loop {
        match region.call_as(who, "POST", "/orders").key(key).json(&body).try_send().await {
            Ok(answer) if answer.status < 500 => return answer,
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
}

/// Fills the cart and orders it until the time is over: each order must have emptied the cart of
/// its round, once.
async fn shop(region: &TestRegion, who: &Customer, over: &AtomicBool) -> Vec<(String, Value)> {
    let mut acknowledged = Vec::new();
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        round += 1;
        let quantity = rand::rng().random_range(1..4);
        region.fill_cart(who, &[("lamp", quantity)]).await;
        let order = until_final(region, who, &fresh_key()).await.expect(201);
        let cart = region.cart(who).await;
        assert_eq!((etag(&cart), &cart.body["lines"]), (&*format!("\"{}\"", 2 * round), &json!([])));
        assert_eq!(order.body["lines"][0]["quantity"], quantity);
        acknowledged.push((order.text_of("orderId"), order.body["lines"][0]["quantity"].clone()));
    }
    acknowledged
}

#[tokio::test]
async fn kill_nine_under_traffic_empties_a_cart_exactly_when_there_is_its_order() {
    let region = TestRegion::start_for_many_orders().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 1_000).await;
    let mut customers = Vec::new();
    for _ in 0..SHOPPERS {
        customers.push(region.customer().await);
    }
    let over = AtomicBool::new(false);
    let reaper = async {
        let mut killed = 0;
        for _ in 0..KILLS {
            let pause = rand::rng().random_range(20..400);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            killed += region.kill("api-orders").await;
        }
        over.store(true, Ordering::Relaxed);
        killed
    };
    let shoppers = stream::iter(&customers)
        .map(|who| shop(&region, who, &over))
        .buffer_unordered(SHOPPERS)
        .collect::<Vec<_>>();
    let (killed, acknowledged) = tokio::join!(reaper, shoppers);
    let acknowledged: HashMap<String, Value> = acknowledged.into_iter().flatten().collect();
    assert!(killed > 5, "only {killed} processes were killed");
    assert!(acknowledged.len() >= SHOPPERS, "only {} orders got through", acknowledged.len());

    let rows = orders(&region).await;
    assert_eq!(rows.len(), acknowledged.len(), "each acknowledged order exists once, and no order else");
    let sold: i64 = acknowledged.values().map(|quantity| quantity.as_i64().unwrap()).sum();
    assert!(rows.iter().all(|row| acknowledged.contains_key(row["orderId"].as_s().unwrap())));
    assert_eq!(region.available("lamp").await, 1_000 - sold);
}
