//! The writes of workers. Every write contains the condition of the lock, and none changes an
//! export that has ended.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;

use super::{DynamoExports, ExportTables, key, parts, slots};
use crate::core::clock::SharedClock;
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{ExportId, SharedIds};
use crate::core::retry::Backoff;
use crate::files::exports::export::expires_at;
use crate::files::exports::{Attempt, Checkpoint, Export, ExportProgress, Part, ResultFile, Status};
use crate::platform::dynamo::{Actions, DynamoError, Guard, RowUpdate, Transaction, number, text};
use crate::platform::outbox::EventType;
use crate::platform::telemetry::{self, Metric};

/// The export has not ended, and its row exists.
const IS_OPEN: &str = "#status IN (:queued, :running, :finishing)";

/// The values of [`IS_OPEN`].
const OPEN: [(&str, Status); 3] =
    [(":queued", Status::Queued), (":running", Status::Running), (":finishing", Status::Finishing)];

/// As [`IS_OPEN`], and the progress does not fall. Workers never lower it; this condition enforces
/// it.
const IS_OPEN_AND_NOT_FURTHER: &str = "#status IN (:queued, :running, :finishing) AND progress <= :progress";

/// Sets where to continue.
const CHECKPOINT: RowUpdate = RowUpdate {
    update: "SET #status = :status, checkpoint = :checkpoint, progress = :progress, #rows = :rows, \
             startedAt = if_not_exists(startedAt, :now)",
    condition: Some(IS_OPEN_AND_NOT_FURTHER),
    names: &[("#status", "status"), ("#rows", "rows")],
};

/// Sets the progress.
const PROGRESS: RowUpdate = RowUpdate {
    update: "SET progress = :progress, #rows = :rows",
    condition: Some(IS_OPEN_AND_NOT_FURTHER),
    names: &[("#status", "status"), ("#rows", "rows")],
};

/// Ends the export with a result. The checkpoint is removed.
const READY: RowUpdate = RowUpdate {
    update: "SET #status = :status, resultKey = :key, sizeBytes = :size, #rows = :rows, progress = :hundred, \
             readyAt = :now, expiresAt = :expires REMOVE checkpoint",
    condition: Some(IS_OPEN),
    names: &[("#status", "status"), ("#rows", "rows")],
};

/// Ends the export without a result.
const FAILED: RowUpdate = RowUpdate {
    update: "SET #status = :status, failure = :failure REMOVE checkpoint",
    condition: Some(IS_OPEN),
    names: &[("#status", "status")],
};

/// How long a write is retried after conflicts with another transaction, or with the renewal of its
/// lock. Both take milliseconds.
const RETRY_CONFLICTS_FOR: Duration = Duration::from_secs(2);

/// The result of a write under a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardedWrite {
    Done,
    /// The lock was taken over. Nothing was changed.
    Overtaken,
    /// The export has ended, or its row is gone. Nothing was changed.
    Over,
}

/// The names of the actions of a worker's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerAction {
    /// The export's row, and the rows that change with it.
    Export,
    Guard,
}

/// The rows of exports, as a worker writes them.
///
/// Calls `GetItem` and `Query` on exports; in transactions `UpdateItem`, `PutItem` and `DeleteItem`
/// on exports, `PutItem` on outbox, and the guard.
#[derive(Debug, Clone)]
pub struct DynamoRows {
    client: Client,
    reads: DynamoExports,
    tables: ExportTables,
    clock: SharedClock,
}

