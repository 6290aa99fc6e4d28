//! Topics of Kafka as event sources, by Lambda's developer guide: "Using Lambda with self-managed
//! Apache Kafka", "Batching behavior", "Configuring error handling controls for Kafka event
//! sources".
//!
//! [`POLLERS`] consumers of the mapping's group share the partitions of the topic. A poller works
//! alone:
//!
//! 1. Collect a batch: as many records as the mapping says and as fit into an event. A batch that
//!    is not full waits for more as long as the batching window says, from its first record on.
//! 2. Invoke the function with Lambda's event ([`event`]). A failure, a crash, a timeout or a
//!    throttle: the whole batch again, until it succeeds. That is what Lambda does without
//!    provisioned pollers: nothing is given up before the topic's own retention ends.
//! 3. Commit the offsets behind the batch. Only then read on.
//!
//! So every record is handled at least once, and in order within its partition. A region that
//! stops, or is killed, reads what was not committed again. So does another poller that a partition
//! goes to in between.
//!
//! Different from the cloud: the number of pollers does not follow the load, and offsets are
//! committed by librdkafka.

mod event;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout_at};

use crate::functions::outcome::{Invoke, MAX_PAYLOAD_BYTES, Outcome};
use crate::template::model::{KafkaSource, StartingPosition};
use event::Record;

/// Consumers of one mapping. A topic of fewer partitions leaves some of them idle.
const POLLERS: usize = 4;

/// Pause after a batch that failed. It doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Pause after the brokers could not be asked.
const BROKER_RETRY: Duration = Duration::from_secs(1);

/// What the records of an event may come to. The rest is for the names around them.
const BATCH_BYTES: usize = MAX_PAYLOAD_BYTES - 64 * 1024;

/// A poller that waits for its function is alive, however long that takes: librdkafka's longest.
const MAX_POLL_INTERVAL: &str = "86400000";

/// Milliseconds after which a poller that died without leaving the group is removed, and its
/// partitions go to the others.
const SESSION_TIMEOUT: &str = "10000";

/// Reads the topic of `source` for as long as it is polled.
pub(super) async fn serve<I: Invoke>(source: &KafkaSource, functions: Arc<I>) {
    let mut pollers = JoinSet::new();
    for _ in 0..POLLERS {
        let poller = Poller { source: source.clone(), functions: Arc::clone(&functions) };
        pollers.spawn(poller.run());
    }
    while let Some(ended) = pollers.join_next().await {
        if let Err(error) = ended {
            tracing::error!(topic = source.topic, %error, "the task of a poller failed");
        }
    }
}

struct Poller<I> {
    source: KafkaSource,
    functions: Arc<I>,
}

/// Records that are handed over together.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    bytes: usize,
}

impl Batch {
    /// Whether a record fits. The first always does: Kafka's largest is smaller than an event.
    fn has_room_for(&self, record: &Record) -> bool {
        self.records.is_empty() || self.bytes + record.size_bytes() <= BATCH_BYTES
    }

    fn add(&mut self, record: Record) {
        self.bytes += record.size_bytes();
        self.records.push(record);
    }

    /// The place behind each partition's last record.
    fn behind(&self) -> Result<TopicPartitionList, KafkaError> {
        let mut behind = TopicPartitionList::new();
        // Records of a partition are in order: the last one decides.
        for record in self.records.iter().rev() {
            if behind.find_partition(&record.topic, record.partition).is_none() {
                behind.add_partition_offset(
                    &record.topic,
                    record.partition,
                    Offset::Offset(record.offset + 1),
                )?;
            }
        }
        Ok(behind)
    }
}

impl<I: Invoke> Poller<I> {
    async fn run(self) {
        let consumer = loop {
            match self.connect() {
                Ok(consumer) => break Arc::new(consumer),
                Err(error) => {
                    tracing::error!(topic = self.source.topic, %error, "a topic can't be read");
                    sleep(BROKER_RETRY).await;
                }
            }
        };
        let mut left = None;
        loop {
            let batch = self.collect(&consumer, &mut left).await;
            self.deliver(&batch).await;
            self.commit(&consumer, &batch).await;
        }
    }

    fn connect(&self) -> Result<StreamConsumer, KafkaError> {
        let KafkaSource { bootstrap_servers, consumer_group, starting_position, .. } = &self.source;
        let begin = match starting_position {
            StartingPosition::TrimHorizon => "earliest",
            StartingPosition::Latest => "latest",
        };
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers.join(","))
            .set("group.id", consumer_group)
            .set("auto.offset.reset", begin)
            .set("enable.auto.commit", "false")
            .set("max.poll.interval.ms", MAX_POLL_INTERVAL)
            .set("session.timeout.ms", SESSION_TIMEOUT)
            .set_log_level(RDKafkaLogLevel::Error)
            .create()?;
        consumer.subscribe(&[&self.source.topic])?;
        Ok(consumer)
    }

    /// The next batch. `left` is a record that did not fit into the batch before.
    async fn collect(&self, consumer: &StreamConsumer, left: &mut Option<Record>) -> Batch {
        let mut batch = Batch::default();
        let first = match left.take() {
            Some(record) => record,
            None => self.receive(consumer).await,
        };
        let window_ends = Instant::now() + self.source.batching_window;
        let mut next = Some(first);
        while let Some(record) = next {
            if !batch.has_room_for(&record) {
                *left = Some(record);
                break;
            }
            batch.add(record);
            if batch.records.len() >= self.source.batch_size {
                break;
            }
            next = timeout_at(window_ends, self.receive(consumer)).await.ok();
        }
        batch
    }

    async fn receive(&self, consumer: &StreamConsumer) -> Record {
        loop {
            match consumer.recv().await {
                Ok(message) => return Record::of(&message),
                Err(error) => {
                    tracing::warn!(topic = self.source.topic, %error, "a topic can't be read");
                    sleep(BROKER_RETRY).await;
                }
            }
        }
    }

    /// Invokes the function until it has handled the batch.
    async fn deliver(&self, batch: &Batch) {
        let KafkaSource { topic, function, bootstrap_servers, .. } = &self.source;
        let event = match event::of(bootstrap_servers, &batch.records) {
            Ok(event) => Bytes::from(event),
            Err(error) => {
                tracing::error!(topic, %error, "an event can't be written");
                return;
            }
        };
        let mut pause = FIRST_PAUSE;
        loop {
            match self.functions.invoke(function, event.clone()).await {
                Outcome::Answered(_) => return,
                outcome => {
                    tracing::warn!(
                        topic,
                        function,
                        records = batch.records.len(),
                        ?outcome,
                        "a batch failed"
                    );
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Commits the offsets behind a batch. What is not committed is handled again.
    async fn commit(&self, consumer: &Arc<StreamConsumer>, batch: &Batch) {
        let behind = match batch.behind() {
            Ok(behind) => behind,
            Err(error) => {
                tracing::error!(topic = self.source.topic, %error, "offsets can't be written");
                return;
            }
        };
        let consumer = Arc::clone(consumer);
        // It waits for the broker on its thread.
        let committed = spawn_blocking(move || consumer.commit(&behind, CommitMode::Sync)).await;
        match committed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(topic = self.source.topic, %error, "offsets are not committed: the records come again");
            }
            Err(error) => tracing::error!(topic = self.source.topic, %error, "the task of a commit failed"),
        }
    }
}
