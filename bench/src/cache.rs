//! The catalogue with and without a cache, and the cost of the expiry of a hot entry.
//!
//! The library is measured, with an embedded DynamoDB and a redis-server of its own: this machine
//! cannot carry the load through HTTP. Each "process" is a cache with its own connection to Redis
//! and its own tier, as a function's process has. Requests are sent at a fixed rate, whether or not
//! earlier ones were answered. A request reads a product, without its units.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use futures::stream::{self, StreamExt};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sojourn::commerce::catalog::ProductDraft;
use sojourn::commerce::catalog::cached::Catalog;
use sojourn::commerce::catalog::dynamo::DynamoCatalog;
use sojourn::core::clock::{self, Clock, SystemClock};
use sojourn::core::env::Env;
use sojourn::core::ids::ProductId;
use sojourn::platform::cache::{Cache, CachePolicy, Entry, Loaded, Tiers};
use sojourn::platform::dynamo::{AttributeValue, text};
use sojourn::platform::redis::RedisClient;
use sojourn::platform::tables;
use sojourn_testing::{RedisServer, Store};
use tokio::time::Instant;

use crate::{Figures, at, row, section, sorted};

/// Products of the shop.
const PRODUCTS: usize = 10_000;
/// Requests a second.
const RATE: u64 = 2_000;
/// Interval between two groups of requests.
const TICK: Duration = Duration::from_millis(5);
/// Processes that answer them.
const PROCESSES: usize = 32;
/// Concurrent writes while the shop is filled, and reads while the cache is.
const AT_ONCE: usize = 16;
/// Requests that warm the cache: those of a minute. Entries are fresh for thirty.
const WARM_UP: usize = 60 * 2_000;
/// How long a hot entry is fresh.
const HOT_FRESH: Duration = Duration::from_secs(1);
/// How long a load of it takes.
const HOT_LOAD: Duration = Duration::from_millis(10);
/// How often its freshness ends while loads are counted.
const HOT_EXPIRIES: u32 = 10;

/// Measures for about three times `seconds`, and twenty seconds more.
pub(crate) async fn measure(seconds: u64) -> Figures {
    let mut figures = Figures::new();
    let Some(redis) = RedisServer::start() else { return figures };
    let store = Store::start();
    let rows = DynamoCatalog::from_env(store.client.clone(), &store.env).unwrap();
    fill(&Catalog::new(rows, Cache::none(clock::system()))).await;

    let title =
        format!("Cache: products by Zipf(1.0) over {PRODUCTS} products, {RATE}/s, {PROCESSES} processes");
    section(&title, &["hit rate %", "hit p50 ms", "hit p99 ms", "miss p50 ms", "miss p99 ms", "read units"]);
    let env = Env::of([("STAGE", "local"), ("REDIS_URL", &*redis.url())]);
    let cached = |_| Cache::redis(RedisClient::from_env(&env).unwrap(), "bench", clock::system());
    let with_cache: Vec<_> = (0..PROCESSES).map(cached).collect();
    let without: Vec<_> = (0..PROCESSES).map(|_| Cache::none(clock::system())).collect();
    for (name, processes) in [("no cache", &without), ("cold", &with_cache), ("after a minute", &with_cache)]
    {
        if name == "after a minute" {
            warm_up(&store, processes).await;
        }
        let run = run(&store, processes, seconds).await;
        row(name, &run.cells());
        figures.insert(name.to_owned(), run.figures());
    }
    let loads = loads_per_expiry(&env).await;
    row("loads per expiry, hot key", &[format!("{loads:.2}")]);
    figures.insert("loads per expiry of a hot key".to_owned(), json!(loads));
    figures
}

fn id(n: usize) -> ProductId {
    format!("p{n}").parse().unwrap()
}

