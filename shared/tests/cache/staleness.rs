//! How old a value may be, and who pays for a fresh one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use sojourn::platform::cache::{Cache, Entry, LEASE, Loaded, PROCESS_LIFETIME};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::stage::{Down, Item, Stage, item_name};

/// Makes the jitter nothing, and a reader decide as if the load took ln 2 of its time.
const MIDDLE: fn() -> f64 = || 0.5;

#[tokio::test]
async fn another_process_serves_a_changed_value_for_a_process_lifetime_at_most() {
    let Some(stage) = Stage::redis() else { return };
    let stage = stage.at_rest();
    let [writer, reader] = [stage.process().await, stage.process().await];
    stage.truth.write("tea", "green");
    assert_eq!(stage.text(&reader, "tea").await, "green");
    stage.put(&writer, "tea", "black").await;
    assert_eq!(stage.text(&reader, "tea").await, "green", "it was not told");
    stage.manual.advance(PROCESS_LIFETIME);
    assert_eq!(stage.text(&reader, "tea").await, "black");
}

#[tokio::test]
async fn what_redis_told_is_not_kept_longer_because_the_answer_took_long() {
    let Some(stage) = Stage::redis() else { return };
    let stage = stage.at_rest();
    let cache = stage.process().await;
    stage.truth.write("tea", "green");
    let slow = async {
        stage.manual.advance(PROCESS_LIFETIME);
        Ok::<_, Down>(stage.truth.read("tea"))
    };
    cache.read_through::<Item, _>("tea", slow).await.unwrap();
    let other = stage.shared().await;
    stage.put(&other, "tea", "black").await;
    assert_eq!(stage.text(&cache, "tea").await, "black");
}

#[tokio::test]
async fn while_a_value_is_written_nobody_is_served_the_one_before() {
    let Some(stage) = Stage::redis() else { return };
    let [writer, reader] = [stage.shared().await, stage.shared().await];
    stage.truth.write("tea", "green");
    assert_eq!(stage.text(&reader, "tea").await, "green");
    let (begun, end) = (Notify::new(), Notify::new());
    let write = async {
        let item = stage.truth.write("tea", "black");
        begun.notify_one();
        end.notified().await;
        Ok::<_, Down>((Loaded::version(item.clone(), item.version), ()))
    };
    let meanwhile = async {
        begun.notified().await;
        // It waits for the writer, or takes over from a slow one and loads.
        if let Ok(text) = timeout(LEASE / 2, stage.text(&reader, "tea")).await {
            assert_eq!(text, "black");
        }
        end.notify_one();
    };
    let (written, ()) = tokio::join!(writer.write_through::<Item, _, _>("tea", write), meanwhile);
    written.unwrap();
    assert_eq!(stage.text(&reader, "tea").await, "black");
}

/// Loads until it is told to end, and tells that it has begun.
pub(crate) async fn held_load(stage: &Stage, cache: &Cache, begun: &Notify, end: &Notify) -> Item {
    let load = async {
        stage.truth.loads.fetch_add(1, Ordering::SeqCst);
        begun.notify_one();
        end.notified().await;
        Ok::<_, Down>(stage.truth.read("tea"))
    };
    cache.read_through("tea", load).await.unwrap().unwrap()
}

/// The time at which a value was filled whose load took at least 100 ms, and is fresh for exactly
/// its term.
async fn filled_by_a_load_of_100_ms(stage: &Stage) -> Cache {
    let cache = stage.shared().await.with_random(MIDDLE);
    stage.truth.write("tea", "green");
    let load = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok::<_, Down>(stage.truth.read("tea"))
    };
    cache.read_through::<Item, _>("tea", load).await.unwrap();
    cache
}

#[tokio::test]
async fn a_hot_value_is_refreshed_once_before_it_expires_and_nobody_waits() {
    let Some(stage) = Stage::redis() else { return };
    let stage = stage.at_rest();
    let cache = filled_by_a_load_of_100_ms(&stage).await;
    let mut others = Vec::new();
    for _ in 0..50 {
        others.push(stage.shared().await.with_random(MIDDLE));
    }
    stage.manual.advance(Item::POLICY.fresh.saturating_sub(Duration::from_millis(20)));
    stage.truth.write("tea", "black");
    let (begun, end) = (Notify::new(), Notify::new());
    let refresh = held_load(&stage, &cache, &begun, &end);
    let meanwhile = async {
        begun.notified().await;
        let reads: FuturesUnordered<_> = others.iter().map(|other| stage.text(other, "tea")).collect();
        let texts: Vec<_> = reads.collect().await;
        assert!(texts.iter().all(|text| text == "green"), "served while one refreshes");
        end.notify_one();
    };
    let (seen, ()) = tokio::join!(refresh, meanwhile);
    assert_eq!((seen.text.as_str(), stage.truth.loads()), ("black", 1));
    // The new value has a term of its own.
    stage.manual.advance(Duration::from_millis(40));
    assert_eq!(stage.text(&others[0], "tea").await, "black");
    assert_eq!(stage.truth.loads(), 1);
}

