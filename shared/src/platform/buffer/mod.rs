//! A write-behind buffer: small writes that may be stored a little later, and must not be lost once
//! they are accepted.
//!
//! 1. A producer offers a batch ([`WriteBehindBuffer::offer`]). [`Offered::Accepted`]: every entry
//!    survives the end of the process. [`Offered::Backpressure`]: no entry was taken, because too
//!    many wait. After an error the outcome is unknown, and the producer offers the same ids again.
//! 2. A consumer takes a batch ([`WriteBehindBuffer::poll`]). The batch belongs to that consumer
//!    until its lease ends.
//! 3. The consumer stores the entries, and only then acknowledges them
//!    ([`WriteBehindBuffer::ack`]), which deletes them. Acknowledging a batch whose lease has
//!    passed to another consumer does nothing.
//! 4. A batch that is not acknowledged is delivered again after its lease, to any consumer. So a
//!    killed consumer loses nothing.
//!
//! Delivery is at least once, in any order. A consumer therefore stores an entry under its id,
//! idempotently.
//!
//! `BUFFER` chooses the adapter:
//!
//! | `BUFFER` | where entries wait | a lease is | the bound ([`BUFFER_LIMIT`](AdapterSettings)) |
//! |---|---|---|---|
//! | `memory` | in the process: local stage only | an instant in the process | exact |
//! | `redis` | a list ([`redis`]) | a score of a sorted set, by Redis's clock | exact |
//! | `sqs` | a queue ([`sqs`]) | the visibility timeout | sampled ([`STALENESS`]) |
//! | `kafka` | a topic ([`kafka`]) | membership in a consumer group | sampled ([`STALENESS`]) |
//!
//! docs/buffer.md says what each loses when a machine dies, what each costs, and which to choose.
//!
//! # Limits
//! An entry has an id of at most [`MAX_ID_BYTES`] and a payload of at most [`MAX_PAYLOAD_BYTES`]; a
//! batch has at most [`MAX_BATCH`] entries. Larger data belongs in a row or an object, whose name
//! goes into the entry.
//!
//! # Not here
//! No order, not even for one id. No delay and no priority. No deduplication: two entries with one
//! id are two entries. No expiry, except for SQS's retention (14 days at most) and Kafka's.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt;

use crate::core::clock::SharedClock;
use crate::core::deadline::{Deadline, DeadlineExceeded};
use crate::core::env::{ConfigError, Env, Stage};
use crate::core::random::NoEntropy;
use crate::platform::redis::RedisError;
use crate::platform::telemetry::{self, Metric};

mod bound;
#[cfg(feature = "kafka")]
pub mod kafka;
mod memory;
mod message;
pub mod redis;
pub mod sqs;

pub use bound::STALENESS;
pub use message::decode;

#[cfg(feature = "kafka")]
use kafka::KafkaBuffer;
use memory::MemoryBuffer;
use redis::RedisBuffer;
use sqs::SqsBuffer;

/// Longest id. A ULID has 26 bytes, a UUID 36.
pub const MAX_ID_BYTES: usize = 64;

/// Longest payload, in bytes of JSON text. A page view has 200.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024;

/// Most entries of one offer. 500 of the largest are 8 MiB.
pub const MAX_BATCH: usize = 500;

/// Most entries of one poll. The consumer holds them in memory.
pub const MAX_POLL: usize = 1_000;

/// The variable that chooses the adapter.
const KIND: &str = "BUFFER";

/// The variable with the most entries that wait or are leased.
const LIMIT: &str = "BUFFER_LIMIT";

/// The variable with the length of a lease.
const LEASE: &str = "BUFFER_LEASE_SECONDS";

/// The only stage whose entries may be lost with the process.
const LOCAL_STAGE: &str = "local";

/// Shortest `Retry-After` of a refused producer. A writer stores some thousand entries in that
/// time.
const RETRY_AFTER_SECONDS: u64 = 5;

/// Largest random addition to it, so that refused producers do not return all at once.
const RETRY_SPREAD_SECONDS: u64 = 10;

/// A write that may be stored a little later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key of the stored row: 1 to [`MAX_ID_BYTES`] visible ASCII characters.
    pub id: String,
    /// When it was first offered, in whole milliseconds.
    pub offered_at: Timestamp,
    /// JSON text of at most [`MAX_PAYLOAD_BYTES`]. White space around it is not kept.
    pub payload: String,
}

