//! Products and their units.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use local_region::services::faults::{Rule, When};
use serde_json::json;
use sojourn::commerce::catalog::MAX_UNITS;
use sojourn::commerce::catalog::cached::Catalog;
use sojourn::commerce::catalog::dynamo::{DynamoCatalog, Stored};
use sojourn::core::clock::Clock;
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::problem::ProblemType;
use sojourn::platform::cache::{Cache, PROCESS_LIFETIME};
use sojourn::platform::dynamo::{number, text};
use sojourn::platform::redis::RedisClient;
use sojourn_testing::RedisServer;

use crate::shop::{Shop, is_replay, kind, member};

#[tokio::test]
async fn a_product_is_created_once_and_then_replaced_and_keeps_its_units() {
    let shop = Shop::open();
    shop.sell("tea", 50, 3).await;
    let (mut tea, units) = shop.catalog.get(&"tea".parse().unwrap()).await.unwrap().unwrap();
    tea.draft.attributes.insert("leaf".to_owned(), json!({"origin": ["Alishan", 2026, 0.1, null]}));
    let (stored, written) = shop.catalog.put(&tea.product_id, &tea.draft, tea.updated_at).await.unwrap();
    assert_eq!((stored, tea.version, written.version), (Stored::Replaced, 1, 2));
    tea.version = 2;
    assert_eq!(written, tea);
    assert_eq!(shop.catalog.get(&tea.product_id).await.unwrap(), Some((tea.clone(), units)));
    assert_eq!(tea.document(units)["available"], 3);

    let pot = "pot".parse().unwrap();
    let (stored, written) = shop.catalog.put(&pot, &tea.draft, tea.updated_at).await.unwrap();
    assert_eq!((stored, written.version), (Stored::Created, 1));
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
    // The restocking has read the stock, and an order takes some of it before the restocking
    // writes.
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

#[tokio::test]
async fn each_of_many_writes_of_a_product_has_a_version_of_its_own() {
    let shop = Shop::open();
    shop.sell("tea", 50, 3).await;
    let (tea, _) = shop.catalog.get(&"tea".parse().unwrap()).await.unwrap().unwrap();
    let puts: FuturesUnordered<_> =
        (0..20).map(|_| shop.catalog.put(&tea.product_id, &tea.draft, tea.updated_at)).collect();
    let versions: BTreeSet<u64> = puts.map(|written| written.unwrap().1.version).collect().await;
    assert_eq!(versions, (2..=21).collect());
}

#[tokio::test]
async fn a_product_of_before_there_were_versions_is_read_and_gets_one() {
    let shop = Shop::open();
    shop.sell("tea", 50, 3).await;
    let id = "tea".parse().unwrap();
    let update = shop.store.client.update_item().table_name("ProductsTable").key("productId", text("tea"));
    update.update_expression("REMOVE version").send().await.unwrap();
    let (tea, _) = shop.catalog.get(&id).await.unwrap().unwrap();
    let (stored, written) = shop.catalog.put(&id, &tea.draft, tea.updated_at).await.unwrap();
    assert_eq!((tea.version, stored, written.version), (0, Stored::Replaced, 1));
}

/// The catalogue as another process has it, with this cache.
fn catalog_with(shop: &Shop, cache: Cache) -> Catalog {
    Catalog::new(DynamoCatalog::from_env(shop.store.client.clone(), &shop.store.env).unwrap(), cache)
}

#[tokio::test]
async fn a_product_and_a_page_in_the_cache_cost_no_read_and_a_write_is_seen_at_once() {
    let Some(redis) = RedisServer::start() else { return };
    let shop = Shop::open();
    for n in 1..=3 {
        shop.sell(&format!("p{n}"), 50, n).await;
    }
    let client = || {
        let env = Env::of([("STAGE", "local"), ("REDIS_URL", &*redis.url())]);
        RedisClient::from_env(&env).unwrap().with_budget(Duration::from_secs(5))
    };
    // Without tiers in the processes: what one writes, the other sees at once.
    let process =
        || catalog_with(&shop, Cache::redis(client(), "shop", shop.clock.clone()).without_process_tier());
    let (writer, reader) = (process(), process());
    let p1 = "p1".parse().unwrap();
    let soon = || Deadline::after(Duration::from_secs(5));
    // The first call of a process may only connect.
    for _ in 0..3 {
        reader.get(&p1).await.unwrap();
        reader.list(None, 2, soon()).await.unwrap();
        writer.get(&p1).await.unwrap();
    }
    let usage = shop.store.embedded.usage();
    usage.record();
    let (mut product, units) = reader.get(&p1).await.unwrap().unwrap();
    let page = reader.list(None, 2, soon()).await.unwrap();
    assert_eq!((usage.snapshot().total(), units, page.items.len()), (0, 1, 2));
    product.draft.name = "Other".to_owned();
    let (_, written) = writer.put(&p1, &product.draft, shop.clock.now()).await.unwrap();
    assert_eq!(usage.snapshot().total(), 1, "the write");
    assert_eq!(reader.get(&p1).await.unwrap().unwrap().0, written);
    assert_eq!(usage.snapshot().total(), 1, "it was written through");
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = reader.list(cursor.as_deref(), 2, soon()).await.unwrap();
        seen.extend(page.items.into_iter().map(|(product, units)| (product.draft.name, units)));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    seen.sort();
    let expected = [("Other", 1), ("Thing", 2), ("Thing", 3)];
    assert_eq!(seen, expected.map(|(name, units)| (name.to_owned(), units)));
}

#[tokio::test]
async fn units_in_the_catalogue_are_seconds_old_at_most() {
    let shop = Shop::open();
    shop.sell("tea", 50, 3).await;
    let catalog = catalog_with(&shop, Cache::memory(shop.clock.clone()));
    let tea = "tea".parse().unwrap();
    let units = async || catalog.get(&tea).await.unwrap().unwrap().1;
    assert_eq!(units().await, 3);
    let operator = shop.customer().await;
    shop.adjust(&operator, "k", "tea", 7).await.unwrap();
    assert_eq!((units().await, catalog.available(&tea).await.unwrap()), (3, 10));
    shop.clock.advance(PROCESS_LIFETIME);
    assert_eq!(units().await, 10);
}
