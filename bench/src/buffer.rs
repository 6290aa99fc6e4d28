//! The write-behind buffers side by side: events accepted per second while consumers drain them,
//! how long an offer takes (also for a single producer), and how old an event is when a consumer
//! gets it. Measured on the library: no HTTP, no storing.
//!
//! Redis is a server of this machine; SQS is the local region's, and Kafka is librdkafka's mock
//! cluster, both in this process: their figures are the cost of the adapter, not of AWS.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::BehaviorVersion;
use serde_json::json;
use sojourn::core::clock::{self, Clock, SystemClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::platform::buffer::{Entry, Offered, WriteBehindBuffer};
use sojourn_testing::{KafkaCluster, MessageQueue, Persistence, RedisServer};
use tokio::task::JoinSet;

use crate::{Figures, at, row, section, sorted};

/// Producers, each with a buffer of its own, as processes have.
const PRODUCERS: usize = 8;
/// Consumers, likewise.
const CONSUMERS: usize = 4;
/// Events of one offer: what a page of a shop collects before it sends.
const EVENTS: usize = 20;
/// Bytes of an event's payload.
const PAYLOAD_BYTES: usize = 200;
/// Entries of one poll.
const POLL: usize = 500;
/// Longest that one operation may take.
const OPERATION: Duration = Duration::from_secs(20);
/// Pause of a producer after a refusal.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);
/// How long a single producer offers, without other load.
const ALONE: Duration = Duration::from_secs(1);
/// Load that is not counted: it opens connections and joins groups.
const WARM_UP: Duration = Duration::from_secs(5);

/// Measures all of them for so many seconds each.
pub(crate) async fn measure(seconds: u64) -> Figures {
    let columns = ["events/s", "offer ms", "p99 ms", "age ms", "p99 ms", "refused", "alone ms", "p99 ms"];
    section("Buffer", &columns);
    let mut figures = Figures::new();
    let memory = buffer(nobody(), &[("BUFFER", "memory".to_owned())]);
    run(&mut figures, "memory", seconds, || memory.clone()).await;

    for (name, persistence) in [
        ("redis", Persistence::None),
        ("redis, synced every second", Persistence::EverySecond),
        ("redis, synced always", Persistence::Always),
    ] {
        let Some(server) = RedisServer::start_with(persistence, &[]) else { continue };
        let variables = [("BUFFER", "redis".to_owned()), ("REDIS_URL", server.url())];
        run(&mut figures, name, seconds, || buffer(nobody(), &variables)).await;
    }

    let queue = MessageQueue::start();
    let variables = [("BUFFER", "sqs".to_owned()), ("BUFFER_QUEUE_URL", queue.url())];
    run(&mut figures, "sqs", seconds, || buffer(queue.client(), &variables)).await;

    let cluster = KafkaCluster::start();
    run(&mut figures, "kafka", seconds, || buffer(nobody(), &cluster.variables())).await;
    figures
}

async fn run(figures: &mut Figures, name: &str, seconds: u64, buffer: impl Fn() -> WriteBehindBuffer) {
    let load = self::load(Duration::from_secs(seconds), PRODUCERS, &buffer).await;
    let alone = self::load(ALONE, 1, &buffer).await;
    let cells = [
        format!("{:.0}", load.per_second),
        format!("{:.2}", at(&load.offers_ms, 50)),
        format!("{:.2}", at(&load.offers_ms, 99)),
        format!("{:.1}", at(&load.ages_ms, 50)),
        format!("{:.1}", at(&load.ages_ms, 99)),
        load.refused.to_string(),
        format!("{:.2}", at(&alone.offers_ms, 50)),
        format!("{:.2}", at(&alone.offers_ms, 99)),
    ];
    row(name, &cells);
    let figure = json!({
        "acceptedPerSecond": load.per_second,
        "offerMedianMs": at(&load.offers_ms, 50),
        "offerP99Ms": at(&load.offers_ms, 99),
        "ageMedianMs": at(&load.ages_ms, 50),
        "ageP99Ms": at(&load.ages_ms, 99),
        "refusedOffers": load.refused,
        "offerAloneMedianMs": at(&alone.offers_ms, 50),
        "offerAloneP99Ms": at(&alone.offers_ms, 99),
    });
    figures.insert(name.into(), figure);
}

struct Load {
    per_second: f64,
    /// Of every accepted offer, sorted.
    offers_ms: Vec<f64>,
    /// Of every delivered event, sorted.
    ages_ms: Vec<f64>,
    refused: u64,
}

async fn load(duration: Duration, producer_count: usize, buffer: impl Fn() -> WriteBehindBuffer) -> Load {
    let began = Instant::now();
    let refused = Arc::new(AtomicU64::new(0));
    let (counts_from, ends) = (began + WARM_UP, began + WARM_UP + duration);
    let mut producers = JoinSet::new();
    for producer in 0..producer_count {
        let (buffer, refused) = (buffer(), Arc::clone(&refused));
        producers.spawn(async move {
            let mut latencies = Vec::new();
            for n in 0_u64.. {
                let sent = Instant::now();
                if sent >= ends {
                    break;
                }
                let batch = batch(producer, n);
                match buffer.offer(&batch, Deadline::after(OPERATION)).await.expect("the buffer is there") {
                    Offered::Accepted if sent >= counts_from => latencies.push(millis(sent.elapsed())),
                    Offered::Accepted => {}
                    Offered::Backpressure { .. } => {
                        refused.fetch_add(u64::from(sent >= counts_from), Ordering::Relaxed);
                        tokio::time::sleep(REFUSED_PAUSE).await;
                    }
                }
            }
            latencies
        });
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let mut consumers = JoinSet::new();
    for _ in 0..CONSUMERS {
        let (buffer, is_over) = (buffer(), Arc::clone(&is_over));
        consumers.spawn(async move {
            let mut ages = Vec::new();
            loop {
                let Some(leased) = buffer.poll(POLL, Deadline::after(OPERATION)).await.expect("it is there")
                else {
                    if is_over.load(Ordering::Relaxed) {
                        return ages;
                    }
                    // In Redis and in memory a poll does not wait.
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    continue;
                };
                let now = SystemClock.now();
                if Instant::now() >= counts_from {
                    ages.extend(
                        leased.entries.iter().map(|entry| {
                            now.duration_since(entry.offered_at).as_secs_f64().max(0.0) * 1_000.0
                        }),
                    );
                }
                buffer.ack(leased, Deadline::after(OPERATION)).await.expect("it is there");
            }
        });
    }
    let mut offers_ms = Vec::new();
    while let Some(latencies) = producers.join_next().await {
        offers_ms.extend(latencies.unwrap());
    }
    is_over.store(true, Ordering::Relaxed);
    let mut ages_ms = Vec::new();
    while let Some(ages) = consumers.join_next().await {
        ages_ms.extend(ages.unwrap());
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let events = (offers_ms.len() * EVENTS) as f64;
    Load {
        per_second: events / duration.as_secs_f64(),
        offers_ms: sorted(offers_ms),
        ages_ms: sorted(ages_ms),
        refused: refused.load(Ordering::Relaxed),
    }
}

fn batch(producer: usize, n: u64) -> Vec<Entry> {
    let offered_at = SystemClock.now();
    let payload = format!(r#"{{"fill":"{}"}}"#, "x".repeat(PAYLOAD_BYTES - 11));
    let entry = |event| Entry { id: format!("{producer}-{n}-{event}"), offered_at, payload: payload.clone() };
    (0..EVENTS).map(entry).collect()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// A client that is never called.
fn nobody() -> Client {
    Client::from_conf(aws_sdk_sqs::Config::builder().behavior_version(BehaviorVersion::latest()).build())
}

fn buffer(sqs: Client, variables: &[(&'static str, String)]) -> WriteBehindBuffer {
    let common = [("STAGE", "local".to_owned()), ("AWS_REGION", "local".to_owned())];
    let env = Env::of(common.iter().chain(variables).cloned());
    WriteBehindBuffer::from_env(sqs, &env, clock::system()).unwrap()
}
