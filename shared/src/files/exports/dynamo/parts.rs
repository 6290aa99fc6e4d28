//! The parts of a file: one item each, so that a checkpoint writes one part and not the whole list.
//!
//! An item is written in the transaction that raises the number of parts in the export's row, under
//! the lock's condition. Its key contains the mark of its upload, which is unique. So the upload
//! and the number of parts in the row identify one list, and only the lock's holder adds to it.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{ITEM, row};
use crate::core::ids::{AttemptId, ExportId};
use crate::files::exports::{Checkpoint, Export, Part};
use crate::platform::dynamo::{DynamoError, Item, number, text};
use crate::platform::tables::EXPIRES_AT;

/// The parts of one upload, in the order of their numbers.
const OF_UPLOAD: &str = "exportId = :export AND begins_with(#item, :prefix)";

/// Key prefix of the items of an upload.
fn prefix(mark: &AttemptId) -> String {
    format!("part#{mark}#")
}

/// Writes the last part of `checkpoint`. The item expires with its export's row.
pub(super) fn put(
    table: &str,
    export: &Export,
    checkpoint: &Checkpoint,
    part: &Part,
) -> Result<TransactWriteItem, DynamoError> {
    let target = || export.export_id.to_string();
    let mut item: Item = to_item(part).map_err(|error| DynamoError::unreadable("write", target(), error))?;
    let name = format!("{}{:05}", prefix(&checkpoint.attempt.mark), checkpoint.parts);
    item.extend(row(export.export_id.as_str(), &name));
    item.insert(EXPIRES_AT.to_owned(), number(export.expires_at));
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .build()
        .map_err(|error| DynamoError::unreadable("build", target(), error))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

/// The parts of an upload. Consistent.
pub(super) async fn list(
    client: &Client,
    table: &str,
    id: &ExportId,
    mark: &AttemptId,
) -> Result<Vec<Part>, DynamoError> {
    let mut parts = Vec::new();
    let mut start = None;
    loop {
        let request = client
            .query()
            .table_name(table)
            .key_condition_expression(OF_UPLOAD)
            .expression_attribute_names("#item", ITEM)
            .expression_attribute_values(":export", text(id.as_str()))
            .expression_attribute_values(":prefix", text(prefix(mark)))
            .consistent_read(true)
            .set_exclusive_start_key(start);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("Query", format!("parts of {id}"), error))?;
        for item in answer.items.unwrap_or_default() {
            let part =
                from_item(item).map_err(|error| DynamoError::unreadable("Query", id.as_str(), error))?;
            parts.push(part);
        }
        start = answer.last_evaluated_key;
        if start.is_none() {
            return Ok(parts);
        }
    }
}
