//! Placing, cancelling and reading orders.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use local_region::services::Service;
use local_region::services::faults::{Effect, Failure, Rule};
use serde_json::{Value, json};
use sojourn::commerce::carts::MAX_LINES;
use sojourn::commerce::orders::OrderStatus;
use sojourn::coordination::idempotency::RETENTION;
use sojourn::core::problem::ProblemType;
use sojourn::core::retry::CONFLICT_TRIES;

use crate::shop::{Answer, Shop, is_replay, kind, member, order_id};

/// Buyers at the counter at one moment.
const CONCURRENT: usize = 64;

fn transactions(effect: Effect) -> Rule {
    Rule::new(effect).service(Service::DynamoDb).operation("TransactWriteItems")
}

fn conflict(positions: &[usize]) -> Effect {
    Effect::Error { failure: Failure::TransactionConflict { positions: positions.to_vec() } }
}

#[tokio::test]
async fn an_order_costs_what_the_catalogue_says_and_takes_its_stock() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    shop.sell("pot", 900, 2).await;
    let ann = shop.customer().await;
    let reply = shop.place(&ann, "k", &[("tea", 3), ("pot", 1)]).await.unwrap();

    let id = order_id(&reply);
    assert_eq!(reply.status, 201);
    assert_eq!(reply.headers["location"], format!("/orders/{id}"));
    let price = |amount: u64| json!({"amount": amount, "currency": "TWD"});
    assert_eq!(
        reply.body.unwrap(),
        json!({
            "orderId": id, "status": "PENDING_PAYMENT", "customerId": ann.user_id(), "region": "local",
            "lines": [
                {"productId": "tea", "quantity": 3, "unitPrice": price(50)},
                {"productId": "pot", "quantity": 1, "unitPrice": price(900)},
            ],
            "total": price(1_050), "createdAt": "2026-11-20T09:30:00.123Z",
        })
    );
    assert_eq!((shop.available("tea").await, shop.available("pot").await), (7, 1));
    assert_eq!(shop.events("order.placed", id.as_str()).await, 1);
}

#[tokio::test]
async fn fifty_concurrent_requests_with_one_key_are_one_order_and_get_one_answer() {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    let tries: FuturesUnordered<_> = (0..50).map(|_| shop.place(&ann, "k", &[("tea", 2)])).collect();
    let replies: Vec<_> = tries.map(Result::unwrap).collect().await;

    let answers: HashSet<String> =
        replies.iter().map(|reply| format!("{} {}", reply.status, reply.body.as_ref().unwrap())).collect();
    assert_eq!((replies.len(), answers.len()), (50, 1));
    assert_eq!(replies.iter().filter(|reply| !is_replay(reply)).count(), 1);
    assert_eq!(shop.order_rows().await.len(), 1);
    assert_eq!(shop.available("tea").await, 98);
}

