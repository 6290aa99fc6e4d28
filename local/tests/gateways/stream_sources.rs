//! Streams of tables that functions read, on a clock that the test moves (see `event_sources`). The
//! table is a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use local_region::event_sources::{Checkpoints, EventSources, MappingError, StreamParts};
use local_region::functions::events::Destinations;
use local_region::functions::outcome::Outcome;
use local_region::patterns::Pattern;
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::dynamodb::streams::{Position, Streams};
use local_region::services::dynamodb::{DynamoDb, Storage};
use local_region::services::sqs::{Queues, Take};
use local_region::template::arn;
use local_region::template::model::{
    Answers, EventInvoke, Filter, Function, GrantedBy, Stack, StartingPosition, Statement, StreamSource,
    Table,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::{Call, MIB, PausedClock, Reply, Script, answered, queue};

const MOMENT: Duration = Duration::from_millis(10);

fn source() -> StreamSource {
    StreamSource {
        table: "Notes".to_owned(),
        function: "relay".to_owned(),
        function_arn: arn::local().function("shop-relay"),
        granted_by: GrantedBy::Event,
        starting_position: StartingPosition::TrimHorizon,
        batch_size: 100,
        batching_window: Duration::ZERO,
        bisect: false,
        maximum_retry_attempts: None,
        maximum_record_age: None,
        parallelization_factor: 1,
        on_failure: Some("Dead".to_owned()),
        filters: Vec::new(),
        answers: Answers::ReportFailures,
        enabled: true,
    }
}

fn notes() -> Table {
    Table {
        logical_id: "NotesTable".to_owned(),
        name: "Notes".to_owned(),
        create: json!({
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
            "BillingMode": "PAY_PER_REQUEST",
        }),
        ttl_attribute: None,
    }
}

/// What is there whether somebody reads or not.
struct Ground {
    dynamodb: DynamoDb,
    checkpoints: Arc<Checkpoints>,
    queues: Arc<Queues>,
    access: Arc<Access>,
}

fn statement(actions: &[&str], resource: String) -> Statement {
    let actions = actions.iter().map(|&action| action.to_owned()).collect();
    Statement { actions, resources: vec![resource], conditions: Vec::new() }
}

impl Ground {
    fn new() -> Self {
        Self::with(None, vec![statement(&["sqs:SendMessage"], arn::local().queue("Dead"))])
    }

    fn with(folder: Option<&Path>, policy: Vec<Statement>) -> Self {
        let controls = Controls::new(Access::unrestricted());
        let storage = folder.map_or(Storage::Memory, Storage::Folder);
        let relay = Function {
            name: "relay".to_owned(),
            physical_name: "shop-relay".to_owned(),
            timeout: Duration::from_secs(3),
            memory_mib: 128,
            code_uri: String::new(),
            handler: "bootstrap".to_owned(),
            environment: BTreeMap::new(),
            policy,
            reserved_concurrency: None,
            event_invoke: EventInvoke::default(),
        };
        let file = folder.map(|folder| folder.join("streams.db"));
        Self {
            dynamodb: DynamoDb::start((Ipv4Addr::LOCALHOST, 0).into(), storage, &[notes()], controls)
                .unwrap(),
            checkpoints: Arc::new(Checkpoints::open(file.as_deref()).unwrap()),
            queues: Arc::new(Queues::open(None, &[queue("Dead", None)], clock()).unwrap()),
            access: Arc::new(Access::new(&Stack { functions: vec![relay], ..Stack::default() })),
        }
    }

    fn streams(&self) -> Arc<Streams> {
        self.dynamodb.streams().unwrap()
    }

    fn parts(&self) -> StreamParts {
        let destinations =
            Destinations { queues: Arc::clone(&self.queues), access: Arc::clone(&self.access) };
        let checkpoints = Arc::clone(&self.checkpoints);
        StreamParts { streams: self.streams(), checkpoints, destinations, clock: Arc::new(clock()) }
    }

    /// Writes notes, each `id` and `number`.
    fn write(&self, notes: &[(&str, usize)]) {
        let number = |number: usize| AttributeValue::N(number.to_string());
        self.put(notes.iter().map(|note| (note.0.to_owned(), number(note.1))).collect());
    }

    /// The runtime of the test stands still meanwhile, and so does its clock.
    fn put(&self, notes: Vec<(String, AttributeValue)>) {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(arn::local().region().to_owned()))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .endpoint_url(self.dynamodb.endpoint_url())
            .build();
        let write = async move {
            let client = aws_sdk_dynamodb::Client::from_conf(config);
            for (id, number) in notes {
                let put = client.put_item().table_name("Notes").item("id", AttributeValue::S(id));
                put.item("number", number).send().await.unwrap();
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::thread::spawn(move || runtime.block_on(write)).join().unwrap();
    }

    fn start(self, source: &StreamSource, script: Arc<Script>) -> Stage {
        let sources = EventSources::new(&[], Arc::clone(&self.queues), Arc::clone(&script));
        let sources = sources.with_streams(std::slice::from_ref(source), &self.parts()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running =
            tokio::spawn(async move { sources.run(async { stopped.await.unwrap_or_default() }).await });
        Stage { ground: self, script, stop, running }
    }

    fn refusal(&self, source: &StreamSource) -> MappingError {
        let sources = EventSources::new(&[], Arc::clone(&self.queues), Script::answering(Value::Null));
        sources.with_streams(std::slice::from_ref(source), &self.parts()).err().unwrap()
    }

    /// The reports of what was given up.
    fn reports(&self) -> Vec<Value> {
        let take = Take { messages: 100, bytes: usize::MAX, overhead_bytes: 0, visibility_timeout: None };
        let messages = self.queues.receive("Dead", take).unwrap();
        messages.iter().map(|message| serde_json::from_str(&message.body).unwrap()).collect()
    }

    /// Shards by `id`, of all that was written.
    fn shards(&self) -> BTreeMap<String, usize> {
        let page = self.streams().read("Notes", Position::TRIM_HORIZON, 1_000, |_| true).unwrap();
        page.records.iter().map(|record| (note(&record.in_event().unwrap()).0, record.shard)).collect()
    }

    fn sequence_numbers(&self) -> Vec<String> {
        let page = self.streams().read("Notes", Position::TRIM_HORIZON, 1_000, |_| true).unwrap();
        page.records.iter().map(|record| record.sequence_number()).collect()
    }
}

struct Stage {
    ground: Ground,
    script: Arc<Script>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Stage {
    fn write(&self, notes: &[(&str, usize)]) {
        self.ground.write(notes);
    }

    /// The numbers of the notes of each event so far.
    fn numbers(&self) -> Vec<Vec<usize>> {
        self.script.events("relay").iter().map(numbers).collect()
    }

    async fn stop(self) -> Ground {
        drop(self.stop);
        self.running.await.unwrap();
        self.ground
    }
}

/// Records have the machine's time, so the clock starts there.
fn clock() -> PausedClock {
    PausedClock::at(&local_region::clock::now().to_string())
}

fn note(record: &Value) -> (String, usize) {
    let image = &record["dynamodb"]["NewImage"];
    (image["id"]["S"].as_str().unwrap().to_owned(), image["number"]["N"].as_str().unwrap().parse().unwrap())
}

fn records(event: &Value) -> &[Value] {
    event["Records"].as_array().unwrap()
}

fn numbers(event: &Value) -> Vec<usize> {
    records(event).iter().map(|record| note(record).1).collect()
}

fn error() -> Reply {
    Reply::Now(Outcome::FunctionError { payload: Bytes::from_static(b"{}") })
}

/// Fails every event in which `fails` says so of a note, as a whole.
fn failing(fails: impl Fn(&str, usize) -> bool + Send + Sync + 'static) -> Arc<Script> {
    Script::new(move |Call { event, .. }| {
        let failed = records(event).iter().map(note).any(|(id, number)| fails(&id, number));
        if failed { error() } else { answered(&Value::Null) }
    })
}

fn filter(document: Value) -> Filter {
    Filter { pattern: Pattern::parse(&document).unwrap(), document }
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_blocks_its_shard_and_no_other() {
    let ids: Vec<String> = (0..20).map(|id| format!("note-{id}")).collect();
    let ground = Ground::new();
    for number in 1..=3 {
        ground.write(&ids.iter().map(|id| (id.as_str(), number)).collect::<Vec<_>>());
    }
    let shards = ground.shards();
    assert!(shards.values().collect::<BTreeSet<_>>().len() > 1, "several shards: {shards:?}");
    let bad = shards["note-7"];
    let (attempts, handled) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let script = Script::new({
        let (attempts, handled) = (Arc::clone(&attempts), Arc::clone(&handled));
        move |Call { event, .. }| {
            let notes: Vec<_> = records(event).iter().map(note).collect();
            if notes.contains(&("note-7".to_owned(), 2)) && attempts.fetch_add(1, Ordering::SeqCst) < 3 {
                return error();
            }
            handled.lock().unwrap().extend(notes);
            answered(&Value::Null)
        }
    });
    let two = StreamSource { batch_size: 2, ..source() };
    let stage = ground.start(&two, script);
    sleep(MOMENT).await;
    let so_far = handled.lock().unwrap().clone();
    for (id, shard) in &shards {
        let done: Vec<_> = so_far.iter().filter(|note| note.0 == *id).map(|note| note.1).collect();
        if *shard == bad {
            assert!(!done.contains(&3), "{id} is behind the batch that fails: {so_far:?}");
        } else {
            assert_eq!(done, [1, 2, 3], "{id} is in another shard");
        }
    }
    sleep(Duration::from_secs(5)).await;
    let all = handled.lock().unwrap().clone();
    for id in shards.keys() {
        let done: Vec<_> = all.iter().filter(|note| note.0 == *id).map(|note| note.1).collect();
        assert_eq!(done, [1, 2, 3], "{id}, each once and in order");
    }
    assert_eq!(attempts.load(Ordering::SeqCst), 4);
    assert!(stage.ground.reports().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_tried_again_after_growing_pauses() {
    let stage = Ground::new().start(&source(), failing(|_, number| number == 2));
    stage.write(&[("a", 1), ("a", 2), ("a", 3)]);
    for (millis, attempts) in [(100, 1), (200, 2), (200, 2), (200, 3), (700, 3), (200, 4)] {
        sleep(Duration::from_millis(millis)).await;
        assert_eq!(stage.numbers(), vec![vec![1, 2, 3]; attempts]);
    }
}

#[tokio::test(start_paused = true)]
async fn splitting_batches_finds_the_bad_record_and_uses_up_no_retry() {
    for retries in [0, 2] {
        let bisect = StreamSource { bisect: true, maximum_retry_attempts: Some(retries), ..source() };
        let ground = Ground::new();
        ground.write(&(1..=8).map(|number| ("a", number)).collect::<Vec<_>>());
        let bad = ground.sequence_numbers()[4].clone();
        let stage = ground.start(&bisect, failing(|_, number| number == 5));
        sleep(Duration::from_mins(5)).await;
        let numbers = stage.numbers();
        let split: &[Vec<usize>] =
            &[vec![1, 2, 3, 4, 5, 6, 7, 8], vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![5, 6], vec![5]];
        assert_eq!(&numbers[..5], split);
        assert_eq!(numbers[5..], [vec![vec![5]; retries], vec![vec![6], vec![7, 8]]].concat());
        let reports = stage.ground.reports();
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        assert_eq!(report["DDBStreamBatchInfo"]["startSequenceNumber"], bad);
        assert_eq!(report["DDBStreamBatchInfo"]["batchSize"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn of_the_reported_failures_the_lowest_is_where_the_batch_goes_on() {
    let attempts = AtomicUsize::new(0);
    let script = Script::new(move |Call { event, .. }| {
        let number = |record: &Value| record["dynamodb"]["SequenceNumber"].clone();
        let failed: Vec<_> = match attempts.fetch_add(1, Ordering::SeqCst) {
            // The higher one first.
            0 => [4, 2].map(|index| json!({"itemIdentifier": number(&records(event)[index])})).into(),
            _ => Vec::new(),
        };
        answered(&json!({"batchItemFailures": failed}))
    });
    let stage = Ground::new().start(&source(), script);
    stage.write(&(1..=6).map(|number| ("a", number)).collect::<Vec<_>>());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.numbers(), [vec![1, 2, 3, 4, 5, 6]]);
    // What was handled is not read again, even if the region stops before the retry.
    let stage = stage.stop().await.start(&source(), failing(|_, _| false));
    sleep(MOMENT).await;
    assert_eq!(stage.numbers(), [vec![3, 4, 5, 6]]);
}

#[tokio::test(start_paused = true)]
async fn with_both_a_batch_is_split_at_the_reported_record() {
    let script = Script::new(|Call { event, .. }| {
        let bad = records(event).iter().find(|record| note(record).1 == 3);
        let number = bad.map(|record| json!({"itemIdentifier": record["dynamodb"]["SequenceNumber"]}));
        answered(&json!({"batchItemFailures": number.into_iter().collect::<Vec<_>>()}))
    });
    let both = StreamSource { bisect: true, maximum_retry_attempts: Some(1), ..source() };
    let stage = Ground::new().start(&both, script);
    stage.write(&(1..=6).map(|number| ("a", number)).collect::<Vec<_>>());
    sleep(Duration::from_mins(1)).await;
    let expected: &[&[usize]] = &[&[1, 2, 3, 4, 5, 6], &[3, 4, 5, 6], &[3, 4], &[3], &[3], &[4], &[5, 6]];
    assert_eq!(stage.numbers(), expected);
    assert_eq!(stage.ground.reports().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_understood_fails_the_whole_batch() {
    for answer in [
        json!({"batchItemFailures": [{"itemIdentifier": "nobody"}]}),
        json!({"batchItemFailures": [{"itemIdentifier": ""}]}),
        json!({"batchItemFailures": [{"itemIdentifier": null}]}),
        json!({"batchItemFailures": [{"id": "x"}]}),
        json!("done"),
    ] {
        let stage = Ground::new().start(&source(), Script::answering(answer));
        stage.write(&[("a", 1), ("a", 2)]);
        sleep(Duration::from_millis(300)).await;
        assert_eq!(stage.numbers(), [vec![1, 2], vec![1, 2]]);
    }
    let ignored = StreamSource { answers: Answers::Ignored, ..source() };
    let unknown = json!({"batchItemFailures": [{"itemIdentifier": "nobody"}]});
    let stage = Ground::new().start(&ignored, Script::answering(unknown));
    stage.write(&[("a", 1)]);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(stage.numbers(), [vec![1]], "without ReportBatchItemFailures an answer means nothing");
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_reported_without_its_content_and_the_next_batch_comes() {
    let twice = StreamSource { batch_size: 2, maximum_retry_attempts: Some(1), ..source() };
    let ground = Ground::new();
    ground.write(&[("a", 1), ("a", 2), ("a", 3)]);
    let numbers = ground.sequence_numbers();
    let shard = ground.shards()["a"];
    let stage = ground.start(&twice, failing(|_, number| number == 2));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.numbers(), [vec![1, 2], vec![1, 2], vec![3]]);
    let mut reports = stage.ground.reports();
    let mut report = reports.remove(0);
    assert!(reports.is_empty());
    let first = stage.script.events("relay")[0]["Records"][0].clone();
    let arrived = first["dynamodb"]["ApproximateCreationDateTime"].as_i64().unwrap();
    let batch = &report["DDBStreamBatchInfo"];
    let arrival = batch["approximateArrivalOfFirstRecord"].as_str().unwrap();
    assert_eq!(arrival.parse::<jiff::Timestamp>().unwrap().as_second(), arrived);
    assert_eq!(report["requestContext"]["requestId"].as_str().unwrap().len(), 36);
    report["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    for place in ["/requestContext/requestId", "/timestamp"] {
        report.pointer_mut(place).unwrap().take();
    }
    for name in ["approximateArrivalOfFirstRecord", "approximateArrivalOfLastRecord"] {
        report["DDBStreamBatchInfo"][name].take();
    }
    assert_eq!(
        report,
        json!({
            "requestContext": {
                "requestId": null,
                "functionArn": "arn:aws:lambda:local:000000000000:function:shop-relay",
                "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": 2,
            },
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "version": "1.0",
            "timestamp": null,
            "DDBStreamBatchInfo": {
                "shardId": format!("shardId-{shard:020}-00000004"),
                "startSequenceNumber": numbers[0],
                "endSequenceNumber": numbers[1],
                "approximateArrivalOfFirstRecord": null,
                "approximateArrivalOfLastRecord": null,
                "batchSize": 2,
                "streamArn": "arn:aws:dynamodb:local:000000000000:table/Notes/stream/local",
            },
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_mapping_is_made_only_for_a_role_that_may_do_what_the_poller_does() {
    let refusal = Ground::with(None, Vec::new()).refusal(&source()).to_string();
    assert!(refusal.contains("does not have permissions to call SendMessage on arn:aws:sqs"), "{refusal}");
    let plain = StreamSource { granted_by: GrantedBy::Policies, on_failure: None, ..source() };
    let reads = ["dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:DescribeStream"];
    let stream = arn::local().stream("Notes");
    let refusal = Ground::with(None, vec![statement(&reads, stream.clone())]).refusal(&plain).to_string();
    assert!(refusal.starts_with(&format!("Cannot access stream {stream}.")), "{refusal}");
    assert!(refusal.contains("perform: dynamodb:ListStreams"), "{refusal}");
    let all = [statement(&reads, stream), statement(&["dynamodb:ListStreams"], "*".to_owned())];
    let stage = Ground::with(None, all.to_vec()).start(&plain, failing(|_, _| false));
    stage.write(&[("a", 1)]);
    sleep(MOMENT).await;
    assert_eq!(stage.numbers(), [vec![1]]);
    // SAM's event brings the permission with it.
    let event = StreamSource { on_failure: None, ..source() };
    let stage = Ground::with(None, Vec::new()).start(&event, failing(|_, _| false));
    stage.write(&[("a", 1)]);
    sleep(MOMENT).await;
    assert_eq!(stage.numbers(), [vec![1]]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_region_goes_on_behind_what_was_handled() {
    let folder = tempfile::tempdir().unwrap();
    let ground = || {
        Ground::with(Some(folder.path()), vec![statement(&["sqs:SendMessage"], arn::local().queue("Dead"))])
    };
    let one = StreamSource { batch_size: 1, ..source() };
    let stage = ground().start(&one, failing(|_, number| number == 3));
    stage.write(&[("a", 1), ("a", 2), ("a", 3), ("a", 4)]);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.numbers(), [vec![1], vec![2], vec![3]]);
    drop(stage.stop().await);
    // LATEST is for a mapping that is new.
    let latest = StreamSource { starting_position: StartingPosition::Latest, ..one };
    let stage = ground().start(&latest, failing(|_, _| false));
    sleep(MOMENT).await;
    assert_eq!(stage.numbers(), [vec![3], vec![4]]);
    stage.write(&[("a", 5)]);
    sleep(MOMENT).await;
    assert_eq!(stage.numbers()[2..], [vec![5]]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_with_nothing_to_handle_does_not_stay_behind() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = filter(json!({"eventName": ["REMOVE"]}));
    let remove = StreamSource { filters: vec![nothing], on_failure: None, ..source() };
    let stage = Ground::with(Some(folder.path()), Vec::new()).start(&remove, failing(|_, _| true));
    stage.write(&[("a", 1), ("a", 2)]);
    let last = stage.ground.streams().latest("Notes").unwrap();
    let places = || -> Vec<i64> {
        let file = rusqlite::Connection::open(folder.path().join("streams.db")).unwrap();
        let mut places = file.prepare("SELECT position FROM checkpoints").unwrap();
        places.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    sleep(MOMENT).await;
    assert_eq!(places(), [0; 4]);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(places(), [last.0; 4]);
    assert!(stage.numbers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_mapping_begins_where_it_is_told_to() {
    for (starting_position, expected) in
        [(StartingPosition::TrimHorizon, vec![1, 2, 3]), (StartingPosition::Latest, vec![3])]
    {
        let ground = Ground::new();
        ground.write(&[("a", 1), ("a", 2)]);
        let stage = ground.start(&StreamSource { starting_position, ..source() }, failing(|_, _| false));
        stage.write(&[("a", 3)]);
        sleep(MOMENT).await;
        assert_eq!(stage.numbers().concat(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_match_no_filter_are_passed_over() {
    let filters = vec![
        filter(json!({"dynamodb": {"NewImage": {"number": {"N": ["2", "5"]}}}})),
        filter(json!({"eventName": ["INSERT"], "dynamodb": {"Keys": {"id": {"S": [{"prefix": "b"}]}}}})),
    ];
    let two = StreamSource { batch_size: 2, batching_window: Duration::from_secs(5), filters, ..source() };
    let stage = Ground::new().start(&two, failing(|_, _| false));
    stage.write(&[("a", 1), ("a", 2), ("a", 3), ("a", 4)]);
    sleep(Duration::from_secs(4)).await;
    assert!(stage.numbers().is_empty(), "what is passed over fills no batch");
    stage.write(&[("a", 5), ("b", 6), ("b", 7)]);
    sleep(MOMENT).await;
    assert_eq!(stage.numbers()[0], [2, 5], "full before its time");
    sleep(Duration::from_secs(6)).await;
    assert_eq!(stage.numbers()[1..], [vec![6]], "7 is no INSERT");
}

#[tokio::test(start_paused = true)]
async fn records_that_are_too_old_are_given_up_and_younger_ones_are_not() {
    let minute = StreamSource {
        batch_size: 1,
        maximum_record_age: Some(Duration::from_mins(1)),
        answers: Answers::Ignored,
        ..source()
    };
    let stage = Ground::new().start(&minute, failing(|_, number| number == 1));
    stage.write(&[("a", 1)]);
    sleep(Duration::from_secs(50)).await;
    assert!(stage.numbers().len() > 5, "tried again and again: {:?}", stage.numbers());
    assert!(stage.ground.reports().is_empty());
    sleep(Duration::from_secs(25)).await;
    let reports = stage.ground.reports();
    let [report] = reports.as_slice() else { panic!("{reports:?}") };
    assert_eq!(report["requestContext"]["condition"], "RecordAgeExceeded");
    assert_eq!(report["requestContext"]["approximateInvokeCount"], stage.numbers().len());
    // Written at the machine's time, which is more than a minute behind the clock by now: nobody
    // sees it.
    stage.write(&[("a", 2)]);
    sleep(MOMENT).await;
    assert!(!stage.numbers().contains(&vec![2]));
    let ground = stage.stop().await;
    ground.write(&[("a", 3)]);
    let stage = ground.start(&minute, failing(|_, _| false));
    sleep(MOMENT).await;
    assert_eq!(stage.numbers(), [vec![3]], "young again by a clock that starts now");
}

#[tokio::test(start_paused = true)]
async fn parallel_readers_of_a_shard_keep_the_order_of_each_item_and_do_not_wait_for_each_other() {
    let ids: Vec<String> = (0..40).map(|id| format!("note-{id}")).collect();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let script = Script::new({
        let handled = Arc::clone(&handled);
        move |Call { event, .. }| {
            let notes: Vec<_> = records(event).iter().map(note).collect();
            if notes.iter().any(|(id, _)| id == "note-7") {
                return error();
            }
            handled.lock().unwrap().extend(notes);
            Reply::After(Duration::from_secs(1), Outcome::Answered(Bytes::new()))
        }
    });
    let ten = StreamSource { parallelization_factor: 10, batch_size: 1, ..source() };
    let ground = Ground::new();
    for number in 1..=2 {
        ground.write(&ids.iter().map(|id| (id.as_str(), number)).collect::<Vec<_>>());
    }
    let shards = ground.shards();
    let stage = ground.start(&ten, script);
    sleep(MOMENT).await;
    let mut at_once = BTreeMap::<usize, usize>::new();
    for (id, number) in handled.lock().unwrap().iter() {
        *at_once.entry(shards[id]).or_default() += 1;
        assert_eq!(*number, 1);
    }
    assert!(at_once.values().any(|batches| *batches > 1), "batches of a shard at once: {at_once:?}");
    assert!(at_once.values().all(|batches| *batches <= 10), "{at_once:?}");
    sleep(Duration::from_mins(1)).await;
    let all = handled.lock().unwrap().clone();
    let mut blocked = 0;
    for id in &ids {
        let done: Vec<_> = all.iter().filter(|note| note.0 == *id).map(|note| note.1).collect();
        match done.as_slice() {
            [1, 2] => {}
            // In the lane of the note that fails.
            [] | [1] => blocked += 1,
            other => panic!("{id} came as {other:?}"),
        }
    }
    let in_shard = shards.values().filter(|shard| **shard == shards["note-7"]).count();
    assert!(blocked >= 1 && blocked < in_shard, "{blocked} of {in_shard} items of the shard wait");
    assert!(stage.ground.reports().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_full_or_its_window_is_over() {
    let window = StreamSource { batch_size: 3, batching_window: Duration::from_secs(10), ..source() };
    let stage = Ground::new().start(&window, failing(|_, _| false));
    sleep(Duration::from_secs(100)).await;
    stage.write(&[("a", 1)]);
    sleep(Duration::from_secs(9)).await;
    assert!(stage.numbers().is_empty(), "the window is open");
    stage.write(&[("a", 2)]);
    sleep(Duration::from_secs(1) + MOMENT).await;
    assert_eq!(stage.numbers(), [vec![1, 2]], "the window counts from the first record on");
    stage.write(&[("a", 3), ("a", 4), ("a", 5), ("a", 6)]);
    sleep(MOMENT).await;
    assert_eq!(stage.numbers()[1..], [vec![3, 4, 5]], "full before its time");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_function_uses_up_no_retry() {
    let attempts = AtomicUsize::new(0);
    let script = Script::new(move |_| match attempts.fetch_add(1, Ordering::SeqCst) {
        0..5 => Reply::Now(Outcome::Throttled),
        _ => answered(&Value::Null),
    });
    let never = StreamSource { maximum_retry_attempts: Some(0), ..source() };
    let stage = Ground::new().start(&never, script);
    stage.write(&[("a", 1)]);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(stage.numbers().len(), 6);
    assert!(stage.ground.reports().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_event_is_never_larger_than_lambda_takes() {
    let ground = Ground::new();
    let long = "x".repeat(300 * 1024);
    let ids: Vec<String> = (0..100).map(|number| format!("note-{number}")).collect();
    ground.put(ids.into_iter().map(|id| (id, AttributeValue::S(long.clone()))).collect());
    let one_lane = StreamSource { batch_size: 10_000, ..source() };
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let script = Script::new({
        let sizes = Arc::clone(&sizes);
        move |Call { event, .. }| {
            sizes.lock().unwrap().push((event.to_string().len(), records(event).len()));
            answered(&Value::Null)
        }
    });
    let _stage = ground.start(&one_lane, script);
    sleep(Duration::from_secs(1)).await;
    let sizes = sizes.lock().unwrap();
    assert_eq!(sizes.iter().map(|size| size.1).sum::<usize>(), 100);
    assert!(sizes.iter().any(|size| size.1 > 1), "batches they are");
    assert!(sizes.iter().all(|size| size.0 <= 6 * MIB), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disabled_mapping_reads_nothing() {
    let stage = Ground::new().start(&StreamSource { enabled: false, ..source() }, failing(|_, _| false));
    stage.write(&[("a", 1)]);
    sleep(Duration::from_mins(10)).await;
    assert!(stage.numbers().is_empty());
}
