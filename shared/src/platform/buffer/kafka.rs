//! The buffer as a Kafka topic. Needs the cargo feature `kafka`.
//!
//! 1. *Offer* sends one record per entry, with the entry's id as the key, so that entries spread
//!    over the partitions. The producer is idempotent and uses `acks=all`. The offer is accepted
//!    when the delivery report of every record says so; a failed or late report makes the offer an
//!    error.
//! 2. *Poll* joins the consumer group and reads records of its assigned partitions. Offsets are
//!    committed manually.
//! 3. *Ack* commits the offsets of the batch once all earlier batches of this process are
//!    acknowledged too: a committed offset covers everything before it.
//! 4. A process that dies, or holds a batch for longer than its lease, leaves the group. Other
//!    members get its partitions and read from the last commit. A process that polls again without
//!    acknowledging re-reads from there itself.
//!
//! After a rebalance, acknowledging an earlier batch does nothing. An acknowledgement during a
//! rebalance may be refused; its batch is stored, and delivered once more.
//!
//! Most deployments do not poll: Lambda's event source mapping does, in the same group
//! (`KAFKA_GROUP`), and commits what its function stored. The records are then read with
//! [`decode`].
//!
//! # Threads
//! librdkafka has one thread per broker. The threads hold no state of a finished request: an offer
//! waits for its reports. A function that was frozen finds its connections closed and reconnects;
//! pending records fail after [`DELIVERY_TIMEOUT`]. A consumer that was frozen for longer than its
//! lease rejoins the group.
//!
//! # Limits
//! The shortest lease is [`SHORTEST_LEASE`], the smallest session timeout that brokers allow by
//! default. The number of waiting entries is the group's lag: the end of each partition less the
//! committed offset. The age of the oldest entry is unknown. The topic's retention deletes entries,
//! so it must be longer than the longest outage of the writers.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use super::bound::SampledBound;
use super::message::{decode, one_by_one};
use super::{
    AdapterSettings, BufferError, Entry, LeasedBatch, MAX_BATCH, Offered, QueueDepth, TakenBatch,
    backpressure,
};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env, Stage};

/// The variable with the brokers: `host:port,host:port`.
const BROKERS: &str = "KAFKA_BROKERS";
/// The variable with the topic.
const TOPIC: &str = "KAFKA_TOPIC";
/// The variable with the consumer group. The event source mapping must have the same group.
const GROUP: &str = "KAFKA_GROUP";
/// The default group.
pub const DEFAULT_GROUP: &str = "activity-writer";
/// The variable with the security protocol: [`TLS`], the default, or [`PLAINTEXT`].
const SECURITY: &str = "KAFKA_SECURITY";
const TLS: &str = "tls";
const PLAINTEXT: &str = "plaintext";
/// The variables with user and password (SASL/SCRAM-SHA-512, as on MSK). Both or neither.
const USER: &str = "KAFKA_USER";
const PASSWORD: &str = "KAFKA_PASSWORD";

/// A broker's default `group.min.session.timeout.ms`.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(6);
/// A broker's default `group.max.session.timeout.ms` is 30 minutes; more than this only delays a
/// takeover.
const LONGEST_SESSION: Duration = Duration::from_secs(45);

/// How long a record is retried. Shorter than the timeout of a function, so that its report
/// arrives.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest request to a broker; then its connection is closed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
/// Largest amount of pending data: the largest batch twice.
const QUEUE_KILOBYTES: usize = 20 * 1024;
/// How long the producer collects records for one request.
const LINGER_MS: u64 = 2;

/// How long a poll waits for assigned partitions. A group waits three seconds for its first
/// members.
const JOIN_WAIT: Duration = Duration::from_secs(15);
/// How long a poll then waits for a first record: a broker answers at once when there is one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long a poll waits for each further record: brokers answer one by one.
const NEXT_WAIT: Duration = Duration::from_millis(20);
/// Interval between two checks of the clock while waiting.
const LOOK: Duration = Duration::from_millis(50);