#[tokio::test]
async fn a_key_belongs_to_its_payload_its_caller_and_its_operation() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let (ann, bob) = (shop.customer().await, shop.customer().await);
    let first = shop.place(&ann, "k", &[("tea", 1)]).await.unwrap();
    assert_eq!(kind(shop.place(&ann, "k", &[("tea", 2)]).await), ProblemType::IdempotencyKeyReused);
    assert_ne!(order_id(&shop.place(&bob, "k", &[("tea", 1)]).await.unwrap()), order_id(&first));
    assert_eq!(shop.cancel(&ann, "k", &order_id(&first)).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_replay_after_the_stock_is_gone_is_still_the_order() {
    let shop = Shop::open();
    shop.sell("tea", 50, 1).await;
    let ann = shop.customer().await;
    let first = shop.place(&ann, "k", &[("tea", 1)]).await.unwrap();
    let again = shop.place(&ann, "k", &[("tea", 1)]).await.unwrap();
    assert_eq!(again, first.header("idempotent-replayed", "true"));
}

#[tokio::test]
async fn an_answer_is_given_again_for_a_day_and_then_its_key_is_new_for_other_lines() {
    let shop = Shop::open();
    shop.sell("tea", 50, 3).await;
    let ann = shop.customer().await;
    let first = shop.place(&ann, "k", &[("tea", 1)]).await.unwrap();
    shop.clock.advance(RETENTION.saturating_sub(Duration::from_secs(1)));
    assert_eq!(order_id(&shop.place(&ann, "k", &[("tea", 1)]).await.unwrap()), order_id(&first));
    // TTL has not deleted the record.
    shop.clock.advance(Duration::from_secs(1));
    let other = shop.place(&ann, "k", &[("tea", 2)]).await.unwrap();
    assert_ne!((order_id(&other), is_replay(&other)), (order_id(&first), true));
    assert_eq!(shop.available("tea").await, 0);
}

#[tokio::test]
async fn out_of_stock_names_the_products_and_stays_the_answer_after_restocking() {
    let shop = Shop::open();
    for (product, units) in [("tea", 5), ("pot", 1), ("cup", 2)] {
        shop.sell(product, 50, units).await;
    }
    let ann = shop.customer().await;
    let lines = [("pot", 2), ("tea", 1), ("cup", 3)];
    let problem = shop.place(&ann, "k", &lines).await.unwrap_err();
    assert_eq!(problem.kind, ProblemType::OutOfStock);
    assert_eq!(problem.extensions["productIds"], json!(["pot", "cup"]));
    assert_eq!(shop.available("tea").await, 5);

    shop.adjust(&ann, "more-pots", "pot", 10).await.unwrap();
    shop.adjust(&ann, "more-cups", "cup", 10).await.unwrap();
    let replay = shop.place(&ann, "k", &lines).await.unwrap();
    assert!(is_replay(&replay));
    assert_eq!((replay.status, replay.body), (409, Some(problem.document())));
    assert_eq!(shop.place(&ann, "another", &lines).await.unwrap().status, 201);
}

#[tokio::test]
async fn what_is_not_for_sale_is_named() {
    let shop = Shop::open();
    shop.sell("tea", 50, 5).await;
    let ann = shop.customer().await;
    let problem = shop.place(&ann, "k", &[("tea", 1), ("elixir", 1)]).await.unwrap_err();
    assert_eq!(
        (problem.kind, &problem.extensions["productIds"]),
        (ProblemType::Unprocessable, &json!(["elixir"]))
    );
}

#[tokio::test]
async fn three_hundred_buyers_of_a_hundred_units_are_a_hundred_orders() {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    let keys: Vec<String> = (0..300).map(|n| format!("key-{n}")).collect();
    let tries = keys.iter().map(|key| shop.place(&ann, key, &[("tea", 1)]));
    let answers: Vec<Answer> = stream::iter(tries).buffer_unordered(CONCURRENT).collect().await;

    let (placed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((placed.len(), refused.len()), (100, 200));
    assert!(refused.into_iter().all(|answer| kind(answer) == ProblemType::OutOfStock));
    assert_eq!(shop.available("tea").await, 0);
    assert_eq!(shop.order_rows().await.len(), 100);
}

#[tokio::test]
async fn overlapping_orders_with_their_lines_in_different_orders_lose_no_stock() {
    let shop = Shop::open();
    for product in ["tea", "pot", "cup"] {
        shop.sell(product, 50, 120).await;
    }
    let ann = shop.customer().await;
    let lines = [
        [("tea", 1), ("pot", 2), ("cup", 3)],
        [("cup", 3), ("tea", 1), ("pot", 2)],
        [("pot", 2), ("cup", 3), ("tea", 1)],
    ];
    let keys: Vec<String> = (0..90).map(|n| format!("key-{n}")).collect();
    let tries = keys.iter().zip(lines.iter().cycle()).map(|(key, lines)| shop.place(&ann, key, lines));
    let answers: Vec<Answer> = stream::iter(tries).buffer_unordered(CONCURRENT).collect().await;

    let placed = u64::try_from(answers.iter().filter(|answer| answer.is_ok()).count()).unwrap();
    assert_eq!(placed, 40, "120 cups at 3 each");
    assert_eq!(shop.available("tea").await, 120 - placed);
    assert_eq!(shop.available("pot").await, 120 - 2 * placed);
    assert_eq!(shop.available("cup").await, 0);
}

#[tokio::test]
async fn the_largest_order_fits_into_one_read_and_one_transaction() {
    let shop = Shop::open();
    let products: Vec<String> = (0..MAX_LINES).map(|n| format!("product-{n}")).collect();
    for product in &products {
        shop.sell(product, 7, 1).await;
    }
    let ann = shop.customer().await;
    let lines: Vec<(&str, u32)> = products.iter().map(|product| (product.as_str(), 1)).collect();
    let id = order_id(&shop.place(&ann, "k", &lines).await.unwrap());
    assert_eq!(shop.order(&ann, &id).await.total.amount, 7 * 94);
    assert_eq!(shop.cancel(&ann, "k", &id).await.unwrap().status, 200);
    assert_eq!(shop.available("product-93").await, 1);
}

#[tokio::test]
async fn a_new_order_takes_two_round_trips_and_its_replay_one() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    shop.sell("pot", 50, 10).await;
    let ann = shop.customer().await;
    for (what, round_trips) in [("new", 2), ("replay", 1)] {
        shop.store.embedded.usage().record();
        shop.place(&ann, "k", &[("tea", 1), ("pot", 1)]).await.unwrap();
        let usage = shop.store.embedded.usage().snapshot();
        assert_eq!(usage.log.len(), round_trips, "{what}: {:?}", usage.log);
    }
}

#[tokio::test]
async fn conflicts_are_waited_out_wherever_they_are() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    for (key, positions) in [("record", [0]), ("order", [1]), ("stock", [3])] {
        shop.store.embedded.faults().add(transactions(conflict(&positions)).times(3));
        assert_eq!(shop.place(&ann, key, &[("tea", 1)]).await.unwrap().status, 201);
    }
    assert_eq!(shop.available("tea").await, 7);
}

