//! Schedules on a clock that the test moves: tokio's, paused, so that hours pass in no time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use local_region::clock::SystemClock;
use local_region::functions::outcome::Outcome;
use local_region::schedules::{MAX_OVERLAPPING_DELIVERIES, Schedules};
use local_region::services::sqs::{Queues, Take};
use local_region::template::arn;
use local_region::template::model::Schedule;
use serde_json::json;
use tokio::time::sleep;

use crate::support::{PausedClock, Reply, Script, ok, queue};

fn schedule(name: &str, expression: &str, retries: u32) -> Schedule {
    Schedule {
        name: format!("shop-{name}"),
        arn: arn::local().schedule(&format!("shop-{name}")),
        expression: expression.into(),
        function: name.into(),
        input: r#"{"scheduledTime":"<aws.scheduler.scheduled-time>","attempt":"<aws.scheduler.attempt-number>","id":"<aws.scheduler.execution-id>"}"#.into(),
        maximum_retry_attempts: retries,
        enabled: true,
        dead_letter_queue: None,
    }
}

fn slots(script: &Script, function: &str) -> Vec<String> {
    let time = |event: serde_json::Value| event["scheduledTime"].as_str().unwrap().to_owned();
    script.events(function).into_iter().map(time).collect()
}

#[tokio::test(start_paused = true)]
async fn schedules_fire_at_their_slots() {
    let script = Script::new(|_| ok());
    let schedules = vec![
        schedule("report", "cron(0 1 * * ? *)", 0),
        schedule("cleanup", "rate(30 minutes)", 0),
        schedule("once", "at(2026-11-20T23:50:00)", 0),
        Schedule { enabled: false, ..schedule("off", "rate(1 minute)", 0) },
    ];
    let schedules =
        Schedules::new(schedules, script.clone(), PausedClock::at("2026-11-20T23:45:00Z")).unwrap();
    schedules.run(sleep(Duration::from_hours(2))).await;
    assert_eq!(slots(&script, "report"), ["2026-11-21T01:00:00Z"]);
    assert_eq!(
        slots(&script, "cleanup"),
        ["2026-11-21T00:00:00Z", "2026-11-21T00:30:00Z", "2026-11-21T01:00:00Z", "2026-11-21T01:30:00Z"]
    );
    assert_eq!(slots(&script, "once"), ["2026-11-20T23:50:00Z"]);
    assert!(slots(&script, "off").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_retried_delays_neither_others_nor_its_own_next_slot() {
    let script = Script::new(|call| match call.function.as_str() {
        "slow" if call.event["attempt"] != "30" => Reply::Now(Outcome::Throttled),
        _ => ok(),
    });
    let schedules = vec![schedule("slow", "rate(1 minute)", 50), schedule("fast", "rate(1 minute)", 0)];
    let schedules =
        Schedules::new(schedules, script.clone(), PausedClock::at("2026-11-20T09:30:30Z")).unwrap();
    schedules.run(sleep(Duration::from_mins(5))).await;
    assert_eq!(slots(&script, "fast").len(), 5);
    let mut slow = slots(&script, "slow");
    slow.sort_unstable();
    slow.dedup();
    assert_eq!(slow, slots(&script, "fast"));
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_one_schedule_overlap_up_to_a_bound() {
    let script = Script::new(|_| Reply::Now(Outcome::Throttled));
    let stuck = vec![schedule("stuck", "rate(1 minute)", 1_000_000)];
    let schedules = Schedules::new(stuck, script.clone(), PausedClock::at("2026-11-20T09:30:30Z")).unwrap();
    schedules.run(sleep(Duration::from_hours(1))).await;
    let mut tried = slots(&script, "stuck");
    tried.sort_unstable();
    tried.dedup();
    assert_eq!(tried.len(), MAX_OVERLAPPING_DELIVERIES);
}

#[tokio::test(start_paused = true)]
async fn what_lambda_accepts_is_not_delivered_again_whatever_becomes_of_it() {
    let script = Script::new(|_| Reply::Now(Outcome::Crashed));
    let report = vec![schedule("report", "cron(0 10 * * ? *)", 2)];
    let schedules = Schedules::new(report, script.clone(), PausedClock::at("2026-11-20T09:59:00Z")).unwrap();
    schedules.run(sleep(Duration::from_hours(1))).await;
    assert_eq!(slots(&script, "report"), ["2026-11-20T10:00:00Z"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_delivery_is_repeated_with_the_same_slot_as_often_as_the_template_says() {
    let script = Script::new(|_| Reply::Now(Outcome::Throttled));
    let report = vec![schedule("report", "cron(0 10 * * ? *)", 2)];
    let schedules = Schedules::new(report, script.clone(), PausedClock::at("2026-11-20T09:59:00Z")).unwrap();
    schedules.run(sleep(Duration::from_hours(1))).await;
    assert_eq!(slots(&script, "report"), vec!["2026-11-20T10:00:00Z"; 3]);
    let events = script.events("report");
    let attempts: Vec<_> = events.iter().map(|event| event["attempt"].as_str().unwrap()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    assert_ne!(events[0]["id"], events[1]["id"]);
}

#[tokio::test(start_paused = true)]
async fn the_input_of_a_delivery_that_was_given_up_goes_to_the_schedules_queue() {
    let script = Script::new(|_| Reply::Now(Outcome::NotFound));
    let letters = |name: &str| Schedule {
        dead_letter_queue: Some("Dead".to_owned()),
        ..schedule(name, "at(2026-11-20T10:00:00)", 2)
    };
    let schedules = vec![letters("report"), schedule("other", "at(2026-11-20T10:00:00)", 0)];
    let queues = Queues::open(None, &[queue("Dead", None)], PausedClock::at("2026-11-20T09:59:00Z")).unwrap();
    let queues = Arc::new(queues);
    let schedules = Schedules::new(schedules, script.clone(), PausedClock::at("2026-11-20T09:59:00Z"))
        .unwrap()
        .with_queues(Arc::clone(&queues));
    schedules.run(sleep(Duration::from_hours(1))).await;
    let take = Take { messages: 10, bytes: usize::MAX, overhead_bytes: 0, visibility_timeout: None };
    let received = queues.receive("Dead", take).unwrap();
    let [letter] = received.as_slice() else { panic!("{received:?}") };
    let last: serde_json::Value = serde_json::from_str(&letter.body).unwrap();
    assert_eq!(last, script.events("report")[2], "what the last attempt was given");
    assert_eq!((&last["attempt"], &last["scheduledTime"]), (&json!("3"), &json!("2026-11-20T10:00:00Z")));
}

#[tokio::test(start_paused = true)]
async fn firing_by_hand_takes_the_latest_slot_or_the_given_one_and_may_be_repeated() {
    let script = Script::answering(json!({"done": true}));
    let schedules = vec![
        Schedule { enabled: false, ..schedule("daily-report", "cron(0 1 * * ? *)", 5) },
        schedule("once", "at(2030-01-01T00:00:00)", 0),
    ];
    let schedules =
        Schedules::new(schedules, script.clone(), PausedClock::at("2026-11-20T09:30:00Z")).unwrap();
    let fired = schedules.fire("daily-report", None).await.unwrap();
    assert_eq!(fired, Outcome::Answered(Bytes::from_static(b"{\"done\":true}")));
    schedules.fire("shop-daily-report", None).await.unwrap();
    schedules.fire("daily-report", Some("2026-11-01T01:00:00Z".parse().unwrap())).await.unwrap();
    schedules.fire("once", None).await.unwrap();
    assert_eq!(
        slots(&script, "daily-report"),
        ["2026-11-20T01:00:00Z", "2026-11-20T01:00:00Z", "2026-11-01T01:00:00Z"]
    );
    assert_eq!(slots(&script, "once"), ["2030-01-01T00:00:00Z"]);
    let unknown = schedules.fire("report", None).await;
    assert!(unknown.is_ok(), "the end of a name after a dash is enough");
    let error = schedules.fire("nightly", None).await.unwrap_err().to_string();
    assert_eq!(error, "there is no schedule `nightly`; there are: shop-daily-report, shop-once");
}

#[test]
fn a_schedule_that_cannot_be_used_is_named() {
    let script: Arc<Script> = Script::new(|_| ok());
    let error = Schedules::new(vec![schedule("report", "daily", 0)], script, SystemClock).err().unwrap();
    assert_eq!(
        error.to_string(),
        "schedule `shop-report`: `daily` is none of cron(...), rate(...) and at(...)"
    );
}