/// The buffer. Further variables: `KAFKA_BROKERS`, `KAFKA_TOPIC`, and optionally `KAFKA_GROUP`,
/// `KAFKA_SECURITY`, `KAFKA_USER`, `KAFKA_PASSWORD`.
pub(super) struct KafkaBuffer {
    topic: String,
    producer_config: ClientConfig,
    consumer_config: ClientConfig,
    /// Created on first use, and again after a fatal error.
    producer: Mutex<Option<FutureProducer>>,
    /// Created on first use. Its calls block and run on a blocking thread.
    reader: Arc<Mutex<Option<Reader>>>,
    bound: SampledBound,
    lease: Duration,
}

#[derive(Debug)]
pub(super) struct Receipt(u64);

impl KafkaBuffer {
    pub(super) fn from_env(env: &Env, terms: AdapterSettings) -> Result<Self, ConfigError> {
        let connection = connection(env)?;
        let lease = terms.lease.max(SHORTEST_LEASE);
        let mut producer_config = connection.clone();
        producer_config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", millis(DELIVERY_TIMEOUT))
            .set("queue.buffering.max.kbytes", QUEUE_KILOBYTES.to_string())
            .set("linger.ms", LINGER_MS.to_string());
        let mut consumer_config = connection;
        consumer_config
            .set("group.id", env.optional(GROUP).unwrap_or(DEFAULT_GROUP))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", millis(lease.min(LONGEST_SESSION)))
            .set("max.poll.interval.ms", millis(lease));
        for config in [&producer_config, &consumer_config] {
            config.create_native_config().map_err(|error| match error {
                // The description names the property and not its value.
                KafkaError::ClientConfig(_, _, key, _) => {
                    ConfigError::Invalid { variable: BROKERS, reason: format!("librdkafka refuses {key}") }
                }
                _ => ConfigError::Invalid { variable: BROKERS, reason: "librdkafka refuses it".to_owned() },
            })?;
        }
        Ok(Self {
            topic: env.required(TOPIC)?.to_owned(),
            producer_config,
            consumer_config,
            producer: Mutex::default(),
            reader: Arc::default(),
            bound: SampledBound::new(terms),
            lease,
        })
    }

    pub(super) async fn offer(&self, batch: &[Entry], deadline: Deadline) -> Result<Offered, BufferError> {
        let messages = one_by_one(batch)?;
        if !self.bound.has_room(batch.len(), self.lag(deadline)).await {
            return Ok(backpressure());
        }
        let producer = self.producer().map_err(failed("take an offer"))?;
        let mut sends = Vec::with_capacity(batch.len());
        for (entry, message) in batch.iter().zip(&messages) {
            sends.push(self.send(&producer, entry, message));
        }
        // All records at once: the producer batches them into a few requests.
        let reports: Vec<Option<KafkaError>> =
            stream::iter(sends).buffer_unordered(MAX_BATCH).collect().await;
        match reports.into_iter().flatten().next() {
            None => Ok(Offered::Accepted),
            Some(source) => {
                self.forget_if_final(&producer);
                Err(BufferError::Kafka { operation: "take an offer", source })
            }
        }
    }

    /// Why the record was not delivered, if it was not.
    async fn send(&self, producer: &FutureProducer, entry: &Entry, message: &str) -> Option<KafkaError> {
        let record = FutureRecord::to(&self.topic)
            .key(entry.id.as_str())
            .payload(message)
            .timestamp(entry.offered_at.as_millisecond());
        producer.send(record, DELIVERY_TIMEOUT).await.err().map(|(error, _)| error)
    }

    fn producer(&self) -> Result<FutureProducer, KafkaError> {
        let mut producer = lock(&self.producer);
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let made = FutureProducer::from_config(&self.producer_config)?;
        *producer = Some(made.clone());
        Ok(made)
    }