#[tokio::test]
async fn conflicts_that_outlast_the_deadline_are_a_503_and_change_nothing() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let rule = shop.store.embedded.faults().add(transactions(conflict(&[3])));
    let answer = shop.place_within(Duration::from_millis(300), &ann, "k", &[("tea", 1)]).await;
    let problem = answer.unwrap_err();
    assert_eq!(problem.kind, ProblemType::Unavailable);
    assert!(problem.retry_after.is_some());
    shop.store.embedded.faults().remove(rule);
    assert_eq!(shop.available("tea").await, 10);
    assert!(!is_replay(&shop.place(&ann, "k", &[("tea", 1)]).await.unwrap()), "the key is free");
}

#[tokio::test]
async fn a_conflict_at_the_stock_is_tried_a_few_times_without_reading_anything_again() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let rule = shop.store.embedded.faults().add(transactions(conflict(&[3])));
    shop.store.embedded.usage().record();
    let problem = shop.place(&ann, "k", &[("tea", 1)]).await.unwrap_err();
    let usage = shop.store.embedded.usage().snapshot();
    assert_eq!((problem.kind, problem.retry_after.is_some()), (ProblemType::Unavailable, true));
    assert_eq!(usage.count("TransactWriteItems"), u64::from(CONFLICT_TRIES));
    assert_eq!(usage.count("BatchGetItem"), 1);
    shop.store.embedded.faults().remove(rule);
    assert!(!is_replay(&shop.place(&ann, "k", &[("tea", 1)]).await.unwrap()), "the key is free");
}

#[tokio::test]
async fn a_conflict_at_the_record_is_followed_by_a_read_since_it_may_be_a_duplicate() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    shop.store.embedded.faults().add(transactions(conflict(&[0, 3])).times(1));
    shop.store.embedded.usage().record();
    shop.place(&ann, "k", &[("tea", 1)]).await.unwrap();
    assert_eq!(shop.store.embedded.usage().snapshot().count("BatchGetItem"), 2);
}

#[tokio::test]
async fn buyers_of_a_hot_product_get_it_or_are_told_when_to_come_back() {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let mut buyers = Vec::new();
    for _ in 0..60 {
        buyers.push(shop.customer().await);
    }
    // So crowded is the stock row that three of four transactions meet another one there.
    shop.store.embedded.faults().add(transactions(conflict(&[3])).probability(0.75));
    shop.store.embedded.usage().record();
    let tries = buyers.iter().map(|buyer| shop.place(buyer, "k", &[("tea", 1)]));
    let answers: Vec<Answer> = stream::iter(tries).buffer_unordered(CONCURRENT).collect().await;
    let sent = shop.store.embedded.usage().snapshot().count("TransactWriteItems");
    assert!(sent <= 60 * u64::from(CONFLICT_TRIES), "{sent} transactions");

    let (placed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    for answer in refused {
        let problem = answer.unwrap_err();
        assert_eq!((problem.kind, problem.retry_after.is_some()), (ProblemType::Unavailable, true));
    }
    assert_eq!(shop.available("tea").await, 100 - u64::try_from(placed.len()).unwrap());
}

#[tokio::test]
async fn throttling_is_a_503() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let throttled = Effect::Error { failure: Failure::ProvisionedThroughputExceededException };
    shop.store.embedded.faults().add(transactions(throttled));
    assert_eq!(kind(shop.place(&ann, "k", &[("tea", 1)]).await), ProblemType::Unavailable);
}

