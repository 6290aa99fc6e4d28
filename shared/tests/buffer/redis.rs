//! What only Redis can do: die with what was accepted, be full, evict, and have replicas.

use std::time::{Duration, Instant};

use sojourn::platform::buffer::{BufferError, MAX_BATCH, MAX_PAYLOAD_BYTES, Offered, WriteBehindBuffer};
use sojourn::platform::redis::RedisError;
use sojourn_testing::{Persistence, RedisServer};

use crate::stage::{
    PATIENCE, REDIS_NAME, Stage, ack, assert_empty, deadline, drain, entries, offer, poll, redis_command,
    size, sized_entries,
};

/// Leases that no test outlasts.
const LONG: (&str, &str) = ("BUFFER_LEASE_SECONDS", "600");

/// Offers until Redis is reached, as producers do.
async fn offer_until_accepted(buffer: &WriteBehindBuffer, name: &str, number: usize) {
    let began = Instant::now();
    loop {
        match buffer.offer(&entries(name, number), deadline()).await {
            Ok(offered) => return assert_eq!(offered, Offered::Accepted),
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many of 1,000 accepted entries, 300 of them leased, are there after redis-server was killed
/// and started again.
async fn left_after_a_kill(persistence: Persistence) -> Option<u64> {
    let server = RedisServer::start_with(persistence, &[])?;
    let mut stage = Stage::redis_at(server, &[("BUFFER_LEASE_SECONDS", "1")]);
    let buffer = stage.buffer();
    for n in 0..10 {
        offer(&buffer, &entries(&format!("b{n}"), 100)).await;
    }
    let leased = poll(&buffer, 300).await;
    assert_eq!(leased.entries.len(), 300);
    if persistence == Persistence::EverySecond {
        // A sync that goes on puts the next write off. What is put off dies with the process.
        let began = Instant::now();
        while !persistence_info(stage.server()).await.contains("aof_buffer_length:0\r\n") {
            assert!(began.elapsed() < PATIENCE, "it is never written");
        }
    }
    stage.server().restart();
    let buffer = stage.buffer();
    let left = size(&buffer).await.entries;
    if left > 0 {
        let left = usize::try_from(left).unwrap();
        assert_eq!(drain(&buffer, left).await.0.len(), left);
        assert_empty(&buffer).await;
    }
    Some(left)
}

async fn persistence_info(server: &RedisServer) -> String {
    redis::from_redis_value(redis_command(server, &["INFO", "persistence"]).await).unwrap()
}

#[tokio::test]
async fn a_killed_redis_with_a_file_that_is_synced_always_has_lost_nothing() {
    let Some(left) = left_after_a_kill(Persistence::Always).await else { return };
    assert_eq!(left, 1_000);
}

#[tokio::test]
async fn a_killed_redis_with_a_file_that_is_synced_every_second_has_all_that_it_had_written() {
    let Some(left) = left_after_a_kill(Persistence::EverySecond).await else { return };
    assert_eq!(left, 1_000);
}

#[tokio::test]
async fn a_killed_redis_without_persistence_has_lost_everything() {
    let Some(left) = left_after_a_kill(Persistence::None).await else { return };
    assert_eq!(left, 0);
}

#[tokio::test]
async fn an_acknowledgement_of_before_a_restart_takes_nothing_from_those_of_after() {
    let Some(mut stage) = Stage::redis(&[LONG]) else { return };
    let buffer = stage.buffer();
    offer(&buffer, &entries("before", 3)).await;
    let before = poll(&buffer, 10).await;
    stage.server().restart();
    offer_until_accepted(&buffer, "after", 3).await;
    let after = poll(&buffer, 10).await;
    ack(&buffer, before).await;
    assert_eq!(size(&buffer).await.entries, 3);
    ack(&buffer, after).await;
    assert_empty(&buffer).await;
}

#[tokio::test]
async fn a_redis_that_may_evict_any_key_is_refused() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        let options = ["--maxmemory-policy", policy];
        let Some(server) = RedisServer::start_with(Persistence::None, &options) else { return };
        let stage = Stage::redis_at(server, &[LONG]);
        match stage.buffer().offer(&entries("e", 1), deadline()).await {
            Err(BufferError::Redis { source: RedisError::Evicts(told), .. }) => assert_eq!(told, policy),
            other => panic!("{policy}: {other:?}"),
        }
    }
    for policy in ["noeviction", "volatile-lru", "volatile-ttl"] {
        let options = ["--maxmemory-policy", policy];
        let Some(server) = RedisServer::start_with(Persistence::None, &options) else { return };
        offer(&Stage::redis_at(server, &[LONG]).buffer(), &entries("e", 1)).await;
    }
}

#[tokio::test]
async fn a_redis_whose_memory_is_full_refuses_offers_and_is_emptied_all_the_same() {
    let Some(server) = RedisServer::start_with(Persistence::None, &["--maxmemory", "24mb"]) else { return };
    let stage = Stage::redis_at(server, &[LONG]);
    let (buffer, mut accepted) = (stage.buffer(), 0);
    for n in 0.. {
        let batch = sized_entries(&format!("b{n}"), 100, MAX_PAYLOAD_BYTES);
        match buffer.offer(&batch, deadline()).await.unwrap() {
            Offered::Accepted => accepted += batch.len(),
            Offered::Backpressure { .. } => break,
        }
        assert!(n < 100, "it never fills");
    }
    // More refusals than failures that open a breaker: a refusal is an answer.
    for _ in 0..10 {
        let refused = buffer.offer(&sized_entries("no", 100, MAX_PAYLOAD_BYTES), deadline()).await.unwrap();
        assert!(matches!(refused, Offered::Backpressure { .. }));
    }
    assert!(accepted > 0);
    assert_eq!(size(&buffer).await.entries, accepted as u64);
    assert_eq!(drain(&buffer, accepted).await.0.len(), accepted);
    offer(&buffer, &entries("again", MAX_BATCH)).await;
}

#[tokio::test]
async fn a_dead_redis_is_an_error_and_soon_a_fast_one() {
    let Some(mut stage) = Stage::redis(&[LONG]) else { return };
    let buffer = stage.buffer();
    offer(&buffer, &entries("e", 1)).await;
    stage.server().kill();
    let mut tries = 0;
    loop {
        match buffer.offer(&entries("f", 1), deadline()).await {
            Err(BufferError::Redis { source: RedisError::CircuitOpen, .. }) => break,
            Err(BufferError::Redis { .. }) => tries += 1,
            other => panic!("{other:?}"),
        }
        assert!(tries < 20, "the breaker never opens");
    }
    stage.server().restart();
    offer_until_accepted(&buffer, "g", 1).await;
}

#[tokio::test]
async fn an_offer_is_accepted_only_when_as_many_replicas_have_it_as_are_wanted() {
    let Some(server) = RedisServer::start() else { return };
    let (host, port) = server.url().trim_start_matches("redis://").split_once(':').map(own).unwrap();
    let stage = Stage::redis_at(server, &[LONG, ("BUFFER_REDIS_REPLICAS", "1")]);
    let buffer = stage.buffer();
    let alone = buffer.offer(&entries("e", 2), deadline()).await;
    assert!(matches!(alone, Err(BufferError::Replicas { confirmed: 0, wanted: 1 })), "{alone:?}");

    let replica = RedisServer::start_with(Persistence::None, &["--replicaof", &host, &port]).unwrap();
    let began = Instant::now();
    while buffer.offer(&entries("e", 2), deadline()).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "the replica never follows");
    }
    let waiting = redis_command(&replica, &["LRANGE", &format!("{REDIS_NAME}:waiting"), "0", "1"]).await;
    let waiting: Vec<String> = redis::from_redis_value(waiting).unwrap();
    assert_eq!(waiting.len(), 2);
}

fn own((host, port): (&str, &str)) -> (String, String) {
    (host.to_owned(), port.to_owned())
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_aside_to_be_looked_at() {
    let Some(mut stage) = Stage::redis(&[LONG]) else { return };
    let buffer = stage.buffer();
    for n in 0..3 {
        assert!(stage.put(&format!("no message {n}")).await);
    }
    let leased = poll(&buffer, 10).await;
    assert!(leased.entries.is_empty());
    ack(&buffer, leased).await;
    assert_empty(&buffer).await;
    let aside = redis_command(stage.server(), &["LLEN", &format!("{REDIS_NAME}:unreadable")]).await;
    assert_eq!(redis::from_redis_value::<u64>(aside).unwrap(), 3);
}