    /// An idempotent producer that lost track of its records is unusable.
    fn forget_if_final(&self, producer: &FutureProducer) {
        if producer.client().fatal_error().is_some() {
            *lock(&self.producer) = None;
        }
    }

    pub(super) async fn poll(&self, n: usize, deadline: Deadline) -> Result<Option<TakenBatch>, BufferError> {
        let (topic, lease) = (self.topic.clone(), self.lease);
        let polled = self.read("deliver", move |reader| reader.poll(&topic, n, lease, deadline)).await?;
        let Some(Polled { token, records, redelivered }) = polled else { return Ok(None) };
        let (mut entries, mut unreadable) = (Vec::with_capacity(records.len()), 0);
        for record in records {
            match decode(&record) {
                Ok(read) => entries.extend(read),
                Err(_) => unreadable += 1,
            }
        }
        let leased = LeasedBatch { entries, receipt: super::Receipt::Kafka(Receipt(token)) };
        Ok(Some(TakenBatch { leased, redelivered, unreadable }))
    }

    pub(super) async fn ack(&self, Receipt(token): Receipt) -> Result<(), BufferError> {
        let topic = self.topic.clone();
        self.read("delete a batch", move |reader| reader.ack(&topic, token)).await
    }

    pub(super) async fn size(&self, deadline: Deadline) -> Result<QueueDepth, BufferError> {
        Ok(QueueDepth { entries: self.lag(deadline).await?, oldest: None })
    }

    async fn lag(&self, deadline: Deadline) -> Result<u64, BufferError> {
        let topic = self.topic.clone();
        self.read("tell its size", move |reader| reader.lag(&topic, deadline)).await
    }

    /// Runs `work` on a thread that may block. Work that nobody waits for ends within the timeout
    /// of a request.
    async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Reader) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, BufferError> {
        let (reader, config) = (Arc::clone(&self.reader), self.consumer_config.clone());
        let done = tokio::task::spawn_blocking(move || {
            let mut reader = lock(&reader);
            match &mut *reader {
                Some(reader) => work(reader),
                none => work(none.insert(Reader::new(&config)?)),
            }
        });
        done.await.unwrap_or(Err(KafkaError::Canceled)).map_err(failed(operation))
    }
}

impl fmt::Debug for KafkaBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the configurations: they hold a password.
        f.debug_struct("KafkaBuffer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// The partitions of this process, as told by rebalances.
#[derive(Default)]
struct Assignments {
    /// Rises whenever partitions are revoked.
    epoch: AtomicU64,
    is_assigned: AtomicBool,
}

/// Receives rebalances, on the polling thread.
struct Context(Arc<Assignments>);

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if !matches!(rebalance, Rebalance::Assign(_)) {
            self.0.epoch.fetch_add(1, Ordering::SeqCst);
            self.0.is_assigned.store(false, Ordering::SeqCst);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if matches!(rebalance, Rebalance::Assign(_)) {
            self.0.is_assigned.store(true, Ordering::SeqCst);
        }
    }
}

/// Records of one partition: the first offset, and the offset after the last.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: i64,
    next: i64,
}

/// A batch that was polled and not acknowledged.
struct UnacknowledgedBatch {
    token: u64,
    end: Instant,
    ranges: BTreeMap<i32, Range>,
    is_acknowledged: bool,
}

struct Polled {
    token: u64,
    records: Vec<Vec<u8>>,
    redelivered: usize,
}

/// A consumer, and its unacknowledged batches, the oldest first.
struct Reader {
    consumer: BaseConsumer<Context>,
    assignments: Arc<Assignments>,
    is_subscribed: bool,
    epoch: u64,
    out: VecDeque<UnacknowledgedBatch>,
    next_token: u64,
    /// For each partition, the end of what this process has polled. Records before it are
    /// redeliveries.
    polled_to: BTreeMap<i32, i64>,
}

