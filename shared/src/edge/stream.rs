//! The edge of table streams: batches of changes in, the position to continue at out.
//!
//! 1. The handler gets a whole batch, in order, and returns the first change that is not done.
//! 2. That change is named in `batchItemFailures`. Lambda then delivers the batch again from that
//!    change on, so later changes that were processed are processed twice. (The event source needs
//!    `ReportBatchItemFailures`.)
//! 3. An event that is not a batch of changes is a function error, and none of it is processed.
//!    Lambda splits the batch and retries, and sends the position of a batch that keeps failing to
//!    the event source's failure destination.

use std::future::Future;
use std::sync::Arc;

use lambda_runtime::LambdaEvent;
use serde::{Deserialize, Serialize};
use serde_dynamo::Item;
use serde_json::Value;

use crate::core::deadline::Deadline;
use crate::core::error_type::ErrorType;
use crate::edge::boot::BootError;
use crate::edge::invocation;
use crate::platform::stream::{Change, ChangeKind};

/// The event is not a batch of changes.
#[derive(Debug, thiserror::Error)]
#[error("the event is not a table stream's: {0}")]
struct InvalidEvent(#[from] serde_json::Error);

impl ErrorType for InvalidEvent {
    fn error_type(&self) -> &'static str {
        "invalid-event"
    }
}

#[derive(Debug, Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
struct Record {
    #[serde(rename = "eventName")]
    kind: ChangeKind,
    dynamodb: StreamRecord,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StreamRecord {
    sequence_number: String,
    keys: Item,
    old_image: Option<Item>,
    new_image: Option<Item>,
}

/// The answer to Lambda.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    batch_item_failures: Vec<Failure>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

/// Serves the batches of a table's stream with `handler` until Lambda stops the process. `app` is
/// built once. The handler returns the sequence number of the first change that is not done, if
/// there is one.
pub async fn serve<A, H, F>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    H: Fn(Arc<A>, Vec<Change>, Deadline) -> F + Send + Sync + 'static,
    F: Future<Output = Option<String>> + Send + 'static,
{
    let handler = Arc::new(handler);
    invocation::serve(function, app, move |app, event: LambdaEvent<Value>, deadline| {
        let handler = Arc::clone(&handler);
        async move {
            let changes = read(event.payload)?;
            let failed = handler(app, changes, deadline).await;
            let failures = failed.into_iter().map(|item_identifier| Failure { item_identifier });
            Ok::<_, InvalidEvent>(Answer { batch_item_failures: failures.collect() })
        }
    })
    .await
}

fn read(event: Value) -> Result<Vec<Change>, InvalidEvent> {
    let Batch { records } = serde_json::from_value(event)?;
    let changes = records.into_iter().map(|Record { kind, dynamodb }| Change {
        sequence_number: dynamodb.sequence_number,
        kind,
        keys: dynamodb.keys,
        old_image: dynamodb.old_image,
        new_image: dynamodb.new_image,
    });
    Ok(changes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_has_its_place_its_kind_and_the_new_item() {
        let event = json!({"Records": [
            {
                "eventID": "1", "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb",
                "awsRegion": "local", "eventSourceARN": "arn:aws:dynamodb:local:000000000000:table/T/stream/x",
                "dynamodb": {
                    "ApproximateCreationDateTime": 1_795_167_008.25, "Keys": {"id": {"S": "a"}},
                    "NewImage": {"id": {"S": "a"}, "n": {"N": "117.5"}, "m": {"M": {"x": {"BOOL": true}}}},
                    "SequenceNumber": "111", "SizeBytes": 26, "StreamViewType": "NEW_IMAGE",
                },
            },
            {"eventName": "REMOVE", "dynamodb": {
                "SequenceNumber": "112", "Keys": {"id": {"S": "a"}}, "OldImage": {"id": {"S": "a"}},
            }},
        ]});
        let changes = read(event).unwrap();
        let places: Vec<_> =
            changes.iter().map(|change| (change.sequence_number.as_str(), change.kind)).collect();
        assert_eq!(places, [("111", ChangeKind::Insert), ("112", ChangeKind::Remove)]);
        let item: Value = serde_dynamo::from_item(changes[0].new_image.clone().unwrap()).unwrap();
        assert_eq!(
            (&item["id"], item["n"].as_f64(), &item["m"]),
            (&json!("a"), Some(117.5), &json!({"x": true}))
        );
        assert_eq!((&changes[0].old_image, &changes[1].new_image), (&None, &None));
        assert_eq!(changes[1].old_image.as_ref(), Some(&changes[1].keys));
        assert_eq!(changes[1].keys, changes[0].keys);
    }

    #[test]
    fn anything_else_fails_the_invocation() {
        let nameless = json!({"Records": [{"eventName": "INSERT", "dynamodb": {}}]});
        for event in [json!(null), json!({}), json!({"Records": [{"messageId": "m"}]}), nameless] {
            assert!(read(event).unwrap_err().to_string().contains("not a table stream's"));
        }
    }
}
