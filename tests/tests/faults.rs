//! Dependencies that fail: what clients see of it, and what they never see.

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use sojourn::core::retry::CONFLICT_TRIES;
use sojourn_tests::{Answer, TestRegion, fresh_key};

#[tokio::test]
async fn transaction_conflicts_are_retried_and_never_surface_as_a_server_error() {
    let region = TestRegion::start_for_many_orders().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 100).await;
    let customer = region.customer().await;
    // As many as one request waits out, in case that it meets all of them.
    region
        .fault(&json!({
            "match": {"service": "dynamodb", "operation": "TransactWriteItems", "caller": "api-orders"},
            "times": CONFLICT_TRIES - 1,
            "effect": {"kind": "error", "error": "TransactionConflict", "positions": [1]},
        }))
        .await;
    let answers: Vec<Answer> = stream::iter(0..30)
        .map(|_| {
            let (region, customer) = (&region, &customer);
            async move { region.order(customer, &fresh_key(), &[("lamp", 1)]).await }
        })
        .buffer_unordered(10)
        .collect()
        .await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_eq!(region.available("lamp").await, 70);
}

#[tokio::test]
async fn conflicts_that_do_not_end_are_a_503_that_says_when_to_come_back() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let rule = region
        .fault(&json!({
            "match": {"service": "dynamodb", "operation": "TransactWriteItems", "caller": "api-*"},
            "effect": {"kind": "error", "error": "TransactionConflict", "positions": [1]},
        }))
        .await;
    let key = fresh_key();
    let refused = region.order(&customer, &key, &[("lamp", 1)]).await.expect_problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    let restock = region.call_as(&operator, "POST", "/products/lamp/stock").key(&fresh_key());
    let refused = restock.json(&json!({"delta": 1})).send().await.expect_problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    region.lift(rule).await;
    region.order(&customer, &key, &[("lamp", 1)]).await.expect(201);
    assert_eq!(region.available("lamp").await, 9);
}

#[tokio::test]
async fn an_order_whose_commit_lost_its_answer_is_placed_once() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    region
        .fault(&json!({
            "match": {"service": "dynamodb", "operation": "TransactWriteItems", "caller": "api-orders"},
            "times": 2,
            "effect": {"kind": "commitThenReset"},
        }))
        .await;
    let key = fresh_key();
    let order = region.order(&customer, &key, &[("lamp", 1)]).await.expect(201);
    let again = region.order(&customer, &key, &[("lamp", 1)]).await.expect(201);
    assert_eq!(again.text, order.text);
    assert_eq!(region.available("lamp").await, 9);
}

#[tokio::test]
async fn a_function_killed_between_charge_and_completion_leaves_one_charge() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let order_id = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId");
    // The claim is the first transaction of a payment; its completion, the second, is held.
    let rule = region
        .fault(&json!({
            "match": {"service": "dynamodb", "operation": "TransactWriteItems", "caller": "api-orders"},
            "skip": 1,
            "times": 1,
            "effect": {"kind": "hold", "when": "before"},
        }))
        .await;
    let key = fresh_key();
    let (first, ()) = tokio::join!(region.pay(&customer, &key, &order_id, "tok_ok"), async {
        region.until_held(rule).await;
        region.kill("api-orders").await;
    });
    first.expect_crash();
    region.lift(rule).await;

    let paid = loop {
        let answer = region.pay(&customer, &key, &order_id, "tok_ok").await;
        if answer.status != 409 {
            break answer.expect(201);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(paid.body["status"], "CAPTURED");
    let ledger = region.dynamodb().scan().table_name("PaymentLedgerTable").send().await;
    let rows = ledger.map(|output| output.items.unwrap_or_default()).unwrap_or_default();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["charges"].as_n().map(String::as_str), Ok("1"));
}

#[tokio::test]
async fn a_throttled_store_is_503_with_a_time_to_come_back() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    region
        .fault(&json!({
            "match": {"service": "dynamodb", "caller": "api-orders"},
            "effect": {"kind": "error", "error": "ProvisionedThroughputExceededException"},
        }))
        .await;
    let answer =
        region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect_problem(503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    assert!(!answer.text.contains("Provisioned"), "nothing internal leaks: {}", answer.text);
}

/// Sends a message to another user while a fault rule applies. Returns the acknowledgement, and how
/// many messages the other user's socket got.
async fn deliver_under(rule: Value) -> (Value, usize) {
    let region = TestRegion::start().await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    let mut sender = region.socket(&alice).await;
    let mut receiver = region.socket(&bob).await;
    region.fault(&rule).await;
    sender
        .send(&json!({"action": "send", "to": {"userId": bob.user_id}, "type": "chat.message", "body": {}}))
        .await;
    let ack = sender.receive().await;
    (ack, receiver.waiting().await.len())
}

#[tokio::test]
async fn a_throttled_delivery_is_tried_again() {
    let rule = json!({"match": {"service": "connections", "operation": "PostToConnection"}, "times": 3,
        "effect": {"kind": "error", "error": "LimitExceeded"}});
    let (ack, received) = deliver_under(rule).await;
    assert_eq!(
        (ack["type"].as_str(), ack["delivered"].as_u64(), received),
        (Some("ack"), Some(1), 1),
        "{ack}"
    );
}

#[tokio::test]
async fn a_delivery_to_a_gone_socket_is_acknowledged_as_not_delivered() {
    let rule = json!({"match": {"service": "connections", "operation": "PostToConnection"}, "times": 1,
        "effect": {"kind": "error", "error": "Gone"}});
    let (ack, received) = deliver_under(rule).await;
    assert_eq!(
        (ack["type"].as_str(), ack["delivered"].as_u64(), received),
        (Some("ack"), Some(0), 0),
        "{ack}"
    );
}
