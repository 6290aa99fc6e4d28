//! A customer's orders in a few numbers: right, kept, forgotten, and nobody else's.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use sojourn::commerce::invalidation::Invalidator;
use sojourn::commerce::orders::summary::{
    INDEX_SETTLES, MAX_PAGES, OrderSummaries, OrderSummary, UNSETTLED_FRESH, name_of,
};
use sojourn::core::clock::Clock;
use sojourn::core::date_time::rfc3339;
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::ids::OrderId;
use sojourn::platform::cache::{Cache, Loaded};
use sojourn::platform::dynamo::text;
use sojourn::platform::redis::RedisClient;
use sojourn::platform::stream::{Change, ChangeKind};
use sojourn_testing::RedisServer;

use crate::shop::{Customer, Shop};

fn cache(shop: &Shop, redis: &RedisServer) -> Cache {
    let env = Env::of([("STAGE", "local"), ("REDIS_URL", &*redis.url())]);
    let client = RedisClient::from_env(&env).unwrap().with_budget(Duration::from_secs(5));
    Cache::redis(client, "shop", shop.clock.clone())
}

fn summaries(shop: &Shop, cache: Cache) -> OrderSummaries {
    let client = shop.store.client.clone();
    OrderSummaries::from_env(client, &shop.store.env, shop.clock.clone()).unwrap().with_cache(cache)
}

async fn of(summaries: &OrderSummaries, customer: &Customer) -> OrderSummary {
    summaries.of(customer.user_id()).await.unwrap()
}

/// How many requests DynamoDB gets for the summary.
async fn cost(shop: &Shop, summaries: &OrderSummaries, customer: &Customer) -> u64 {
    let usage = shop.store.embedded.usage();
    usage.record();
    of(summaries, customer).await;
    usage.stop();
    usage.snapshot().total()
}

#[tokio::test]
async fn a_summary_counts_orders_and_adds_up_what_was_paid() {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    let summaries = summaries(&shop, Cache::none(shop.clock.clone()));
    let none = json!({"orders": 0, "unpaid": 0, "spent": [], "complete": true});
    assert_eq!(of(&summaries, &ann).await.document(), none);
    let [paid, cancelled] = [shop.placed(&ann, &[("tea", 2)]).await, shop.placed(&ann, &[("tea", 3)]).await];
    shop.clock.advance(Duration::from_mins(1));
    shop.placed(&ann, &[("tea", 5)]).await;
    shop.pay(&ann, "pay", &paid, "tok_ok").await.unwrap();
    shop.cancel(&ann, "cancel", &cancelled).await.unwrap();
    let summary = json!({
        "orders": 3, "unpaid": 1, "spent": [{"amount": 100, "currency": "TWD"}], "complete": true,
        "lastOrderAt": "2026-11-20T09:31:00.123Z",
    });
    assert_eq!(of(&summaries, &ann).await.document(), summary);
}

#[tokio::test]
async fn a_summary_is_kept_for_long_only_once_the_index_has_settled() {
    let Some(redis) = RedisServer::start() else { return };
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    let summaries = summaries(&shop, cache(&shop, &redis));
    let settled = async || {
        // The first calls of a process may only connect.
        for _ in 0..5 {
            of(&summaries, &ann).await;
        }
        let now = cost(&shop, &summaries, &ann).await;
        shop.clock.advance(UNSETTLED_FRESH * 2);
        (now, cost(&shop, &summaries, &ann).await)
    };
    let order = shop.placed(&ann, &[("tea", 2)]).await;
    assert_eq!(settled().await, (0, 2), "the row, and the index");
    shop.clock.advance(INDEX_SETTLES);
    of(&summaries, &ann).await;
    assert_eq!(settled().await, (0, 0));
    // Every change of an order unsettles.
    shop.pay(&ann, "pay", &order, "tok_ok").await.unwrap();
    summaries.forget(&ann.credential).await;
    assert_eq!(settled().await, (0, 2));
}

