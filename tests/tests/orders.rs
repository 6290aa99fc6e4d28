//! Placing orders: exactly once, never more than there is.

use std::collections::HashSet;

use futures::stream::{self, StreamExt};
use serde_json::json;
use sojourn_tests::{Answer, TestRegion, fresh_key, order_of};

/// Calls under way at once: as many as a busy client would have, fewer than the sockets of this
/// machine.
const AT_ONCE: usize = 50;

#[tokio::test]
async fn fifty_concurrent_requests_with_one_key_place_one_order() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 100).await;
    let customer = region.customer().await;

    let key = fresh_key();
    let answers: Vec<Answer> = stream::iter(0..50)
        .map(|_| region.order(&customer, &key, &[("lamp", 2)]))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    let first = answers[0].clone().expect(201);
    for answer in &answers {
        assert_eq!((answer.status, &answer.text), (201, &first.text));
        assert_eq!(answer.header("location"), first.header("location"));
    }
    let firsts = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count();
    assert_eq!(firsts, 1, "one answer is the first, all others say that they are replays");
    assert_eq!(region.available("lamp").await, 98);
    let listed = region.call_as(&customer, "GET", "/orders").send().await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_order_has_the_servers_prices_and_can_be_read_back() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 5).await;
    region.stock(&operator, "chair", 5).await;
    let customer = region.customer().await;

    let placed = region.order(&customer, &fresh_key(), &[("lamp", 2), ("chair", 1)]).await.expect(201);
    assert_eq!(placed.body["status"], "PENDING_PAYMENT");
    assert_eq!(placed.body["customerId"], customer.user_id);
    assert_eq!(placed.body["total"], json!({"amount": 38_700, "currency": "TWD"}));
    assert_eq!(placed.body["region"], "local");
    let location = placed.header("location").unwrap().to_owned();
    let read = region.call_as(&customer, "GET", &location).send().await.expect(200);
    assert_eq!(read.body, placed.body);

    let stranger = region.customer().await;
    region.call_as(&stranger, "GET", &location).send().await.expect_problem(404, "not-found");
    let none = region.call_as(&stranger, "GET", "/orders").send().await.expect(200);
    assert_eq!(none.body["items"], json!([]));
}

#[tokio::test]
async fn the_same_key_with_another_payload_is_refused() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let key = fresh_key();
    region.order(&customer, &key, &[("lamp", 1)]).await.expect(201);
    region.order(&customer, &key, &[("lamp", 2)]).await.expect_problem(422, "idempotency-key-reused");
    assert_eq!(region.available("lamp").await, 9);

    // The order of members is not part of the payload; the quoted form is the same key.
    let again = region.call_as(&customer, "POST", "/orders").key(&format!("\"{key}\""));
    let again = again
        .header("content-type", "application/json")
        .text(r#"{"lines":[{"quantity":1,"productId":"lamp"}]}"#);
    let again = again.send().await.expect(201);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    // A key belongs to one customer.
    let other = region.customer().await;
    let own = region.order(&other, &key, &[("lamp", 1)]).await.expect(201);
    assert_eq!(own.header("idempotent-replayed"), None);
}

#[tokio::test]
async fn a_missing_or_malformed_key_changes_nothing() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let body = order_of(&[("lamp", 1)]);
    let order = || region.call_as(&customer, "POST", "/orders").json(&body);
    order().send().await.expect_problem(400, "idempotency-key-missing");
    for malformed in ["\"", "\"open", "two words", &"k".repeat(256)] {
        order().key(malformed).send().await.expect_problem(400, "idempotency-key-invalid");
    }
    assert_eq!(region.available("lamp").await, 10);
}

#[tokio::test]
async fn a_replay_after_the_stock_is_gone_still_replays() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 1).await;
    let customer = region.customer().await;
    let key = fresh_key();
    let first = region.order(&customer, &key, &[("lamp", 1)]).await.expect(201);
    let refused_key = fresh_key();
    let refused =
        region.order(&customer, &refused_key, &[("lamp", 1)]).await.expect_problem(409, "out-of-stock");
    assert_eq!(refused.body["productIds"], json!(["lamp"]));
    let again = region.order(&customer, &key, &[("lamp", 1)]).await.expect(201);
    assert_eq!(again.text, first.text);

    // The refusal is final too: new stock does not turn a replay into an order.
    region.stock(&operator, "lamp", 5).await;
    let replayed =
        region.order(&customer, &refused_key, &[("lamp", 1)]).await.expect_problem(409, "out-of-stock");
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    assert_eq!(region.available("lamp").await, 5);
}

