//! The process pool and the Runtime API, with a real function process
//! (`examples/fixture-function.rs`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod events;
mod lambda_api;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use local_region::clock::SystemClock;
use local_region::event_sources::{Checkpoints, EventSources, StreamParts};
use local_region::functions::Settings;
use local_region::functions::events::Destinations;
use local_region::functions::outcome::{Invoke, Outcome};
use local_region::services::dynamodb::Embedded;
use local_region::services::sqs::{Counts, Queues};
use local_region::template::model::{Answers, EventSource, GrantedBy, StartingPosition, StreamSource, Table};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::{Fixture, Setup, all, is_alive, patient, pid, queue, start, start_with};

#[tokio::test]
async fn a_function_answers_with_the_context_that_lambda_gives_it() {
    let fixture = patient();
    let answer = fixture.answer(json!({"do": "echo", "name": "Ana"})).await;
    assert_eq!(answer["echo"]["name"], "Ana");
    assert_eq!(answer["arn"], "arn:aws:lambda:local:000000000000:function:shop-fixture");
    assert_eq!(answer["requestId"].as_str().unwrap().len(), 36);
    let deadline = answer["deadlineMs"].as_i64().unwrap();
    let remaining = deadline - local_region::clock::now().as_millisecond();
    assert!((15_000..=20_000).contains(&remaining), "{remaining}");
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn a_warm_process_is_used_again_and_shutdown_leaves_none() {
    let fixture = patient();
    let first = fixture.answer(json!({})).await;
    let second = fixture.answer(json!({})).await;
    assert_eq!(first["pid"], second["pid"]);
    assert_ne!(first["requestId"], second["requestId"]);
    fixture.functions.shut_down().await;
    assert!(!is_alive(pid(&first)));
    assert!(fixture.functions.ps().is_empty());
    assert_eq!(fixture.invoke(json!({})).await, Outcome::Throttled);
}

#[tokio::test]
async fn nothing_of_the_regions_own_environment_reaches_a_function() {
    let fixture = patient();
    let answer = fixture.answer(json!({"do": "environment"})).await;
    let names: BTreeMap<String, String> = serde_json::from_value(answer).unwrap();
    assert!(names.contains_key("AWS_LAMBDA_RUNTIME_API"));
    assert!(!names.contains_key("PATH") && !names.contains_key("HOME"), "{names:?}");
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn beyond_its_reserved_concurrency_a_function_is_throttled_at_once() {
    let fixture = start_with(
        &Settings::default(),
        Duration::from_secs(20),
        "",
        Setup { reserved_concurrency: Some(2), ..Setup::default() },
    );
    let outcomes = all((0..3).map(|_| fixture.invoke(json!({"do": "sleep", "ms": 60})))).await;
    assert!(
        matches!(outcomes[..], [Outcome::Answered(_), Outcome::Answered(_), Outcome::Throttled]),
        "{outcomes:?}"
    );
    fixture.answer(json!({})).await;
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn one_process_handles_one_invocation_at_a_time_and_load_adds_processes_up_to_the_limit() {
    let fixture = start(&Settings { concurrency: 3, ..Settings::default() }, Duration::from_secs(20), "");
    let answers = all((0..12).map(|_| fixture.answer(json!({"do": "sleep", "ms": 60})))).await;
    let pids: BTreeSet<i32> = answers.iter().map(pid).collect();
    assert_eq!(pids.len(), 3, "{pids:?}");
    assert_eq!(fixture.functions.ps().len(), 3);
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn a_burst_of_300_waits_for_its_turn_and_none_is_lost() {
    let fixture = patient();
    let answers = all((0..300).map(|number| fixture.answer(json!({ "number": number })))).await;
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer["echo"]["number"], number);
    }
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn beyond_the_queue_and_beyond_the_wait_an_invocation_is_throttled() {
    let settings = Settings {
        concurrency: 1,
        queue_limit: 1,
        queue_wait: Duration::from_millis(300),
        ..Settings::default()
    };
    let fixture = start(&settings, Duration::from_secs(20), "");
    fixture.answer(json!({})).await;
    let busy = fixture.answer(json!({"do": "sleep", "ms": 1_000}));
    let others = async {
        fixture.until("busy", |fixture| fixture.functions.ps()[0].state == "busy").await;
        let (waiting, refused) = tokio::join!(fixture.invoke(json!({})), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let asked = Instant::now();
            (fixture.invoke(json!({})).await, asked.elapsed())
        });
        assert_eq!(refused.0, Outcome::Throttled);
        assert!(
            refused.1 < Duration::from_millis(200),
            "refused at once, not after the wait: {:?}",
            refused.1
        );
        assert_eq!(waiting, Outcome::Throttled);
    };
    tokio::join!(busy, others);
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn a_handlers_error_is_told_apart_from_a_crash() {
    let fixture = patient();
    let Outcome::FunctionError { payload } = fixture.invoke(json!({"do": "error"})).await else {
        panic!("not a function error");
    };
    let error: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(error["errorMessage"], "failed as told");
    assert_eq!(fixture.invoke(json!({"do": "crash"})).await, Outcome::Crashed);
    assert!(fixture.answer(json!({})).await["pid"].is_number(), "a new process serves the next one");
    assert!(fixture.logged("exit status 3"));
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn a_timeout_kills_the_process_and_says_so() {
    let fixture = start(&Settings::default(), Duration::from_millis(500), "");
    let before = pid(&fixture.answer(json!({})).await);
    let started = Instant::now();
    assert_eq!(fixture.invoke(json!({"do": "sleep", "ms": 60_000})).await, Outcome::TimedOut);
    let took = started.elapsed();
    assert!((450..1_500).contains(&took.as_millis()), "{took:?}");
    assert_ne!(pid(&fixture.answer(json!({})).await), before);
    fixture.until("killed", |_| !is_alive(before)).await;
    assert!(fixture.logged("Task timed out after 0.50 seconds"));
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn a_killed_process_fails_its_own_invocation_at_once_and_no_other() {
    let fixture = patient();
    let sleeping = (0..3).map(|_| fixture.invoke(json!({"do": "sleep", "ms": 1_500})));
    let killer = async {
        let busy =
            |fixture: &Fixture| fixture.functions.ps().iter().filter(|row| row.state == "busy").count();
        fixture.until("three busy processes", |fixture| busy(fixture) == 3).await;
        let victim = fixture.functions.ps()[0].pid.unwrap();
        kill(Pid::from_raw(i32::try_from(victim).unwrap()), Signal::SIGKILL).unwrap();
        fixture.until("the victim is gone", |fixture| busy(fixture) == 2).await;
    };
    let (outcomes, ()) = tokio::join!(all(sleeping), killer);
    let crashed = outcomes.iter().filter(|outcome| **outcome == Outcome::Crashed).count();
    let answered = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Answered(_))).count();
    assert_eq!((crashed, answered), (1, 2), "{outcomes:?}");
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn idle_processes_killed_from_outside_are_replaced() {
    let fixture = patient();
    for _ in 0..20 {
        let idle = pid(&fixture.answer(json!({})).await);
        kill(Pid::from_raw(idle), Signal::SIGKILL).unwrap();
        fixture.until("noticed", |fixture| fixture.functions.ps().is_empty()).await;
        assert_ne!(pid(&fixture.answer(json!({})).await), idle);
        assert_eq!(fixture.functions.kill("fixture").await.unwrap().len(), 1);
        assert!(fixture.functions.ps().is_empty(), "gone when kill returns");
    }
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn a_function_that_cannot_start_is_given_up_after_two_attempts() {
    let fixture = start(&Settings::default(), Duration::from_secs(20), "crash");
    assert_eq!(fixture.invoke(json!({})).await, Outcome::Crashed);
    fixture
        .until("both attempts logged", |fixture| {
            fixture.logs.recent().iter().filter(|line| line.text.starts_with("Init failed")).count() == 2
        })
        .await;
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn an_init_that_hangs_is_ended() {
    let settings = Settings { init_limit: Duration::from_millis(200), ..Settings::default() };
    let fixture = start(&settings, Duration::from_secs(20), "hang");
    assert_eq!(fixture.invoke(json!({})).await, Outcome::Crashed);
    assert!(fixture.logged("Init timed out after 0.20 seconds"));
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn idle_processes_are_stopped() {
    let settings = Settings { idle_limit: Duration::from_millis(200), ..Settings::default() };
    let fixture = start(&settings, Duration::from_millis(400), "");
    let process = pid(&fixture.answer(json!({})).await);
    fixture.until("stopped", |fixture| fixture.functions.ps().is_empty()).await;
    assert!(!is_alive(process));
    assert_ne!(pid(&fixture.answer(json!({})).await), process);
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn an_answer_over_6_mb_is_refused_and_the_process_goes_on() {
    let fixture = patient();
    let fits = fixture.invoke(json!({"do": "fill", "bytes": 6 * 1024 * 1024})).await;
    assert!(matches!(fits, Outcome::Answered(_)));
    assert_eq!(
        fixture.invoke(json!({"do": "fill", "bytes": 7 * 1024 * 1024})).await,
        Outcome::ResponseTooLarge
    );
    assert_eq!(fixture.answer(json!({"name": "next"})).await["echo"]["name"], "next");
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn every_line_that_a_function_writes_is_in_the_log() {
    let fixture = patient();
    fixture.answer(json!({"do": "flood", "lines": 2_000})).await;
    fixture.until("the last line", |fixture| fixture.logged("line 1999 ")).await;
    let lines = fixture.logs.recent().iter().filter(|line| line.text.starts_with("line ")).count();
    assert_eq!(lines, 2_000);
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn a_queue_is_read_by_real_processes_and_what_failed_is_delivered_again() {
    let fixture = patient();
    let source = EventSource {
        queue: "Jobs".to_owned(),
        function: "fixture".to_owned(),
        granted_by: GrantedBy::Event,
        batch_size: 10,
        batching_window: Duration::ZERO,
        answers: Answers::ReportFailures,
        maximum_concurrency: None,
        filters: Vec::new(),
        enabled: true,
    };
    let queues = Arc::new(Queues::open(None, &[queue("Jobs")], SystemClock).unwrap());
    let sources = EventSources::new(&[source], Arc::clone(&queues), Arc::clone(&fixture.functions));
    let reading = tokio::spawn(async move { sources.run(std::future::pending()).await });
    let counts = || queues.count("Jobs").unwrap();
    let send = |body: Value| queues.send_text("Jobs", "operator", body.to_string()).unwrap();

    send(json!({"do": "crash", "until": 2}));
    fixture.until("the crash", |fixture| fixture.logged("exit status 3")).await;
    assert_eq!(counts(), Counts { visible: 0, in_flight: 1, delayed: 0 });
    queues.redeliver("Jobs").unwrap();
    fixture.until("handled", |_| counts() == Counts::default()).await;

    let handled = || fixture.functions.ps().iter().map(|process| process.invocations).sum::<u64>();
    let before = handled();
    send(json!({"do": "fail", "until": 2}));
    fixture.until("the failure", |_| handled() > before).await;
    assert_eq!(counts().in_flight, 1);
    queues.redeliver("Jobs").unwrap();
    fixture.until("handled", |_| counts() == Counts::default()).await;
    reading.abort();
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn one_process_serves_a_client_that_sends_one_request_after_the_other() {
    let settings = Settings { return_time: Duration::from_mins(1), ..Settings::default() };
    let fixture = start(&settings, Duration::from_secs(20), "");
    for number in 0..200 {
        fixture.answer(json!({"do": "echo", "number": number})).await;
    }
    assert_eq!(fixture.functions.ps().len(), 1);
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn an_unknown_function_is_not_found() {
    assert_eq!(patient().functions.invoke("nobody", Bytes::new()).await, Outcome::NotFound);
}

#[tokio::test]
async fn a_stream_is_read_by_real_processes_and_the_batch_of_a_crash_comes_again() {
    let fixture = patient();
    let table = Table {
        logical_id: "NotesTable".to_owned(),
        name: "Notes".to_owned(),
        create: json!({
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
            "BillingMode": "PAY_PER_REQUEST",
        }),
        ttl_attribute: None,
    };
    let dynamodb = Embedded::start(&[table]).unwrap();
    let source = StreamSource {
        table: "Notes".to_owned(),
        function: "fixture".to_owned(),
        function_arn: "arn:aws:lambda:local:000000000000:function:shop-fixture".to_owned(),
        granted_by: GrantedBy::Event,
        starting_position: StartingPosition::Latest,
        batch_size: 10,
        batching_window: Duration::ZERO,
        bisect: false,
        maximum_retry_attempts: Some(1),
        maximum_record_age: None,
        parallelization_factor: 1,
        on_failure: None,
        filters: Vec::new(),
        answers: Answers::ReportFailures,
        enabled: true,
    };
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = folder.path().join("streams.db");
    let queues = Arc::clone(&fixture.queues);
    let parts = StreamParts {
        streams: dynamodb.streams().unwrap(),
        checkpoints: Arc::new(Checkpoints::open(Some(&checkpoints)).unwrap()),
        destinations: Destinations {
            queues: Arc::clone(&queues),
            access: Arc::clone(&fixture.controls.access),
        },
        clock: Arc::new(SystemClock),
    };
    let sources = EventSources::new(&[], queues, Arc::clone(&fixture.functions));
    let sources = sources.with_streams(&[source], &parts).unwrap();
    let reading = tokio::spawn(async move { sources.run(std::future::pending()).await });
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("local"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .endpoint_url(dynamodb.endpoint_url())
        .build();
    let marker = folder.path().join("crashed");
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = aws_sdk_dynamodb::Client::from_conf(config).put_item().table_name("Notes");
    let put =
        put.item("id", text("a")).item("do", text("crash")).item("marker", text(marker.to_str().unwrap()));
    put.send().await.unwrap();
    fixture.until("crashed", |_| marker.exists()).await;
    // The place behind the record is saved when the second process has answered.
    let places = rusqlite::Connection::open(&checkpoints).unwrap();
    let places = || -> i64 {
        places.query_row("SELECT COUNT(DISTINCT position) FROM checkpoints", [], |row| row.get(0)).unwrap()
    };
    fixture.until("handled", |_| places() == 2).await;
    assert_eq!(fixture.functions.ps().len(), 1);
    reading.abort();
    fixture.functions.shut_down().await;
}
