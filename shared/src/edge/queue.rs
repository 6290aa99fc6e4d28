//! The edge of queues: SQS events in, the messages that failed out.
//!
//! 1. The messages of an event are handled one after the other, each until the invocation's deadline. Those that nobody
//!    got to have failed. So has a message that cannot be read: it fails alone.
//! 2. A message that failed is logged and counted here, once, and named in `batchItemFailures`. The invocation succeeds:
//!    the messages beside it are done. (The event source needs `ReportBatchItemFailures`, or nothing would fail.)
//! 3. Something that is no event of a queue is a function error, and so is an event with a message that has no id to be
//!    named by. Nothing of either is handled.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::core::deadline::{Deadline, DeadlineExceeded};
use crate::edge::boot::BootError;
use crate::edge::invocation;
use crate::platform::queue::{Delivered, MessageError};
use crate::platform::telemetry::{Metric, chain, count_case};

/// The `error_type` of a message that did not end in time.
const OUT_OF_TIME: &str = "message-out-of-time";
/// The `error_type` of a message that cannot be read.
const UNREADABLE: &str = "message-unreadable";

/// What Lambda hands over.
#[derive(Debug, Deserialize)]
struct SqsEvent {
    #[serde(rename = "Records")]
    records: Vec<Named>,
}

/// All that is needed to report a message as failed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    message_id: String,
    #[serde(flatten)]
    record: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    body: String,
    receipt_handle: String,
    attributes: Attributes,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes {
    approximate_receive_count: String,
    /// Milliseconds since the epoch.
    sent_timestamp: String,
}

impl Named {
    fn read(self, deadline: Deadline) -> Result<Delivered, Unreadable> {
        let Record { body, receipt_handle, attributes, event_source_arn } =
            serde_json::from_value(Value::Object(self.record)).map_err(Unreadable::of)?;
        let sent_ms = attributes.sent_timestamp.parse().map_err(Unreadable::of)?;
        Ok(Delivered {
            body,
            message_id: self.message_id,
            receipt_handle,
            receive_count: attributes.approximate_receive_count.parse().map_err(Unreadable::of)?,
            queue_arn: event_source_arn,
            sent_at: Timestamp::from_millisecond(sent_ms).map_err(Unreadable::of)?,
            deadline,
        })
    }
}

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the message cannot be read: {0}")]
struct Unreadable(Box<dyn std::error::Error + Send + Sync>);