impl Reader {
    fn new(config: &ClientConfig) -> Result<Self, KafkaError> {
        let assignments = Arc::new(Assignments::default());
        Ok(Self {
            consumer: BaseConsumer::from_config_and_context(config, Context(Arc::clone(&assignments)))?,
            assignments,
            is_subscribed: false,
            epoch: 0,
            out: VecDeque::new(),
            next_token: 0,
            polled_to: BTreeMap::new(),
        })
    }

    fn poll(
        &mut self,
        topic: &str,
        n: usize,
        lease: Duration,
        deadline: Deadline,
    ) -> Result<Option<Polled>, KafkaError> {
        if !self.is_subscribed {
            self.consumer.subscribe(&[topic])?;
            self.is_subscribed = true;
        }
        self.abandon_expired_batches(topic)?;
        let mut wait = Deadline::after(JOIN_WAIT).min(deadline);
        let mut was_assigned = false;
        let mut batch = Batch::default();
        while batch.records.len() < n && !wait.has_passed() {
            let polled = self.consumer.poll(wait.remaining().min(LOOK)).transpose();
            let record = polled.map(|message| message.as_ref().map(Record::of));
            // That poll may have processed a rebalance. Records read before it belong to another
            // member now.
            if self.notice_rebalance() {
                batch = Batch::default();
                (was_assigned, wait) = (false, Deadline::after(JOIN_WAIT).min(deadline));
            }
            match record {
                Ok(Some(record)) => {
                    let is_again =
                        self.polled_to.get(&record.partition).is_some_and(|end| record.offset < *end);
                    batch.add(record, is_again);
                    wait = Deadline::after(NEXT_WAIT).min(deadline);
                }
                // The consumer recovers from these by itself.
                Err(KafkaError::MessageConsumption(code)) if is_passing(code) => {}
                Err(error) => return Err(error),
                Ok(None) if !was_assigned && self.assignments.is_assigned.load(Ordering::SeqCst) => {
                    (was_assigned, wait) = (true, Deadline::after(FIRST_WAIT).min(deadline));
                }
                Ok(None) => {}
            }
        }
        if batch.records.is_empty() {
            return Ok(None);
        }
        for (partition, range) in &batch.ranges {
            let end = self.polled_to.entry(*partition).or_default();
            *end = range.next.max(*end);
        }
        let token = self.next_token;
        self.next_token += 1;
        let out = UnacknowledgedBatch {
            token,
            end: Instant::now() + lease,
            ranges: batch.ranges,
            is_acknowledged: false,
        };
        self.out.push_back(out);
        Ok(Some(Polled { token, records: batch.records, redelivered: batch.redelivered }))
    }

    /// Forgets the batches from before a rebalance.
    fn notice_rebalance(&mut self) -> bool {
        let epoch = self.assignments.epoch.load(Ordering::SeqCst);
        let has_changed = epoch != self.epoch;
        if has_changed {
            self.epoch = epoch;
            self.out.clear();
        }
        has_changed
    }

    /// Re-reads from the first batch whose lease has ended.
    fn abandon_expired_batches(&mut self, topic: &str) -> Result<(), KafkaError> {
        self.notice_rebalance();
        let now = Instant::now();
        let Some(late) = self.out.iter().position(|out| !out.is_acknowledged && out.end <= now) else {
            return Ok(());
        };
        let mut from: BTreeMap<i32, i64> = BTreeMap::new();
        for (partition, range) in self.out.drain(late..).flat_map(|out| out.ranges) {
            let first = from.entry(partition).or_insert(range.first);
            *first = range.first.min(*first);
        }
        for (partition, first) in from {
            self.consumer.seek(topic, partition, Offset::Offset(first), REQUEST_TIMEOUT)?;
        }
        Ok(())
    }