#[tokio::test]
async fn three_hundred_buyers_of_a_hundred_units_get_exactly_a_hundred() {
    let region = TestRegion::start_for_many_orders().await;
    let operator = region.operator().await;
    region.stock(&operator, "ticket", 100).await;
    let customer = region.customer().await;
    let answers: Vec<Answer> = stream::iter(0..300)
        .map(|_| {
            let (region, customer, key) = (&region, &customer, fresh_key());
            async move { region.order(customer, &key, &[("ticket", 1)]).await }
        })
        .buffer_unordered(300)
        .collect()
        .await;

    let (placed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    for answer in refused.iter().cloned() {
        answer.expect_problem(409, "out-of-stock");
    }
    assert_eq!((placed.len(), refused.len()), (100, 200));
    let ids: HashSet<_> = placed.iter().map(|answer| answer.text_of("orderId")).collect();
    assert_eq!(ids.len(), 100);
    assert_eq!(region.available("ticket").await, 0);
}

#[tokio::test]
async fn orders_that_overlap_in_different_orders_of_lines_lose_no_stock() {
    let region = TestRegion::start_for_many_orders().await;
    let operator = region.operator().await;
    for product in ["a", "b", "c"] {
        region.stock(&operator, product, 60).await;
    }
    let customer = region.customer().await;
    let carts: [&[(&str, u32)]; 4] = [
        &[("a", 1), ("b", 2), ("c", 1)],
        &[("c", 2), ("a", 1)],
        &[("b", 1), ("a", 2)],
        &[("c", 1), ("b", 1), ("a", 1)],
    ];
    let answers: Vec<(usize, Answer)> = stream::iter(0..80)
        .map(|i| {
            let (region, customer, key) = (&region, &customer, fresh_key());
            async move { (i % 4, region.order(customer, &key, carts[i % 4]).await) }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    for (index, product) in ["a", "b", "c"].into_iter().enumerate() {
        let sold: u32 = answers
            .iter()
            .filter(|(_, answer)| answer.status == 201)
            .flat_map(|(cart, _)| carts[*cart])
            .filter(|(line, _)| *line == product)
            .map(|(_, quantity)| quantity)
            .sum();
        assert_eq!(region.available(product).await, 60 - i64::from(sold), "product {index}");
    }
    assert!(answers.iter().all(|(_, answer)| matches!(answer.status, 201 | 409)));
}

#[tokio::test]
async fn a_cancelled_order_gives_its_stock_back_once() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let order_id = region.order(&customer, &fresh_key(), &[("lamp", 4)]).await.expect(201).text_of("orderId");
    assert_eq!(region.available("lamp").await, 6);

    let path = format!("/orders/{order_id}/cancel");
    let key = fresh_key();
    let answers: Vec<Answer> = stream::iter(0..20)
        .map(|i| {
            // Half of them repeat one request, the others are requests of their own.
            let key = if i % 2 == 0 { key.clone() } else { fresh_key() };
            region.call_as(&customer, "POST", &path).key(&key).send()
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let cancelled: HashSet<_> =
        answers.iter().filter(|answer| answer.status == 200).map(|answer| &answer.text).collect();
    assert_eq!(cancelled.len(), 1, "one cancellation happened, and its repeats got the same answer");
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 409)));
    assert_eq!(region.available("lamp").await, 10);
}

#[tokio::test]
async fn orders_are_listed_newest_first_page_by_page() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 100).await;
    let customer = region.customer().await;
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed
            .push(region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId"));
    }
    placed.reverse();

    let mut listed = Vec::new();
    let mut path = "/orders?limit=2".to_owned();
    loop {
        let page = region.call_as(&customer, "GET", &path).send().await.expect(200);
        let items = page.body["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        listed.extend(items.iter().map(|order| order["orderId"].as_str().unwrap().to_owned()));
        match page.body["nextCursor"].as_str() {
            Some(cursor) => path = format!("/orders?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, placed);
    region
        .call_as(&customer, "GET", "/orders?cursor=nonsense")
        .send()
        .await
        .expect_problem(400, "invalid-request");
    region.call_as(&customer, "GET", "/orders?limit=0").send().await.expect_problem(400, "invalid-request");
}

#[tokio::test]
async fn a_customer_reserves_only_so_much_without_paying() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 2_000).await;
    let customer = region.customer().await;
    let units = [("lamp", 600)];
    let first = region.order(&customer, &fresh_key(), &units).await.expect(201).text_of("orderId");
    let key = fresh_key();
    let refused = region.order(&customer, &key, &units).await.expect_problem(409, "unpaid-limit");
    assert_eq!(
        [&refused.body["unpaidOrders"], &refused.body["reservedUnits"], &refused.body["maxReservedUnits"]],
        [1, 600, 1_000]
    );
    assert_eq!(region.available("lamp").await, 1_400);
    region.pay(&customer, &fresh_key(), &first, "tok_ok").await.expect(201);
    let placed = region.order(&customer, &key, &units).await.expect(201);
    assert_eq!(placed.header("idempotent-replayed"), None, "the refusal was not kept");
}
