//! A user's uploads, newest first: their ids sort by time, and they are the sort key.

use std::error::Error;

use serde::{Deserialize, Serialize};

use super::{DynamoUploads, key, parse};
use crate::core::cursor::{self, Page};
use crate::core::ids::{UploadId, UserId};
use crate::files::uploads::{Upload, UploadError, UploadStatus};
use crate::platform::dynamo::{DynamoError, Item, text};

/// Name of the listing in its cursors.
const LISTING: &str = "uploads";

/// Uploads of one user, without the rows that count them.
const OF_OWNER: &str = "ownerId = :owner AND begins_with(uploadId, :prefix)";
const PREFIX: &str = "upl_";

/// Clients do not see tombstones. They are filtered out after the page was read: it may be shorter
/// than requested, or empty, and the cursor continues after it.
const NOT_DELETED: &str = "#status <> :deleted";

/// A position in the owner's list, without the owner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UploadCursor {
    upload_id: UploadId,
}

impl DynamoUploads {
    /// A page of the owner's uploads after `cursor`, newest first, without those that are DELETED:
    /// one query. Consistent.
    pub(in crate::files::uploads) async fn list(
        &self,
        owner: &UserId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Upload>, UploadError> {
        let start = cursor
            .map(|cursor| cursor::decode::<UploadCursor>(LISTING, cursor))
            .transpose()?
            .map(|cursor_after| key(owner, &cursor_after.upload_id));
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression(OF_OWNER)
            .filter_expression(NOT_DELETED)
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":owner", text(owner.as_str()))
            .expression_attribute_values(":prefix", text(PREFIX))
            .expression_attribute_values(":deleted", text(UploadStatus::Deleted.as_str()))
            .consistent_read(true)
            .scan_index_forward(false)
            .set_exclusive_start_key(start)
            .limit(cursor::rows_to_read(limit));
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("Query", format!("uploads of {owner}"), error))?;
        let mut items: Vec<Upload> =
            answer.items.unwrap_or_default().into_iter().map(parse).collect::<Result<_, _>>()?;
        let next_cursor = match (cursor::cut(&mut items, limit), answer.last_evaluated_key) {
            (Some(last), _) => Some(UploadCursor { upload_id: last.upload_id.clone() }),
            // Tombstones were left out, or DynamoDB's limit of a megabyte was reached.
            (None, Some(key)) => Some(cursor_after(key)?),
            (None, None) => None,
        };
        let next_cursor = next_cursor.as_ref().map(encode).transpose()?;
        Ok(Page { items, next_cursor })
    }
}

fn cursor_after(key: Item) -> Result<UploadCursor, DynamoError> {
    serde_dynamo::aws_sdk_dynamodb_1::from_item(key).map_err(|error| unreadable(error.into()))
}

fn encode(cursor_after: &UploadCursor) -> Result<String, DynamoError> {
    cursor::encode(LISTING, cursor_after).map_err(|error| unreadable(error.into()))
}

fn unreadable(error: Box<dyn Error + Send + Sync>) -> DynamoError {
    DynamoError::unreadable("Query", "the end of a page of uploads", error)
}
