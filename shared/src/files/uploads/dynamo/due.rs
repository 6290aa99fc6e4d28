//! The uploads that are due for clean-up.

use jiff::Timestamp;

use super::{DELETE, DynamoUploads, EndOutcome, STATUS, UploadAction, delete_values, key, parse};
use crate::core::date_time::rfc3339;
use crate::core::shards::ShardPage;
use crate::files::uploads::{SweepEntry, SweepShard, Upload, UploadStatus};
use crate::platform::dynamo::{
    Actions, DynamoError, Guard, Item, RowUpdate, TimeIndex, Transaction, Write, WriteOutcome, text,
};
use crate::platform::telemetry::{self, Metric};

/// The uploads that need clean-up, by due time.
const SWEEP: TimeIndex =
    TimeIndex { name: "sweep", shard: "sweepShard", before: "sweepShard = :shard AND sweepAt < :before" };

/// The file stays, and its bytes cannot be sent again. The index may have shown an earlier state.
const SETTLE: RowUpdate = RowUpdate {
    update: "REMOVE sweepShard, sweepAt",
    condition: Some("#status = :ready AND sweepAt < :before"),
    names: STATUS,
};

/// After all uploads that are due now. A due time that has changed meanwhile is kept.
const PUT_BEHIND: RowUpdate =
    RowUpdate { update: "SET sweepAt = :later", condition: Some("sweepAt = :seen"), names: &[] };

impl DynamoUploads {
    /// A page of this region's uploads in `shard` that are due before `due_before`. Eventually
    /// consistent: [`read_due`](Self::read_due) reads each again.
    pub async fn page_of_due(
        &self,
        shard: SweepShard,
        due_before: Timestamp,
        after: Option<SweepEntry>,
    ) -> Result<ShardPage<SweepEntry>, DynamoError> {
        let shard = shard.key(&self.region);
        SWEEP.page(&self.client, &self.table, &shard, due_before, after).await
    }

    /// The current upload, if it is still due before `due_before`. Consistent.
    pub async fn read_due(
        &self,
        entry: &SweepEntry,
        due_before: Timestamp,
    ) -> Result<Option<Upload>, DynamoError> {
        let row = self.item(&entry.owner_id, &entry.upload_id).await?;
        row.filter(|row| is_due(row, due_before)).map(parse).transpose()
    }

    /// Changes the status that was read to DELETED, under the lock of `guard`.
    pub async fn expire(
        &self,
        seen: &Upload,
        now: Timestamp,
        Guard(guard): Guard,
    ) -> Result<EndOutcome, DynamoError> {
        let values = delete_values(seen, now);
        let row = key(&seen.owner_id, &seen.upload_id);
        let delete = DELETE.action(&self.table, row, values)?;
        let actions = Actions::from([(UploadAction::Upload, delete), (UploadAction::Guard, guard)]);
        let reasons = match actions.commit(&self.client, seen.upload_id.as_str()).await? {
            Transaction::Committed => {
                telemetry::count(Metric::UploadsExpired, 1);
                return Ok(EndOutcome::Done);
            }
            Transaction::Cancelled(reasons) => reasons,
        };
        // The lock is checked first: a run that was overtaken must stop.
        Ok(if reasons.row_refusing(&UploadAction::Guard).is_some() {
            EndOutcome::Overtaken
        } else if reasons.row_refusing(&UploadAction::Upload).is_some() {
            EndOutcome::Refused
        } else {
            EndOutcome::Conflict
        })
    }

    /// Takes an upload that is READY and due before `due_before` out of the index.
    pub async fn settle(&self, seen: &Upload, due_before: Timestamp) -> Result<EndOutcome, DynamoError> {
        let row = key(&seen.owner_id, &seen.upload_id);
        let values = [(":ready", text(UploadStatus::Ready.as_str())), (":before", text(rfc3339(due_before)))];
        let request = SETTLE.request(&self.client, &self.table, row, values);
        Ok(match Box::pin(request.send()).await.outcome("UpdateItem", seen.upload_id.as_str())? {
            Write::Done(_) => EndOutcome::Done,
            Write::Refused(_) => EndOutcome::Refused,
            Write::Conflict => EndOutcome::Conflict,
        })
    }

    /// Makes an upload due at `later`, if its due time is still that of the entry.
    pub async fn postpone(&self, entry: &SweepEntry, later: Timestamp) -> Result<(), DynamoError> {
        let row = key(&entry.owner_id, &entry.upload_id);
        let values = [(":later", text(rfc3339(later))), (":seen", text(rfc3339(entry.sweep_at)))];
        let request = PUT_BEHIND.request(&self.client, &self.table, row, values);
        // Refused or a conflict: another request is changing the upload, so it does not block the
        // rest.
        Box::pin(request.send()).await.outcome("UpdateItem", entry.upload_id.as_str()).map(drop)
    }
}

/// Times have a fixed width: text sorts as time.
fn is_due(row: &Item, before: Timestamp) -> bool {
    row.get("sweepAt").and_then(|at| at.as_s().ok()).is_some_and(|at| *at < rfc3339(before))
}