async fn fill(catalog: &Catalog) {
    let description = "A product that somebody has described in a few words. ".repeat(5);
    let draft = json!({
        "name": "Thing", "price": {"amount": 12_900, "currency": "TWD"}, "attributes": {"description": description},
    });
    let draft: ProductDraft = serde_json::from_value(draft).unwrap();
    let put = async |n| {
        catalog.put(&id(n), &draft, SystemClock.now()).await.unwrap();
    };
    stream::iter(0..PRODUCTS).map(put).buffer_unordered(AT_ONCE).for_each(async |()| {}).await;
}

/// A product as it is stored.
#[derive(Serialize, Deserialize)]
struct Row {
    id: String,
    attributes: HashMap<String, String>,
}

impl Entry for Row {
    const POLICY: CachePolicy = CachePolicy {
        entity: "row",
        fresh: Duration::from_mins(30),
        absent: Duration::from_secs(30),
        stale: Duration::from_mins(5),
        tiers: Tiers::Both,
        group: None,
    };

    fn belongs_to(&self, id: &str) -> bool {
        self.id == id
    }
}

/// Reads a product. Returns how long that took and whether its row was read.
async fn timed_read(cache: &Cache, client: &Client, id: &str) -> (f64, bool) {
    let began = Instant::now();
    let mut loaded = false;
    let load = async {
        loaded = true;
        let get = client.get_item().table_name(tables::PRODUCTS.logical_id).consistent_read(true);
        let answer = get.key("productId", text(id)).send().await?;
        let texts = |(name, value): (String, AttributeValue)| Some((name, value.as_s().ok()?.clone()));
        let row = answer.item.map(|item| item.into_iter().filter_map(texts).collect());
        let value = row.map(|attributes| Row { id: id.to_owned(), attributes });
        Ok::<_, SdkError<GetItemError>>(Loaded { value, ..Loaded::absent() })
    };
    assert!(cache.read_through(id, load).await.unwrap().is_some());
    (began.elapsed().as_secs_f64() * 1_000.0, loaded)
}

/// One run.
struct Run {
    requests: usize,
    read_units: f64,
    /// Milliseconds, by whether the row was read.
    hits: Vec<f64>,
    misses: Vec<f64>,
}

impl Run {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn hit_rate(&self) -> f64 {
        100.0 * self.hits.len() as f64 / self.requests as f64
    }

    fn percentile(times: &[f64], percent: usize) -> Option<f64> {
        (!times.is_empty()).then(|| at(times, percent))
    }

    fn cells(&self) -> Vec<String> {
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
        let times = [(&self.hits, 50), (&self.hits, 99), (&self.misses, 50), (&self.misses, 99)];
        let times = times.map(|(times, percent)| ms(Self::percentile(times, percent)));
        let mut cells = vec![format!("{:.1}", self.hit_rate())];
        cells.extend(times);
        cells.push(format!("{:.0}", self.read_units));
        cells
    }

    fn figures(&self) -> serde_json::Value {
        json!({
            "requests": self.requests,
            "hitRatePercent": self.hit_rate(),
            "hitMedianMs": Self::percentile(&self.hits, 50), "hitP99Ms": Self::percentile(&self.hits, 99),
            "missMedianMs": Self::percentile(&self.misses, 50), "missP99Ms": Self::percentile(&self.misses, 99),
            "readUnits": self.read_units,
        })
    }
}

/// The requests of a minute, as fast as they are answered.
async fn warm_up(store: &Store, processes: &[Cache]) {
    let shares = zipf();
    let read = async |n: usize| {
        timed_read(&processes[n % processes.len()], &store.client, &format!("p{}", drawn(&shares))).await
    };
    stream::iter(0..WARM_UP).map(read).buffer_unordered(AT_ONCE).for_each(async |_| {}).await;
}

