//! Payments: whatever gets lost on the way, an order is charged once.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::json;
use sojourn_tests::{Answer, Customer, TestRegion, fresh_key};

async fn pending_order(region: &TestRegion) -> (Customer, String) {
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let order_id = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId");
    (customer, order_id)
}

/// Charges that the provider's ledger has for an order.
async fn charges(region: &TestRegion, order_id: &str) -> usize {
    let ledger = region.dynamodb().scan().table_name("PaymentLedgerTable").send().await.unwrap();
    let captured = |row: &&std::collections::HashMap<_, aws_sdk_dynamodb::types::AttributeValue>| {
        row["orderId"].as_s().is_ok_and(|id| id == order_id)
            && row["state"].as_s().is_ok_and(|state| state.eq_ignore_ascii_case("captured"))
    };
    ledger
        .items()
        .iter()
        .filter(captured)
        .map(|row| row["charges"].as_n().unwrap().parse::<usize>().unwrap())
        .sum()
}

async fn status(region: &TestRegion, customer: &Customer, order_id: &str) -> String {
    region.call_as(customer, "GET", &format!("/orders/{order_id}")).send().await.expect(200).text_of("status")
}

/// Pays as a good client does: repeats on 409 and 503 as told, until there is a final answer.
async fn pay_until_final(
    region: &TestRegion,
    who: &Customer,
    key: &str,
    order_id: &str,
    token: &str,
) -> Answer {
    for _ in 0..200 {
        let answer = region.pay(who, key, order_id, token).await;
        let again = match answer.body["type"].as_str() {
            Some("/problems/idempotency-in-progress" | "/problems/payment-in-progress") => true,
            _ => answer.status == 503,
        };
        if !again {
            return answer;
        }
        assert!(answer.header("retry-after").is_some(), "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no final answer");
}

#[tokio::test]
async fn a_paid_order_is_charged_once_and_cannot_be_paid_or_cancelled_again() {
    let region = TestRegion::start().await;
    let (customer, order_id) = pending_order(&region).await;
    let key = fresh_key();
    let paid = region.pay(&customer, &key, &order_id, "tok_ok").await.expect(201);
    assert_eq!(paid.body["status"], "CAPTURED");
    assert_eq!(paid.body["amount"], json!({"amount": 12_900, "currency": "TWD"}));
    let again = region.pay(&customer, &key, &order_id, "tok_ok").await.expect(201);
    assert_eq!(
        (again.text.as_str(), again.header("idempotent-replayed")),
        (paid.text.as_str(), Some("true"))
    );
    assert_eq!(status(&region, &customer, &order_id).await, "PAID");

    region
        .pay(&customer, &fresh_key(), &order_id, "tok_ok")
        .await
        .expect_problem(409, "order-state-conflict");
    let cancel = region.call_as(&customer, "POST", &format!("/orders/{order_id}/cancel")).key(&fresh_key());
    cancel.send().await.expect_problem(409, "order-state-conflict");
    assert_eq!(charges(&region, &order_id).await, 1);
}

#[tokio::test]
async fn a_charge_whose_answer_was_lost_ends_as_one_charge_and_a_paid_order() {
    let region = TestRegion::start().await;
    let (customer, order_id) = pending_order(&region).await;
    let key = fresh_key();
    let first = region.pay(&customer, &key, &order_id, "tok_timeout_after_charge").await;
    first.expect_problem(503, "payment-outcome-unknown");

    let answers: Vec<Answer> = stream::iter(0..20)
        .map(|_| pay_until_final(&region, &customer, &key, &order_id, "tok_timeout_after_charge"))
        .buffer_unordered(20)
        .collect()
        .await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.text), (201, &answers[0].text));
    }
    assert_eq!(status(&region, &customer, &order_id).await, "PAID");
    assert_eq!(charges(&region, &order_id).await, 1);
}

#[tokio::test]
async fn concurrent_payments_with_different_keys_charge_once() {
    let region = TestRegion::start().await;
    let (customer, order_id) = pending_order(&region).await;
    let answers: Vec<Answer> = stream::iter(0..20)
        .map(|i| {
            let (region, customer, order_id) = (&region, &customer, &order_id);
            let token = if i % 2 == 0 { "tok_ok" } else { "tok_timeout_after_charge" };
            async move { pay_until_final(region, customer, &fresh_key(), order_id, token).await }
        })
        .buffer_unordered(20)
        .collect()
        .await;
    assert!(answers.iter().all(|answer| matches!(answer.status, 201 | 409)));
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(status(&region, &customer, &order_id).await, "PAID");
    assert_eq!(charges(&region, &order_id).await, 1);
}

#[tokio::test]
async fn a_declined_payment_is_final_for_its_key_and_another_may_succeed() {
    let region = TestRegion::start().await;
    let (customer, order_id) = pending_order(&region).await;
    let key = fresh_key();
    region.pay(&customer, &key, &order_id, "tok_declined").await.expect_problem(402, "payment-declined");
    let again =
        region.pay(&customer, &key, &order_id, "tok_declined").await.expect_problem(402, "payment-declined");
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(status(&region, &customer, &order_id).await, "PENDING_PAYMENT");
    region.pay(&customer, &fresh_key(), &order_id, "tok_ok").await.expect(201);
    assert_eq!(status(&region, &customer, &order_id).await, "PAID");
    assert_eq!(charges(&region, &order_id).await, 1);
}

#[tokio::test]
async fn an_unavailable_provider_frees_the_key() {
    let region = TestRegion::start().await;
    let (customer, order_id) = pending_order(&region).await;
    let key = fresh_key();
    for _ in 0..2 {
        let answer = region.pay(&customer, &key, &order_id, "tok_unavailable").await;
        let answer = answer.expect_problem(503, "unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(charges(&region, &order_id).await, 0);
    region.pay(&customer, &fresh_key(), &order_id, "tok_ok").await.expect(201);
}

#[tokio::test]
async fn cancelling_an_order_with_a_lost_charge_keeps_it_paid() {
    let region = TestRegion::start().await;
    let (customer, order_id) = pending_order(&region).await;
    let unknown = region.pay(&customer, &fresh_key(), &order_id, "tok_timeout_after_charge").await;
    unknown.expect_problem(503, "payment-outcome-unknown");
    let cancel = region.call_as(&customer, "POST", &format!("/orders/{order_id}/cancel")).key(&fresh_key());
    cancel.send().await.expect_problem(409, "order-state-conflict");
    assert_eq!(status(&region, &customer, &order_id).await, "PAID");
    assert_eq!(charges(&region, &order_id).await, 1);
}
