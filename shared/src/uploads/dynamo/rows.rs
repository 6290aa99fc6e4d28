//! One upload: written, read, changed.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValue;
use jiff::Timestamp;
use serde::Deserialize;
use serde_dynamo::aws_sdk_dynamodb_1::from_item;

use super::{Refusal, UploadWrites, key, list, parse, refusal_of};
use crate::clock::rfc3339;
use crate::cursor::Page;
use crate::dynamo::{
    self, AttributeValue, CancellationReason::ConditionFailed, DynamoError, Item, RowKey, RowRead,
    Transaction, Write, WriteOutcome, text, transact,
};
use crate::env::{ConfigError, Env};
use crate::ids::{UploadId, UserId};
use crate::uploads::{
    Creation, Rejection, Transition, Upload, UploadError, UploadLimits, UploadRows, UploadStatus, Uploads,
    Usage,
};

/// The file is what was announced. Nobody has to look after the upload any more, and S3 knows nothing of its parts.
const FINISH: dynamo::Change = dynamo::Change {
    update: "SET #status = :ready, readyAt = :now REMOVE sweepShard, sweepAt, s3UploadId",
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

/// The uploads table. Calls `GetItem`, `BatchGetItem`, `UpdateItem` and `Query`; in transactions `PutItem` and `UpdateItem`.
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
        upload: &Upload,
        values: [(&str, AttributeValue); N],
    ) -> Result<Transition, DynamoError> {
        let row = key(&upload.owner_id, &upload.upload_id);
        let request = change
            .request(&self.client, self.writes.table(), row, values)
            .expression_attribute_values(":pending", text(UploadStatus::Pending.as_str()))
            .return_values(ReturnValue::AllNew);
        Ok(match Box::pin(request.send()).await.outcome("UpdateItem", upload.upload_id.as_str())? {
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

    async fn finish(&self, upload: &Upload, now: Timestamp) -> Result<Transition, DynamoError> {
        let values = [(":ready", text(UploadStatus::Ready.as_str())), (":now", text(rfc3339(now)))];
        self.change(&FINISH, upload, values).await
    }

    async fn reject(&self, upload: &Upload, rejection: Rejection) -> Result<Transition, DynamoError> {
        let values =
            [(":rejected", text(UploadStatus::Rejected.as_str())), (":reason", text(rejection.as_str()))];
        self.change(&REJECT, upload, values).await
    }

    async fn delete(&self, seen: &Upload, now: Timestamp) -> Result<Transition, DynamoError> {
        let actions = self.writes.deleted(seen, now)?;
        match transact(&self.client, seen.upload_id.as_str(), actions).await? {
            Transaction::Committed => {
                Ok(Transition::Done(Upload { status: UploadStatus::Deleted, ..seen.clone() }))
            }
            Transaction::Cancelled(reasons) => match refusal_of(seen, &reasons)? {
                Refusal::Row(item) => Ok(Transition::Refused(stands(item)?)),
                Refusal::Busy => Ok(Transition::Busy),
            },
        }
    }
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
