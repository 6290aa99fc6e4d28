//! Uploads in DynamoDB: a row each under its owner, and one row that counts what the owner has.
//!
//! | attribute | |
//! |---|---|
//! | `ownerId` | partition key: the user's id |
//! | `uploadId` | sort key: `upl_…`, or [`USAGE`] |
//! | `fileName`, `contentType`, `sizeBytes`, `sha256` | what was announced |
//! | `status`, `createdAt`, `readyAt`, `rejection` | what became of it |
//! | `region` | whose bucket has it |
//! | `s3UploadId`, `partSizeBytes` | if it comes in parts; the first until it is READY |
//! | `tries` | how often it was tried to complete it |
//! | `sweepShard`, `sweepAt` | key of the index `sweep`: who looks after it, and when. Not of one that is READY and settled |
//! | `bytes`, `files` | of the row [`USAGE`]: what all uploads take that have a row |
//!
//! A row comes and goes in one transaction with the row [`USAGE`], so that the sum is always that of the rows.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};
use jiff::Timestamp;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{Ending, MAX_FILES, SweepShard, Upload, UploadStatus};
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{UploadId, UserId};
use crate::platform::dynamo::{
    AttributeValue, CancellationReason, Change, DynamoError, Item, Transaction, number, text, transact,
};
use crate::platform::tables;

mod list;
mod rows;
mod sweep;

pub use rows::DynamoUploads;
pub use sweep::DynamoSweep;

/// Sort key of the row that counts what a user has.
pub const USAGE: &str = "usage";

/// Upload ids are new. What could be in the way is the same upload, written by a try whose answer got lost.
const IS_NEW: &str = "attribute_not_exists(uploadId)";

/// Takes a file from its user's quota, if enough is left. A user's first file makes the row; that it is not larger than the
/// whole quota was seen before.
const RESERVE: Change = Change {
    update: "ADD #bytes :size, #files :one",
    condition: Some("attribute_not_exists(uploadId) OR (#bytes <= :bytesBefore AND #files <= :filesBefore)"),
    names: USAGE_NAMES,
};

/// Gives a file back to its user's quota. The row is there: the file is counted in it.
const RELEASE: Change = Change {
    update: "SET #bytes = #bytes - :size, #files = #files - :one",
    condition: Some("#bytes >= :size AND #files >= :one"),
    names: USAGE_NAMES,
};

const USAGE_NAMES: &[(&str, &str)] = &[("#bytes", "bytes"), ("#files", "files")];

/// Ends an upload that stands as it was seen: whoever changed it meanwhile has to be looked at first. It is looked after when
/// nothing can write its objects any more.
const DELETE: Change = Change {
    update: "SET #status = :deleted, sweepShard = :shard, sweepAt = :sweepAt",
    condition: Some("#status = :seen"),
    names: &[("#status", "status")],
};

/// The tombstone is still one, and its time has come: the index may have shown the upload as it stood before its user deleted
/// it, which is too early.
const IS_DUE_TOMBSTONE: &str = "#status = :deleted AND sweepAt < :before";

/// The key of an upload's row.
pub fn key(owner_id: &UserId, upload_id: &UploadId) -> Item {
    row(owner_id, upload_id.as_str())
}

/// The key of the row that counts what a user has.
pub fn usage_key(owner_id: &UserId) -> Item {
    row(owner_id, USAGE)
}

fn row(owner_id: &UserId, name: &str) -> Item {
    Item::from([
        (tables::UPLOADS.key.hash.to_owned(), text(owner_id.as_str())),
        ("uploadId".to_owned(), text(name)),
    ])
}

/// Reads an upload.
pub fn parse(item: Item) -> Result<Upload, DynamoError> {
    from_item(item).map_err(|error| DynamoError::unreadable("read", "an upload", error))
}

/// The writes that change an upload together with its user's quota.
#[derive(Debug, Clone)]
pub struct UploadWrites {
    table: String,
    region: String,
}

