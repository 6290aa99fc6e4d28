//! A service to buffer in, and any number of buffers on it, each as a process of its own would have
//! one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::BehaviorVersion;
use jiff::Timestamp;
use sojourn::core::clock::{self, Clock, SystemClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::platform::buffer::{Entry, LeasedBatch, Offered, QueueDepth, WriteBehindBuffer};
use sojourn_testing::{KafkaCluster, MessageQueue, RedisServer};

/// Longest that one operation may take.
const OPERATION: Duration = Duration::from_secs(20);
/// Longest that a test waits for what has to come. On a busy machine a new member of a Kafka group
/// may get one record a turn, and takes seconds to join.
pub(crate) const PATIENCE: Duration = Duration::from_mins(6);

/// Under which keys the buffer of the stage is in Redis.
pub(crate) const REDIS_NAME: &str = "{sojourn:local:local:buffer}";

pub(crate) struct Stage {
    service: Service,
    settings: Vec<(&'static str, String)>,
}

enum Service {
    Memory(WriteBehindBuffer),
    Redis(RedisServer),
    Sqs(Box<MessageQueue>),
    Kafka(KafkaCluster),
}

impl Stage {
    pub(crate) fn memory(settings: &[(&'static str, &str)]) -> Self {
        let settings = owned(settings);
        let env = env(&settings, &[("BUFFER", "memory".to_owned())]);
        Self { service: Service::Memory(buffer(nobody(), &env)), settings }
    }

    /// If this machine has a Redis.
    pub(crate) fn redis(settings: &[(&'static str, &str)]) -> Option<Self> {
        Some(Self::redis_at(RedisServer::start()?, settings))
    }

    pub(crate) fn redis_at(server: RedisServer, settings: &[(&'static str, &str)]) -> Self {
        Self { service: Service::Redis(server), settings: owned(settings) }
    }

    pub(crate) fn sqs(settings: &[(&'static str, &str)]) -> Self {
        Self { service: Service::Sqs(Box::new(MessageQueue::start())), settings: owned(settings) }
    }

    pub(crate) fn kafka(settings: &[(&'static str, &str)]) -> Self {
        Self { service: Service::Kafka(KafkaCluster::start()), settings: owned(settings) }
    }

    /// A buffer, as another process has it. In memory all have the same one.
    pub(crate) fn buffer(&self) -> WriteBehindBuffer {
        match &self.service {
            Service::Memory(shared) => shared.clone(),
            Service::Redis(server) => {
                let variables = [("BUFFER", "redis".to_owned()), ("REDIS_URL", server.url())];
                buffer(nobody(), &env(&self.settings, &variables))
            }
            Service::Sqs(queue) => {
                let variables = [("BUFFER", "sqs".to_owned()), ("BUFFER_QUEUE_URL", queue.url())];
                buffer(queue.client(), &env(&self.settings, &variables))
            }
            Service::Kafka(cluster) => buffer(nobody(), &env(&self.settings, &cluster.variables())),
        }
    }

    /// Puts a message there that no buffer wrote. `false`: nobody could.
    pub(crate) async fn put(&self, message: &str) -> bool {
        match &self.service {
            Service::Memory(_) => return false,
            Service::Redis(server) => {
                redis_command(server, &["LPUSH", &format!("{REDIS_NAME}:waiting"), message]).await;
            }
            Service::Sqs(queue) => {
                let send = queue.client().send_message().queue_url(queue.url()).message_body(message);
                send.send().await.unwrap();
            }
            Service::Kafka(cluster) => cluster.send(message).await,
        }
        true
    }

    /// Somebody who polls while `consumer` has a batch. In Kafka nobody joins a group whose members
    /// do not answer (and the mock cluster ends the process when one tries), so there it is the
    /// same consumer that polls once more.
    pub(crate) fn other_consumer(&self, consumer: &WriteBehindBuffer) -> WriteBehindBuffer {
        match self.service {
            Service::Kafka(_) => consumer.clone(),
            _ => self.buffer(),
        }
    }

    /// Whether a batch may come twice because the number of consumers changes: a group that is
    /// about to change refuses commits (the mock cluster more often than a real one).
    pub(crate) fn delivers_again_when_a_consumer_comes(&self) -> bool {
        matches!(self.service, Service::Kafka(_))
    }

    /// The server, which this stage has.
    pub(crate) fn server(&mut self) -> &mut RedisServer {
        let Service::Redis(server) = &mut self.service else { panic!("there is no Redis") };
        server
    }

    /// The cluster, which this stage has.
    pub(crate) fn cluster(&self) -> &KafkaCluster {
        let Service::Kafka(cluster) = &self.service else { panic!("there is no Kafka") };
        cluster
    }

    /// The queue, which this stage has.
    pub(crate) fn queue(&self) -> &MessageQueue {
        let Service::Sqs(queue) = &self.service else { panic!("there is no queue") };
        queue
    }
}

/// Asks a server past every buffer.
pub(crate) async fn redis_command(server: &RedisServer, command: &[&str]) -> redis::Value {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await.unwrap()
}

fn owned(settings: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn env(settings: &[(&'static str, String)], more: &[(&'static str, String)]) -> Env {
    let common = [("STAGE", "local".to_owned()), ("AWS_REGION", "local".to_owned())];
    Env::of(common.iter().chain(settings).chain(more).cloned())
}

/// A client that no test calls.
fn nobody() -> Client {
    Client::from_conf(aws_sdk_sqs::Config::builder().behavior_version(BehaviorVersion::latest()).build())
}

fn buffer(sqs: Client, env: &Env) -> WriteBehindBuffer {
    WriteBehindBuffer::from_env(sqs, env, clock::system()).unwrap()
}

pub(crate) fn deadline() -> Deadline {
    Deadline::after(OPERATION)
}

/// Entries with ids that begin so.
pub(crate) fn entries(name: &str, number: usize) -> Vec<Entry> {
    sized_entries(name, number, 200)
}

/// The same with payloads of so many bytes.
pub(crate) fn sized_entries(name: &str, number: usize, bytes: usize) -> Vec<Entry> {
    let now = SystemClock.now();
    let entry = |n| {
        let head = format!(r#"{{"n":{n},"fill":""#);
        let payload = format!("{head}{}\"}}", "x".repeat(bytes - head.len() - 2));
        assert_eq!(payload.len(), bytes);
        Entry { id: format!("{name}-{n}"), offered_at: now, payload }
    };
    (0..number).map(entry).collect()
}

/// Offers, which is accepted.
pub(crate) async fn offer(buffer: &WriteBehindBuffer, batch: &[Entry]) {
    assert_eq!(buffer.offer(batch, deadline()).await.unwrap(), Offered::Accepted);
}

/// Polls until something comes.
pub(crate) async fn poll(buffer: &WriteBehindBuffer, n: usize) -> LeasedBatch {
    let began = Instant::now();
    loop {
        if let Some(leased) = buffer.poll(n, deadline()).await.unwrap() {
            return leased;
        }
        assert!(began.elapsed() < PATIENCE, "nothing is delivered");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Polls until so many entries are leased. A poll may bring a part of what waits.
pub(crate) async fn poll_all(buffer: &WriteBehindBuffer, number: usize) -> Vec<LeasedBatch> {
    let mut batches = Vec::new();
    while batches.iter().map(|leased: &LeasedBatch| leased.entries.len()).sum::<usize>() < number {
        batches.push(poll(buffer, number).await);
    }
    batches
}

pub(crate) async fn ack(buffer: &WriteBehindBuffer, leased: LeasedBatch) {
    buffer.ack(leased, deadline()).await.unwrap();
}

/// Asks until it is told: brokers of a busy machine may be late.
pub(crate) async fn size(buffer: &WriteBehindBuffer) -> QueueDepth {
    let began = Instant::now();
    loop {
        match buffer.size(deadline()).await {
            Ok(backlog) => return backlog,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error:?}"),
        }
    }
}

/// What was delivered: how often each entry, and what it said last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored(pub(crate) BTreeMap<String, (usize, Entry)>);

impl Stored {
    pub(crate) fn store(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let (times, stored) = self.0.entry(entry.id.clone()).or_insert_with(|| (0, entry.clone()));
            *times += 1;
            *stored = entry;
        }
    }

    /// Exactly these, each once.
    pub(crate) fn assert_each_once(&self, offered: &[Entry]) {
        self.assert_all(offered);
        let again: Vec<_> = self.0.iter().filter(|(_, (times, _))| *times != 1).map(|(id, _)| id).collect();
        assert!(again.is_empty(), "delivered more than once: {again:?}");
    }

    /// Exactly these, some perhaps more than once.
    pub(crate) fn assert_all(&self, offered: &[Entry]) {
        let missing: Vec<_> =
            offered.iter().filter(|entry| !self.0.contains_key(&entry.id)).map(|entry| &entry.id).collect();
        assert!(missing.is_empty(), "lost {} of {}: {missing:?}", missing.len(), offered.len());
        for entry in offered {
            assert_eq!(&self.0[&entry.id].1, entry);
        }
        assert_eq!(self.0.len(), offered.len());
    }
}

/// Polls, stores and acknowledges until `number` different entries came.
pub(crate) async fn drain(buffer: &WriteBehindBuffer, number: usize) -> Stored {
    let began = Instant::now();
    let mut stored = Stored::default();
    while stored.0.len() < number {
        assert!(began.elapsed() < PATIENCE, "only {} of {number} came", stored.0.len());
        if let Some(leased) = buffer.poll(100, deadline()).await.unwrap() {
            stored.store(leased.entries.clone());
            ack(buffer, leased).await;
        }
    }
    stored
}

/// Polls and acknowledges until nothing is there any more.
pub(crate) async fn empty(buffer: &WriteBehindBuffer) {
    let began = Instant::now();
    while size(buffer).await.entries > 0 {
        assert!(began.elapsed() < PATIENCE, "{:?} are still there", size(buffer).await);
        if let Some(leased) = buffer.poll(100, deadline()).await.unwrap() {
            ack(buffer, leased).await;
        }
    }
}

/// Waits until nothing is there any more: neither waiting nor leased.
pub(crate) async fn assert_empty(buffer: &WriteBehindBuffer) {
    let began = Instant::now();
    while size(buffer).await.entries > 0 {
        assert!(began.elapsed() < PATIENCE, "{:?} are still there", size(buffer).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// When an entry was offered, as tests compare it.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}
