//! Activity, from a client's request to the counts of a product, through each of the buffers.
//!
//! The binaries and the template are the same for all of them: `Buffer` is the only difference.
//! Redis is a redis-server of the test's own, Kafka is a cluster of librdkafka's mock brokers.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use serde_json::{Value, json};
use sojourn::core::clock::{self, Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::platform::buffer::{Entry, Offered, WriteBehindBuffer};
use sojourn::platform::tables;
use sojourn_testing::{KafkaCluster, RedisServer};
use sojourn_tests::{Answer, Customer, Options, TestRegion, binary};
use tokio::time::sleep;
use ulid::Ulid;

/// Longest wait for what was accepted to be stored. It takes seconds, and a lease more after a
/// kill.
const STORE_LIMIT: Duration = Duration::from_secs(90);

/// Pause of those who look whether something has happened.
const LOOK: Duration = Duration::from_millis(50);

/// A lease that a test can wait for.
const LEASE_SECONDS: &str = "8";

const PRODUCTS: usize = 7;
const KINDS: [&str; 3] = ["view", "addToCart", "share"];

/// What a buffer needs besides the region.
enum Behind {
    Sqs,
    Redis(RedisServer),
    Kafka(KafkaCluster),
    Memory,
}

impl Behind {
    /// Every buffer that this machine can run; the one in memory is not among them.
    fn all() -> Vec<Self> {
        let redis = RedisServer::start().map(Self::Redis);
        std::iter::once(Self::Sqs).chain(redis).chain([Self::Kafka(KafkaCluster::start())]).collect()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Sqs => "sqs",
            Self::Redis(_) => "redis",
            Self::Kafka(_) => "kafka",
            Self::Memory => "memory",
        }
    }

    fn parameters(&self) -> Vec<String> {
        let own = match self {
            Self::Sqs | Self::Memory => Vec::new(),
            Self::Redis(server) => vec![format!("RedisUrl={}", server.url())],
            Self::Kafka(cluster) => vec![
                format!("KafkaBootstrapServers={}", cluster.brokers()),
                format!("KafkaTopic={}", KafkaCluster::TOPIC),
                "KafkaSecurity=plaintext".to_owned(),
            ],
        };
        let common = [format!("Buffer={}", self.name()), format!("BufferLeaseSeconds={LEASE_SECONDS}")];
        common.into_iter().chain(own).collect()
    }
}

/// A region with a buffer, and somebody who is signed in.
struct Stage {
    region: TestRegion,
    customer: Customer,
    behind: Behind,
}

impl Stage {
    async fn with(behind: Behind) -> Self {
        Self::with_more(behind, &[]).await
    }

    async fn with_more(behind: Behind, more: &[&str]) -> Self {
        let parameters = behind.parameters().into_iter().chain(more.iter().map(|text| (*text).to_owned()));
        let arguments = parameters.flat_map(|parameter| ["--parameter".to_owned(), parameter]).collect();
        let region = TestRegion::start_with(Options { arguments, ..Options::default() }).await;
        let customer = region.customer().await;
        Self { region, customer, behind }
    }

    async fn post(&self, events: &[Value]) -> Answer {
        self.try_post(events).await.unwrap()
    }

    async fn try_post(&self, events: &[Value]) -> Result<Answer, reqwest::Error> {
        self.region
            .call_as(&self.customer, "POST", "/activity")
            .json(&json!({"events": events}))
            .try_send()
            .await
    }

    /// Sends events again until they are accepted, as a client does.
    async fn until_accepted(&self, events: &[Value]) {
        loop {
            match self.try_post(events).await {
                Ok(answer) if answer.status == 202 => {
                    assert_eq!(answer.body, json!({"accepted": events.len()}), "{}", answer.text);
                    return;
                }
                // A process was killed, or something did not answer in time.
                Ok(answer) => assert!(answer.status >= 500, "{}: {}", self.behind.name(), answer.text),
                Err(_) => {}
            }
            sleep(LOOK).await;
        }
    }

    /// One turn of the writer, as its schedule gives it.
    async fn turn(&self) -> Answer {
        self.region.invoke("activity-writer", &json!({"drain": {}})).await
    }

