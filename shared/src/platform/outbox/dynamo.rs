//! Events as rows of the outbox table: the event's members, `version`, and `expiresAt`.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use serde::Serialize;

use super::{Event, RETENTION, VERSION};
use crate::platform::dynamo::DynamoError;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    #[serde(flatten)]
    event: &'a Event,
    version: u32,
    expires_at: i64,
}

/// Writes `event` in the transaction of its change. Its id is new, or another region has written
/// the same event: then the last write wins, and each region publishes its own under the same id.
pub fn put(table: &str, event: &Event) -> Result<TransactWriteItem, DynamoError> {
    let expires_at = event.occurred_at.checked_add(RETENTION).unwrap_or(event.occurred_at).as_second();
    let item = serde_dynamo::aws_sdk_dynamodb_1::to_item(Row { event, version: VERSION, expires_at })
        .map_err(|error| DynamoError::unreadable("write", event.event_id.as_str(), error))?;
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .build()
        .map_err(|error| DynamoError::unreadable("build", table, error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}
