//! Function processes die at random under traffic; nothing that was acknowledged is lost or done
//! twice.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use rand::RngExt;
use serde_json::{Value, json};
use sojourn_tests::{Answer, Customer, TestRegion, fresh_key, order_of};

/// How long the killing goes on.
const DURATION: Duration = Duration::from_mins(1);
/// How long the last event may take to arrive.
const EVENTS_LIMIT: Duration = Duration::from_mins(1);
/// Clients at once.
const CLIENTS: usize = 8;
/// Units at the start; more than a minute of orders takes.
const UNITS: i64 = 1_000_000;

/// Repeats a call until it has a final answer: what a client does that wants its order.
async fn until_final(call: impl AsyncFn() -> Result<Answer, reqwest::Error>) -> Answer {
    loop {
        match call().await {
            Ok(answer) if answer.status >= 500 => {}
            Ok(answer) if answer.body["type"] == "/problems/idempotency-in-progress" => {}
            Ok(answer) if answer.body["type"] == "/problems/payment-in-progress" => {}
            Ok(answer) => return answer,
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test]
async fn a_minute_of_kill_nine_under_order_traffic_loses_and_doubles_nothing() {
    let region = TestRegion::start_for_many_orders().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", UNITS).await;
    let mut customers = Vec::new();
    for _ in 0..CLIENTS {
        customers.push(region.customer().await);
    }

    let over = AtomicBool::new(false);
    let (kills, consumer_kills) = (AtomicU64::new(0), AtomicU64::new(0));
    let reaper = async {
        let end = Instant::now() + DURATION;
        while Instant::now() < end {
            let pause = rand::rng().random_range(20..400);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            kills.fetch_add(region.kill("api-orders").await, Ordering::Relaxed);
            for function in ["outbox-relay", "ws-deliver"] {
                consumer_kills.fetch_add(region.kill(function).await, Ordering::Relaxed);
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    let shoppers = stream::iter(&customers)
        .map(|customer| shop(&region, customer, &over))
        .buffer_unordered(CLIENTS)
        .collect::<Vec<_>>();
    let ((), acknowledged) = tokio::join!(reaper, shoppers);

    let acknowledged: HashMap<String, (&Customer, &str, u32)> = acknowledged.into_iter().flatten().collect();
    let kills = kills.into_inner();
    let consumer_kills = consumer_kills.into_inner();
    println!(
        "{kills} processes of api-orders and {consumer_kills} of the relay and ws-deliver killed, {} orders acknowledged",
        acknowledged.len()
    );
    assert!(kills > 20 && consumer_kills > 20, "only {kills} and {consumer_kills} processes were killed");
    assert!(acknowledged.len() > 50, "only {} orders got through", acknowledged.len());

    // Every acknowledged order is there, as it was acknowledged, and there is no other.
    let rows = every_row(&region, "OrdersTable").await;
    let (rows, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.contains_key("customerId"));
    let (counts, reservations): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|row| row.contains_key("unpaidOrders"));
    let kept = rows.iter().filter(|row| row["status"].as_s().unwrap() != "CANCELLED").count();
    assert_eq!(reservations.len(), kept, "each order that was not cancelled has a reservation");
    assert_eq!(rows.len(), acknowledged.len(), "each acknowledged order exists once, and no order else");
    let mut held = 0;
    let mut unpaid: HashMap<String, (i64, i64)> = HashMap::new();
    for row in &rows {
        let (customer, status, quantity) = acknowledged[row["orderId"].as_s().unwrap()];
        assert_eq!(row["customerId"].as_s().unwrap(), &customer.user_id);
        assert_eq!(row["status"].as_s().unwrap(), status);
        if status != "CANCELLED" {
            held += i64::from(quantity);
        }
        if status == "PENDING_PAYMENT" {
            let of_customer = unpaid.entry(format!("{}#unpaid#local", customer.user_id)).or_default();
            *of_customer = (of_customer.0 + 1, of_customer.1 + i64::from(quantity));
        }
    }
    assert_eq!(region.available("lamp").await, UNITS - held, "stock and orders add up");
    for row in &counts {
        let count = |name: &str| row[name].as_n().unwrap().parse::<i64>().unwrap();
        let expected = unpaid.remove(row["orderId"].as_s().unwrap()).unwrap_or_default();
        assert_eq!((count("unpaidOrders"), count("reservedUnits")), expected, "{row:?}");
    }
    assert!(unpaid.is_empty(), "not counted: {unpaid:?}");

    // Every paid order was charged once; no other was charged.
    let ledger = every_row(&region, "PaymentLedgerTable").await;
    let captured = ledger.iter().filter(|row| row["state"].as_s().unwrap().eq_ignore_ascii_case("captured"));
    let mut charges: HashMap<&str, u32> = HashMap::new();
    for row in captured {
        *charges.entry(row["orderId"].as_s().unwrap()).or_default() +=
            row["charges"].as_n().unwrap().parse::<u32>().unwrap();
    }
    for (order_id, (_, status, _)) in &acknowledged {
        let expected = u32::from(*status == "PAID");
        assert_eq!(charges.get(order_id.as_str()).copied().unwrap_or(0), expected, "{order_id} is {status}");
    }

    // Each commit has its events on the bus, in order; nothing else has one.
    let mut expected = HashMap::new();
    for (order_id, (_, status, _)) in &acknowledged {
        let mut types = vec!["order.placed"];
        types.extend(match *status {
            "PAID" => Some("order.paid"),
            "CANCELLED" => Some("order.cancelled"),
            _ => None,
        });
        expected.insert(order_id.clone(), types);
    }
    let total = expected.values().map(Vec::len).sum();
    let events = events_of_orders(&region, total).await;
    for (order_id, types) in &events {
        assert_eq!(expected.get(order_id), Some(&types.iter().map(String::as_str).collect()), "{order_id}");
    }
    assert_eq!(events.len(), expected.len());
}

/// The types of the events of each order, as a consumer sees them that drops the ids that it has
/// seen. Waits for `total` events, and then until nothing comes any more.
async fn events_of_orders(region: &TestRegion, total: usize) -> HashMap<String, Vec<String>> {
    let mut seen = HashSet::new();
    let mut events: HashMap<String, Vec<String>> = HashMap::new();
    let end = Instant::now() + EVENTS_LIMIT;
    loop {
        let envelopes = region.take_waiting("OrderEventsQueue").await;
        if envelopes.is_empty() {
            if seen.len() >= total {
                return events;
            }
            assert!(Instant::now() < end, "only {} of {total} events came", seen.len());
        }
        for envelope in envelopes {
            let text = |member: &str| envelope["detail"][member].as_str().unwrap().to_owned();
            if seen.insert(text("eventId")) {
                events.entry(text("subject")).or_default().push(text("type"));
            }
        }
    }
}

/// Orders until the time is over; some orders are paid, some cancelled. Tells what was
/// acknowledged.
async fn shop<'a>(
    region: &TestRegion,
    customer: &'a Customer,
    over: &AtomicBool,
) -> Vec<(String, (&'a Customer, &'static str, u32))> {
    let mut acknowledged = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let quantity = rand::rng().random_range(1..4);
        let key = fresh_key();
        let body = order_of(&[("lamp", quantity)]);
        let order = region_call(region, customer, "/orders", &key, &body);
        let order_id = until_final(order).await.expect(201).text_of("orderId");

        let status = match rand::rng().random_range(0..3) {
            0 => {
                let token = if quantity == 1 { "tok_timeout_after_charge" } else { "tok_ok" };
                let body = json!({"paymentToken": token});
                let (path, key) = (format!("/orders/{order_id}/payments"), fresh_key());
                until_final(region_call(region, customer, &path, &key, &body)).await.expect(201);
                "PAID"
            }
            1 => {
                let (path, key) = (format!("/orders/{order_id}/cancel"), fresh_key());
                until_final(region_call(region, customer, &path, &key, &json!({}))).await.expect(200);
                "CANCELLED"
            }
            _ => "PENDING_PAYMENT",
        };
        acknowledged.push((order_id, (customer, status, quantity)));
    }
    acknowledged
}

fn region_call(
    region: &TestRegion,
    who: &Customer,
    path: &str,
    key: &str,
    body: &Value,
) -> impl AsyncFn() -> Result<Answer, reqwest::Error> {
    move || region.call_as(who, "POST", path).key(key).json(body).try_send()
}

async fn every_row(
    region: &TestRegion,
    table: &str,
) -> Vec<HashMap<String, aws_sdk_dynamodb::types::AttributeValue>> {
    let pages = region.dynamodb().scan().table_name(table).into_paginator().items().send();
    pages.collect::<Result<Vec<_>, _>>().await.unwrap()
}
