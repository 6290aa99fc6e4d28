//! Uploads that have to be looked after, for the clean-up job.

use aws_sdk_dynamodb::Client;
use jiff::Timestamp;

use super::{Refusal, UploadWrites, key, parse, refusal_of};
use crate::clock::{SharedClock, rfc3339};
use crate::dynamo::{
    CancellationReason, DynamoError, Guard, Item, TimeIndex, Transaction, Write, WriteOutcome, text, transact,
};
use crate::env::{ConfigError, Env};
use crate::shards::ShardPage;
use crate::telemetry::{self, Metric};
use crate::uploads::{Ending, SweepEntry, SweepRows, SweepShard, Upload, UploadStatus};

/// The uploads that are not READY, by when they have to be looked after.
const SWEEP: TimeIndex =
    TimeIndex { name: "sweep", shard: "sweepShard", before: "sweepShard = :shard AND sweepAt < :before" };

/// The tombstone is still one, and its time has come: the index may have shown the upload as it stood before its user deleted
/// it, which is two hours too early.
const IS_DUE_TOMBSTONE: &str = "#status = :deleted AND sweepAt < :before";

/// The uploads table, for who looks after it.
///
/// Calls `Query` on the index `sweep`, `GetItem` and `DeleteItem`; in transactions `UpdateItem`, and what the guard is.
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
        let mut actions = self.writes.deleted(seen, self.clock.now())?;
        actions.push(guard);
        let reasons = match transact(&self.client, seen.upload_id.as_str(), actions).await? {
            Transaction::Committed => {
                telemetry::count(Metric::UploadsExpired, 1);
                return Ok(Ending::Done);
            }
            Transaction::Cancelled(reasons) => reasons,
        };
        // An overtaken run must hear of it first.
        if let [_, _, CancellationReason::ConditionFailed(_)] = reasons.as_slice() {
            return Ok(Ending::Fenced);
        }
        Ok(match refusal_of(seen, &reasons)? {
            Refusal::Row(_) => Ending::Refused,
            Refusal::Busy => Ending::Busy,
        })
    }

    async fn forget(&self, seen: &Upload, due_before: Timestamp) -> Result<Ending, DynamoError> {
        let request = self
            .client
            .delete_item()
            .table_name(self.writes.table())
            .set_key(Some(key(&seen.owner_id, &seen.upload_id)))
            .condition_expression(IS_DUE_TOMBSTONE)
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":deleted", text(UploadStatus::Deleted.as_str()))
            .expression_attribute_values(":before", text(rfc3339(due_before)));
        Ok(match Box::pin(request.send()).await.outcome("DeleteItem", seen.upload_id.as_str())? {
            Write::Done(_) => Ending::Done,
            Write::Refused(_) => Ending::Refused,
            Write::Conflict => Ending::Busy,
        })
    }
}

/// Times are texts of one width, which sort as the times do.
fn is_due(row: &Item, before: Timestamp) -> bool {
    row.get("sweepAt").and_then(|at| at.as_s().ok()).is_some_and(|at| *at < rfc3339(before))
}