impl DynamoRows {
    /// Exports in the tables that the environment names.
    pub fn from_env(
        client: Client,
        env: &Env,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Result<Self, ConfigError> {
        let reads = DynamoExports::from_env(client.clone(), env, clock.clone())?;
        Ok(Self { reads, tables: ExportTables::from_env(env, ids)?, client, clock })
    }

    /// Reads an export, consistently. `None` if it has expired.
    pub async fn get(&self, id: &ExportId) -> Result<Option<Export>, DynamoError> {
        self.reads.get(id).await
    }

    /// Writes where to continue, and the last part if it is new. `status` is [`Status::Running`],
    /// or [`Status::Finishing`] if there will be no more parts.
    pub async fn checkpoint(
        &self,
        export: &Export,
        status: Status,
        checkpoint: &Checkpoint,
        part: Option<&Part>,
        progress: ExportProgress,
        guard: &Guard,
    ) -> Result<GuardedWrite, DynamoError> {
        let id = &export.export_id;
        let [percent, rows] = of_progress(progress);
        let whole = (":checkpoint", Self::checkpoint_value(id, checkpoint)?);
        let values = [to(status), whole, percent, rows, at(self.clock.now())];
        let mut actions = vec![self.change(&CHECKPOINT, id, values)?];
        if let Some(part) = part {
            actions.push(parts::put(&self.tables.exports, export, checkpoint, part)?);
        }
        self.write(id, actions, guard).await
    }

    /// The written parts of an upload, in order. Consistent.
    pub async fn parts(&self, id: &ExportId, attempt: &Attempt) -> Result<Vec<Part>, DynamoError> {
        parts::list(&self.client, &self.tables.exports, id, &attempt.mark).await
    }

    /// Writes the progress.
    pub async fn progress(
        &self,
        id: &ExportId,
        progress: ExportProgress,
        guard: &Guard,
    ) -> Result<GuardedWrite, DynamoError> {
        self.write(id, vec![self.change(&PROGRESS, id, of_progress(progress))?], guard).await
    }

    /// Ends the export with its file of `rows` orders, and writes the event.
    pub async fn ready(
        &self,
        export: &Export,
        file: &ResultFile,
        rows: u64,
        guard: &Guard,
    ) -> Result<GuardedWrite, DynamoError> {
        let values = [
            to(Status::Ready),
            (":key", text(&file.result_key)),
            (":size", number(file.size_bytes)),
            (":rows", number(rows)),
            (":hundred", number(100)),
            at(file.ready_at),
            (":expires", number(expires_at(file.ready_at))),
        ];
        let more = [("rows", rows.into()), ("sizeBytes", file.size_bytes.into())];
        let actions = vec![
            self.change(&READY, &export.export_id, values)?,
            slots::release_slot(&self.tables.exports, export)?,
            self.tables.event(EventType::ExportReady, export, more, file.ready_at)?,
        ];
        self.write(&export.export_id, actions, guard).await
    }

    /// Ends the export without a file, and writes the event. `reason` is for the customer.
    pub async fn failed(
        &self,
        export: &Export,
        reason: &str,
        guard: &Guard,
    ) -> Result<GuardedWrite, DynamoError> {
        let values = [to(Status::Failed), (":failure", text(reason))];
        let more = [("reason", reason.into())];
        let actions = vec![
            self.change(&FAILED, &export.export_id, values)?,
            slots::release_slot(&self.tables.exports, export)?,
            self.tables.event(EventType::ExportFailed, export, more, self.clock.now())?,
        ];
        self.write(&export.export_id, actions, guard).await
    }

    fn change<const N: usize>(
        &self,
        change: &RowUpdate,
        id: &ExportId,
        values: [(&str, AttributeValue); N],
    ) -> Result<TransactWriteItem, DynamoError> {
        let mut action = change.action(&self.tables.exports, key(id), values)?;
        if let Some(update) = &mut action.update {
            let values = update.expression_attribute_values.get_or_insert_default();
            values.extend(OPEN.map(|(name, status)| (name.to_owned(), text(status.as_str()))));
        }
        Ok(action)
    }

    /// Runs the actions under the guard.
    async fn write(
        &self,
        id: &ExportId,
        actions: Vec<TransactWriteItem>,
        Guard(guard): &Guard,
    ) -> Result<GuardedWrite, DynamoError> {
        let mut actions: Actions<WorkerAction> =
            actions.into_iter().map(|action| (WorkerAction::Export, action)).collect();
        actions.extend([(WorkerAction::Guard, guard.clone())]);
        let mut backoff = Backoff::within(Deadline::after(RETRY_CONFLICTS_FOR));
        loop {
            let reasons = match actions.commit(&self.client, id.as_str()).await? {
                Transaction::Committed => return Ok(GuardedWrite::Done),
                Transaction::Cancelled(reasons) => reasons,
            };
            // The guard is checked first: a successor may have ended the export.
            if reasons.row_refusing(&WorkerAction::Guard).is_some() {
                return Ok(GuardedWrite::Overtaken);
            }
            // The export has ended; or another export has its slot, which is only possible after
            // this one has expired.
            if reasons.refused().next().is_some() {
                return Ok(GuardedWrite::Over);
            }
            telemetry::count(Metric::TransactionConflicts, 1);
            if !backoff.wait().await {
                return Err(DynamoError::contended("TransactWriteItems", id.as_str()));
            }
        }
    }

    fn checkpoint_value(id: &ExportId, checkpoint: &Checkpoint) -> Result<AttributeValue, DynamoError> {
        serde_dynamo::aws_sdk_dynamodb_1::to_attribute_value(checkpoint)
            .map_err(|error| DynamoError::unreadable("write", id.as_str(), error))
    }
}

fn of_progress(ExportProgress { percent, rows }: ExportProgress) -> [(&'static str, AttributeValue); 2] {
    [(":progress", number(percent)), (":rows", number(rows))]
}

fn at(now: Timestamp) -> (&'static str, AttributeValue) {
    (":now", text(rfc3339(now)))
}

fn to(status: Status) -> (&'static str, AttributeValue) {
    (":status", text(status.as_str()))
}
