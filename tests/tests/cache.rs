//! The catalogue and order summaries with a cache in Redis: what others see, who sees what, and
//! what Redis's death costs.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use sojourn::platform::cache::PROCESS_LIFETIME;
use sojourn::platform::tables;
use sojourn_testing::RedisServer;
use sojourn_tests::{Answer, Customer, Options, TestRegion, fresh_key};

/// Longest wait for what takes milliseconds: every test of the workspace shares the machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// Requests at once, so that several processes answer.
const AT_ONCE: usize = 6;

async fn region_with(redis: &RedisServer) -> TestRegion {
    let parameters = ["Cache=redis".to_owned(), format!("RedisUrl={}", redis.url())];
    let arguments = parameters.into_iter().flat_map(|value| ["--parameter".to_owned(), value]).collect();
    TestRegion::start_with(Options { arguments, ..Options::default() }).await
}

async fn put(region: &TestRegion, operator: &Customer, name: &str) {
    let product = json!({"name": name, "price": {"amount": 12_900, "currency": "TWD"}});
    let put = region.call_as(operator, "PUT", "/products/lamp").json(&product).send().await;
    assert!(matches!(put.status, 200 | 201), "{}", put.text);
}

/// The names of the product and of the page's first product, as many processes tell them.
async fn names(region: &TestRegion) -> Vec<Value> {
    let product = |_| async {
        let product = region.call("GET", "/products/lamp").send().await.expect(200);
        let page = region.call("GET", "/products").send().await.expect(200);
        [product.body["name"].clone(), page.body["items"][0]["name"].clone()]
    };
    let told: Vec<_> = stream::iter(0..AT_ONCE).map(product).buffer_unordered(AT_ONCE).collect().await;
    told.concat()
}

/// Waits until every process tells this name.
async fn until_told(region: &TestRegion, name: &str) {
    let began = Instant::now();
    while names(region).await.iter().any(|told| told != name) {
        assert!(began.elapsed() < PATIENCE, "some process never tells {name}");
    }
}

