//! The edge of a buffer's consumer: one function for every kind of buffer.
//!
//! | event | from | answer |
//! |---|---|---|
//! | `Records`, with an id and a body each | the event source mapping of an SQS queue | `batchItemFailures` |
//! | `records`, a list for each partition of a topic | the event source mapping of a Kafka topic | a function error if a message failed |
//! | `scheduledTime`, or `{"drain": {}}` | a schedule, or an operator | the result of the run |
//!
//! 1. The consumer gets all messages of a batch and returns which ones failed.
//! 2. *SQS:* failed messages are delivered again after their visibility timeout, and go to the
//!    dead-letter queue after several receives. (The event source needs `ReportBatchItemFailures`.)
//! 3. *Kafka:* offsets are committed in order, so Lambda delivers the whole batch again, until it
//!    succeeds or the topic's retention ends. Partial batch responses exist with provisioned
//!    pollers only. (Lambda's developer guide, "Configuring error handling controls for Kafka event
//!    sources".) A consumer therefore moves a message that can never be written to a dead-letter
//!    queue, and fails only for temporary errors.
//! 4. Work that has not ended at the deadline has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lambda_runtime::LambdaEvent;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::deadline::{Deadline, DeadlineExceeded};
use crate::core::error_type::ErrorType;
use crate::edge::boot::BootError;
use crate::edge::invocation;

/// Implemented by each function that consumes a buffer.
pub trait Consumer: Send + Sync + 'static {
    /// Why a scheduled run failed.
    type Error: ErrorType + Send + 'static;

    /// Writes the messages of a batch. Returns the indexes of those that failed; the consumer has
    /// logged why.
    fn write(&self, messages: &[Vec<u8>], deadline: Deadline)
    -> impl Future<Output = BTreeSet<usize>> + Send;

    /// A scheduled run: polls a buffer that has no event source, and reports how much waits.
    fn run_scheduled(&self, deadline: Deadline) -> impl Future<Output = Result<Value, Self::Error>> + Send;
}

/// The event of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Invocation {
    /// Messages of a queue, each with its id.
    Queue(Vec<(String, Vec<u8>)>),
    /// Messages of a topic.
    Topic(Vec<Vec<u8>>),
    Scheduled,
}

/// Why an invocation failed.
#[derive(Debug, thiserror::Error)]
enum Failure<E> {
    /// The event is not known. Delivering it again does not help.
    #[error("the event is not a batch of a queue or a topic, a schedule's event or {{\"drain\": {{}}}}: {0}")]
    Event(String),
    /// Messages of a topic were not written, and are delivered again.
    #[error("{failed} of {all} messages of the batch were not written")]
    Messages { failed: usize, all: usize },
    #[error(transparent)]
    Scheduled(E),
    /// It took too long.
    #[error(transparent)]
    TooLate(#[from] DeadlineExceeded),
}

impl<E: ErrorType + 'static> ErrorType for Failure<E> {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Event(_) => "invalid-event",
            Self::Messages { .. } => "messages-failed",
            Self::Scheduled(error) => error.error_type(),
            Self::TooLate(_) => "out-of-time",
        }
    }
}

/// An SQS message, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueRecord {
    message_id: String,
    body: String,
}

/// A Kafka message, as far as it is read. A message without a value is a tombstone.
#[derive(Deserialize)]
struct TopicRecord {
    #[serde(default)]
    value: Option<String>,
}

fn read(mut event: Value) -> Result<Invocation, String> {
    let text = |error: serde_json::Error| error.to_string();
    if event.get("Records").is_some() {
        let records: Vec<QueueRecord> = serde_json::from_value(event["Records"].take()).map_err(text)?;
        let message = |QueueRecord { message_id, body }| (message_id, body.into_bytes());
        Ok(Invocation::Queue(records.into_iter().map(message).collect()))
    } else if event.get("records").is_some() {
        let partitions: BTreeMap<String, Vec<TopicRecord>> =
            serde_json::from_value(event["records"].take()).map_err(text)?;
        let value = |TopicRecord { value }| STANDARD.decode(value.unwrap_or_default());
        let values = partitions.into_values().flatten().map(value).collect::<Result<_, _>>();
        Ok(Invocation::Topic(values.map_err(|error| format!("a value is not base64: {error}"))?))
    } else if event.get("scheduledTime").is_some() || event == json!({"drain": {}}) {
        Ok(Invocation::Scheduled)
    } else {
        Err("it has neither Records nor records nor scheduledTime".to_owned())
    }
}

/// Serves the events of a buffer with `consumer` until Lambda stops the process.
pub async fn serve<C: Consumer>(function: &'static str, consumer: C) -> Result<(), BootError> {
    invocation::serve(function, consumer, |consumer, event: LambdaEvent<Value>, deadline| async move {
        answer(consumer, event.payload, deadline).await
    })
    .await
}

