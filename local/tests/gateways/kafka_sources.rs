//! Topics of Kafka that functions read: librdkafka's mock brokers, its real consumers, and a script
//! in Lambda's place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use local_region::event_sources::EventSources;
use local_region::functions::outcome::Outcome;
use local_region::services::sqs::Queues;
use local_region::template::model::{KafkaSource, StartingPosition};
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{PausedClock, Reply, Script, answered};

const PARTITIONS: i32 = 3;

/// Longest wait for records to arrive: a consumer group takes seconds to form, and may form more
/// than once.
const PATIENCE: Duration = Duration::from_mins(3);

struct Topic {
    cluster: MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    producer: FutureProducer,
}

impl Topic {
    fn create() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("activity", PARTITIONS, 1).unwrap();
        let producer =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        Self { cluster, producer }
    }

    fn source(&self) -> KafkaSource {
        KafkaSource {
            bootstrap_servers: vec![self.cluster.bootstrap_servers()],
            topic: "activity".to_owned(),
            consumer_group: "shop-activity".to_owned(),
            function: "worker".to_owned(),
            starting_position: StartingPosition::TrimHorizon,
            batch_size: 10,
            batching_window: Duration::from_millis(500),
            enabled: true,
        }
    }

    /// What the mapping's group has committed of all partitions.
    fn committed(&self) -> i64 {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "shop-activity")
            .create()
            .unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition("activity", partition);
        }
        let committed = consumer.committed_offsets(partitions, PATIENCE).unwrap();
        committed
            .elements()
            .iter()
            .filter_map(|partition| partition.offset().to_raw())
            .filter(|at| *at > 0)
            .sum()
    }

    async fn send(&self, partition: i32, value: &str) {
        let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some(&[104_u8, 200][..]) });
        let record =
            FutureRecord::to("activity").partition(partition).key("key").payload(value).headers(headers);
        self.producer.send(record, PATIENCE).await.unwrap();
    }
}

struct Running {
    script: Arc<Script>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(source: KafkaSource, script: Arc<Script>) -> Self {
        let queues = Arc::new(Queues::open(None, &[], PausedClock::at("2026-11-20T10:00:00Z")).unwrap());
        let sources = EventSources::new(&[], queues, Arc::clone(&script)).with_topics(&[source]);
        let (stop, stopped) = oneshot::channel::<()>();
        let task =
            tokio::spawn(async move { sources.run(async { stopped.await.unwrap_or_default() }).await });
        Self { script, stop, task }
    }

    /// The values of the records so far, in the order of their delivery.
    fn values(&self) -> Vec<String> {
        self.script.events("worker").iter().flat_map(values).collect()
    }