/// Reads until a product and a page are answered without a read of their tables.
async fn until_cached(region: &TestRegion) {
    let began = Instant::now();
    loop {
        region.record().await;
        names(region).await;
        let usage = region.usage_of("api-catalog").await.to_string();
        if !usage.contains("ProductsTable") {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the catalogue is never cached: {usage}");
    }
}

/// A region that answers for the product "lamp" from the cache, and its operator.
async fn region_with_cached_lamp(redis: &RedisServer) -> (TestRegion, Customer) {
    let region = region_with(redis).await;
    let operator = region.operator().await;
    put(&region, &operator, "lamp").await;
    until_told(&region, "lamp").await;
    until_cached(&region).await;
    (region, operator)
}

#[tokio::test]
async fn a_changed_product_is_told_by_every_process_within_the_bound() {
    let Some(redis) = RedisServer::start() else { return };
    let (region, operator) = region_with_cached_lamp(&redis).await;
    for n in 0..3 {
        let name = format!("lamp {n}");
        put(&region, &operator, &name).await;
        // The write is in Redis with its answer. What processes keep lapses.
        tokio::time::sleep(PROCESS_LIFETIME).await;
        let told = names(&region).await;
        assert!(told.iter().all(|told| *told == *name), "{told:?} is not {name}");
    }
}

#[tokio::test]
async fn a_row_that_somebody_changed_by_hand_is_told_soon() {
    let Some(redis) = RedisServer::start() else { return };
    let (region, _) = region_with_cached_lamp(&redis).await;
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let update = region.dynamodb().update_item().table_name(tables::PRODUCTS.logical_id);
    let update = update.key("productId", text("lamp")).update_expression("SET #name = :name");
    let update = update.expression_attribute_names("#name", "name");
    update.expression_attribute_values(":name", text("by hand")).send().await.unwrap();
    // No function wrote it: only the table's stream tells. The term of a product is 30 minutes.
    until_told(&region, "by hand").await;
}

async fn summary(region: &TestRegion, who: &Customer) -> Answer {
    region.call_as(who, "GET", "/orders/summary").send().await.expect(200)
}

/// Waits until the summary counts so many orders and unpaid ones: an index follows its table, and a
/// stream its table.
async fn until_summed_up(region: &TestRegion, who: &Customer, orders: u64, unpaid: u64) -> Answer {
    let began = Instant::now();
    loop {
        let summary = summary(region, who).await;
        if summary.body["orders"] == orders && summary.body["unpaid"] == unpaid {
            return summary;
        }
        assert!(began.elapsed() < PATIENCE, "{}", summary.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_summary_follows_its_customers_orders() {
    let Some(redis) = RedisServer::start() else { return };
    let region = region_with(&redis).await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 100).await;
    let customer = region.customer().await;
    let empty = json!({"orders": 0, "unpaid": 0, "spent": [], "complete": true});
    assert_eq!(summary(&region, &customer).await.body, empty);
    let key = fresh_key();
    let order = region.order(&customer, &key, &[("lamp", 2)]).await.expect(201).text_of("orderId");
    // The local region's indexes are never behind, so the next summary has the order.
    let placed = summary(&region, &customer).await;
    assert_eq!((&placed.body["orders"], &placed.body["unpaid"]), (&json!(1), &json!(1)));
    assert!(placed.body["lastOrderAt"].is_string());
    region.pay(&customer, &fresh_key(), &order, "tok_ok").await.expect(201);
    let paid = summary(&region, &customer).await;
    assert_eq!(
        (&paid.body["unpaid"], &paid.body["spent"]),
        (&json!(0), &json!([{"amount": 25_800, "currency": "TWD"}]))
    );
    let other = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId");
    assert_eq!(summary(&region, &customer).await.body["unpaid"], 1);
    let path = format!("/orders/{other}/cancel");
    region.call_as(&customer, "POST", &path).key(&fresh_key()).send().await.expect(200);
    assert_eq!(summary(&region, &customer).await.body["unpaid"], 0);

    // A job cancels, and no request of the customer's.
    let stale = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId");
    until_summed_up(&region, &customer, 3, 1).await;
    region.age_order(&stale, 48).await;
    let now = sojourn::core::date_time::rfc3339(sojourn::core::clock::Clock::now(
        &sojourn::core::clock::SystemClock,
    ));
    region.fire("order-cleanup", &now).await.expect(200);
    until_summed_up(&region, &customer, 3, 0).await;
}

#[tokio::test]
async fn a_summary_is_its_customers_even_if_redis_holds_anothers_under_the_name() {
    let Some(redis) = RedisServer::start() else { return };
    let region = region_with(&redis).await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 100).await;
    let [rich, poor] = [region.customer().await, region.customer().await];
    region.order(&rich, &fresh_key(), &[("lamp", 5)]).await.expect(201);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let name = |of: &Customer| format!("*:order-summary:{}", of.user_id);
    let began = Instant::now();
    let of_rich = loop {
        assert_eq!(summary(&region, &rich).await.body["orders"], 1);
        let keys: Vec<String> = redis::cmd("KEYS").arg(name(&rich)).query_async(&mut redis).await.unwrap();
        if let Some(key) = keys.into_iter().next() {
            break key;
        }
        assert!(began.elapsed() < PATIENCE, "the summary is never cached");
    };
    // Somebody mixes the names up.
    let of_poor = of_rich.replace(&rich.user_id, &poor.user_id);
    let copied: u32 =
        redis::cmd("COPY").arg(&of_rich).arg(&of_poor).arg("REPLACE").query_async(&mut redis).await.unwrap();
    assert_eq!(copied, 1);
    for _ in 0..3 {
        assert_eq!(summary(&region, &poor).await.body["orders"], 0);
    }
    assert_eq!(summary(&region, &rich).await.body["orders"], 1);
}

#[tokio::test]
async fn reads_and_writes_go_on_while_redis_is_paused_killed_and_restarted() {
    let Some(mut redis) = RedisServer::start() else { return };
    let region = region_with(&redis).await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 100).await;
    let customer = region.customer().await;
    let mut orders = 0;
    let mut everything = async |name: &str| {
        put(&region, &operator, name).await;
        // Every answer in it is a 200.
        for _ in 0..3 {
            names(&region).await;
        }
        orders += 1;
        region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
        assert_eq!(summary(&region, &customer).await.body["orders"], orders, "{name}");
    };
    everything("with Redis").await;
    redis.pause();
    everything("paused").await;
    redis.resume();
    redis.kill();
    everything("dead").await;
    until_told(&region, "dead").await;
    redis.restart();
    everything("restarted").await;
    until_told(&region, "restarted").await;
    until_cached(&region).await;
}