/// The result of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// The whole batch survives the end of this process.
    Accepted,
    /// Too many entries wait. No entry of the batch was taken.
    Backpressure {
        /// When to retry: some seconds, different for each producer.
        retry_after: Duration,
    },
}

/// The adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferKind {
    /// In the process. For the local stage only: nothing survives the process.
    Memory,
    /// A list in Redis.
    Redis,
    Sqs,
    Kafka,
}

impl BufferKind {
    /// All values.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Redis, Self::Sqs, Self::Kafka];

    /// The value of `BUFFER`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Sqs => "sqs",
            Self::Kafka => "kafka",
        }
    }

    /// The kind that `BUFFER` names.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let kind = env.parse(KIND)?;
        if kind == Self::Memory && env.required(Stage::VARIABLE)? != LOCAL_STAGE {
            let reason = format!(
                "memory loses what was accepted when the process ends, so it is for the stage {LOCAL_STAGE} only; \
                 choose sqs, redis or kafka"
            );
            return Err(ConfigError::Invalid { variable: KIND, reason });
        }
        Ok(kind)
    }
}

impl fmt::Display for BufferKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be memory, redis, sqs or kafka")]
pub struct UnknownKind;

impl FromStr for BufferKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(UnknownKind)
    }
}

/// A batch that belongs to this consumer until it is acknowledged or its lease ends.
#[derive(Debug)]
pub struct LeasedBatch {
    /// The entries. Empty if none of the messages is readable.
    pub entries: Vec<Entry>,
    receipt: Receipt,
}

/// How a batch is acknowledged.
#[derive(Debug)]
enum Receipt {
    Memory(u64),
    Redis(redis::Receipt),
    Sqs(Vec<String>),
    #[cfg(feature = "kafka")]
    Kafka(kafka::Receipt),
}

/// A batch from an adapter.
struct TakenBatch {
    leased: LeasedBatch,
    /// Entries that were delivered before.
    redelivered: usize,
    /// The number of messages that are not readable.
    unreadable: usize,
}

/// How much waits in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDepth {
    /// Entries that wait or are leased. Exact for `memory` and `redis`; see [`sqs`] and [`kafka`]
    /// for theirs.
    pub entries: u64,
    /// The age of the oldest entry, counted from `offered_at`, if the adapter knows it.
    pub oldest: Option<Duration>,
}

/// The settings that all adapters have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdapterSettings {
    /// Most entries that wait or are leased (`BUFFER_LIMIT`; default 1,000,000).
    pub limit: u64,
    /// How long a batch belongs to its consumer (`BUFFER_LEASE_SECONDS`, 1 to 43,200, which is the
    /// maximum of SQS; default 60). Storing a batch must take less.
    pub lease: Duration,
}

impl AdapterSettings {
    const DEFAULT_LIMIT: u64 = 1_000_000;
    const DEFAULT_LEASE_SECONDS: u64 = 60;
    const LONGEST_LEASE_SECONDS: u64 = 43_200;

    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let limit = match env.optional(LIMIT) {
            Some(_) => env.parse(LIMIT)?,
            None => Self::DEFAULT_LIMIT,
        };
        let seconds = match env.optional(LEASE) {
            Some(_) => env.parse(LEASE)?,
            None => Self::DEFAULT_LEASE_SECONDS,
        };
        if limit < MAX_BATCH as u64 {
            let reason = format!("a batch has up to {MAX_BATCH} entries, so it cannot be less");
            return Err(ConfigError::Invalid { variable: LIMIT, reason });
        }
        if !(1..=Self::LONGEST_LEASE_SECONDS).contains(&seconds) {
            let reason = format!("it must be from 1 to {}", Self::LONGEST_LEASE_SECONDS);
            return Err(ConfigError::Invalid { variable: LEASE, reason });
        }
        Ok(Self { limit, lease: Duration::from_secs(seconds) })
    }
}