#[tokio::test]
async fn whoever_changes_an_order_forgets_the_summary_and_the_stream_does_for_others() {
    let Some(redis) = RedisServer::start() else { return };
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    let [here, elsewhere] = [(); 2].map(|()| summaries(&shop, cache(&shop, &redis)));
    for _ in 0..5 {
        assert_eq!((of(&here, &ann).await.orders, of(&elsewhere, &ann).await.orders), (0, 0));
    }
    let order = shop.placed(&ann, &[("tea", 2)]).await;
    assert_eq!(of(&elsewhere, &ann).await.orders, 0, "nobody was told yet");
    here.forget(&ann.credential).await;
    assert_eq!(of(&elsewhere, &ann).await.orders, 1, "in no process's own tier");

    shop.cancel(&ann, "cancel", &order).await.unwrap();
    assert_eq!(of(&here, &ann).await.unpaid, 1);
    let rows = shop.rows("OrdersTable").await;
    let changes: Vec<Change> = rows
        .into_iter()
        .map(|row| Change {
            sequence_number: "1".to_owned(),
            kind: ChangeKind::Modify,
            keys: serde_dynamo::Item::default(),
            old_image: None,
            new_image: Some(row.into()),
        })
        .collect();
    let told = Invalidator::new(cache(&shop, &redis))
        .process(&changes, Deadline::after(Duration::from_secs(5)))
        .await;
    assert_eq!((told, of(&here, &ann).await.unpaid), (None, 0));
}

#[tokio::test]
async fn a_summary_of_somebody_else_is_not_served() {
    let Some(redis) = RedisServer::start() else { return };
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let [ann, bob] = [shop.customer().await, shop.customer().await];
    shop.placed(&ann, &[("tea", 2)]).await;
    let cache = cache(&shop, &redis);
    let summaries = summaries(&shop, cache.clone());
    let of_ann = of(&summaries, &ann).await;
    // A bug fills it in under another name.
    for _ in 0..5 {
        let wrong = async { Ok::<_, std::convert::Infallible>(Loaded::value(of_ann.clone())) };
        cache.invalidate(&[name_of(bob.user_id().as_str())]).await.ok();
        cache.read_through::<OrderSummary, _>(bob.user_id().as_str(), wrong).await.unwrap();
    }
    let of_bob = of(&summaries, &bob).await;
    assert_eq!((of_ann.orders, of_bob.orders, &of_bob.customer_id), (1, 0, bob.user_id()));
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_not_counted_and_said_to_be_missing() {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    let order = shop.placed(&ann, &[("tea", 2)]).await;
    shop.placed(&ann, &[("tea", 2)]).await;
    let update = shop.store.client.update_item().table_name("OrdersTable");
    let key = text(order.as_str());
    update
        .key("orderId", key)
        .update_expression("REMOVE #total")
        .expression_attribute_names("#total", "total")
        .send()
        .await
        .unwrap();
    let summary = of(&summaries(&shop, Cache::none(shop.clock.clone())), &ann).await;
    assert_eq!((summary.orders, summary.complete), (1, false));
}

#[tokio::test]
async fn a_summary_of_more_orders_than_it_reads_counts_the_latest_and_says_so() {
    const ORDERS: i64 = 20;
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let ann = shop.customer().await;
    shop.placed(&ann, &[("tea", 2)]).await;
    let rows = shop.rows("OrdersTable").await;
    let row = rows.into_iter().find(|row| row.contains_key("customerId")).unwrap();
    let of_row = async |nth: i64| {
        let order_id: OrderId = shop.ids.next();
        let created_at = shop.clock.now() - SignedDuration::from_mins(nth);
        let mut row = row.clone();
        row.insert("orderId".to_owned(), text(order_id.as_str()));
        row.insert("createdAt".to_owned(), text(rfc3339(created_at)));
        // Three or four such rows fill a page of the index.
        row.insert("lines".to_owned(), text("x".repeat(300_000)));
        shop.store.client.put_item().table_name("OrdersTable").set_item(Some(row)).send().await.unwrap();
    };
    for nth in 1..=ORDERS {
        of_row(nth).await;
    }
    let summary = of(&summaries(&shop, Cache::none(shop.clock.clone())), &ann).await;
    let most = u64::try_from(ORDERS).unwrap();
    assert!((u64::try_from(MAX_PAGES).unwrap()..most).contains(&summary.orders), "{summary:?}");
    assert!(!summary.complete);
    assert_eq!(summary.last_order_at, Some(shop.clock.now()));
}
