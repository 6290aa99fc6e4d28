//! Products and their units.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use sojourn::commerce::catalog::MAX_UNITS;
use sojourn::commerce::catalog::dynamo::Stored;
use sojourn::core::deadline::Deadline;
use sojourn::core::problem::ProblemType;
use sojourn::platform::dynamo::{number, text};
use sojourn_local::services::faults::{Rule, When};

use crate::shop::{Shop, is_replay, kind, member};

#[tokio::test]
async fn a_product_is_created_once_and_then_replaced_and_keeps_its_units() {
    let shop = Shop::open();
    shop.sell("tea", 50, 3).await;
    let (mut tea, units) = shop.catalog.get(&"tea".parse().unwrap()).await.unwrap().unwrap();
    tea.draft.attributes.insert("leaf".to_owned(), json!({"origin": ["Alishan", 2026, 0.1, null]}));
    assert_eq!(shop.catalog.put(&tea).await.unwrap(), Stored::Replaced);
    assert_eq!(shop.catalog.get(&tea.product_id).await.unwrap(), Some((tea.clone(), units)));
    assert_eq!(tea.document(units)["available"], 3);

    tea.product_id = "pot".parse().unwrap();
    assert_eq!(shop.catalog.put(&tea).await.unwrap(), Stored::Created);
    assert_eq!(shop.available("pot").await, 0);
    assert_eq!(shop.catalog.get(&"cup".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn pages_show_every_product_once_with_its_units() {
    let shop = Shop::open();
    for n in 1..=7 {
        shop.sell(&format!("p{n}"), 50, n).await;
    }
    let mut seen = BTreeSet::new();
    let mut cursor: Option<String> = None;
    loop {
        let soon = Deadline::after(std::time::Duration::from_secs(5));
        let page = shop.catalog.list(cursor.as_deref(), 3, soon).await.unwrap();
        for (product, units) in page.items {
            assert_eq!(product.product_id.as_str(), format!("p{units}"));
            assert!(seen.insert(units));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..=7).collect());
}

#[tokio::test]
async fn concurrent_stock_changes_all_count() {
    let shop = Shop::open();
    shop.sell("tea", 50, 100).await;
    let operator = shop.customer().await;
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let tries: FuturesUnordered<_> = keys.iter().map(|key| shop.adjust(&operator, key, "tea", -3)).collect();
    let told: Vec<u64> =
        tries.map(|answer| member(&answer.unwrap(), "available").as_u64().unwrap()).collect().await;
    assert!(told.iter().all(|units| (40..=97).contains(units)), "{told:?}");
    assert_eq!(shop.available("tea").await, 40);
    assert_eq!(shop.events("stock.changed", "tea").await, 21);
}

#[tokio::test]
async fn a_product_that_sells_is_restocked_with_the_first_try() {
    let shop = Shop::open();
    shop.sell("tea", 50, 5).await;
    let (operator, ann) = (shop.customer().await, shop.customer().await);
    // The restocking has read the stock, and an order takes some of it before the restocking writes.
    let faults = shop.store.embedded.faults();
    let held = faults.add(Rule::hold(When::Before).operation("TransactWriteItems").times(1));
    shop.store.embedded.usage().record();
    let selling = async {
        assert!(faults.until_held(held, 1).await);
        shop.place(&ann, "k", &[("tea", 2)]).await.unwrap();
        faults.release(held);
    };
    let (restocked, ()) = tokio::join!(shop.adjust(&operator, "more", "tea", 10), selling);
    assert_eq!(*member(&restocked.unwrap(), "available"), 15, "what was read, plus the change");
    assert_eq!(shop.store.embedded.usage().snapshot().count("TransactWriteItems"), 2, "one each");
    assert_eq!(shop.available("tea").await, 13);
}

#[tokio::test]
async fn a_region_has_no_more_units_than_the_bound() {
    let shop = Shop::open();
    shop.sell("tea", 50, 1).await;
    let operator = shop.customer().await;
    let stock = shop.store.client.put_item().table_name("StockTable").item("productId", text("tea"));
    let stock = stock.item("region", text("local")).item("available", number(MAX_UNITS - 10));
    stock.send().await.unwrap();
    assert_eq!(kind(shop.adjust(&operator, "over", "tea", 11).await), ProblemType::Unprocessable);
    shop.adjust(&operator, "full", "tea", 10).await.unwrap();
    assert_eq!(shop.available("tea").await, MAX_UNITS);
}

#[tokio::test]
async fn a_repeated_stock_change_counts_once() {
    let shop = Shop::open();
    shop.sell("tea", 50, 5).await;
    let operator = shop.customer().await;
    let tries: FuturesUnordered<_> = (0..20).map(|_| shop.adjust(&operator, "k", "tea", 7)).collect();
    let replies: Vec<_> = tries.map(Result::unwrap).collect().await;
    assert!(replies.iter().all(|reply| *member(reply, "available") == 12));
    assert_eq!(replies.iter().filter(|reply| !is_replay(reply)).count(), 1);
    assert_eq!(shop.available("tea").await, 12);
    assert_eq!(kind(shop.adjust(&operator, "k", "tea", 8).await), ProblemType::IdempotencyKeyReused);
}

#[tokio::test]
async fn stock_below_zero_is_refused_for_good_and_without_a_trace() {
    let shop = Shop::open();
    shop.sell("tea", 50, 5).await;
    let operator = shop.customer().await;
    let problem = shop.adjust(&operator, "k", "tea", -6).await.unwrap_err();
    assert_eq!((problem.kind, &problem.extensions["available"]), (ProblemType::StockBelowZero, &json!(5)));
    shop.adjust(&operator, "more", "tea", 10).await.unwrap();
    assert_eq!(shop.adjust(&operator, "k", "tea", -6).await.unwrap().status, 409);
    assert_eq!(shop.available("tea").await, 15);
    assert_eq!(kind(shop.adjust(&operator, "x", "elixir", 1).await), ProblemType::NotFound);
}
