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
//! | `sweepShard`, `sweepAt` | key of the index `sweep`, unless it is READY: who looks after it, and when |
//! | `bytes`, `files` | of the row [`USAGE`]: what all uploads that are not DELETED take |
//!
//! The two rows change in one transaction, so that the sum is always that of the rows.

use std::time::Duration;

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use jiff::Timestamp;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{MAX_FILES, SweepShard, TOMBSTONE, Upload, UploadStatus};
use crate::clock::rfc3339;
use crate::dynamo::{CancellationReason, Change, DynamoError, Item, number, text};
use crate::env::{ConfigError, Env};
use crate::ids::{UploadId, UserId};
use crate::tables;

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

/// Ends an upload that stands as it was seen: whoever changed it meanwhile has to be looked at first. It is looked after once
/// more, for what links and running requests may still write.
const DELETE: Change = Change {
    update: "SET #status = :deleted, sweepShard = :shard, sweepAt = :sweepAt",
    condition: Some("#status = :seen"),
    names: &[("#status", "status")],
};

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

/// The transactions that change an upload together with its user's quota.
#[derive(Debug, Clone)]
pub struct UploadWrites {
    table: String,
    region: String,
}

impl UploadWrites {
    /// Writes to the table that `UPLOADS_TABLE` names, from the region `AWS_REGION`.
    pub fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { table: tables::UPLOADS.name(env)?, region: crate::aws::region(env)? })
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

    /// The upload as it was seen, deleted: its row first, then the quota. It must not be DELETED already.
    pub fn deleted(&self, seen: &Upload, now: Timestamp) -> Result<Vec<TransactWriteItem>, DynamoError> {
        let delete = [
            (":deleted", text(UploadStatus::Deleted.as_str())),
            (":seen", text(seen.status.as_str())),
            (":shard", text(SweepShard::of(&seen.upload_id).key(&seen.region))),
            (":sweepAt", text(after(now, TOMBSTONE))),
        ];
        let release = [(":size", number(seen.size_bytes)), (":one", number(1))];
        Ok(vec![
            DELETE.action(&self.table, key(&seen.owner_id, &seen.upload_id), delete)?,
            RELEASE.action(&self.table, usage_key(&seen.owner_id), release)?,
        ])
    }
}

/// Why an upload was not deleted.
enum Refusal {
    /// It stands otherwise than it was seen: its row, empty if there is none.
    Row(Item),
    /// Others were at the same rows.
    Busy,
}

/// Reads why the transaction of [`UploadWrites::deleted`] did nothing. A usage row that cannot give the upload back says
/// something else than the uploads do. No other try will change that.
fn refusal_of(seen: &Upload, reasons: &[CancellationReason]) -> Result<Refusal, DynamoError> {
    use CancellationReason::ConditionFailed;

    match reasons {
        [ConditionFailed(row), ..] => Ok(Refusal::Row(row.clone())),
        [_, ConditionFailed(_), ..] => {
            let usage = format!("the usage of {}", seen.owner_id);
            Err(DynamoError::unreadable("TransactWriteItems", usage, "it is less than the upload alone"))
        }
        _ => Ok(Refusal::Busy),
    }
}

fn after(at: Timestamp, wait: Duration) -> String {
    rfc3339(at.checked_add(wait).unwrap_or(Timestamp::MAX))
}
