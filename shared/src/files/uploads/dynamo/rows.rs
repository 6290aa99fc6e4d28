//! One upload: written, read, changed.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValue;
use jiff::Timestamp;
use serde::Deserialize;
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::{DELETE, UploadWrites, key, list, parse};
use crate::core::cursor::Page;
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{UploadId, UserId};
use crate::files::uploads::{
    Creation, Ending, MAX_TRIES, Rejection, Transition, Upload, UploadError, UploadLimits, UploadRows,
    UploadStatus, Uploads, Usage,
};
use crate::platform::dynamo::{
    self, AttributeValue, CancellationReason::ConditionFailed, DynamoError, Item, RowKey, RowRead,
    Transaction, Write, WriteOutcome, number, text, transact,
};

/// Somebody says that the file was sent. What the answer leads to is asked of S3, which is not for nothing.
const COUNT_TRY: dynamo::Change = dynamo::Change {
    update: "ADD tries :one",
    condition: Some("#status = :pending AND (attribute_not_exists(tries) OR tries < :most)"),
    names: STATUS,
};

/// The file is what was announced, and S3 knows nothing of its parts. The upload is looked after once more, when its links have
/// ended.
const FINISH: dynamo::Change = dynamo::Change {
    update: "SET #status = :ready, readyAt = :now, sweepAt = :linksEnd REMOVE s3UploadId",
    condition: Some(IS_PENDING),
    names: STATUS,
};

/// The file is something else. The clean-up still looks after the upload, which counts until it is deleted.
const REJECT: dynamo::Change = dynamo::Change {
    update: "SET #status = :rejected, rejection = :reason",
    condition: Some(IS_PENDING),
    names: STATUS,
};

/// Nobody has ended the upload: each outcome is for good.
const IS_PENDING: &str = "#status = :pending";

const STATUS: &[(&str, &str)] = &[("#status", "status")];

/// The uploads table. Calls `GetItem`, `BatchGetItem`, `UpdateItem` and `Query`; in transactions `PutItem`, `UpdateItem` and
/// `DeleteItem`.
#[derive(Debug, Clone)]
pub struct DynamoUploads {
    client: Client,
    writes: UploadWrites,
}

impl DynamoUploads {
    /// Uploads in the table that `UPLOADS_TABLE` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, writes: UploadWrites::from_env(env)? })
    }

    async fn change<const N: usize>(
        &self,
        change: &dynamo::Change,
        (owner, upload_id): (&UserId, &UploadId),
        values: [(&str, AttributeValue); N],
    ) -> Result<Transition, DynamoError> {
        let request = change
            .request(&self.client, self.writes.table(), key(owner, upload_id), values)
            .return_values(ReturnValue::AllNew);
        Ok(match Box::pin(request.send()).await.outcome("UpdateItem", upload_id.as_str())? {
            Write::Done(answer) => Transition::Done(parse(answer.attributes.unwrap_or_default())?),
            Write::Refused(item) => Transition::Refused(stands(item)?),
            Write::Conflict => Transition::Busy,
        })
    }
}

impl<F> Uploads<DynamoUploads, F> {
    /// Reads the upload of that id. Consistent.
    pub fn upload(&self, owner: &UserId, upload_id: &UploadId) -> RowRead<'_, Option<Upload>> {
        let row = RowKey { table: self.rows.writes.table(), key: key(owner, upload_id) };
        RowRead::new(row, |item| item.map(parse).transpose())
    }
}

impl UploadRows for DynamoUploads {
    async fn create(&self, upload: &Upload, limits: &UploadLimits) -> Result<Creation, DynamoError> {
        let actions = self.writes.created(upload, limits.unfinished_for, limits.quota_bytes)?;
        match transact(&self.client, upload.upload_id.as_str(), actions).await? {
            Transaction::Committed => Ok(Creation::Created),
            Transaction::Cancelled(reasons) => match reasons.as_slice() {
                // The row is there: an earlier try wrote it, whose answer got lost. That try may also have filled the quota.
                [ConditionFailed(_), ..] => Ok(Creation::Created),
                [_, ConditionFailed(usage)] => usage_of(usage.clone()).map(Creation::QuotaExceeded),
                _ => Ok(Creation::Busy),
            },
        }
    }

    async fn read(&self, owner: &UserId, upload_id: &UploadId) -> Result<Option<Upload>, DynamoError> {
        read(&self.client, &self.writes, owner, upload_id).await?.map(parse).transpose()
    }

    async fn list(
        &self,
        owner: &UserId,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<Upload>, UploadError> {
        list::page(&self.client, self.writes.table(), owner, cursor, limit).await
    }

    async fn count_try(&self, owner: &UserId, upload_id: &UploadId) -> Result<Transition, DynamoError> {
        let values = [pending(), (":one", number(1)), (":most", number(MAX_TRIES))];
        self.change(&COUNT_TRY, (owner, upload_id), values).await
    }

    async fn finish(&self, upload: &Upload, now: Timestamp) -> Result<Transition, DynamoError> {
        let values = [
            pending(),
            (":ready", text(UploadStatus::Ready.as_str())),
            (":now", text(rfc3339(now))),
            (":linksEnd", text(rfc3339(upload.links_end()))),
        ];
        self.change(&FINISH, (&upload.owner_id, &upload.upload_id), values).await
    }

    async fn reject(&self, upload: &Upload, rejection: Rejection) -> Result<Transition, DynamoError> {
        let values = [
            pending(),
            (":rejected", text(UploadStatus::Rejected.as_str())),
            (":reason", text(rejection.as_str())),
        ];
        self.change(&REJECT, (&upload.owner_id, &upload.upload_id), values).await
    }

    async fn delete(&self, seen: &Upload, now: Timestamp) -> Result<Transition, DynamoError> {
        let values = UploadWrites::delete_values(seen, now);
        self.change(&DELETE, (&seen.owner_id, &seen.upload_id), values).await
    }

    async fn forget(&self, deleted: &Upload, now: Timestamp) -> Result<Ending, DynamoError> {
        super::forget(&self.client, &self.writes, deleted, now).await
    }
}

/// What [`IS_PENDING`] compares with.
fn pending() -> (&'static str, AttributeValue) {
    (":pending", text(UploadStatus::Pending.as_str()))
}

/// The row of an upload. Consistent.
pub(super) async fn read(
    client: &Client,
    writes: &UploadWrites,
    owner: &UserId,
    upload_id: &UploadId,
) -> Result<Option<Item>, DynamoError> {
    let request = client.get_item().table_name(writes.table()).set_key(Some(key(owner, upload_id)));
    let answer = Box::pin(request.consistent_read(true).send())
        .await
        .map_err(|error| DynamoError::new("GetItem", upload_id.as_str(), error))?;
    Ok(answer.item)
}

/// The upload that was in the way. An empty item is no row.
fn stands(item: Item) -> Result<Option<Upload>, DynamoError> {
    if item.is_empty() { Ok(None) } else { parse(item).map(Some) }
}

fn usage_of(item: Item) -> Result<Usage, DynamoError> {
    #[derive(Deserialize)]
    struct Row {
        bytes: u64,
        files: u64,
    }
    let row: Row = from_item(item).map_err(|error| DynamoError::unreadable("read", "a usage row", error))?;
    Ok(Usage { bytes: row.bytes, files: row.files })
}