    async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !reached(self) {
            assert!(began.elapsed() < PATIENCE, "{what}: {:?}", self.values());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(self) -> Vec<String> {
        let values = self.values();
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
        values
    }
}

/// Values of an event, partition by partition.
fn values(event: &Value) -> Vec<String> {
    let partitions = event["records"].as_object().unwrap().values();
    let records = partitions.flat_map(|records| records.as_array().unwrap());
    records.map(|record| text(&record["value"])).collect()
}

fn text(base64: &Value) -> String {
    String::from_utf8(STANDARD.decode(base64.as_str().unwrap()).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_handed_over_in_lambdas_event() {
    let topic = Topic::create();
    topic.send(2, "{\"a\":1}").await;
    let running = Running::start(topic.source(), Script::answering(json!({})));
    running.until("one record", |running| !running.values().is_empty()).await;
    let mut event = running.script.events("worker").remove(0);
    let record = &mut event["records"]["activity-2"][0];
    assert!(record["timestamp"].take().as_i64() > Some(1_700_000_000_000));
    assert_eq!(
        event,
        json!({
            "eventSource": "SelfManagedKafka",
            "bootstrapServers": topic.cluster.bootstrap_servers(),
            "records": {"activity-2": [{
                "topic": "activity", "partition": 2, "offset": 0, "timestamp": null, "timestampType": "CREATE_TIME",
                "key": "a2V5", "value": "eyJhIjoxfQ==", "headers": [{"trace": [104, -56]}],
            }]},
        })
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_fails_comes_again_before_anything_behind_it() {
    const FAILED_TRIES: usize = 4;
    let topic = Topic::create();
    for number in 0..25 {
        topic.send(0, &number.to_string()).await;
    }
    let tries = AtomicUsize::new(0);
    let script = Script::new(move |_| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::Now(Outcome::Crashed),
        1 => Reply::Now(Outcome::TimedOut),
        2 => Reply::Now(Outcome::Throttled),
        3 => Reply::Now(Outcome::FunctionError { payload: "{}".into() }),
        FAILED_TRIES.. => answered(&json!({"batchItemFailures": [{"itemIdentifier": "read by nobody"}]})),
    });
    let running = Running::start(topic.source(), script);
    running.until("all", |running| running.values().contains(&"24".to_owned())).await;
    let events = running.script.events("worker");
    let batches =
        events.iter().map(|event| values(event).iter().map(|value| value.parse().unwrap()).collect());
    let batches: Vec<Vec<usize>> = batches.collect();
    // A poller that joins the group may take the partition and deliver a batch once more. None may
    // skip a record.
    let mut handled = 0;
    for (try_number, batch) in batches.iter().enumerate() {
        assert!(batch.len() <= 10, "{batches:?}");
        assert!(batch.windows(2).all(|pair| pair[1] == pair[0] + 1), "{batches:?}");
        assert!(batch[0] <= handled, "{batches:?}");
        if try_number >= FAILED_TRIES {
            handled = handled.max(batch[batch.len() - 1] + 1);
        }
    }
    assert_eq!(handled, 25, "{batches:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_nothing_is_missed_and_what_was_committed_is_not_read_again() {
    let topic = Topic::create();
    let mut sent = BTreeSet::new();
    for number in 0..30 {
        topic.send(number % PARTITIONS, &format!("before {number}")).await;
        sent.insert(format!("before {number}"));
    }
    let running = Running::start(topic.source(), Script::answering(json!({})));
    running.until("the first", |running| running.values().len() >= 30).await;
    running.until("its commit", |_| topic.committed() == 30).await;
    let before = running.stop().await;
    assert_eq!(before.iter().cloned().collect::<BTreeSet<_>>(), sent);

    for number in 0..6 {
        topic.send(number % PARTITIONS, &format!("after {number}")).await;
    }
    let running = Running::start(topic.source(), Script::answering(json!({})));
    running.until("the others", |running| running.values().len() >= 6).await;
    let after = running.stop().await;
    let expected: BTreeSet<String> = (0..6).map(|number| format!("after {number}")).collect();
    assert_eq!(after.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_not_handled_before_a_stop_is_read_again() {
    let topic = Topic::create();
    topic.send(1, "once more").await;
    let failing = Script::new(|_| Reply::Now(Outcome::Crashed));
    let running = Running::start(topic.source(), failing);
    running.until("a try", |running| !running.values().is_empty()).await;
    running.stop().await;
    let running = Running::start(topic.source(), Script::answering(json!({})));
    running.until("another", |running| !running.values().is_empty()).await;
    assert_eq!(running.stop().await, ["once more"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pollers_share_the_partitions_and_records_of_a_partition_stay_in_order() {
    let topic = Topic::create();
    for number in 0..60 {
        topic.send(number % PARTITIONS, &number.to_string()).await;
    }
    let script = Script::new(|_| Reply::After(Duration::from_millis(50), Outcome::Answered("{}".into())));
    let running = Running::start(topic.source(), script);
    running.until("all", |running| running.values().len() >= 60).await;
    let mut last: BTreeMap<i64, i64> = BTreeMap::new();
    for event in running.script.events("worker") {
        for record in event["records"].as_object().unwrap().values().flat_map(|all| all.as_array().unwrap()) {
            let (partition, offset) =
                (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
            let before = last.get(&partition).copied().unwrap_or(-1);
            // A group that forms anew begins behind what was committed: some records come again,
            // and none is passed over.
            assert!(offset <= before + 1, "partition {partition}: {offset} after {before}");
            last.insert(partition, before.max(offset));
        }
    }
    assert_eq!(last, (0..i64::from(PARTITIONS)).map(|partition| (partition, 19)).collect());
    running.stop().await;
}
