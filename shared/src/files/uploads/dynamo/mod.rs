//! Uploads in DynamoDB: a row for each under its owner, and a row for each region that counts what
//! the owner has there.
//!
//! | attribute | |
//! |---|---|
//! | `ownerId` | partition key: the user's id |
//! | `uploadId` | sort key: `upl_…`, or [`USAGE`] and a region |
//! | `fileName`, `contentType`, `sizeBytes`, `sha256` | what was announced |
//! | `status`, `createdAt`, `readyAt`, `rejection` | its state |
//! | `region` | its home: whose bucket has it, and who changes the row |
//! | `s3UploadId`, `partSizeBytes` | if the file comes in parts; the first until it is READY |
//! | `tries` | how often its completion was tried |
//! | `sweepShard`, `sweepAt` | key of the index `sweep`: the shard, and when the upload is due for clean-up. A READY upload that is settled has neither |
//! | `bytes`, `files` | only in the rows [`USAGE`]: the sum of the region's uploads that have a row |
//!
//! An upload's row is written and removed in one transaction with the row [`USAGE`] of its home, so
//! that the sum is always that of the rows. All of these writes go to the DynamoDB of the home,
//! from any region: no row has two writers.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValue;
use jiff::Timestamp;
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::{MAX_TRIES, Rejection, SweepShard, Upload, UploadStatus};
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{UploadId, UserId};
use crate::platform::dynamo::{
    AttributeValue, DynamoError, Item, RowKey, RowRead, RowUpdate, Write, WriteOutcome, number, text,
};
use crate::platform::{aws, tables};

mod due;
mod list;
mod quota;

pub use quota::{Creation, Usage, UsageByRegion};

/// Prefix of the sort key of usage rows. The region follows.
pub const USAGE: &str = "usage#";

const STATUS: &[(&str, &str)] = &[("#status", "status")];

/// The upload has not ended: each end is final.
const IS_PENDING: &str = "#status = :pending";

/// A client reports that the file was sent. The try is counted first, since each one costs S3
/// calls. Only the home counts: another region learns from the refusal where that is.
const COUNT_TRY: RowUpdate = RowUpdate {
    update: "ADD tries :one",
    condition: Some(
        "#status = :pending AND #region = :region AND (attribute_not_exists(tries) OR tries < :most)",
    ),
    names: &[("#status", "status"), ("#region", "region")],
};

/// The file matches, and its multipart upload has ended. The upload is due for clean-up when its
/// links have ended.
const FINISH: RowUpdate = RowUpdate {
    update: "SET #status = :ready, readyAt = :now, sweepAt = :linksEnd REMOVE s3UploadId",
    condition: Some(IS_PENDING),
    names: STATUS,
};

/// The file does not match. The upload is still due for clean-up, and counts until then.
const REJECT: RowUpdate = RowUpdate {
    update: "SET #status = :rejected, rejection = :reason",
    condition: Some(IS_PENDING),
    names: STATUS,
};

/// Deletes an upload that still has the status that was read. It is due for clean-up when nothing
/// can write its objects any more.
const DELETE: RowUpdate = RowUpdate {
    update: "SET #status = :deleted, sweepShard = :shard, sweepAt = :sweepAt",
    condition: Some("#status = :seen"),
    names: STATUS,
};

/// The names of the actions of a transaction on an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UploadAction {
    Upload,
    Usage,
    Guard,
}

/// The result of changing an upload's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// It was changed; this is the upload now.
    Done(Upload),
    /// The condition failed. The current upload, if it has a row. Nothing was changed.
    Refused(Option<Upload>),
    /// A conflict with another write of the row. Nothing was changed.
    Conflict,
}

/// The result of a change that the clean-up makes too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOutcome {
    Done,
    /// The upload has changed since it was read. Nothing was changed.
    Refused,
    /// A conflict with another write of the same rows. Nothing was changed.
    Conflict,
    /// The lock's condition failed: a later run holds the lock. Nothing was changed. Only under a
    /// lock.
    Overtaken,
}

/// The uploads table. The API calls `GetItem`, `BatchGetItem`, `UpdateItem` and `Query`; the
/// clean-up `GetItem`, `UpdateItem`, and `Query` on the index `sweep`. In transactions they call
/// `PutItem`, `UpdateItem` and `DeleteItem`.
#[derive(Debug, Clone)]
pub struct DynamoUploads {
    client: Client,
    table: String,
    region: String,
}

