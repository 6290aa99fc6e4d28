//! Queues that functions read, on a clock that the test moves: tokio's, paused. Where every task
//! waits, time leaps to the next instant that one of them waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use local_region::clock::Clock;
use local_region::event_sources::EventSources;
use local_region::functions::outcome::Outcome;
use local_region::patterns::Pattern;
use local_region::services::sqs::{Counts, Message, MessageAttribute, MessageAttributes, Outgoing, Queues};
use local_region::template::model::{Answers, EventSource, Filter, GrantedBy, Redrive};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::{Call, MIB, PausedClock, Reply, Script, answered, queue};

fn source() -> EventSource {
    EventSource {
        queue: "Jobs".to_owned(),
        function: "worker".to_owned(),
        granted_by: GrantedBy::Event,
        batch_size: 10,
        batching_window: Duration::ZERO,
        answers: Answers::ReportFailures,
        maximum_concurrency: None,
        filters: Vec::new(),
        enabled: true,
    }
}

struct Stage {
    queues: Arc<Queues>,
    script: Arc<Script>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    begun: Instant,
}

impl Stage {
    /// The queue Jobs, which gives up after three receives, read as `source` says.
    fn start(source: EventSource, script: Arc<Script>) -> Self {
        Self::start_with(source, script, PausedClock::at("2026-11-20T10:00:00Z"))
    }

    fn start_with(source: EventSource, script: Arc<Script>, clock: impl Clock) -> Self {
        let redrive = Redrive { dead_letter_queue: "Dead".to_owned(), maximum_receives: 3 };
        let queues = [queue("Jobs", Some(redrive)), queue("Dead", None)];
        let queues = Arc::new(Queues::open(None, &queues, clock).unwrap());
        let sources = EventSources::new(&[source], Arc::clone(&queues), Arc::clone(&script));
        let (stop, stopped) = oneshot::channel::<()>();
        let running =
            tokio::spawn(async move { sources.run(async { stopped.await.unwrap_or_default() }).await });
        Self { queues, script, stop, running, begun: Instant::now() }
    }

    fn send(&self, body: &str) -> String {
        self.send_with(body, MessageAttributes::new())
    }

    fn send_with(&self, body: &str, attributes: MessageAttributes) -> String {
        let message = Message::new(body.to_owned(), attributes, MIB).unwrap();
        let outgoing = Outgoing { message: &message, delay: None };
        self.queues.send("Jobs", "operator", &[outgoing]).unwrap().remove(0)
    }

    fn count(&self, queue: &str) -> (u64, u64, u64) {
        let Counts { visible, in_flight, delayed } = self.queues.count(queue).unwrap();
        (visible, in_flight, delayed)
    }

    /// The bodies of each event so far.
    fn batches(&self) -> Vec<Vec<String>> {
        self.script.events("worker").iter().map(bodies).collect()
    }

    fn seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }
}

fn bodies(event: &Value) -> Vec<String> {
    let records = event["Records"].as_array().unwrap();
    records.iter().map(|record| record["body"].as_str().unwrap().to_owned()).collect()
}

/// Lets everything happen that is due within `time`.
async fn pass(time: Duration) {
    sleep(time).await;
}

const MOMENT: Duration = Duration::from_millis(10);

/// Answers with the messages of the batch as failed that `fails` says so of, by their bodies.
fn failing(fails: impl Fn(&str) -> bool + Send + Sync + 'static) -> Arc<Script> {
    Script::new(move |Call { event, .. }| {
        let records = event["Records"].as_array().unwrap();
        let failed = records.iter().filter(|record| fails(record["body"].as_str().unwrap()));
        let failed: Vec<_> = failed.map(|record| json!({"itemIdentifier": record["messageId"]})).collect();
        answered(&json!({"batchItemFailures": failed}))
    })
}