async fn answer<C: Consumer>(
    consumer: Arc<C>,
    event: Value,
    deadline: Deadline,
) -> Result<Value, Failure<C::Error>> {
    match read(event).map_err(Failure::Event)? {
        Invocation::Queue(messages) => {
            let (ids, bodies): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
            let failed = write(&*consumer, &bodies, deadline).await?;
            let failures: Vec<_> = failed
                .iter()
                .filter_map(|place| ids.get(*place))
                .map(|id| json!({"itemIdentifier": id}))
                .collect();
            Ok(json!({"batchItemFailures": failures}))
        }
        Invocation::Topic(bodies) => match write(&*consumer, &bodies, deadline).await?.len() {
            0 => Ok(json!({"written": bodies.len()})),
            failed => Err(Failure::Messages { failed, all: bodies.len() }),
        },
        Invocation::Scheduled => {
            deadline.cut_off(Box::pin(consumer.run_scheduled(deadline))).await?.map_err(Failure::Scheduled)
        }
    }
}

async fn write<C: Consumer>(
    consumer: &C,
    bodies: &[Vec<u8>],
    deadline: Deadline,
) -> Result<BTreeSet<usize>, DeadlineExceeded> {
    tracing::info!(messages = bodies.len(), "delivered");
    deadline.cut_off(Box::pin(consumer.write(bodies, deadline))).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::time::Duration;

    /// Fails for every message that says `bad`, and never ends for one that says `slow`.
    struct Picky;

    impl Consumer for Picky {
        type Error = Failure<NoError>;

        async fn write(&self, messages: &[Vec<u8>], _: Deadline) -> BTreeSet<usize> {
            if messages.iter().any(|message| message == b"slow") {
                std::future::pending::<Infallible>().await;
            }
            let failed = messages.iter().enumerate().filter(|(_, message)| *message == b"bad");
            failed.map(|(place, _)| place).collect()
        }

        async fn run_scheduled(&self, _: Deadline) -> Result<Value, Self::Error> {
            Ok(json!({"turn": true}))
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct NoError;

    impl ErrorType for NoError {
        fn error_type(&self) -> &'static str {
            "no"
        }
    }

    fn queue(bodies: &[&str]) -> Value {
        let record = |(place, body): (usize, &&str)| json!({"messageId": format!("m{place}"), "body": body});
        json!({"Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>()})
    }

    /// Lambda's event: developer guide, "Using Lambda with self-managed Apache Kafka", "Example
    /// event".
    fn topic(values: &[&[u8]]) -> Value {
        let record = |(offset, value): (usize, &&[u8])| {
            json!({
                "topic": "activity", "partition": 0, "offset": offset, "timestamp": 1_545_084_650_987_i64,
                "timestampType": "CREATE_TIME", "value": STANDARD.encode(value), "headers": [],
            })
        };
        json!({
            "eventSource": "SelfManagedKafka", "bootstrapServers": "broker:9092",
            "records": {"activity-0": values.iter().enumerate().map(record).collect::<Vec<_>>()},
        })
    }

    async fn answered(event: Value) -> Result<Value, String> {
        let deadline = Deadline::after(Duration::from_millis(50));
        answer(Arc::new(Picky), event, deadline).await.map_err(|error| error.error_type().to_owned())
    }

    #[tokio::test]
    async fn of_a_queue_only_what_failed_comes_again() {
        let failed = json!({"batchItemFailures": [{"itemIdentifier": "m1"}]});
        assert_eq!(answered(queue(&["good", "bad"])).await, Ok(failed));
        assert_eq!(answered(queue(&["good"])).await, Ok(json!({"batchItemFailures": []})));
    }

    #[tokio::test]
    async fn of_a_topic_the_whole_batch_comes_again() {
        assert_eq!(answered(topic(&[b"good", b"bad"])).await, Err("messages-failed".to_owned()));
        assert_eq!(answered(topic(&[b"good", b"\xff\x00"])).await, Ok(json!({"written": 2})));
    }

    #[tokio::test]
    async fn what_does_not_end_in_time_has_failed() {
        for event in [queue(&["slow"]), topic(&[b"slow"])] {
            assert_eq!(answered(event).await, Err("out-of-time".to_owned()));
        }
    }

    #[tokio::test]
    async fn a_schedule_and_an_operator_give_a_turn_and_nothing_else_does() {
        for event in [json!({"scheduledTime": "2026-11-20T02:00:00Z", "attempt": "1"}), json!({"drain": {}})]
        {
            assert_eq!(answered(event).await, Ok(json!({"turn": true})));
        }
        for event in [
            json!(null),
            json!({}),
            json!({"drain": {"all": true}}),
            json!({"Records": [{"body": "no id"}]}),
            json!({"records": {"activity-0": [{"value": "not base64!"}]}}),
            json!({"records": []}),
        ] {
            assert_eq!(answered(event).await, Err("invalid-event".to_owned()));
        }
    }
}