    fn ack(&mut self, topic: &str, token: u64) -> Result<(), KafkaError> {
        self.notice_rebalance();
        let now = Instant::now();
        match self.out.iter_mut().find(|out| out.token == token) {
            Some(out) if out.end > now => out.is_acknowledged = true,
            _ => {
                tracing::warn!("the lease of a batch ended before it was acknowledged");
                return Ok(());
            }
        }
        let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
        let done = self.out.iter().take_while(|out| out.is_acknowledged).count();
        for out in self.out.iter().take(done) {
            offsets.extend(out.ranges.iter().map(|(partition, range)| (*partition, range.next)));
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in offsets {
            list.add_partition_offset(topic, partition, Offset::Offset(next))?;
        }
        match self.consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => {
                self.out.drain(..done);
                Ok(())
            }
            Err(KafkaError::ConsumerCommit(code)) if is_of_another_member(code) => {
                // The batch is stored, and may be delivered once more.
                tracing::warn!("the batch belongs to another member of the group");
                self.out.clear();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Records that the group has not committed.
    fn lag(&self, topic: &str, deadline: Deadline) -> Result<u64, KafkaError> {
        let timeout = || deadline.remaining().min(REQUEST_TIMEOUT);
        let metadata = self.consumer.fetch_metadata(Some(topic), timeout())?;
        let partitions = metadata.topics().iter().filter(|found| found.name() == topic);
        let partitions: Vec<i32> =
            partitions.flat_map(|found| found.partitions().iter().map(MetadataPartition::id)).collect();
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            list.add_partition(topic, *partition);
        }
        let committed = self.consumer.committed_offsets(list, timeout())?;
        let mut lag = 0_u64;
        for partition in partitions {
            let (low, high) = self.consumer.fetch_watermarks(topic, partition, timeout())?;
            let offset = committed.find_partition(topic, partition).map(|element| element.offset());
            let done = match offset {
                Some(Offset::Offset(offset)) => offset.max(low),
                _ => low,
            };
            lag = lag.saturating_add(u64::try_from(high - done).unwrap_or(0));
        }
        Ok(lag)
    }
}

/// Records that are being collected.
#[derive(Default)]
struct Batch {
    records: Vec<Vec<u8>>,
    ranges: BTreeMap<i32, Range>,
    redelivered: usize,
}

impl Batch {
    fn add(&mut self, record: Record, is_again: bool) {
        let Record { partition, offset, payload } = record;
        let range = self.ranges.entry(partition).or_insert(Range { first: offset, next: offset });
        range.next = offset + 1;
        self.records.push(payload);
        self.redelivered += usize::from(is_again);
    }
}

/// One record, copied out of the consumer.
struct Record {
    partition: i32,
    offset: i64,
    payload: Vec<u8>,
}

impl Record {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let payload = message.payload().unwrap_or_default().to_vec();
        Self { partition: message.partition(), offset: message.offset(), payload }
    }
}

/// Errors of a poll that need no action.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, OperationTimedOut, PollExceeded, UnknownTopic,
        UnknownTopicOrPartition,
    };
    matches!(
        code,
        AllBrokersDown
            | BrokerTransportFailure
            | OperationTimedOut
            | PollExceeded
            | UnknownTopic
            | UnknownTopicOrPartition
    )
}