    /// The ids of the events that are stored.
    async fn stored(&self) -> BTreeSet<String> {
        let scan = self.region.dynamodb().scan().table_name(tables::ACTIVITY.logical_id);
        let rows = scan.into_paginator().items().send().collect::<Result<Vec<_>, _>>().await.unwrap();
        let id = |key: &str| key.strip_prefix("event#").map(str::to_owned);
        rows.iter().filter_map(|row| id(row["activityId"].as_s().unwrap())).collect()
    }

    /// Waits until as many events are stored. Where nothing delivers them, it gives turns.
    async fn until_stored(&self, number: usize) -> BTreeSet<String> {
        let began = Instant::now();
        loop {
            if let Behind::Redis(_) = self.behind {
                self.turn().await.expect(200);
            }
            let stored = self.stored().await;
            if stored.len() >= number {
                return stored;
            }
            if matches!(self.behind, Behind::Sqs) && began.elapsed() > STORE_LIMIT / 4 {
                // The visibility timeout of a batch whose writer was killed is six minutes.
                self.region.redeliver("ActivityQueue").await;
            }
            assert!(
                began.elapsed() < STORE_LIMIT,
                "{}: {} of {number} are stored",
                self.behind.name(),
                stored.len()
            );
            sleep(LOOK).await;
        }
    }

