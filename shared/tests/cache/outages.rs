//! Redis is dead, paused, emptied, restarted, full, or holds what nobody wrote: every read is
//! answered, and rightly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sojourn::core::clock;
use sojourn::core::env::Env;
use sojourn::platform::cache::{Cache, LEASE, Loaded, Name};
use sojourn::platform::redis::RedisClient;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::stage::{Down, GROUP, Item, Stage, item_name};
use crate::staleness::held_load;

/// Nobody listens there.
const NOWHERE: &str = "redis://127.0.0.1:1";
/// Longest that a process may take to find its way back.
const PATIENCE: Duration = Duration::from_secs(20);
/// Readers that go on through everything.
const READERS: usize = 8;

/// Reads until the cache answers without a load.
async fn until_cached(stage: &Stage, cache: &Cache, id: &str, text: &str) {
    let began = std::time::Instant::now();
    loop {
        let loads = stage.truth.loads();
        assert_eq!(stage.text(cache, id).await, text);
        if stage.truth.loads() == loads {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{id} is never cached");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn with_redis_dead_from_the_start_everything_is_answered() {
    let stage = Stage::without_redis();
    let client = RedisClient::from_env(&Env::of([("STAGE", "local"), ("REDIS_URL", NOWHERE)])).unwrap();
    let cache = Cache::redis(client, "test", clock::system()).without_process_tier();
    for n in 0..20 {
        stage.truth.write("tea", &format!("{n}"));
        assert_eq!(stage.text(&cache, "tea").await, format!("{n}"));
        stage.put(&cache, "tea", "put").await;
        assert_eq!(stage.text(&cache, "tea").await, "put");
    }
    assert_eq!(stage.truth.loads(), 40);
    assert!(cache.invalidate(&[item_name("tea")]).await.is_err(), "whoever must know is told");
}

#[tokio::test]
async fn reads_go_on_while_redis_is_paused() {
    let Some(stage) = Stage::redis() else { return };
    stage.truth.write("tea", "green");
    let cache = Cache::redis(stage.short_client(), "test", clock::system()).without_process_tier();
    until_cached(&stage, &cache, "tea", "green").await;
    stage.redis.as_ref().unwrap().pause();
    stage.truth.write("tea", "black");
    for _ in 0..200 {
        assert_eq!(stage.text(&cache, "tea").await, "black");
    }
    stage.redis.as_ref().unwrap().resume();
    // The write was told to nobody.
    let began = std::time::Instant::now();
    while cache.invalidate(&[item_name("tea")]).await.is_err() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until_cached(&stage, &cache, "tea", "black").await;
}

#[tokio::test]
async fn traffic_and_writes_go_on_while_redis_is_paused_killed_emptied_and_restarted() {
    let Some(mut stage) = Stage::redis() else { return };
    stage.truth.write("tea", "0");
    let (reads, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let cache = Cache::redis(stage.short_client(), "test", clock::system()).without_process_tier();
        let (truth, reads, over) = (Arc::clone(&stage.truth), Arc::clone(&reads), Arc::clone(&over));
        readers.push(tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let load = async { Ok::<_, Down>(truth.read("tea")) };
                assert!(cache.read_through("tea", load).await.unwrap().is_some());
                reads.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
    }
    let more = async || {
        let goal = reads.load(Ordering::SeqCst) + 200;
        let reached = async {
            while reads.load(Ordering::SeqCst) < goal {
                assert!(!readers.iter().any(tokio::task::JoinHandle::is_finished), "a reader failed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
    };
    let writer = stage.shared().await;
    more().await;
    stage.server().pause();
    more().await;
    stage.server().resume();
    more().await;
    let mut raw = stage.raw().await;
    redis::cmd("FLUSHALL").exec_async(&mut raw).await.unwrap();
    more().await;
    stage.server().kill();
    more().await;
    stage.server().restart();
    more().await;
    over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    stage.put(&writer, "tea", "last").await;
    until_cached(&stage, &stage.shared().await, "tea", "last").await;
}

#[tokio::test]
async fn a_flush_takes_leases_along_and_late_loads_fill_nothing() {
    let Some(stage) = Stage::redis() else { return };
    let cache = stage.shared().await;
    stage.truth.write("tea", "green");
    let load = async {
        let loaded = stage.truth.read("tea");
        redis::cmd("FLUSHALL").exec_async(&mut stage.raw().await).await.unwrap();
        stage.truth.write("tea", "black");
        Ok::<_, Down>(loaded)
    };
    cache.read_through::<Item, _>("tea", load).await.unwrap();
    assert_eq!(stage.text(&cache, "tea").await, "black");
}

async fn save(stage: &Stage) {
    redis::cmd("SAVE").exec_async(&mut stage.raw().await).await.unwrap();
}

async fn keys(stage: &Stage) -> Vec<String> {
    let mut keys: Vec<String> =
        redis::cmd("KEYS").arg("*").query_async(&mut stage.raw().await).await.unwrap();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn a_restart_from_an_old_snapshot_does_not_bring_back_what_was_invalidated() {
    let Some(mut stage) = Stage::redis() else { return };
    let cache = stage.shared().await;
    stage.truth.write("tea", "green");
    assert_eq!((stage.text(&cache, "tea").await.as_str(), stage.listing(&cache).await.len()), ("green", 1));
    save(&stage).await;
    stage.truth.write("tea", "black");
    cache.invalidate(&[item_name("tea"), Name::Group(GROUP)]).await.unwrap();
    stage.server().restart();
    assert_eq!(keys(&stage).await, ["test:group:items", "test:item:tea", "test:listing:all"], "it is back");
    assert_eq!(stage.text(&cache, "tea").await, "black");
    assert_eq!(stage.listing(&cache).await, ["black"]);
    until_cached(&stage, &cache, "tea", "black").await;
}

#[tokio::test]
async fn after_a_restart_nobody_is_served_the_old_value_while_one_loads() {
    let Some(mut stage) = Stage::redis() else { return };
    let cache = stage.shared().await;
    stage.truth.write("tea", "green");
    assert_eq!(stage.text(&cache, "tea").await, "green");
    save(&stage).await;
    stage.truth.write("tea", "black");
    stage.server().restart();
    let [loader, reader] = [stage.shared().await, stage.shared().await];
    let (begun, end) = (Notify::new(), Notify::new());
    let meanwhile = async {
        begun.notified().await;
        // It waits for the loader, or takes over from a slow one and loads.
        if let Ok(text) = timeout(LEASE / 2, stage.text(&reader, "tea")).await {
            assert_eq!(text, "black");
        }
        end.notify_one();
    };
    let (seen, ()) = tokio::join!(held_load(&stage, &loader, &begun, &end), meanwhile);
    assert_eq!(seen.text, "black");
}

#[tokio::test]
async fn a_lease_from_an_old_snapshot_fills_nothing() {
    let Some(mut stage) = Stage::redis() else { return };
    let [sleeper, other] = [stage.shared().await, stage.shared().await];
    stage.truth.write("tea", "green");
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let (has_read, reading) = tokio::sync::oneshot::channel::<()>();
    let truth = Arc::clone(&stage.truth);
    let same_process = sleeper.clone();
    let paused = tokio::spawn(async move {
        let load = async {
            let loaded = truth.read("tea");
            has_read.send(()).unwrap();
            receiver.await.unwrap();
            // The process is on its new connection when it fills.
            while same_process.invalidate(&[item_name("pot")]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok::<_, Down>(loaded)
        };
        sleeper.read_through::<Item, _>("tea", load).await.unwrap();
        sleeper
    });
    reading.await.unwrap();
    save(&stage).await;
    stage.truth.write("tea", "black");
    other.invalidate(&[item_name("tea")]).await.unwrap();
    stage.server().restart();
    assert_eq!(keys(&stage).await, ["test:item:tea"], "the lease is back");
    sender.send(()).unwrap();
    let awake = paused.await.unwrap();
    until_cached(&stage, &awake, "tea", "black").await;
    assert_eq!(stage.text(&stage.shared().await, "tea").await, "black");
}

#[tokio::test]
async fn a_full_redis_that_evicts_nothing_is_a_miss_and_hits_go_on() {
    let Some(stage) = Stage::redis() else { return };
    let cache = stage.shared().await;
    stage.truth.write("tea", "green");
    stage.text(&cache, "tea").await;
    let mut raw = stage.raw().await;
    for (setting, value) in [("maxmemory-policy", "noeviction"), ("maxmemory", "1")] {
        redis::cmd("CONFIG").arg("SET").arg(setting).arg(value).exec_async(&mut raw).await.unwrap();
    }
    // Far more misses than failures would open the circuit after.
    for n in 0..20 {
        let id = format!("pot{n}");
        stage.truth.write(&id, "clay");
        assert_eq!(stage.text(&cache, &id).await, "clay");
        assert_eq!(stage.listing(&cache).await.len(), n + 2);
    }
    assert_eq!(keys(&stage).await, ["test:item:tea"], "nothing came in");
    let loads = stage.truth.loads();
    assert_eq!((stage.text(&cache, "tea").await, stage.truth.loads()), ("green".to_owned(), loads), "a hit");
    // A write must drop the old value though nothing new can be kept.
    stage.put(&cache, "tea", "black").await;
    assert_eq!(stage.text(&cache, "tea").await, "black");
    stage.truth.write("tea", "white");
    cache.invalidate(&[item_name("tea")]).await.unwrap();
    assert_eq!(stage.text(&cache, "tea").await, "white");
}

#[tokio::test]
async fn a_full_redis_that_evicts_serves_right_answers() {
    let options = ["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru"];
    let Some(stage) = Stage::redis_with(&options) else { return };
    let cache = stage.shared().await;
    // Nothing in it repeats itself, so that it is as large in Redis.
    let noise = |n: u64| -> String {
        let mut seed = n + 1;
        let hash = |_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{seed:016x}")
        };
        (0..2_000).map(hash).collect()
    };
    for n in 0..200 {
        let (id, text) = (format!("p{n}"), noise(n));
        stage.truth.write(&id, &text);
        assert_eq!(stage.text(&cache, &id).await, text);
    }
    for n in 0..200 {
        assert_eq!(stage.text(&cache, &format!("p{n}")).await, noise(n));
    }
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut stage.raw().await).await.unwrap();
    let evicted = info.lines().find_map(|line| line.strip_prefix("evicted_keys:")).unwrap().trim();
    assert_ne!(evicted, "0", "it was never full");
}

#[tokio::test]
async fn wrong_bytes_in_redis_are_a_miss_and_are_replaced() {
    let Some(stage) = Stage::redis() else { return };
    let cache = stage.shared().await;
    stage.truth.write("tea", "green");
    let mut raw = stage.raw().await;
    let set = async |field: &str, value: &[u8], raw: &mut redis::aio::MultiplexedConnection| {
        redis::cmd("HSET").arg("test:item:tea").arg(field).arg(value).exec_async(raw).await.unwrap();
    };
    let wrong: [(&str, &[u8]); 8] = [
        ("value", b""),
        ("value", b"j{\"id\":"),
        ("value", b"z not deflated"),
        ("value", b"?"),
        ("value", br#"j{"id":"pot","text":"clay","version":1}"#),
        ("version", b"\xff\x00"),
        ("fresh", b"soon"),
        ("took", b"long"),
    ];
    for (field, value) in wrong {
        until_cached(&stage, &cache, "tea", "green").await;
        set(field, value, &mut raw).await;
        until_cached(&stage, &cache, "tea", "green").await;
    }
    // Not even a hash.
    for key in ["test:item:tea", "test:group:items"] {
        redis::cmd("DEL").arg(key).exec_async(&mut raw).await.unwrap();
        redis::cmd("LPUSH").arg(key).arg("x").exec_async(&mut raw).await.unwrap();
    }
    until_cached(&stage, &cache, "tea", "green").await;
    assert_eq!(stage.listing(&cache).await, ["green"]);
    let loads = stage.truth.loads();
    assert_eq!((stage.listing(&cache).await.len(), stage.truth.loads()), (1, loads));
}

#[tokio::test]
async fn a_value_above_the_limit_in_redis_is_not_believed() {
    let Some(stage) = Stage::redis() else { return };
    let cache = stage.shared().await;
    stage.truth.write("tea", "green");
    stage.text(&cache, "tea").await;
    let large = format!("j{{\"id\":\"tea\",\"text\":\"{}\",\"version\":1}}", "x".repeat(1 << 20));
    let mut raw = stage.raw().await;
    redis::cmd("HSET").arg("test:item:tea").arg("value").arg(large).exec_async(&mut raw).await.unwrap();
    until_cached(&stage, &cache, "tea", "green").await;
    assert!(matches!(stage.truth.read("tea"), Loaded { version: 1, .. }));
}