/// Errors of a commit by a process that is not a member any more, or of another generation, or that
/// a rebalance is about to remove.
fn is_of_another_member(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{AssignmentLost, IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    matches!(code, UnknownMemberId | IllegalGeneration | RebalanceInProgress | AssignmentLost)
}

/// How the brokers are reached.
fn connection(env: &Env) -> Result<ClientConfig, ConfigError> {
    let is_encrypted = match env.optional(SECURITY).unwrap_or(TLS) {
        TLS => true,
        PLAINTEXT if Stage::from_env(env)? == Stage::Live => {
            let reason = format!("a live stage speaks to Kafka with TLS only: {TLS}");
            return Err(ConfigError::Invalid { variable: SECURITY, reason });
        }
        PLAINTEXT => false,
        _ => {
            let reason = format!("it must be {TLS} or {PLAINTEXT}");
            return Err(ConfigError::Invalid { variable: SECURITY, reason });
        }
    };
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", env.required(BROKERS)?)
        .set("client.id", "sojourn")
        .set("socket.timeout.ms", millis(REQUEST_TIMEOUT))
        .set("socket.connection.setup.timeout.ms", millis(REQUEST_TIMEOUT))
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.max.ms", "1000");
    let user = match (env.optional(USER), env.optional(PASSWORD)) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        (Some(_), None) => return Err(ConfigError::Missing(PASSWORD)),
        (None, Some(_)) => return Err(ConfigError::Missing(USER)),
    };
    let protocol = match (is_encrypted, user.is_some()) {
        (true, true) => "sasl_ssl",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (false, false) => "plaintext",
    };
    config.set("security.protocol", protocol);
    if is_encrypted {
        // OpenSSL is compiled in and does not know where the machine keeps its certificate
        // authorities.
        config.set("ssl.ca.location", "probe");
    }
    if let Some((user, password)) = user {
        config
            .set("sasl.mechanism", "SCRAM-SHA-512")
            .set("sasl.username", user)
            .set("sasl.password", password);
    }
    Ok(config)
}

fn failed(operation: &'static str) -> impl FnOnce(KafkaError) -> BufferError {
    move |source| BufferError::Kafka { operation, source }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: [(&str, &str); 3] =
        [("KAFKA_BROKERS", "b1:9096,b2:9096"), ("KAFKA_TOPIC", "activity"), ("STAGE", "live")];

    fn start(more: &[(&str, &str)]) -> Result<KafkaBuffer, ConfigError> {
        let terms = AdapterSettings { limit: 1_000, lease: Duration::from_mins(1) };
        KafkaBuffer::from_env(&Env::of(BASE.iter().chain(more).copied()), terms)
    }

    #[test]
    fn a_live_stage_speaks_tls_and_nothing_else() {
        let buffer = start(&[("KAFKA_USER", "writer"), ("KAFKA_PASSWORD", "s3cret")]).unwrap();
        assert_eq!(buffer.producer_config.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(start(&[]).unwrap().consumer_config.get("security.protocol"), Some("ssl"));
        let error = start(&[("KAFKA_SECURITY", "plaintext")]).unwrap_err().to_string();
        assert!(error.contains("KAFKA_SECURITY") && error.contains("TLS"), "{error}");
        assert!(start(&[("KAFKA_SECURITY", "plaintext"), ("STAGE", "local")]).is_ok());
    }

    #[test]
    fn a_client_with_tls_and_scram_can_be_made() {
        let buffer = start(&[("KAFKA_USER", "writer"), ("KAFKA_PASSWORD", "s3cret")]).unwrap();
        assert!(buffer.producer().is_ok());
    }

    #[test]
    fn wrong_settings_are_told_by_the_name_of_their_variable_and_without_their_value() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[("KAFKA_BROKERS", "")], "KAFKA_BROKERS"),
            (&[("KAFKA_TOPIC", "")], "KAFKA_TOPIC"),
            (&[("KAFKA_SECURITY", "s3cret")], "KAFKA_SECURITY"),
            (&[("KAFKA_USER", "s3cret")], "KAFKA_PASSWORD"),
            (&[("KAFKA_PASSWORD", "s3cret")], "KAFKA_USER"),
        ];
        for (variables, named) in cases {
            let error = start(variables).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("s3cret"), "{variables:?}: {error}");
        }
    }

    #[test]
    fn nothing_prints_the_password() {
        let buffer = start(&[("KAFKA_USER", "writer"), ("KAFKA_PASSWORD", "s3cret")]).unwrap();
        assert!(!format!("{buffer:?}").contains("s3cret"));
    }
}
