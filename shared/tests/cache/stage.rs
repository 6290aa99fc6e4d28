//! A source of truth that counts its loads, perhaps a Redis, and any number of caches, each as a
//! process of its own would have one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sojourn::core::clock::{self, ManualClock, SharedClock};
use sojourn::core::env::Env;
use sojourn::platform::cache::{Cache, CachePolicy, Entry, Loaded, Name, Tiers};
use sojourn::platform::redis::RedisClient;
use sojourn_testing::{Persistence, RedisServer};

/// What callers of a test's cache wait for an answer of Redis: all of them share two cores, and a
/// call that is late is a load.
const BUDGET: Duration = Duration::from_secs(5);

/// When a test's manual clock starts.
pub(crate) const START: &str = "2026-11-20T09:30:00Z";

/// A versioned value, in both tiers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) version: u64,
}

impl Entry for Item {
    const POLICY: CachePolicy = CachePolicy {
        entity: "item",
        fresh: Duration::from_mins(10),
        absent: Duration::from_secs(10),
        stale: Duration::from_mins(1),
        tiers: Tiers::Both,
        group: None,
    };

    fn belongs_to(&self, id: &str) -> bool {
        self.id == id
    }
}

/// The group that listings depend on.
pub(crate) const GROUP: &str = "items";

/// All texts, in Redis only, dependent on the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listing(pub(crate) Vec<String>);

impl Entry for Listing {
    const POLICY: CachePolicy =
        CachePolicy { entity: "listing", tiers: Tiers::Shared, group: Some(GROUP), ..Item::POLICY };

    fn belongs_to(&self, _: &str) -> bool {
        true
    }
}

/// The truth, which does not fail unless it is told to.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    rows: Mutex<HashMap<String, Item>>,
    pub(crate) loads: AtomicU64,
}

/// The truth cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Down;

impl Truth {
    /// Writes a row. Its version rises.
    pub(crate) fn write(&self, id: &str, text: &str) -> Item {
        let mut rows = self.rows.lock().unwrap();
        let version = rows.get(id).map_or(0, |row| row.version) + 1;
        let item = Item { id: id.to_owned(), text: text.to_owned(), version };
        rows.insert(id.to_owned(), item.clone());
        item
    }

    pub(crate) fn read(&self, id: &str) -> Loaded<Item> {
        match self.rows.lock().unwrap().get(id) {
            Some(item) => Loaded::version(item.clone(), item.version),
            None => Loaded::absent(),
        }
    }

    fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> =
            self.rows.lock().unwrap().values().map(|item| item.text.clone()).collect();
        texts.sort_unstable();
        texts
    }

    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }

    fn count_load(&self) {
        self.loads.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) struct Stage {
    pub(crate) truth: Arc<Truth>,
    pub(crate) redis: Option<RedisServer>,
    pub(crate) clock: SharedClock,
    pub(crate) manual: Arc<ManualClock>,
}

impl Stage {
    pub(crate) fn without_redis() -> Self {
        let manual = ManualClock::at(START.parse().unwrap());
        Self { truth: Arc::default(), redis: None, clock: clock::system(), manual }
    }

    /// With a Redis, if this machine has one.
    pub(crate) fn redis() -> Option<Self> {
        Self::redis_with(&[])
    }

    pub(crate) fn redis_with(options: &[&str]) -> Option<Self> {
        Some(Self {
            redis: Some(RedisServer::start_with(Persistence::None, options)?),
            ..Self::without_redis()
        })
    }

    /// The same, with time that stands still.
    pub(crate) fn at_rest(self) -> Self {
        Self { clock: self.manual.clone(), ..self }
    }

    pub(crate) fn server(&mut self) -> &mut RedisServer {
        self.redis.as_mut().unwrap()
    }

    /// A process's cache in Redis with a tier of its own, connected.
    pub(crate) async fn process(&self) -> Cache {
        let cache = Cache::redis(self.client(), "test", self.clock.clone());
        self.connect(&cache).await;
        cache
    }

    /// The same without its own tier, so that Redis is asked each time.
    pub(crate) async fn shared(&self) -> Cache {
        self.process().await.without_process_tier()
    }

    fn client(&self) -> RedisClient {
        self.short_client().with_budget(BUDGET)
    }

    /// A client that waits as long as a function's.
    pub(crate) fn short_client(&self) -> RedisClient {
        let url = self.redis.as_ref().unwrap().url();
        RedisClient::from_env(&Env::of([("STAGE", "local"), ("REDIS_URL", &*url)])).unwrap()
    }

    /// A process connects with its first call, and that one may fail.
    async fn connect(&self, cache: &Cache) {
        for _ in 0..1_000 {
            if cache.invalidate(&[Name::Entry("nothing".to_owned())]).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("Redis is never reached");
    }

    pub(crate) async fn item(&self, cache: &Cache, id: &str) -> Option<Item> {
        let load = async {
            self.truth.count_load();
            Ok::<_, Down>(self.truth.read(id))
        };
        cache.read_through(id, load).await.unwrap()
    }

    /// The text of an item that is there.
    pub(crate) async fn text(&self, cache: &Cache, id: &str) -> String {
        self.item(cache, id).await.unwrap().text
    }

    pub(crate) async fn listing(&self, cache: &Cache) -> Vec<String> {
        let load = async {
            self.truth.count_load();
            Ok::<_, Down>(Loaded::value(Listing(self.truth.texts())))
        };
        cache.read_through("all", load).await.unwrap().unwrap().0
    }

    /// Writes as a PUT does.
    pub(crate) async fn put(&self, cache: &Cache, id: &str, text: &str) {
        let write = async {
            let item = self.truth.write(id, text);
            Ok::<_, Down>((Loaded::version(item.clone(), item.version), ()))
        };
        cache.write_through::<Item, _, _>(id, write).await.unwrap();
    }

    /// A connection of the test's own.
    pub(crate) async fn raw(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.redis.as_ref().unwrap().url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}

pub(crate) fn item_name(id: &str) -> Name {
    Name::of::<Item>(id)
}