impl Unreadable {
    fn of(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

/// An event that is none of a queue's.
#[derive(Debug, thiserror::Error)]
#[error("the event is not a queue's: {0}")]
struct NoSqsEvent(Box<dyn std::error::Error + Send + Sync>);

impl NoSqsEvent {
    fn of(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

impl From<NoSqsEvent> for Diagnostic {
    fn from(error: NoSqsEvent) -> Self {
        Self { error_type: "invalid-event".to_owned(), error_message: error.to_string() }
    }
}

/// Serves the events of queues with `handler` until Lambda stops the process. `app` is what the handler works with, built
/// once.
pub async fn serve<A, H, F, E>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    H: Fn(Arc<A>, Delivered) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: MessageError + Send + 'static,
{
    let handler = Arc::new(handler);
    invocation::serve(function, app, move |app, event, deadline| {
        let handler = Arc::clone(&handler);
        async move {
            let handle = |message| handler(Arc::clone(&app), message);
            answer(event, deadline, handle).await.inspect_err(|error| {
                count_case(Metric::Errors, "invalid-event", 1);
                tracing::error!(%error, "nothing was handled");
            })
        }
    })
    .await
}

/// Handles an event's messages. The answer names those that failed.
async fn answer<F, E>(
    event: Value,
    deadline: Deadline,
    handle: impl Fn(Delivered) -> F,
) -> Result<Value, NoSqsEvent>
where
    F: Future<Output = Result<(), E>>,
    E: MessageError,
{
    let SqsEvent { records } = serde_json::from_value(event).map_err(NoSqsEvent::of)?;
    let mut failed = BTreeSet::new();
    for named in records {
        let message_id = named.message_id.clone();
        let message = match named.read(deadline) {
            Ok(message) => message,
            Err(error) => {
                count_case(Metric::Errors, UNREADABLE, 1);
                tracing::error!(message_id, error_type = UNREADABLE, %error, "a message failed");
                failed.insert(message_id);
                continue;
            }
        };
        let receive_count = message.receive_count;
        tracing::info!(message_id, receive_count, queue = message.queue_arn, "delivered");
        // On the heap: the work is whatever a handler does.
        let handled = async {
            if deadline.has_passed() {
                Err(DeadlineExceeded)
            } else {
                deadline.cut_off(Box::pin(handle(message))).await
            }
        };
        let (error_type, error) = match handled.await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => (error.error_type(), chain(&error)),
            Err(passed) => (OUT_OF_TIME, passed.to_string()),
        };
        count_case(Metric::Errors, error_type, 1);
        tracing::error!(message_id, receive_count, error_type, error, "a message failed");
        failed.insert(message_id);
    }
    let failed: Vec<Value> = failed.iter().map(|id| json!({"itemIdentifier": id})).collect();
    Ok(json!({"batchItemFailures": failed}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::future::pending;
    use std::sync::Mutex;
    use std::time::Duration;

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No;

    impl MessageError for No {
        fn error_type(&self) -> &'static str {
            "no"
        }
    }

    impl MessageError for Infallible {
        fn error_type(&self) -> &'static str {
            match *self {}
        }
    }

    fn event(bodies: &[&str]) -> Value {
        let record = |(place, body): (usize, &&str)| {
            json!({
                "messageId": format!("m{place}"), "receiptHandle": "r", "body": body,
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1795167008000"},
                "messageAttributes": {}, "eventSource": "aws:sqs", "awsRegion": "local",
                "eventSourceARN": "arn:aws:sqs:local:000000000000:ExportsQueue",
            })
        };
        json!({"Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>()})
    }

    fn in_a_minute() -> Deadline {
        Deadline::after(Duration::from_mins(1))
    }

    #[tokio::test]
    async fn only_what_failed_is_named() {
        let handle = |message: Delivered| async move { if message.body == "bad" { Err(No) } else { Ok(()) } };
        let answered = answer(event(&["good", "bad", "good"]), in_a_minute(), handle).await.unwrap();
        assert_eq!(answered, json!({"batchItemFailures": [{"itemIdentifier": "m1"}]}));
        let answered = answer(event(&["good"]), in_a_minute(), handle).await.unwrap();
        assert_eq!(answered, json!({"batchItemFailures": []}));
    }

    #[tokio::test]
    async fn what_nobody_got_to_in_time_has_failed() {
        let handle = |message: Delivered| async move {
            if message.body == "slow" { pending::<Result<(), Infallible>>().await } else { Ok(()) }
        };
        let deadline = Deadline::after(Duration::from_millis(20));
        let answered = answer(event(&["fast", "slow", "late"]), deadline, handle).await.unwrap();
        let failed = ["m1", "m2"].map(|id| json!({"itemIdentifier": id}));
        assert_eq!(answered, json!({"batchItemFailures": failed}));
    }

    #[tokio::test]
    async fn the_queue_is_told_to_the_handler() {
        let handle = |message: Delivered| async move {
            if message.queue_arn.ends_with(":ExportsQueue") { Ok(()) } else { Err(No) }
        };
        let answered = answer(event(&["x"]), in_a_minute(), handle).await.unwrap();
        assert_eq!(answered, json!({"batchItemFailures": []}));
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_fails_alone() {
        let unreadable: [fn(&mut Value); 4] = [
            |record| record["attributes"]["SentTimestamp"] = "yesterday".into(),
            |record| record["attributes"]["ApproximateReceiveCount"] = Value::Null,
            |record| record["body"] = json!({"exportId": "exp_1"}),
            |record| drop(record.as_object_mut().unwrap().remove("eventSourceARN")),
        ];
        for (case, spoil) in unreadable.iter().enumerate() {
            let mut event = event(&["first", "spoiled", "last"]);
            spoil(&mut event["Records"][1]);
            let handled = Mutex::new(Vec::new());
            let handle = |message: Delivered| async {
                handled.lock().unwrap().push(message.body);
                Ok::<(), No>(())
            };
            let answered = answer(event, in_a_minute(), handle).await.unwrap();
            assert_eq!(answered, json!({"batchItemFailures": [{"itemIdentifier": "m1"}]}), "case {case}");
            assert_eq!(*handled.lock().unwrap(), ["first", "last"], "case {case}");
        }
    }

    #[tokio::test]
    async fn what_is_no_event_of_a_queue_fails_as_a_whole() {
        let mut unnamed = event(&["first", "unnamed"]);
        unnamed["Records"][1]["messageId"] = Value::Null;
        for event in [json!({}), json!({"Records": [{"eventSource": "aws:s3"}]}), json!(null), unnamed] {
            let handle = |_| async { panic!("nothing is handled") };
            let error = answer::<_, No>(event, in_a_minute(), handle).await.unwrap_err();
            assert!(error.to_string().contains("not a queue's"), "{error}");
        }
    }
}