impl UploadWrites {
    /// Writes to the table that `UPLOADS_TABLE` names, from the region `AWS_REGION`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { table: tables::UPLOADS.name(env)?, region: crate::platform::aws::region(env)? })
    }

    /// The uploads table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The region whose bucket new uploads go to.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// A new upload: its row first, then the quota of `quota_bytes`, which must have room for it
    /// and not be smaller than the file alone. An upload that is not READY
    /// by `unfinished_for` is looked after.
    pub fn created(
        &self,
        upload: &Upload,
        unfinished_for: Duration,
        quota_bytes: u64,
    ) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let mut item: Item = to_item(upload)
            .map_err(|error| DynamoError::unreadable("write", upload.upload_id.as_str(), error))?;
        item.insert("sweepShard".to_owned(), text(SweepShard::of(&upload.upload_id).key(&upload.region)));
        item.insert("sweepAt".to_owned(), text(after(upload.created_at, unfinished_for)));
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(IS_NEW)
            .build()
            .map_err(|error| DynamoError::unreadable("build", &self.table, error))?;
        let values = [
            (":size", number(upload.size_bytes)),
            (":one", number(1)),
            (":bytesBefore", number(quota_bytes.saturating_sub(upload.size_bytes))),
            (":filesBefore", number(MAX_FILES - 1)),
        ];
        Ok(vec![
            TransactWriteItem::builder().put(put).build(),
            RESERVE.action(&self.table, usage_key(&upload.owner_id), values)?,
        ])
    }

    /// The values of [`DELETE`] for an upload as it was seen.
    fn delete_values(seen: &Upload, now: Timestamp) -> [(&'static str, AttributeValue); 4] {
        [
            (":deleted", text(UploadStatus::Deleted.as_str())),
            (":seen", text(seen.status.as_str())),
            (":shard", text(SweepShard::of(&seen.upload_id).key(&seen.region))),
            (":sweepAt", text(rfc3339(seen.settled_at(now)))),
        ]
    }

    /// The tombstone that was seen, gone: its row first, then the quota.
    fn forgotten(&self, seen: &Upload, due_before: Timestamp) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key(&seen.owner_id, &seen.upload_id)))
            .condition_expression(IS_DUE_TOMBSTONE)
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":deleted", text(UploadStatus::Deleted.as_str()))
            .expression_attribute_values(":before", text(rfc3339(due_before)))
            .build()
            .map_err(|error| DynamoError::unreadable("build", &self.table, error))?;
        let release = [(":size", number(seen.size_bytes)), (":one", number(1))];
        Ok(vec![
            TransactWriteItem::builder().delete(delete).build(),
            RELEASE.action(&self.table, usage_key(&seen.owner_id), release)?,
        ])
    }
}

/// Removes a tombstone that is due, and gives it back to the quota. A usage row that cannot give it back says something else
/// than the uploads do: no other try will change that.
async fn forget(
    client: &Client,
    writes: &UploadWrites,
    seen: &Upload,
    due_before: Timestamp,
) -> Result<Ending, DynamoError> {
    use CancellationReason::ConditionFailed;

    let actions = writes.forgotten(seen, due_before)?;
    let reasons = match transact(client, seen.upload_id.as_str(), actions).await? {
        Transaction::Committed => return Ok(Ending::Done),
        Transaction::Cancelled(reasons) => reasons,
    };
    match reasons.as_slice() {
        [ConditionFailed(_), ..] => Ok(Ending::Refused),
        [_, ConditionFailed(_)] => {
            let usage = format!("the usage of {}", seen.owner_id);
            Err(DynamoError::unreadable("TransactWriteItems", usage, "it is less than the upload alone"))
        }
        _ => Ok(Ending::Busy),
    }
}

fn after(at: Timestamp, wait: Duration) -> String {
    rfc3339(at.checked_add(wait).unwrap_or(Timestamp::MAX))
}
