//! What holds with every kind of cache.

use sojourn::platform::cache::{Cache, Entry, Loaded, MAX_VALUE_BYTES, Name, PROCESS_LIFETIME};

use crate::stage::{Down, GROUP, Item, Stage, item_name};

/// A kind of cache, and how often it loads what is read over and over.
struct Kind {
    stage: Stage,
    cache: Cache,
    caches: bool,
}

/// Each kind, on a stage of its own.
async fn kinds() -> Vec<(&'static str, Kind)> {
    let stage = || Stage::without_redis().at_rest();
    let (with_memory, with_none) = (stage(), stage());
    let memory = Cache::memory(with_memory.clock.clone());
    let none = Cache::none(with_none.clock.clone());
    let mut kinds = vec![
        ("memory", Kind { stage: with_memory, cache: memory, caches: true }),
        ("none", Kind { stage: with_none, cache: none, caches: false }),
    ];
    if let Some(stage) = Stage::redis() {
        let stage = stage.at_rest();
        let cache = stage.process().await;
        kinds.push(("redis", Kind { stage, cache, caches: true }));
    }
    if let Some(stage) = Stage::redis() {
        let stage = stage.at_rest();
        let cache = stage.shared().await;
        kinds.push(("redis, without a tier in the process", Kind { stage, cache, caches: true }));
    }
    kinds
}

#[tokio::test]
async fn a_value_is_read_as_it_was_loaded_and_loaded_once_where_there_is_a_cache() {
    for (kind, Kind { stage, cache, caches }) in kinds().await {
        stage.truth.write("tea", "green");
        for _ in 0..5 {
            assert_eq!(stage.text(&cache, "tea").await, "green", "{kind}");
        }
        assert_eq!(stage.truth.loads(), if caches { 1 } else { 5 }, "{kind}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_remembered_for_a_while_and_found_once_it_is_there() {
    for (kind, Kind { stage, cache, caches }) in kinds().await {
        assert_eq!(
            (stage.item(&cache, "tea").await, stage.item(&cache, "tea").await),
            (None, None),
            "{kind}"
        );
        assert_eq!(stage.truth.loads(), if caches { 1 } else { 2 }, "{kind}");
        stage.truth.write("tea", "green");
        // Nobody tells the cache. The longest that it may believe otherwise: its term, the jitter
        // on it, and the process's own tier.
        stage.manual.advance(Item::POLICY.absent.mul_f64(1.1) + PROCESS_LIFETIME);
        assert_eq!(stage.text(&cache, "tea").await, "green", "{kind}");
    }
}

#[tokio::test]
async fn an_invalidated_value_is_loaded_again() {
    for (kind, Kind { stage, cache, .. }) in kinds().await {
        stage.truth.write("tea", "green");
        assert_eq!(stage.text(&cache, "tea").await, "green");
        stage.truth.write("tea", "black");
        cache.invalidate(&[item_name("tea")]).await.unwrap();
        assert_eq!(stage.text(&cache, "tea").await, "black", "{kind}");
    }
}

#[tokio::test]
async fn a_write_is_read_by_its_process_at_once_and_costs_no_load() {
    for (kind, Kind { stage, cache, caches }) in kinds().await {
        stage.truth.write("tea", "green");
        assert_eq!(stage.text(&cache, "tea").await, "green");
        stage.put(&cache, "tea", "black").await;
        assert_eq!(stage.text(&cache, "tea").await, "black", "{kind}");
        assert_eq!(stage.truth.loads(), if caches { 1 } else { 2 }, "{kind}");
    }
}

#[tokio::test]
async fn a_write_of_what_was_not_there_is_read_at_once() {
    for (kind, Kind { stage, cache, .. }) in kinds().await {
        assert_eq!(stage.item(&cache, "tea").await, None);
        stage.put(&cache, "tea", "green").await;
        assert_eq!(stage.text(&cache, "tea").await, "green", "{kind}");
    }
}

#[tokio::test]
async fn a_write_that_failed_leaves_nothing_in_the_cache() {
    for (kind, Kind { stage, cache, .. }) in kinds().await {
        stage.truth.write("tea", "green");
        assert_eq!(stage.text(&cache, "tea").await, "green");
        let write = async {
            // It happened, and the answer was lost.
            stage.truth.write("tea", "black");
            Err::<(Loaded<Item>, ()), _>(Down)
        };
        assert_eq!(cache.write_through("tea", write).await, Err(Down), "{kind}");
        assert_eq!(stage.text(&cache, "tea").await, "black", "{kind}");
    }
}

#[tokio::test]
async fn a_load_that_fails_is_the_callers_to_handle_and_is_not_remembered() {
    for (kind, Kind { stage, cache, .. }) in kinds().await {
        let failing = async { Err::<Loaded<Item>, _>(Down) };
        assert_eq!(cache.read_through("tea", failing).await, Err(Down), "{kind}");
        stage.truth.write("tea", "green");
        assert_eq!(stage.text(&cache, "tea").await, "green", "{kind}");
    }
}

#[tokio::test]
async fn a_group_is_invalidated_as_a_whole_and_nothing_else_with_it() {
    for (kind, Kind { stage, cache, .. }) in kinds().await {
        stage.truth.write("tea", "green");
        stage.text(&cache, "tea").await;
        assert_eq!(stage.listing(&cache).await, ["green"]);
        stage.truth.write("pot", "clay");
        stage.truth.write("tea", "black");
        cache.invalidate(&[Name::Group(GROUP)]).await.unwrap();
        assert_eq!(stage.listing(&cache).await, ["black", "clay"], "{kind}");
        let loads = stage.truth.loads();
        let cached = stage.text(&cache, "tea").await == "green";
        assert_eq!(cached, stage.truth.loads() == loads, "{kind}");
    }
}

#[tokio::test]
async fn a_value_that_is_too_large_is_served_and_not_kept() {
    for (kind, Kind { stage, cache, .. }) in kinds().await {
        let large = "x".repeat(MAX_VALUE_BYTES);
        stage.truth.write("tea", &large);
        for reads in 1..=3 {
            assert_eq!(stage.text(&cache, "tea").await, large, "{kind}");
            assert_eq!(stage.truth.loads(), reads, "{kind}");
        }
    }
}

#[tokio::test]
async fn a_large_value_is_read_as_it_was_loaded() {
    for (kind, Kind { stage, cache, .. }) in kinds().await {
        let large: String = (0..20_000).map(|n| n.to_string()).collect();
        stage.truth.write("tea", &large);
        for _ in 0..2 {
            assert_eq!(stage.text(&cache, "tea").await, large, "{kind}");
        }
    }
}