/// Requests at the rate, each to the next process.
async fn run(store: &Store, processes: &[Cache], seconds: u64) -> Run {
    let shares = zipf();
    let usage = store.embedded.usage();
    usage.record();
    let mut ticks = tokio::time::interval(TICK);
    let end = Instant::now() + Duration::from_secs(seconds);
    let per_tick = RATE * u64::try_from(TICK.as_millis()).unwrap() / 1_000;
    let (mut running, mut next) = (tokio::task::JoinSet::new(), 0);
    while Instant::now() < end {
        ticks.tick().await;
        for _ in 0..per_tick {
            let (cache, client) = (processes[next % processes.len()].clone(), store.client.clone());
            next += 1;
            let id = format!("p{}", drawn(&shares));
            running.spawn(async move { timed_read(&cache, &client, &id).await });
        }
    }
    let reads = running.join_all().await;
    usage.stop();
    let read_units = usage.snapshot().capacity.iter().map(|entry| entry.units.read).sum();
    let requests = reads.len();
    let (misses, hits): (Vec<_>, Vec<_>) = reads.into_iter().partition(|(_, loaded)| *loaded);
    let times = |reads: Vec<(f64, bool)>| sorted(reads.into_iter().map(|(ms, _)| ms).collect());
    Run { requests, read_units, hits: times(hits), misses: times(misses) }
}

/// The running sums of each product's share: the n-th product is requested 1/n as often as the
/// first.
fn zipf() -> Vec<f64> {
    let shares = (1..=PRODUCTS).scan(0.0, |sum, rank| {
        #[expect(clippy::cast_precision_loss, reason = "ten thousand is exact")]
        let share = 1.0 / rank as f64;
        *sum += share;
        Some(*sum)
    });
    shares.collect()
}

fn drawn(shares: &[f64]) -> usize {
    let whole = shares.last().copied().unwrap_or_default();
    let point = rand::rng().random_range(0.0..whole);
    shares.partition_point(|sum| *sum <= point).min(shares.len() - 1)
}

/// What is hot.
#[derive(Serialize, Deserialize)]
struct Hot(u64);

impl Entry for Hot {
    const POLICY: CachePolicy = CachePolicy {
        entity: "hot",
        fresh: HOT_FRESH,
        absent: HOT_FRESH,
        stale: HOT_FRESH,
        tiers: Tiers::Shared,
        group: None,
    };

    fn belongs_to(&self, _: &str) -> bool {
        true
    }
}

/// Loads of an entry that every process reads a hundred times a second, for each value that was
/// served. A process that is not connected yet loads by itself, so all of them connect first.
async fn loads_per_expiry(env: &Env) -> f64 {
    let caches: Vec<_> = (0..PROCESSES)
        .map(|_| Cache::redis(RedisClient::from_env(env).unwrap(), "bench", clock::system()))
        .collect();
    let loads = Arc::new(AtomicU64::new(0));
    for cache in &caches {
        while !read_hot(cache, &loads).await.1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    loads.store(0, Ordering::SeqCst);
    let end = Instant::now() + HOT_FRESH * HOT_EXPIRIES;
    let reader = |cache: Cache| {
        let loads = Arc::clone(&loads);
        tokio::spawn(async move {
            let mut served = BTreeSet::new();
            while Instant::now() < end {
                let (value, is_cached) = read_hot(&cache, &loads).await;
                if is_cached {
                    served.insert(value);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            served
        })
    };
    let readers: Vec<_> = caches.into_iter().map(reader).collect();
    let mut served = BTreeSet::new();
    for reader in readers {
        served.extend(reader.await.unwrap());
    }
    // The first value was loaded before.
    let loaded = served.len() - 1;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let (loads, expiries) = (loads.load(Ordering::SeqCst) as f64, loaded as f64);
    loads / expiries
}

/// The hot value, and whether it came from the cache.
async fn read_hot(cache: &Cache, loads: &AtomicU64) -> (u64, bool) {
    let mut is_cached = true;
    let load = async {
        is_cached = false;
        loads.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(HOT_LOAD).await;
        Ok::<_, std::convert::Infallible>(Loaded::value(Hot(rand::random())))
    };
    let value = cache.read_through::<Hot, _>("key", load).await.unwrap().unwrap();
    (value.0, is_cached)
}