    /// What the API tells of all products, by product and kind.
    async fn counts(&self) -> BTreeMap<(String, String), u64> {
        let mut counts = BTreeMap::new();
        for product in 0..PRODUCTS {
            let path = format!("/products/product-{product}/activity?days=3");
            let answer = self.region.call("GET", &path).send().await.expect(200);
            for day in answer.body["days"].as_array().unwrap() {
                for (member, kind) in [("views", "view"), ("cartAdditions", "addToCart"), ("shares", "share")]
                {
                    let key = (format!("product-{product}"), kind.to_owned());
                    *counts.entry(key).or_default() += day[member].as_u64().unwrap();
                }
            }
        }
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// The stored events are those that were accepted, and each was counted once.
    async fn assert_exact(&self, accepted: &[Value]) {
        let name = self.behind.name();
        let ids: BTreeSet<String> = accepted.iter().map(id).collect();
        assert_eq!(ids.len(), accepted.len(), "{name}: the test's own ids are unique");
        let stored = self.until_stored(ids.len()).await;
        assert_eq!(stored.difference(&ids).count(), 0, "{name}: nothing else is stored");
        assert_eq!(ids.difference(&stored).count(), 0, "{name}: everything is stored");
        let mut expected: BTreeMap<(String, String), u64> = BTreeMap::new();
        for event in accepted {
            let text = |member: &str| event[member].as_str().unwrap().to_owned();
            *expected.entry((text("productId"), text("kind"))).or_default() += 1;
        }
        assert_eq!(self.counts().await, expected, "{name}: each event is counted once");
    }

    /// The most processes of each function that ran at the same time, until it is over.
    async fn watch(&self, over: &AtomicBool) -> BTreeMap<String, usize> {
        let mut most: BTreeMap<String, usize> = BTreeMap::new();
        while !over.load(Ordering::Relaxed) {
            let mut now: BTreeMap<String, usize> = BTreeMap::new();
            for process in self.region.processes().await {
                *now.entry(process["function"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            for (function, number) in now {
                let most = most.entry(function).or_default();
                *most = number.max(*most);
            }
            sleep(LOOK).await;
        }
        most
    }

    /// Texts in the dead-letter queue, once there are so many.
    async fn set_aside(&self, number: usize) -> BTreeSet<String> {
        let sqs = self.region.sqs();
        let url = sqs
            .get_queue_url()
            .queue_name("ActivityDeadLetterQueue")
            .send()
            .await
            .unwrap()
            .queue_url
            .unwrap();
        let began = Instant::now();
        let mut texts = BTreeSet::new();
        while texts.len() < number {
            assert!(began.elapsed() < STORE_LIMIT, "{}: set aside are {texts:?}", self.behind.name());
            let receive =
                sqs.receive_message().queue_url(&url).max_number_of_messages(10).wait_time_seconds(1);
            let messages = receive.send().await.unwrap().messages.unwrap_or_default();
            texts.extend(messages.into_iter().filter_map(|message| message.body));
        }
        texts
    }
}

fn event() -> Value {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    json!({
        "eventId": Ulid::generate().to_string(), "kind": KINDS[number % KINDS.len()],
        "productId": format!("product-{}", number % PRODUCTS), "at": rfc3339(SystemClock.now()),
    })
}

fn events(number: usize) -> Vec<Value> {
    (0..number).map(|_| event()).collect()
}

fn id(event: &Value) -> String {
    event["eventId"].as_str().unwrap().to_owned()
}

/// All of it at the same time.
async fn side_by_side<F: Future>(work: impl Iterator<Item = F>) -> Vec<F::Output> {
    work.collect::<FuturesUnordered<F>>().collect().await
}

fn digest(function: &str) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(&std::fs::read(binary(function)).unwrap());
    hasher.finish()
}

#[tokio::test]
async fn one_setting_changes_the_buffer_of_the_same_binaries() {
    let mut built = BTreeSet::new();
    for behind in Behind::all().into_iter().chain([Behind::Memory]) {
        let name = behind.name();
        let stage = Stage::with(behind).await;
        built.insert(["api-activity", "activity-writer"].map(digest));
        let sent = events(60);
        stage.until_accepted(&sent).await;
        // Once more, as a client does that has lost the answer.
        stage.until_accepted(&sent).await;
        stage.assert_exact(&sent).await;
        let turn = stage.turn().await.expect(200);
        assert!(turn.body["waiting"].is_u64(), "{name}: {}", turn.text);
        let log = stage.region.stop();
        assert!(log.contains("BufferWaiting") && log.contains(&format!("\"buffer\":\"{name}\"")), "{name}");
    }
    assert_eq!(built.len(), 1, "nothing was built in between");
}

/// F1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaled_out_to_eight_producers_and_four_consumers_no_event_is_lost_or_split() {
    for behind in Behind::all() {
        let name = behind.name();
        let stage = Stage::with(behind).await;
        // Storing takes its time, so that several writers are at it.
        let slow = json!({
            "match": {"service": "dynamodb", "operation": "TransactWriteItems", "caller": "activity-writer"},
            "effect": {"kind": "delay", "millis": 150},
        });
        let slow = stage.region.fault(&slow).await;
        let over = AtomicBool::new(false);
        let producers = side_by_side((0..8).map(|_| async {
            let mut sent = Vec::new();
            for _ in 0..12 {
                let batch = events(50);
                stage.until_accepted(&batch).await;
                sent.extend(batch);
            }
            sent
        }));
        let work = async {
            let sent: Vec<Value> = producers.await.into_iter().flatten().collect();
            stage.until_stored(sent.len()).await;
            over.store(true, Ordering::Relaxed);
            sent
        };
        // Four writers side by side, where nothing delivers.
        let turns = side_by_side((0..4).map(|_| async {
            let mut stored = 0;
            while matches!(stage.behind, Behind::Redis(_)) && !over.load(Ordering::Relaxed) {
                stored += stage.turn().await.expect(200).body["stored"].as_u64().unwrap();
                sleep(LOOK).await;
            }
            stored
        }));
        let (sent, most, turns) = tokio::join!(work, stage.watch(&over), turns);
        if let Behind::Redis(_) = stage.behind {
            assert!(turns.iter().all(|stored| *stored > 0), "each of the writers had a part: {turns:?}");
        }
        stage.region.lift(slow).await;
        assert!(most["api-activity"] >= 8 && most["activity-writer"] >= 4, "{name}: {most:?}");
        assert_eq!(sent.len(), 8 * 12 * 50);
        stage.assert_exact(&sent).await;
    }
}

/// F2. The buffers are tried side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_updates_and_kills_of_producers_and_consumers_lose_nothing_and_count_nothing_twice() {
    let stages = side_by_side(Behind::all().into_iter().map(Stage::with)).await;
    side_by_side(stages.iter().map(under_fire)).await;
}

/// Load for a minute, while processes are replaced one by one, and killed all at once.
#[expect(clippy::print_stdout, reason = "how much was tried is part of the result")]
async fn under_fire(stage: &Stage) {
    const LOAD: Duration = Duration::from_mins(1);
    let (name, over) = (stage.behind.name(), AtomicBool::new(false));
    let (replaced, killed) = (AtomicU64::new(0), AtomicU64::new(0));
    let producers = side_by_side((0..4).map(|_| async {
        let mut sent = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let batch = events(20);
            stage.until_accepted(&batch).await;
            sent.extend(batch);
        }
        sent
    }));
    let turns = async {
        while matches!(stage.behind, Behind::Redis(_)) && !over.load(Ordering::Relaxed) {
            // A turn whose process is killed has no answer, and its batch comes again.
            let _ = side_by_side((0..2).map(|_| stage.turn())).await;
            sleep(LOOK).await;
        }
    };
    let reaper = async {
        let began = Instant::now();
        let mut round = 0_u64;
        while began.elapsed() < LOAD {
            round += 1;
            sleep(Duration::from_millis(300 + 137 * (round % 5))).await;
            for function in ["api-activity", "activity-writer"] {
                if round.is_multiple_of(3) {
                    killed.fetch_add(stage.region.kill(function).await, Ordering::Relaxed);
                } else if let Some(process) = one_of(stage, function).await {
                    // A deployment replaces processes one after the other.
                    let asked = Command::new("kill").args(["-TERM", &process.to_string()]).status().unwrap();
                    replaced.fetch_add(u64::from(asked.success()), Ordering::Relaxed);
                }
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    let (sent, (), ()) = tokio::join!(producers, turns, reaper);
    let sent: Vec<Value> = sent.into_iter().flatten().collect();
    let (replaced, killed) = (replaced.into_inner(), killed.into_inner());
    println!("{name}: {} events accepted, {replaced} processes replaced, {killed} killed", sent.len());
    assert!(killed > 20 && replaced > 20, "{name}: only {killed} were killed and {replaced} replaced");
    assert!(sent.len() > 500, "{name}: only {} events got through", sent.len());
    if matches!(stage.behind, Behind::Sqs) {
        stage.region.redeliver("ActivityQueue").await;
    }
    stage.assert_exact(&sent).await;
}

async fn one_of(stage: &Stage, function: &str) -> Option<u64> {
    let processes = stage.region.processes().await;
    processes
        .iter()
        .find(|process| process["function"] == function)
        .and_then(|process| process["pid"].as_u64())
}

#[tokio::test]
async fn while_too_much_waits_nothing_is_taken_and_clients_are_told_when_to_come_back() {
    let Some(redis) = RedisServer::start() else { return };
    let stage = Stage::with_more(Behind::Redis(redis), &["BufferLimit=500"]).await;
    let (first, more) = (events(500), events(3));
    stage.post(&first).await.expect(202);
    let refused = stage.post(&more).await.expect_problem(503, "unavailable");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(stage.turn().await.expect(200).body["stored"], 500);
    assert_eq!(stage.stored().await.len(), 500, "nothing of the refused ones was taken");
    stage.post(&more).await.expect(202);
    stage.assert_exact(&[first, more].concat()).await;
}

#[tokio::test]
async fn a_bad_event_refuses_its_whole_batch_and_is_named() {
    let stage = Stage::with(Behind::Memory).await;
    let (good, far) = (event(), Timestamp::from_second(SystemClock.now().as_second() - 8 * 86_400).unwrap());
    for (member, value, status, slug) in [
        ("kind", json!("look"), 400, "invalid-request"),
        ("eventId", json!("1"), 400, "invalid-request"),
        ("productId", json!("No Such Id"), 400, "invalid-request"),
        ("at", json!("yesterday"), 400, "invalid-request"),
        ("userId", json!("usr_1"), 400, "invalid-request"),
        ("at", json!(rfc3339(far)), 422, "unprocessable"),
        ("at", json!("2999-01-01T00:00:00Z"), 422, "unprocessable"),
    ] {
        let mut bad = event();
        bad[member] = value;
        let refused = stage.post(&[good.clone(), bad]).await.expect_problem(status, slug);
        assert!(refused.text_of("detail").starts_with("events[1] "), "{}", refused.text);
    }
    stage.post(&[]).await.expect_problem(400, "invalid-request");
    stage.post(&events(501)).await.expect_problem(400, "invalid-request");
    let body = json!({"events": [good]});
    stage.region.call("POST", "/activity").json(&body).send().await.expect_problem(401, "unauthenticated");
    assert_eq!(stage.stored().await, BTreeSet::new());
    for days in ["0", "31", "week", "7&days=7"] {
        let path = format!("/products/tea/activity?days={days}");
        stage.region.call("GET", &path).send().await.expect_problem(400, "invalid-request");
    }
    stage.region.call("GET", "/products/No%20Such/activity").send().await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn a_stage_that_is_not_local_does_not_start_with_a_buffer_in_memory() {
    drop(TestRegion::start().await);
    for function in ["api-activity", "activity-writer"] {
        for stage in ["dev", "staging", "live"] {
            let mut process = Command::new(binary(function));
            let variables = [
                ("AWS_REGION", "local"),
                ("STAGE", stage),
                ("BUFFER", "memory"),
                ("ACTIVITY_TABLE", "ActivityTable"),
                ("ACTIVITY_DEAD_LETTER_QUEUE_URL", "http://127.0.0.1:1/000000000000/Q"),
            ];
            let output = process.env_clear().envs(variables).output().unwrap();
            assert!(!output.status.success(), "{function} {stage}");
            let log = String::from_utf8_lossy(&output.stdout);
            assert!(log.contains("BUFFER is wrong") && log.contains("memory"), "{log}");
        }
    }
}

#[tokio::test]
async fn what_can_never_be_stored_is_set_aside_and_holds_nobody_up() {
    for behind in Behind::all() {
        let name = behind.name();
        let stage = Stage::with(behind).await;
        let no_event = json!({"eventId": "no id"}).to_string();
        offer(&stage, &no_event).await;
        let mut expected = BTreeSet::from([no_event]);
        // A message of somebody else's.
        if let Behind::Kafka(cluster) = &stage.behind {
            cluster.send("no message of ours").await;
            expected.insert("no message of ours".to_owned());
        }
        if let Behind::Sqs = stage.behind {
            let sqs = stage.region.sqs();
            let url =
                sqs.get_queue_url().queue_name("ActivityQueue").send().await.unwrap().queue_url.unwrap();
            sqs.send_message().queue_url(&url).message_body("no message of ours").send().await.unwrap();
            expected.insert("no message of ours".to_owned());
        }
        let sent = events(20);
        stage.until_accepted(&sent).await;
        stage.assert_exact(&sent).await;
        assert_eq!(stage.set_aside(expected.len()).await, expected, "{name}");
        stage.region.log_with("\"error_type\":\"activity-set-aside\"").await;
    }
}

/// Puts an entry into the buffer that no client could.
async fn offer(stage: &Stage, payload: &str) {
    let sqs = stage.region.sqs();
    let url = sqs.get_queue_url().queue_name("ActivityQueue").send().await.unwrap().queue_url.unwrap();
    let (redis, brokers) = match &stage.behind {
        Behind::Redis(server) => (server.url(), String::new()),
        Behind::Kafka(cluster) => (String::new(), cluster.brokers()),
        Behind::Sqs | Behind::Memory => Default::default(),
    };
    let env = Env::of([
        ("STAGE", "local"),
        ("AWS_REGION", "local"),
        ("BUFFER", stage.behind.name()),
        ("BUFFER_QUEUE_URL", &url),
        ("REDIS_URL", &redis),
        ("KAFKA_BROKERS", &brokers),
        ("KAFKA_TOPIC", KafkaCluster::TOPIC),
        ("KAFKA_SECURITY", "plaintext"),
    ]);
    let buffer = WriteBehindBuffer::from_env(sqs, &env, clock::system()).unwrap();
    let entry = Entry { id: "x".to_owned(), offered_at: SystemClock.now(), payload: payload.to_owned() };
    let offered = buffer.offer(&[entry], Deadline::after(Duration::from_secs(20))).await.unwrap();
    assert_eq!(offered, Offered::Accepted);
}
