//! Uploads and their share of the quota: both are written and removed in one transaction.

use std::ops::Add;

use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem};
use jiff::Timestamp;
use serde::Deserialize;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

use super::{DynamoUploads, EndOutcome, USAGE, UploadAction, key, usage_key};
use crate::core::date_time::rfc3339;
use crate::core::ids::UserId;
use crate::files::uploads::{MAX_FILES, SweepShard, Upload, UploadLimits, UploadStatus};
use crate::platform::dynamo::{Actions, DynamoError, Item, RowUpdate, Transaction, number, text};

/// Upload ids are new. An existing row is the same upload, written by an earlier try whose answer
/// was lost.
const IS_NEW: &str = "attribute_not_exists(uploadId)";

/// Reserves a file's quota, if enough is left. A user's first file in the region creates the row;
/// the caller has checked that it is not larger than what other regions leave of the quota.
const RESERVE: RowUpdate = RowUpdate {
    update: "ADD #bytes :size, #files :one",
    condition: Some("attribute_not_exists(uploadId) OR (#bytes <= :bytesBefore AND #files <= :filesBefore)"),
    names: USAGE_NAMES,
};

/// Releases a file's quota. The row exists, since it counts the file.
const RELEASE: RowUpdate = RowUpdate {
    update: "SET #bytes = #bytes - :size, #files = #files - :one",
    condition: Some("#bytes >= :size AND #files >= :one"),
    names: USAGE_NAMES,
};

const USAGE_NAMES: &[(&str, &str)] = &[("#bytes", "bytes"), ("#files", "files")];

/// The row is still a tombstone, and due: the index may have shown a state from before the
/// deletion.
const IS_DUE_TOMBSTONE: &str = "#status = :deleted AND sweepAt < :before";

/// The usage rows of an owner.
const USAGE_OF_OWNER: &str = "ownerId = :owner AND begins_with(uploadId, :usage)";

/// The total of a user's uploads, including deleted ones whose rows are not removed yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Declared or stored bytes.
    pub bytes: u64,
    pub files: u64,
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), files: self.files.saturating_add(other.files) }
    }
}

/// A user's usage in this region, and in the others as far as it has been replicated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageByRegion {
    pub here: Usage,
    /// In all others together.
    pub elsewhere: Usage,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UsageRow {
    upload_id: String,
    #[serde(flatten)]
    usage: Usage,
}

/// The result of creating a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is written, and its quota is reserved.
    Created,
    /// The quota has no room. This is the usage in this region. Nothing was written.
    QuotaExceeded(Usage),
    /// A conflict with another write of the same user. Nothing was written.
    Conflict,
}