impl DynamoUploads {
    /// Uploads of the region `AWS_REGION`, in the table that `UPLOADS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Self::in_region(client, env, aws::region(env)?)
    }

    /// The uploads of another region, through `client`. A global table has the same name
    /// everywhere.
    pub fn in_region(client: Client, env: &Env, region: String) -> Result<Self, ConfigError> {
        Ok(Self { client, table: tables::UPLOADS.name(env)?, region })
    }

    /// The home region of these uploads.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The owner's upload, with any status. Consistent.
    pub async fn read(&self, owner: &UserId, upload_id: &UploadId) -> Result<Option<Upload>, DynamoError> {
        self.item(owner, upload_id).await?.map(parse).transpose()
    }

    /// The same, as a part of a batch read.
    pub(super) fn row_read(&self, owner: &UserId, upload_id: &UploadId) -> RowRead<'_, Option<Upload>> {
        let row = RowKey { table: &self.table, key: key(owner, upload_id) };
        RowRead::new(row, |item| item.map(parse).transpose())
    }

    /// Counts a try to complete an upload of this region that is PENDING and has had fewer than
    /// [`MAX_TRIES`].
    pub async fn count_try(&self, owner: &UserId, upload_id: &UploadId) -> Result<Transition, DynamoError> {
        let region = (":region", text(self.region.as_str()));
        let values = [pending(), region, (":one", number(1)), (":most", number(MAX_TRIES))];
        self.change(&COUNT_TRY, (owner, upload_id), values).await
    }

    /// PENDING to READY.
    pub async fn finish(&self, upload: &Upload, now: Timestamp) -> Result<Transition, DynamoError> {
        let values = [
            pending(),
            (":ready", text(UploadStatus::Ready.as_str())),
            (":now", text(rfc3339(now))),
            (":linksEnd", text(rfc3339(upload.links_end()))),
        ];
        self.change(&FINISH, (&upload.owner_id, &upload.upload_id), values).await
    }

    /// PENDING to REJECTED.
    pub async fn reject(&self, upload: &Upload, rejection: Rejection) -> Result<Transition, DynamoError> {
        let values = [
            pending(),
            (":rejected", text(UploadStatus::Rejected.as_str())),
            (":reason", text(rejection.as_str())),
        ];
        self.change(&REJECT, (&upload.owner_id, &upload.upload_id), values).await
    }

    /// The status that was read to DELETED.
    pub async fn delete(&self, seen: &Upload, now: Timestamp) -> Result<Transition, DynamoError> {
        self.change(&DELETE, (&seen.owner_id, &seen.upload_id), delete_values(seen, now)).await
    }

    async fn change<const N: usize>(
        &self,
        change: &RowUpdate,
        (owner, upload_id): (&UserId, &UploadId),
        values: [(&str, AttributeValue); N],
    ) -> Result<Transition, DynamoError> {
        let request = change
            .request(&self.client, &self.table, key(owner, upload_id), values)
            .return_values(ReturnValue::AllNew);
        Ok(match Box::pin(request.send()).await.outcome("UpdateItem", upload_id.as_str())? {
            Write::Done(answer) => Transition::Done(parse(answer.attributes.unwrap_or_default())?),
            // An empty item means no row.
            Write::Refused(item) if item.is_empty() => Transition::Refused(None),
            Write::Refused(item) => Transition::Refused(Some(parse(item)?)),
            Write::Conflict => Transition::Conflict,
        })
    }

    async fn item(&self, owner: &UserId, upload_id: &UploadId) -> Result<Option<Item>, DynamoError> {
        let request = self.client.get_item().table_name(&self.table).set_key(Some(key(owner, upload_id)));
        let answer = Box::pin(request.consistent_read(true).send())
            .await
            .map_err(|error| DynamoError::new("GetItem", upload_id.as_str(), error))?;
        Ok(answer.item)
    }
}

/// The key of an upload's row.
pub fn key(owner_id: &UserId, upload_id: &UploadId) -> Item {
    row(owner_id, upload_id.as_str())
}

/// The key of the row that counts what a user has in `region`.
pub fn usage_key(owner_id: &UserId, region: &str) -> Item {
    row(owner_id, &format!("{USAGE}{region}"))
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

/// What [`IS_PENDING`] compares with.
fn pending() -> (&'static str, AttributeValue) {
    (":pending", text(UploadStatus::Pending.as_str()))
}

/// The values of [`DELETE`] for an upload as it was read.
fn delete_values(seen: &Upload, now: Timestamp) -> [(&'static str, AttributeValue); 4] {
    [
        (":deleted", text(UploadStatus::Deleted.as_str())),
        (":seen", text(seen.status.as_str())),
        (":shard", text(SweepShard::of(&seen.upload_id).key(&seen.region))),
        (":sweepAt", text(rfc3339(seen.settled_at(now)))),
    ]
}