#[tokio::test]
async fn a_value_far_from_its_end_is_refreshed_by_nobody() {
    let Some(stage) = Stage::redis() else { return };
    let stage = stage.at_rest();
    let cache = filled_by_a_load_of_100_ms(&stage).await;
    stage.manual.advance(Item::POLICY.fresh.saturating_sub(Duration::from_secs(20)));
    stage.text(&cache, "tea").await;
    assert_eq!(stage.truth.loads(), 0);
    // Chance decides: a reader that draws an unlikely number refreshes, as one of a million would.
    let unlikely = stage.shared().await.with_random(|| 1.0 - f64::EPSILON);
    stage.manual.advance(Duration::from_secs(18));
    stage.text(&unlikely, "tea").await;
    assert_eq!(stage.truth.loads(), 1);
}

#[tokio::test]
async fn a_value_past_its_freshness_is_served_while_one_loads_and_if_the_load_fails() {
    let Some(stage) = Stage::redis() else { return };
    let stage = stage.at_rest();
    let cache = filled_by_a_load_of_100_ms(&stage).await;
    let other = stage.shared().await;
    stage.truth.write("tea", "black");
    stage.manual.advance(Item::POLICY.fresh + Duration::from_secs(1));
    let failing = async {
        // The lease is taken. A reader that waited for the lease to lapse would load the other
        // value.
        assert_eq!(stage.text(&other, "tea").await, "green");
        Err::<Loaded<Item>, _>(Down)
    };
    assert_eq!(cache.read_through("tea", failing).await.unwrap().unwrap().text, "green");
    assert_eq!(stage.truth.loads(), 0);
    tokio::time::sleep(sojourn::platform::cache::LEASE).await;
    assert_eq!(stage.text(&other, "tea").await, "black", "the failed loader's lease has lapsed");
}

#[tokio::test]
async fn an_invalidated_value_is_not_served_as_a_stale_one() {
    let Some(stage) = Stage::redis() else { return };
    let stage = stage.at_rest();
    let cache = filled_by_a_load_of_100_ms(&stage).await;
    stage.manual.advance(Item::POLICY.fresh + Duration::from_secs(1));
    cache.invalidate(&[item_name("tea")]).await.unwrap();
    let failing = async { Err::<Loaded<Item>, _>(Down) };
    assert_eq!(cache.read_through("tea", failing).await, Err(Down));
}

#[tokio::test]
async fn freshness_varies_by_a_tenth_in_both_directions() {
    let Some(stage) = Stage::redis() else { return };
    let stage = stage.at_rest();
    stage.truth.write("tea", "green");
    let mut raw = stage.raw().await;
    let draws: [(fn() -> f64, f64); 3] = [(|| 0.0, 0.9), (|| 0.5, 1.0), (|| 0.999_999, 1.1)];
    for (random, share) in draws {
        let cache = stage.shared().await.with_random(random);
        cache.invalidate(&[item_name("tea")]).await.unwrap();
        stage.text(&cache, "tea").await;
        let fresh: i64 =
            redis::cmd("HGET").arg("test:item:tea").arg("fresh").query_async(&mut raw).await.unwrap();
        let fresh = fresh - sojourn::core::clock::Clock::now(&*stage.manual).as_millisecond();
        let expected = Item::POLICY.fresh.mul_f64(share).as_millis();
        assert!(expected.abs_diff(u128::try_from(fresh).unwrap()) <= 10, "{fresh} is not {expected}");
    }
}

#[tokio::test]
async fn a_load_may_say_that_its_value_is_good_for_less_than_the_term() {
    let Some(stage) = Stage::redis() else { return };
    let stage = stage.at_rest();
    let cache = stage.shared().await;
    stage.truth.write("tea", "green");
    let shortly = async {
        let at_most = Some(Duration::from_secs(3));
        Ok::<_, Down>(Loaded { at_most, ..stage.truth.read("tea") })
    };
    cache.read_through::<Item, _>("tea", shortly).await.unwrap();
    stage.truth.write("tea", "black");
    stage.manual.advance(Duration::from_secs(4));
    assert_eq!(stage.text(&cache, "tea").await, "black");
}