impl DynamoUploads {
    /// The owner's usage in each region. One query. Consistent for this region.
    pub async fn usage(&self, owner: &UserId) -> Result<UsageByRegion, DynamoError> {
        let unreadable = |error| DynamoError::unreadable("read", "a usage row", error);
        let request = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression(USAGE_OF_OWNER)
            .expression_attribute_values(":owner", text(owner.as_str()))
            .expression_attribute_values(":usage", text(USAGE))
            .consistent_read(true);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| DynamoError::new("Query", format!("the usage of {owner}"), error))?;
        let mut usage = UsageByRegion::default();
        for item in answer.items.unwrap_or_default() {
            let row: UsageRow = from_item(item).map_err(unreadable)?;
            match row.upload_id.strip_prefix(USAGE) {
                Some(region) if region == self.region => usage.here = row.usage,
                _ => usage.elsewhere = usage.elsewhere + row.usage,
            }
        }
        Ok(usage)
    }

    /// Writes a new upload and reserves its quota, both or neither. `elsewhere` is the usage in
    /// other regions; the caller has checked that it leaves room for the file.
    pub async fn create(
        &self,
        upload: &Upload,
        limits: &UploadLimits,
        elsewhere: Usage,
    ) -> Result<Creation, DynamoError> {
        let taken = elsewhere + Usage { bytes: upload.size_bytes, files: 1 };
        let values = [
            (":size", number(upload.size_bytes)),
            (":one", number(1)),
            (":bytesBefore", number(limits.quota_bytes.saturating_sub(taken.bytes))),
            (":filesBefore", number(MAX_FILES.saturating_sub(taken.files))),
        ];
        let usage = usage_key(&upload.owner_id, &upload.region);
        let actions = Actions::from([
            (UploadAction::Upload, self.put(upload, limits)?),
            (UploadAction::Usage, RESERVE.action(&self.table, usage, values)?),
        ]);
        let reasons = match actions.commit(&self.client, upload.upload_id.as_str()).await? {
            Transaction::Committed => return Ok(Creation::Created),
            Transaction::Cancelled(reasons) => reasons,
        };
        // An earlier try wrote the row, whose answer was lost. That try may also have filled the
        // quota.
        if reasons.row_refusing(&UploadAction::Upload).is_some() {
            return Ok(Creation::Created);
        }
        match reasons.row_refusing(&UploadAction::Usage) {
            Some(usage) => from_item(usage.clone())
                .map(Creation::QuotaExceeded)
                .map_err(|error| DynamoError::unreadable("read", "a usage row", error)),
            None => Ok(Creation::Conflict),
        }
    }

    /// Removes the row of an upload that is DELETED and due before `due_before`, and releases its
    /// quota, both or neither. That condition is enough: a run that was overtaken does no harm.
    ///
    /// # Errors
    /// A usage row that is less than the upload alone contradicts the uploads, which no retry
    /// changes.
    pub async fn remove(&self, seen: &Upload, due_before: Timestamp) -> Result<EndOutcome, DynamoError> {
        let release = [(":size", number(seen.size_bytes)), (":one", number(1))];
        let usage = usage_key(&seen.owner_id, &seen.region);
        let actions = Actions::from([
            (UploadAction::Upload, self.delete_tombstone(seen, due_before)?),
            (UploadAction::Usage, RELEASE.action(&self.table, usage, release)?),
        ]);
        let reasons = match actions.commit(&self.client, seen.upload_id.as_str()).await? {
            Transaction::Committed => return Ok(EndOutcome::Done),
            Transaction::Cancelled(reasons) => reasons,
        };
        if reasons.row_refusing(&UploadAction::Upload).is_some() {
            return Ok(EndOutcome::Refused);
        }
        if reasons.row_refusing(&UploadAction::Usage).is_some() {
            let usage = format!("the usage of {}", seen.owner_id);
            return Err(DynamoError::unreadable(
                "TransactWriteItems",
                usage,
                "it is less than the upload alone",
            ));
        }
        Ok(EndOutcome::Conflict)
    }

    /// The upload's row. An upload that is not READY in time is due for clean-up.
    fn put(&self, upload: &Upload, limits: &UploadLimits) -> Result<TransactWriteItem, DynamoError> {
        let mut item: Item = to_item(upload)
            .map_err(|error| DynamoError::unreadable("write", upload.upload_id.as_str(), error))?;
        let due = upload.created_at.checked_add(limits.unfinished_for).unwrap_or(Timestamp::MAX);
        item.insert("sweepShard".to_owned(), text(SweepShard::of(&upload.upload_id).key(&upload.region)));
        item.insert("sweepAt".to_owned(), text(rfc3339(due)));
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(IS_NEW)
            .build()
            .map_err(|error| DynamoError::unreadable("build", &self.table, error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    fn delete_tombstone(
        &self,
        seen: &Upload,
        due_before: Timestamp,
    ) -> Result<TransactWriteItem, DynamoError> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key(&seen.owner_id, &seen.upload_id)))
            .condition_expression(IS_DUE_TOMBSTONE)
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":deleted", text(UploadStatus::Deleted.as_str()))
            .expression_attribute_values(":before", text(rfc3339(due_before)))
            .build()
            .map_err(|error| DynamoError::unreadable("build", &self.table, error))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }
}
