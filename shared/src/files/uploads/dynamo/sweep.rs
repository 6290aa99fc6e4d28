//! Uploads that have to be looked after, for the clean-up job.

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use super::{DELETE, UploadWrites, key, parse};
use crate::core::clock::SharedClock;
use crate::core::date_time::rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::core::shards::ShardPage;
use crate::files::uploads::{Ending, SweepEntry, SweepRows, SweepShard, Upload, UploadStatus};
use crate::platform::dynamo::{
    CancellationReason, Change, DynamoError, Guard, Item, TimeIndex, Transaction, Write, WriteOutcome, text,
    transact,
};
use crate::platform::telemetry::{self, Metric};

/// The uploads that are not READY, by when they have to be looked after.
const SWEEP: TimeIndex =
    TimeIndex { name: "sweep", shard: "sweepShard", before: "sweepShard = :shard AND sweepAt < :before" };

/// The file stays, and nobody can send its bytes again. The index may have shown the upload as it stood before.
const SETTLE: Change = Change {
    update: "REMOVE sweepShard, sweepAt",
    condition: Some("#status = :ready AND sweepAt < :before"),
    names: &[("#status", "status")],
};

/// Behind all that is due now. Whoever has changed the time meanwhile knows better.
const PUT_BEHIND: Change =
    Change { update: "SET sweepAt = :later", condition: Some("sweepAt = :seen"), names: &[] };

/// The uploads table, for who looks after it.
///
/// Calls `Query` on the index `sweep`, `GetItem` and `UpdateItem`; in transactions `UpdateItem`, `DeleteItem`, and what the guard
/// is.
#[derive(Debug, Clone)]
pub struct DynamoSweep {
    client: Client,
    writes: UploadWrites,
    clock: SharedClock,
}

impl DynamoSweep {
    /// Uploads in the table that `UPLOADS_TABLE` names, of the region `AWS_REGION`.
    pub fn from_env(client: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self { client, writes: UploadWrites::from_env(env)?, clock })
    }
}

impl SweepRows for DynamoSweep {
    type Guard = Guard;

    async fn page(
        &self,
        shard: SweepShard,
        due_before: Timestamp,
        after: Option<SweepEntry>,
    ) -> Result<ShardPage<SweepEntry>, DynamoError> {
        let shard = shard.key(self.writes.region());
        SWEEP.page(&self.client, self.writes.table(), &shard, due_before, after).await
    }

    async fn read(&self, entry: &SweepEntry, due_before: Timestamp) -> Result<Option<Upload>, DynamoError> {
        let row = super::rows::read(&self.client, &self.writes, &entry.owner_id, &entry.upload_id).await?;
        row.filter(|row| is_due(row, due_before)).map(parse).transpose()
    }

    async fn expire(&self, seen: &Upload, Guard(guard): Guard) -> Result<Ending, DynamoError> {
        let values = UploadWrites::delete_values(seen, self.clock.now());
        let row = key(&seen.owner_id, &seen.upload_id);
        let actions = vec![DELETE.action(self.writes.table(), row, values)?, guard];
        let reasons = match transact(&self.client, seen.upload_id.as_str(), actions).await? {
            Transaction::Committed => {
                telemetry::count(Metric::UploadsExpired, 1);
                return Ok(Ending::Done);
            }
            Transaction::Cancelled(reasons) => reasons,
        };
        Ok(match reasons.as_slice() {
            // An overtaken run must hear of it first.
            [_, CancellationReason::ConditionFailed(_)] => Ending::Fenced,
            [CancellationReason::ConditionFailed(_), ..] => Ending::Refused,
            _ => Ending::Busy,
        })
    }

    async fn forget(&self, seen: &Upload, due_before: Timestamp) -> Result<Ending, DynamoError> {
        super::forget(&self.client, &self.writes, seen, due_before).await
    }

    async fn settle(&self, seen: &Upload, due_before: Timestamp) -> Result<Ending, DynamoError> {
        let row = key(&seen.owner_id, &seen.upload_id);
        let values = [(":ready", text(UploadStatus::Ready.as_str())), (":before", text(rfc3339(due_before)))];
        let request = SETTLE.request(&self.client, self.writes.table(), row, values);
        Ok(match Box::pin(request.send()).await.outcome("UpdateItem", seen.upload_id.as_str())? {
            Write::Done(_) => Ending::Done,
            Write::Refused(_) => Ending::Refused,
            Write::Conflict => Ending::Busy,
        })
    }

    async fn put_behind(&self, entry: &SweepEntry, later: Timestamp) -> Result<(), DynamoError> {
        let row = key(&entry.owner_id, &entry.upload_id);
        let values = [(":later", text(rfc3339(later))), (":seen", text(rfc3339(entry.sweep_at)))];
        let request = PUT_BEHIND.request(&self.client, self.writes.table(), row, values);
        // Refused or a conflict: somebody is at the upload, and it is not what holds the rest up.
        Box::pin(request.send()).await.outcome("UpdateItem", entry.upload_id.as_str()).map(drop)
    }
}

/// Times are texts of one width, which sort as the times do.
fn is_due(row: &Item, before: Timestamp) -> bool {
    row.get("sweepAt").and_then(|at| at.as_s().ok()).is_some_and(|at| *at < rfc3339(before))
}
