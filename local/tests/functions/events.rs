//! Asynchronous invocations: retried, given up, recorded.

use std::time::Duration;

use bytes::Bytes;
use local_region::functions::Settings;
use local_region::functions::outcome::{HandOver, HandedOver};
use local_region::services::sqs::{Counts, Take};
use local_region::template::arn;
use local_region::template::model::{EventInvoke, Statement};
use serde_json::{Value, json};

use crate::support::{DEAD, Fixture, Setup, start_with};

/// Asynchronous invocations of the fixture, with what its role may do.
fn asynchronous(event_invoke: EventInvoke, policy: &[Statement], delay: Duration) -> Fixture {
    let settings = Settings { event_retry_delays: vec![delay; 2], ..Settings::default() };
    start_with(
        &settings,
        Duration::from_secs(20),
        "",
        Setup { event_invoke, policy: policy.to_vec(), ..Setup::default() },
    )
}

fn to_dead() -> EventInvoke {
    EventInvoke { on_failure: Some(DEAD.to_owned()), ..EventInvoke::default() }
}

fn may_send() -> Statement {
    Statement {
        actions: vec!["sqs:SendMessage".to_owned()],
        resources: vec![arn::local().queue(DEAD)],
        conditions: Vec::new(),
    }
}

const SOON: Duration = Duration::from_millis(10);

impl Fixture {
    fn hand_over(&self, event: &Value) {
        let payload = Bytes::from(event.to_string());
        assert_eq!(self.functions.hand_over("fixture", payload), HandedOver::Accepted);
    }

    /// The one record in the queue, as soon as it is there.
    async fn record(&self) -> Value {
        self.until("a record", |fixture| fixture.queues.count(DEAD).unwrap().visible > 0).await;
        let take = Take { messages: 10, bytes: usize::MAX, overhead_bytes: 0, visibility_timeout: None };
        let received = self.queues.receive(DEAD, take).unwrap();
        let [record] = received.as_slice() else { panic!("{received:?}") };
        serde_json::from_str(&record.body).unwrap()
    }
}

#[tokio::test]
async fn an_event_that_fails_for_good_is_retried_and_then_recorded_in_the_destination() {
    for what in ["error", "crash"] {
        let fixture = asynchronous(to_dead(), &[may_send()], SOON);
        let event = json!({"do": what, "number": 12_345_678_901_234_567_890_u64});
        fixture.hand_over(&event);
        let record = fixture.record().await;
        assert_eq!(record["version"], "1.0");
        record["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let context = &record["requestContext"];
        assert_eq!(context["functionArn"], "arn:aws:lambda:local:000000000000:function:shop-fixture:$LATEST");
        assert_eq!(
            (&context["condition"], &context["approximateInvokeCount"]),
            (&json!("RetriesExhausted"), &json!(3))
        );
        assert_eq!(record["requestPayload"], event);
        assert_eq!(
            record["responseContext"],
            json!({"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"})
        );
        if what == "crash" {
            assert_eq!(record["responsePayload"]["errorType"], "Runtime.ExitError");
            let id = context["requestId"].as_str().unwrap();
            let lines = fixture.logs.recent();
            let crashes =
                lines.iter().filter(|line| line.text.contains(id) && line.text.contains("exit status 3"));
            assert_eq!(crashes.count(), 3, "one request id for all attempts");
        } else {
            assert_eq!(record["responsePayload"]["errorMessage"], "failed as told");
        }
        assert!(fixture.controls.access.unused().is_empty(), "the role's permission was needed");
        fixture.functions.shut_down().await;
    }
}

#[tokio::test]
async fn an_event_is_retried_no_more_often_and_kept_no_longer_than_its_function_says() {
    let once = EventInvoke { maximum_retry_attempts: 0, ..to_dead() };
    let fixture = asynchronous(once, &[may_send()], SOON);
    fixture.hand_over(&json!({"do": "error"}));
    let context = fixture.record().await["requestContext"].clone();
    assert_eq!(
        (&context["condition"], &context["approximateInvokeCount"]),
        (&json!("RetriesExhausted"), &json!(1))
    );
    fixture.functions.shut_down().await;

    // Its second attempt would come after its end.
    let short = EventInvoke { maximum_event_age: Duration::from_mins(1), ..to_dead() };
    let fixture = asynchronous(short, &[may_send()], Duration::from_mins(2));
    fixture.hand_over(&json!({"do": "error"}));
    let context = fixture.record().await["requestContext"].clone();
    assert_eq!(
        (&context["condition"], &context["approximateInvokeCount"]),
        (&json!("EventAgeExceeded"), &json!(1))
    );
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn a_record_reaches_no_queue_that_the_role_may_not_send_to() {
    let fixture = asynchronous(to_dead(), &[], SOON);
    fixture.hand_over(&json!({"do": "error"}));
    fixture.until("the refusal", |fixture| fixture.logged("DestinationDeliveryFailures")).await;
    assert_eq!(fixture.queues.count(DEAD).unwrap(), Counts::default());
    assert_eq!(fixture.controls.access.denied().len(), 1);
    fixture.functions.shut_down().await;
}

#[tokio::test]
async fn an_event_that_succeeds_leaves_no_record() {
    let fixture = asynchronous(to_dead(), &[may_send()], SOON);
    fixture.hand_over(&json!({"do": "flood", "lines": 1}));
    fixture.until("done", |fixture| fixture.logged("line 0 ")).await;
    fixture.answer(json!({})).await;
    assert_eq!(fixture.queues.count(DEAD).unwrap(), Counts::default());
    assert!(!fixture.logged("given up"));
    fixture.functions.shut_down().await;
}