/// The buffer failed or did not answer; the outcome may be unknown. 503 unless a variant says
/// otherwise.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// The offer is invalid; the caller has to check before. Nothing was offered. 500.
    #[error("an entry cannot be offered: {0}")]
    Invalid(&'static str),
    /// No producer of this version wrote the message. It goes to the dead-letter queue.
    #[error("a message of the buffer cannot be read: {0}")]
    Unreadable(String),
    /// The deadline passed first.
    #[error("the buffer did not {operation} in time")]
    Late { operation: &'static str },
    /// Redis gave no answer.
    #[error("Redis did not {operation}")]
    Redis {
        operation: &'static str,
        #[source]
        source: RedisError,
    },
    /// Too few replicas of Redis confirmed an offer in time.
    #[error("only {confirmed} of {wanted} replicas of Redis have the offer")]
    Replicas {
        /// Replicas that have it.
        confirmed: u32,
        /// Replicas that must have it.
        wanted: u32,
    },
    #[error("the queue {queue} did not {operation}")]
    Sqs {
        operation: &'static str,
        queue: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// SQS did it for some messages only.
    #[error("the queue {queue} did not {operation} {failed} messages: {reason}")]
    Entries {
        operation: &'static str,
        queue: String,
        /// Messages that failed after all retries.
        failed: usize,
        /// The error of one of them.
        reason: String,
    },
    #[cfg(feature = "kafka")]
    #[error("Kafka did not {operation}")]
    Kafka {
        operation: &'static str,
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// No token could be generated for a lease. 500.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The batch came from another adapter.
    #[error("the batch belongs to another buffer")]
    Foreign,
}

/// The buffer of this process. Clones are the same buffer.
#[derive(Debug, Clone)]
pub struct WriteBehindBuffer(Arc<Adapter>);

#[derive(Debug)]
enum Adapter {
    Memory(MemoryBuffer),
    Redis(Box<RedisBuffer>),
    Sqs(SqsBuffer),
    #[cfg(feature = "kafka")]
    Kafka(KafkaBuffer),
}

impl WriteBehindBuffer {
    /// The buffer that `BUFFER` names. Each adapter's module lists its variables. Does not connect
    /// yet.
    pub fn from_env(sqs: aws_sdk_sqs::Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let terms = AdapterSettings::from_env(env)?;
        let adapter = match BufferKind::from_env(env)? {
            BufferKind::Memory => Adapter::Memory(MemoryBuffer::new(terms, clock)),
            BufferKind::Redis => Adapter::Redis(Box::new(RedisBuffer::from_env(env, terms, clock)?)),
            BufferKind::Sqs => Adapter::Sqs(SqsBuffer::from_env(sqs, env, terms)?),
            #[cfg(feature = "kafka")]
            BufferKind::Kafka => Adapter::Kafka(KafkaBuffer::from_env(env, terms)?),
            #[cfg(not(feature = "kafka"))]
            BufferKind::Kafka => {
                let reason = "this function is built without the cargo feature kafka".to_owned();
                return Err(ConfigError::Invalid { variable: KIND, reason });
            }
        };
        Ok(Self(Arc::new(adapter)))
    }

    /// The adapter.
    pub fn kind(&self) -> BufferKind {
        match *self.0 {
            Adapter::Memory(_) => BufferKind::Memory,
            Adapter::Redis(_) => BufferKind::Redis,
            Adapter::Sqs(_) => BufferKind::Sqs,
            #[cfg(feature = "kafka")]
            Adapter::Kafka(_) => BufferKind::Kafka,
        }
    }

    /// Offers all of `batch`, at most [`MAX_BATCH`] entries. After an error some of it may have
    /// been taken: offer the same ids again.
    pub async fn offer(&self, batch: &[Entry], deadline: Deadline) -> Result<Offered, BufferError> {
        check(batch)?;
        if batch.is_empty() {
            return Ok(Offered::Accepted);
        }
        let offered = within(deadline, "take an offer", async {
            match &*self.0 {
                Adapter::Memory(memory) => Ok(memory.offer(batch)),
                Adapter::Redis(redis) => redis.offer(batch, deadline).await,
                Adapter::Sqs(sqs) => sqs.offer(batch, deadline).await,
                #[cfg(feature = "kafka")]
                Adapter::Kafka(kafka) => kafka.offer(batch, deadline).await,
            }
        });
        let offered = offered.await?;
        let metric = match offered {
            Offered::Accepted => Metric::BufferOffered,
            Offered::Backpressure { .. } => Metric::BufferRefused,
        };
        telemetry::count_case(metric, self.kind().name(), batch.len() as u64);
        Ok(offered)
    }

    /// Takes about `n` entries, at most [`MAX_POLL`]. `None`: everything is leased or the buffer is
    /// empty. An SQS message with several entries is not split, so there may be a few more than
    /// `n`.
    pub async fn poll(&self, n: usize, deadline: Deadline) -> Result<Option<LeasedBatch>, BufferError> {
        let n = n.clamp(1, MAX_POLL);
        let taken = within(deadline, "deliver", async {
            match &*self.0 {
                Adapter::Memory(memory) => Ok(memory.poll(n)),
                Adapter::Redis(redis) => redis.poll(n, deadline).await,
                Adapter::Sqs(sqs) => sqs.poll(n, deadline).await,
                #[cfg(feature = "kafka")]
                Adapter::Kafka(kafka) => kafka.poll(n, deadline).await,
            }
        });
        let Some(taken) = taken.await? else { return Ok(None) };
        for (metric, number) in
            [(Metric::BufferRedelivered, taken.redelivered), (Metric::BufferUnreadable, taken.unreadable)]
        {
            if number > 0 {
                telemetry::count_case(metric, self.kind().name(), number as u64);
            }
        }
        if taken.unreadable > 0 {
            tracing::error!(messages = taken.unreadable, buffer = %self.kind(), "the buffer has unreadable messages");
        }
        Ok(Some(taken.leased))
    }

    /// Deletes a stored batch. After the end of its lease this may do nothing, without an error.
    pub async fn ack(&self, batch: LeasedBatch, deadline: Deadline) -> Result<(), BufferError> {
        within(deadline, "delete a batch", async {
            match (&*self.0, batch.receipt) {
                (Adapter::Memory(memory), Receipt::Memory(token)) => {
                    memory.ack(token);
                    Ok(())
                }
                (Adapter::Redis(redis), Receipt::Redis(receipt)) => redis.ack(receipt, deadline).await,
                (Adapter::Sqs(sqs), Receipt::Sqs(handles)) => sqs.ack(&handles, deadline).await,
                #[cfg(feature = "kafka")]
                (Adapter::Kafka(kafka), Receipt::Kafka(receipt)) => kafka.ack(receipt).await,
                _ => Err(BufferError::Foreign),
            }
        })
        .await
    }

    /// How much waits or is leased. Also recorded as a metric.
    pub async fn size(&self, deadline: Deadline) -> Result<QueueDepth, BufferError> {
        let backlog = within(deadline, "tell its size", async {
            match &*self.0 {
                Adapter::Memory(memory) => Ok(memory.size()),
                Adapter::Redis(redis) => redis.size(deadline).await,
                Adapter::Sqs(sqs) => sqs.size().await,
                #[cfg(feature = "kafka")]
                Adapter::Kafka(kafka) => kafka.size(deadline).await,
            }
        });
        let backlog = backlog.await?;
        telemetry::measure_case(Metric::BufferWaiting, self.kind().name(), backlog.entries);
        if let Some(age) = backlog.oldest {
            telemetry::measure_case(Metric::BufferOldestAge, self.kind().name(), age.as_secs());
        }
        Ok(backlog)
    }

    /// Records how long the oldest entry of these messages has waited, for an adapter that does not
    /// know the age of waiting entries ([`QueueDepth::oldest`]). A failed batch is delivered again,
    /// and is older each time.
    pub fn record_age(&self, messages: &[Vec<u8>], now: Timestamp) {
        let entries = messages.iter().filter_map(|message| decode(message).ok()).flatten();
        let Some(oldest) = entries.map(|entry| entry.offered_at).min() else { return };
        let age = u64::try_from(now.duration_since(oldest).as_secs()).unwrap_or_default();
        telemetry::measure_case(Metric::BufferOldestAge, self.kind().name(), age);
    }
}

async fn within<T>(
    deadline: Deadline,
    operation: &'static str,
    work: impl Future<Output = Result<T, BufferError>>,
) -> Result<T, BufferError> {
    let late = |DeadlineExceeded| BufferError::Late { operation };
    Box::pin(deadline.cut_off(work)).await.map_err(late)?
}

fn check(batch: &[Entry]) -> Result<(), BufferError> {
    if batch.len() > MAX_BATCH {
        return Err(BufferError::Invalid("the batch has too many entries"));
    }
    for Entry { id, payload, .. } in batch {
        let is_id = (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_id {
            return Err(BufferError::Invalid("its id is empty, too long or not visible ASCII"));
        }
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(BufferError::Invalid("its payload is too long"));
        }
    }
    Ok(())
}

/// A refusal with a random wait.
fn backpressure() -> Offered {
    let spread = rand::rng().random_range(0..=RETRY_SPREAD_SECONDS);
    Offered::Backpressure { retry_after: Duration::from_secs(RETRY_AFTER_SECONDS + spread) }
}

/// The age of an entry. Zero if it is in the future: clocks of producers differ.
fn age(offered_at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(offered_at)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::clock;

    fn start(variables: &[(&str, &str)]) -> Result<WriteBehindBuffer, ConfigError> {
        let config =
            aws_sdk_sqs::Config::builder().behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest());
        let common = [("STAGE", "local"), ("AWS_REGION", "local")];
        let env = Env::of(common.iter().chain(variables).copied());
        WriteBehindBuffer::from_env(aws_sdk_sqs::Client::from_conf(config.build()), &env, clock::system())
    }

    fn refusal(variables: &[(&str, &str)]) -> String {
        start(variables).unwrap_err().to_string()
    }

    #[test]
    fn one_variable_chooses_the_adapter() {
        let sqs = [("BUFFER", "sqs"), ("BUFFER_QUEUE_URL", "http://127.0.0.1:1/000000000000/Q")];
        let redis = [("BUFFER", "redis"), ("REDIS_URL", "redis://127.0.0.1:1")];
        assert_eq!(start(&sqs).unwrap().kind(), BufferKind::Sqs);
        assert_eq!(start(&redis).unwrap().kind(), BufferKind::Redis);
        assert_eq!(start(&[("BUFFER", "memory")]).unwrap().kind(), BufferKind::Memory);
    }

    #[test]
    fn memory_is_for_the_local_stage_only() {
        for stage in ["dev", "test", "staging", "live", "Local"] {
            let error = refusal(&[("BUFFER", "memory"), ("STAGE", stage)]);
            assert!(error.contains("BUFFER") && error.contains("memory"), "{error}");
        }
    }

    #[test]
    fn wrong_settings_are_told_by_the_name_of_their_variable() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[], "BUFFER"),
            (&[("BUFFER", "disk")], "BUFFER"),
            (&[("BUFFER", "sqs")], "BUFFER_QUEUE_URL"),
            (&[("BUFFER", "redis")], "REDIS_URL"),
            (&[("BUFFER", "memory"), ("BUFFER_LIMIT", "many")], "BUFFER_LIMIT"),
            (&[("BUFFER", "memory"), ("BUFFER_LIMIT", "499")], "BUFFER_LIMIT"),
            (&[("BUFFER", "memory"), ("BUFFER_LEASE_SECONDS", "0")], "BUFFER_LEASE_SECONDS"),
        ];
        for (variables, named) in cases {
            let error = refusal(variables);
            assert!(error.contains(named), "{variables:?}: {error}");
        }
    }

    #[tokio::test]
    async fn an_entry_that_no_adapter_could_carry_is_refused_before_anything_is_sent() {
        let buffer = start(&[("BUFFER", "memory")]).unwrap();
        let deadline = Deadline::after(Duration::from_secs(5));
        let entry = |id: &str, payload: &str| Entry {
            id: id.to_owned(),
            offered_at: Timestamp::UNIX_EPOCH,
            payload: payload.to_owned(),
        };
        let long = format!("\"{}\"", "x".repeat(MAX_PAYLOAD_BYTES));
        for unfit in [
            entry("", "1"),
            entry(&"i".repeat(65), "1"),
            entry("a b", "1"),
            entry("é", "1"),
            entry("a", &long),
        ] {
            let offered = buffer.offer(&[entry("fit", "1"), unfit], deadline).await;
            assert!(matches!(offered, Err(BufferError::Invalid(_))), "{offered:?}");
        }
        let many: Vec<Entry> = (0..=MAX_BATCH).map(|n| entry(&n.to_string(), "1")).collect();
        assert!(matches!(buffer.offer(&many, deadline).await, Err(BufferError::Invalid(_))));
        assert_eq!(buffer.size(deadline).await.unwrap().entries, 0);
    }
}