#[tokio::test]
async fn an_order_whose_answer_got_lost_is_found_by_the_clients_retry() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let rule = shop.store.embedded.faults().add(transactions(Effect::CommitThenReset));
    assert_eq!(kind(shop.place(&ann, "k", &[("tea", 1)]).await), ProblemType::Unavailable);
    shop.store.embedded.faults().remove(rule);
    assert!(is_replay(&shop.place(&ann, "k", &[("tea", 1)]).await.unwrap()));
    assert_eq!((shop.available("tea").await, shop.order_rows().await.len()), (9, 1));
}

#[tokio::test]
async fn a_caller_whose_session_has_ended_learns_nothing_not_even_a_replay() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    shop.place(&ann, "k", &[("tea", 1)]).await.unwrap();
    sojourn_testing::sign_ins::revoke(&shop.store, ann.credential.session_id()).await;
    assert_eq!(kind(shop.place(&ann, "k", &[("tea", 1)]).await), ProblemType::Unauthenticated);
    assert_eq!(kind(shop.place(&ann, "new", &[("tea", 1)]).await), ProblemType::Unauthenticated);
}

#[tokio::test]
async fn a_cancelled_order_gives_its_stock_back_once() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let ann = shop.customer().await;
    let id = shop.placed(&ann, &[("tea", 4)]).await;
    let tries: FuturesUnordered<_> = (0..20).map(|_| shop.cancel(&ann, "c", &id)).collect();
    let replies: Vec<_> = tries.map(Result::unwrap).collect().await;
    assert!(replies.iter().all(|reply| reply.status == 200 && *member(reply, "status") == "CANCELLED"));
    assert_eq!(replies.iter().filter(|reply| !is_replay(reply)).count(), 1);
    assert_eq!(kind(shop.cancel(&ann, "another", &id).await), ProblemType::OrderStateConflict);
    assert_eq!(shop.available("tea").await, 10);
    assert_eq!(shop.events("order.cancelled", id.as_str()).await, 1);
    assert!(shop.order_rows().await.iter().all(|row| !row.contains_key("pendingShard")));
}

#[tokio::test]
async fn a_strangers_order_is_not_there() {
    let shop = Shop::open();
    shop.sell("tea", 50, 10).await;
    let (ann, eve) = (shop.customer().await, shop.customer().await);
    let id = shop.placed(&ann, &[("tea", 1)]).await;
    assert_eq!(shop.order_if_any(&eve, &id).await, None);
    assert_eq!(kind(shop.cancel(&eve, "k", &id).await), ProblemType::NotFound);
    assert_eq!(kind(shop.pay(&eve, "k", &id, "tok_ok").await), ProblemType::NotFound);
    assert_eq!(shop.status(&ann, &id).await, OrderStatus::PendingPayment);
    assert_eq!(shop.charges(&id).await, 0);
}

#[tokio::test]
async fn orders_are_listed_newest_first_in_pages_and_nobody_elses_among_them() {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let (ann, eve) = (shop.customer().await, shop.customer().await);
    let mut placed = Vec::new();
    for _ in 0..7 {
        placed.push(shop.placed(&ann, &[("tea", 1)]).await);
        shop.placed(&eve, &[("tea", 1)]).await;
        shop.clock.advance(Duration::from_millis(1));
    }
    placed.reverse();

    let mut listed = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = shop.orders.list(ann.user_id(), cursor.as_deref(), 3).await.unwrap();
        assert!(page.items.len() <= 3);
        listed.extend(page.items.into_iter().map(|order| order.order_id));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, placed);
    let foreign = sojourn::core::cursor::encode("products", &Value::from("tea")).unwrap();
    assert!(shop.orders.list(ann.user_id(), Some(&foreign), 3).await.is_err());
}
