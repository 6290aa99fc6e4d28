//! The edge of queues: SQS events in, the messages that failed out.
//!
//! 1. The messages of an event are processed one after the other, each until the invocation's
//!    deadline. Messages that were not reached have failed. An unreadable message fails alone.
//! 2. A failed message is logged and counted here, once, and named in `batchItemFailures`. The
//!    invocation succeeds, so that the other messages are done. (The event source needs
//!    `ReportBatchItemFailures`; without it, no message would fail.)
//! 3. An event that is not of a queue, or has a message without an id, is a function error. None of
//!    its messages is processed.

use std::collections::BTreeSet;
use std::future::Future;
use std::num::ParseIntError;
use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsMessage};
use jiff::Timestamp;
use lambda_runtime::LambdaEvent;
use serde::Deserialize;
use serde_json::Value;

use crate::core::deadline::{Deadline, DeadlineExceeded};
use crate::core::error_type::ErrorType;
use crate::edge::boot::BootError;
use crate::edge::invocation;
use crate::platform::queue::Delivered;
use crate::platform::telemetry::{Metric, chain, count_case};

/// The `error_type` of a message that did not end in time.
const OUT_OF_TIME: &str = "message-out-of-time";
/// The `error_type` of a message that cannot be read.
const UNREADABLE: &str = "message-unreadable";

/// Lambda's event. Messages are parsed one by one, so that an unreadable one fails alone.
#[derive(Debug, Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Value>,
}

/// Why a message is unreadable.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    /// It is not an SQS message.
    #[error("it is not a message of SQS")]
    Form(#[from] serde_json::Error),
    /// A member is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An attribute is not a number.
    #[error("an attribute is not a number")]
    Number(#[from] ParseIntError),
    /// The time is beyond the calendar.
    #[error("SentTimestamp is beyond the calendar")]
    Time(#[from] jiff::Error),
}

/// The event is not a batch of messages with ids.
#[derive(Debug, thiserror::Error)]
enum InvalidEvent {
    /// It has no list of records.
    #[error("the event is not a queue's: {0}")]
    Form(#[from] serde_json::Error),
    /// A record has no id by which it could be reported as failed.
    #[error("the event is not a queue's: a record has no messageId")]
    NoId,
}

impl ErrorType for InvalidEvent {
    fn error_type(&self) -> &'static str {
        "invalid-event"
    }
}

fn read(record: Value, deadline: Deadline) -> Result<Delivered, Unreadable> {
    let message: SqsMessage = serde_json::from_value(record)?;
    let attribute = |name| message.attributes.get(name).ok_or(Unreadable::Missing(name));
    let sent_ms = attribute("SentTimestamp")?.parse()?;
    Ok(Delivered {
        receive_count: attribute("ApproximateReceiveCount")?.parse()?,
        sent_at: Timestamp::from_millisecond(sent_ms)?,
        body: message.body.ok_or(Unreadable::Missing("body"))?,
        message_id: message.message_id.ok_or(Unreadable::Missing("messageId"))?,
        receipt_handle: message.receipt_handle.ok_or(Unreadable::Missing("receiptHandle"))?,
        queue_arn: message.event_source_arn.ok_or(Unreadable::Missing("eventSourceARN"))?,
        deadline,
    })
}

/// Serves the events of queues with `handler` until Lambda stops the process. `app` is built once.
pub async fn serve<A, H, F, E>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    H: Fn(Arc<A>, Delivered) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: ErrorType + Send + 'static,
{
    let handler = Arc::new(handler);
    invocation::serve(function, app, move |app, event: LambdaEvent<Value>, deadline| {
        let handler = Arc::clone(&handler);
        async move { answer(event.payload, deadline, |message| handler(Arc::clone(&app), message)).await }
    })
    .await
}

/// Processes an event's messages. The answer names those that failed.
async fn answer<F, E>(
    event: Value,
    deadline: Deadline,
    handle: impl Fn(Delivered) -> F,
) -> Result<SqsBatchResponse, InvalidEvent>
where
    F: Future<Output = Result<(), E>>,
    E: ErrorType,
{
    let Batch { records } = serde_json::from_value(event)?;
    let id = |record: &Value| record["messageId"].as_str().map(str::to_owned).ok_or(InvalidEvent::NoId);
    let message_ids: Vec<String> = records.iter().map(id).collect::<Result<_, _>>()?;
    let mut failed = BTreeSet::new();
    for (message_id, record) in message_ids.into_iter().zip(records) {
        let message = match read(record, deadline) {
            Ok(message) => message,
            Err(error) => {
                count_case(Metric::Errors, UNREADABLE, 1);
                tracing::error!(
                    message_id,
                    error_type = UNREADABLE,
                    error = chain(&error),
                    "a message failed"
                );
                failed.insert(message_id);
                continue;
            }
        };
        let receive_count = message.receive_count;
        tracing::info!(message_id, receive_count, queue = message.queue_arn, "delivered");
        // Boxed: the size of the future depends on the handler.
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
    let mut answer = SqsBatchResponse::default();
    answer.set_failures(failed);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::convert::Infallible;
    use std::future::pending;
    use std::sync::Mutex;
    use std::time::Duration;

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No;

    impl ErrorType for No {
        fn error_type(&self) -> &'static str {
            "no"
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
        let answered = json!(answer(event(&["good", "bad", "good"]), in_a_minute(), handle).await.unwrap());
        assert_eq!(answered, json!({"batchItemFailures": [{"itemIdentifier": "m1"}]}));
        let answered = json!(answer(event(&["good"]), in_a_minute(), handle).await.unwrap());
        assert_eq!(answered, json!({"batchItemFailures": []}));
    }

    #[tokio::test]
    async fn what_nobody_got_to_in_time_has_failed() {
        let handle = |message: Delivered| async move {
            if message.body == "slow" { pending::<Result<(), Infallible>>().await } else { Ok(()) }
        };
        let deadline = Deadline::after(Duration::from_millis(20));
        let answered = json!(answer(event(&["fast", "slow", "late"]), deadline, handle).await.unwrap());
        let failed = ["m1", "m2"].map(|id| json!({"itemIdentifier": id}));
        assert_eq!(answered, json!({"batchItemFailures": failed}));
    }

    #[tokio::test]
    async fn the_queue_is_told_to_the_handler() {
        let handle = |message: Delivered| async move {
            if message.queue_arn.ends_with(":ExportsQueue") { Ok(()) } else { Err(No) }
        };
        let answered = json!(answer(event(&["x"]), in_a_minute(), handle).await.unwrap());
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
            let answered = json!(answer(event, in_a_minute(), handle).await.unwrap());
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