#[tokio::test(start_paused = true)]
async fn a_message_is_handed_over_in_lambdas_event_and_deleted() {
    let stage = Stage::start(source(), failing(|_| false));
    let kind = MessageAttribute {
        data_type: "String".to_owned(),
        string_value: Some("orders".to_owned()),
        binary_value: None,
    };
    pass(Duration::from_secs(5)).await;
    let id = stage.send_with("{\"exportId\":\"exp_1\"}", [("kind".to_owned(), kind)].into());
    pass(MOMENT).await;
    let mut event = stage.script.events("worker").remove(0);
    let receipt = event["Records"][0]["receiptHandle"].take();
    assert!(receipt.as_str().is_some_and(|receipt| receipt.len() > 36), "{receipt}");
    assert_eq!(
        event,
        json!({"Records": [{
            "messageId": id,
            "receiptHandle": null,
            "body": "{\"exportId\":\"exp_1\"}",
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1795168805000",
                "SenderId": "operator",
                "ApproximateFirstReceiveTimestamp": "1795168805000",
            },
            "messageAttributes": {
                "kind": {
                    "stringValue": "orders", "stringListValues": [], "binaryListValues": [], "dataType": "String",
                },
            },
            "md5OfBody": "61725c84be12ff76601940c943ba4c77",
            "md5OfMessageAttributes": "d3351d11fee035d6476d248e2c9720fe",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:local:000000000000:Jobs",
            "awsRegion": "local",
        }]})
    );
    assert_eq!(stage.count("Jobs"), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn only_the_items_that_failed_come_again() {
    let script = failing(|body| body == "bad");
    let stage = Stage::start(source(), script);
    for body in ["good", "bad", "fine"] {
        stage.send(body);
    }
    pass(Duration::from_secs(59)).await;
    assert_eq!(stage.batches(), [vec!["good", "bad", "fine"]]);
    assert_eq!(stage.count("Jobs"), (0, 1, 0));
    pass(Duration::from_secs(2)).await;
    assert_eq!(stage.batches()[1..], [vec!["bad"]]);
    assert_eq!(stage.script.events("worker")[1]["Records"][0]["attributes"]["ApproximateReceiveCount"], "2");
}

#[tokio::test(start_paused = true)]
async fn what_fails_three_times_is_a_dead_letter_and_is_not_handed_over_again() {
    for outcome in [Outcome::Crashed, Outcome::TimedOut, Outcome::Throttled] {
        let stage = Stage::start(source(), Script::new(move |_| Reply::Now(outcome.clone())));
        stage.send("poison");
        pass(Duration::from_secs(179)).await;
        assert_eq!(stage.script.events("worker").len(), 3);
        assert_eq!((stage.count("Jobs"), stage.count("Dead")), ((0, 1, 0), (0, 0, 0)));
        // Nobody sends or receives by hand: the end of the last visibility timeout is noticed.
        pass(Duration::from_hours(1)).await;
        assert_eq!(stage.script.events("worker").len(), 3);
        assert_eq!((stage.count("Jobs"), stage.count("Dead")), ((0, 0, 0), (1, 0, 0)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_understood_fails_the_whole_batch() {
    let unknown = json!({"batchItemFailures": [{"itemIdentifier": "nobody"}]});
    let stage = Stage::start(source(), Script::answering(unknown));
    stage.send("one");
    stage.send("two");
    pass(MOMENT).await;
    assert_eq!(stage.count("Jobs"), (0, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn without_response_types_the_answer_means_nothing_and_an_error_fails_the_batch() {
    let plain = EventSource { answers: Answers::Ignored, ..source() };
    let unknown = json!({"batchItemFailures": [{"itemIdentifier": "nobody"}]});
    let stage = Stage::start(plain.clone(), Script::answering(unknown));
    stage.send("one");
    pass(MOMENT).await;
    assert_eq!(stage.count("Jobs"), (0, 0, 0));
    let error = Outcome::FunctionError { payload: Bytes::from_static(b"{}") };
    let stage = Stage::start(plain, Script::new(move |_| Reply::Now(error.clone())));
    stage.send("one");
    pass(MOMENT).await;
    assert_eq!(stage.count("Jobs"), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_full_or_its_window_is_over() {
    let window = EventSource { batch_size: 3, batching_window: Duration::from_secs(10), ..source() };
    let stage = Stage::start(window, failing(|_| false));
    pass(Duration::from_secs(100)).await;
    stage.send("1");
    pass(Duration::from_secs(9)).await;
    assert!(stage.batches().is_empty(), "the window is open");
    stage.send("2");
    pass(Duration::from_secs(1) + MOMENT).await;
    assert_eq!(stage.batches(), [vec!["1", "2"]], "the window counts from the first message on");
    for body in ["3", "4", "5", "6"] {
        stage.send(body);
    }
    pass(MOMENT).await;
    assert_eq!(stage.batches()[1..], [vec!["3", "4", "5"]], "full before its time");
    pass(Duration::from_secs(10)).await;
    assert_eq!(stage.batches()[2..], [vec!["6"]]);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_never_larger_than_lambda_takes() {
    let large = EventSource { batch_size: 100, batching_window: Duration::from_secs(1), ..source() };
    let stage = Stage::start(large, failing(|_| false));
    // Every character is two in JSON.
    let body = "\"".repeat(MIB);
    for _ in 0..5 {
        stage.send(&body);
    }
    pass(Duration::from_mins(1)).await;
    let events = stage.script.events("worker");
    assert_eq!(events.iter().map(|event| event["Records"].as_array().unwrap().len()).sum::<usize>(), 5);
    assert!(events.len() < 5, "batches they are");
    for event in events {
        assert!(event.to_string().len() <= 6 * MIB);
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_batches_are_handled_at_a_time_than_the_mapping_allows() {
    let running = Arc::new(AtomicUsize::new(0));
    let script = Script::new({
        let running = Arc::clone(&running);
        move |_| {
            running.fetch_add(1, Ordering::SeqCst);
            Reply::After(Duration::from_secs(10), Outcome::Answered(Bytes::from_static(b"{}")))
        }
    });
    let two = EventSource { batch_size: 1, maximum_concurrency: Some(2), ..source() };
    let stage = Stage::start(two, script);
    for number in 0..5 {
        stage.send(&number.to_string());
    }
    pass(Duration::from_secs(9)).await;
    assert_eq!((running.load(Ordering::SeqCst), stage.count("Jobs")), (2, (3, 2, 0)));
    pass(Duration::from_secs(10)).await;
    assert_eq!((running.load(Ordering::SeqCst), stage.count("Jobs")), (4, (1, 2, 0)));
    pass(Duration::from_secs(10) + Duration::from_secs(2)).await;
    assert_eq!((running.load(Ordering::SeqCst), stage.count("Jobs")), (5, (0, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn redelivery_by_hand_ends_the_visibility_timeout_of_all_that_is_in_flight() {
    let attempts = AtomicUsize::new(0);
    let script = Script::new(move |_| match attempts.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Now(Outcome::Crashed),
        _ => answered(&Value::Null),
    });
    let stage = Stage::start(source(), script);
    stage.send("one");
    pass(MOMENT).await;
    assert_eq!(stage.count("Jobs"), (0, 1, 0));
    assert_eq!(stage.queues.redeliver("Jobs").unwrap(), 1);
    pass(MOMENT).await;
    assert_eq!((stage.batches().len(), stage.count("Jobs"), stage.seconds()), (2, (0, 0, 0), 0));
    assert_eq!(
        stage.queues.redeliver("Nobody").unwrap_err().to_string(),
        "there is no queue Nobody; there are: Dead, Jobs"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_being_handled_when_the_region_stops_comes_again() {
    let script = Script::new(|_| Reply::After(Duration::from_secs(5), Outcome::Answered(Bytes::new())));
    let Stage { queues, script, stop, running, .. } = {
        let stage = Stage::start(source(), script);
        stage.send("one");
        pass(MOMENT).await;
        stage
    };
    assert_eq!(script.events("worker").len(), 1);
    drop(stop);
    running.await.unwrap();
    pass(Duration::from_secs(30)).await;
    assert_eq!(queues.count("Jobs").unwrap().in_flight, 1, "not deleted");
    pass(Duration::from_secs(31)).await;
    assert_eq!(queues.count("Jobs").unwrap().visible, 1);
    assert_eq!(script.events("worker").len(), 1, "nobody receives any more");
}

/// Counts who looks at it: whoever receives does.
struct CountingClock {
    clock: PausedClock,
    looks: Arc<AtomicUsize>,
}

impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.clock.now()
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_queue_is_left_alone_until_something_is_sent() {
    let looks = Arc::new(AtomicUsize::new(0));
    let clock = CountingClock { clock: PausedClock::at("2026-11-20T10:00:00Z"), looks: Arc::clone(&looks) };
    let stage = Stage::start_with(source(), failing(|_| false), clock);
    pass(MOMENT).await;
    let begun = looks.load(Ordering::SeqCst);
    pass(Duration::from_hours(1)).await;
    assert_eq!(looks.load(Ordering::SeqCst), begun);
    stage.send("one");
    pass(MOMENT).await;
    assert_eq!(stage.batches(), [vec!["one"]]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_matches_no_filter_is_deleted_and_fills_no_batch() {
    let document = json!({"body": {"kind": ["order"]}});
    let filters = vec![Filter { pattern: Pattern::parse(&document).unwrap(), document }];
    let window = Duration::from_secs(5);
    let stage = Stage::start(
        EventSource { batch_size: 2, batching_window: window, filters, ..source() },
        failing(|_| false),
    );
    let order = |number: u32| json!({"kind": "order", "number": number}).to_string();
    for body in ["order", "{\"kind\":\"cart\"}", "{", &order(1)] {
        stage.send(body);
    }
    pass(MOMENT).await;
    assert_eq!(stage.count("Jobs"), (0, 1, 0), "what does not match is gone at once");
    pass(Duration::from_secs(2)).await;
    assert!(stage.batches().is_empty());
    stage.send(&order(2));
    pass(MOMENT).await;
    assert_eq!(stage.batches(), [vec![order(1), order(2)]]);
    assert_eq!((stage.count("Jobs"), stage.count("Dead")), ((0, 0, 0), (0, 0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_disabled_mapping_receives_nothing() {
    let stage = Stage::start(EventSource { enabled: false, ..source() }, failing(|_| false));
    stage.send("one");
    pass(Duration::from_mins(10)).await;
    assert_eq!((stage.batches().len(), stage.count("Jobs")), (0, (1, 0, 0)));
}
