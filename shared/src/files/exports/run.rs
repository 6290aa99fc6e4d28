//! One run of an export: from where the last run stopped, as far as time allows.
//!
//! 1. Read the row. If the export has ended, return.
//! 2. Without a checkpoint: start an upload, and write its id.
//! 3. Read the orders page by page after the checkpoint, and collect their lines. When they fill a
//!    part, at a page's end: store it under the next number, *then* write the part and the last
//!    order in it. Memory holds one page and one part.
//! 4. After the last page: store the rest, and write `FINISHING` with the number of parts. The
//!    upload and that number fix the list: from then on every worker completes the file with it.
//! 5. Read the list of parts and complete the file with it. Write `READY` and the event, which
//!    notifies the customer's sockets.
//!
//! # Crashes
//! A crash between any two of these leaves a row that the next run continues from: parts after the
//! checkpoint are stored again under the same numbers, and the list of `FINISHING` is completed
//! again. Every write to the row contains the lock's condition, so a run that was overtaken changes
//! nothing in it. It can still store a part late. If its successor has stored that number by then,
//! the successor's list names a part that no longer exists: S3 refuses the list, and nothing is
//! completed. Then the upload is aborted and a new one starts over; only the progress is kept. The
//! same happens if an upload is gone, or if the list of parts has another length than the row says.
//!
//! # Time
//! No page is read after [`Slice::stop_at`]. A run that has stored a part by then is continued by
//! another one ([`Stop::OutOfTime`] says so). A run that has not would do no better the next time:
//! its message fails, and the queue's `maxReceiveCount` bounds the failures.

mod file;

use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use serde::Serialize;

use file::FileOutcome;

use super::dynamo::{DynamoRows, GuardedWrite};
use super::{Attempt, CustomerOrders, Export, ExportProgress, ResultFile, ResultStore, S3Results, Status};
use crate::commerce::orders::dynamo::DynamoOrders;
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::{ExportId, SharedIds};
use crate::files::links::FileError;
use crate::platform::dynamo::{DynamoError, Guard};
use crate::platform::telemetry::{Metric, count_case};

/// The reason of an export that failed too often.
pub const GAVE_UP: &str = "the export failed too often; request it again";

/// The time limits of a run.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// No page is read after this.
    pub stop_at: Deadline,
    /// Everything has ended by then.
    pub deadline: Deadline,
}

/// How an export ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Ended {
    /// There is a file.
    Ready {
        /// The number of orders in the file.
        rows: u64,
        size_bytes: u64,
    },
    /// There is no file, and the row has the reason.
    Failed,
}

/// Why a run ended before the export did.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Time is up.
    #[error("out of time")]
    OutOfTime {
        /// Whether the next run continues from a later place than this one did.
        has_advanced: bool,
    },
    /// There is no such export, or it has expired.
    #[error("there is no such export")]
    Unknown,
    /// It was to be given up, but has advanced since its message was sent.
    #[error("the export has advanced since")]
    NotStuck,
    /// Another run has the lock.
    #[error("a later run holds the lock")]
    Overtaken,
    /// Parts of the upload were lost or replaced, and so were parts of the upload that replaced it.
    #[error("the parts were lost or replaced twice")]
    Spoiled,
    #[error(transparent)]
    Table(#[from] DynamoError),
    /// S3 failed. It is unknown whether the call had an effect.
    #[error(transparent)]
    Store(#[from] FileError),
}

impl Stop {
    /// The stable name of the case, for metrics.
    pub const fn error_type(&self) -> &'static str {
        match self {
            Self::OutOfTime { .. } => "export-out-of-time",
            Self::Unknown => "export-unknown",
            Self::NotStuck => "export-advanced",
            Self::Overtaken => "export-overtaken",
            Self::Spoiled => "export-spoiled",
            Self::Table(_) => "store-failed",
            Self::Store(_) => "files-failed",
        }
    }
}

/// Runs exports.
#[derive(Debug)]
pub struct Exporter<O = DynamoOrders, S = S3Results> {
    pub rows: DynamoRows,
    pub orders: O,
    pub results: S,
    pub clock: SharedClock,
    pub ids: SharedIds,
    /// Smallest part but the last, in bytes: [`PART_BYTES`](super::PART_BYTES) with S3.
    pub part_bytes: usize,
}

/// A run and the state of its export.
pub(super) struct Run<'a> {
    pub(super) export: &'a Export,
    pub(super) guard: &'a Guard,
    pub(super) slice: Slice,
    pub(super) progress: ExportProgress,
    pub(super) has_advanced: &'a AtomicBool,
}

impl<O: CustomerOrders, S: ResultStore> Exporter<O, S> {
    /// Runs the export `id` under the lock of `guard`. `has_advanced` is set as soon as the next
    /// run would continue from a later place, so that it is known even if the run is dropped.
    pub async fn run(
        &self,
        id: &ExportId,
        guard: &Guard,
        slice: Slice,
        has_advanced: &AtomicBool,
    ) -> Result<Ended, Stop> {
        let export = self.rows.get(id).await?.ok_or(Stop::Unknown)?;
        if let Some(ended) = end_of(&export)? {
            return Ok(ended);
        }
        let mut run = Run { export: &export, guard, slice, progress: export.progress, has_advanced };
        let checkpoint = match Box::pin(self.make_file(&mut run)).await? {
            FileOutcome::File(checkpoint) => checkpoint,
            FileOutcome::Nothing { reason, attempt } => {
                return self.fail(&export, &reason, Some(&attempt), guard).await;
            }
        };
        let file = ResultFile {
            result_key: export.result_key(&checkpoint.attempt.mark),
            size_bytes: checkpoint.size_bytes,
            ready_at: self.clock.now(),
        };
        let rows = checkpoint.rows;
        match self.rows.ready(&export, &file, rows, guard).await? {
            GuardedWrite::Done => {
                count_case(Metric::Exports, "ready", 1);
                tracing::info!(export_id = %id, rows, size_bytes = file.size_bytes, "export ready");
                Ok(Ended::Ready { rows, size_bytes: file.size_bytes })
            }
            GuardedWrite::Overtaken => Err(Stop::Overtaken),
            GuardedWrite::Over => self.ended_before(id).await,
        }
    }

    /// The row has ended under our own lock: an earlier request of ours wrote it, whose answer was
    /// lost; or it has expired.
    async fn ended_before(&self, id: &ExportId) -> Result<Ended, Stop> {
        let export = self.rows.get(id).await?.ok_or(Stop::Unknown)?;
        end_of(&export)?.ok_or(Stop::Overtaken)
    }

    /// Ends the export `id` without a result, unless it has ended, or has advanced since `sent_at`.
    pub async fn give_up(&self, id: &ExportId, sent_at: Timestamp, guard: &Guard) -> Result<Ended, Stop> {
        let export = self.rows.get(id).await?.ok_or(Stop::Unknown)?;
        if let Some(ended) = end_of(&export)? {
            return Ok(ended);
        }
        if export.checkpoint.as_ref().and_then(|checkpoint| checkpoint.advanced_at) > Some(sent_at) {
            return Err(Stop::NotStuck);
        }
        let attempt = export.checkpoint.as_ref().map(|checkpoint| &checkpoint.attempt);
        self.fail(&export, GAVE_UP, attempt, guard).await
    }

    /// Ends the export without a result, and aborts the upload, if there is one.
    async fn fail(
        &self,
        export: &Export,
        reason: &str,
        attempt: Option<&Attempt>,
        guard: &Guard,
    ) -> Result<Ended, Stop> {
        require_done(self.rows.failed(export, reason, guard).await?)?;
        count_case(Metric::Exports, "failed", 1);
        tracing::error!(export_id = %export.export_id, reason, "export failed");
        if let Some(attempt) = attempt {
            self.abort(export, attempt).await;
        }
        Ok(Ended::Failed)
    }
}

/// How `export` has ended; none if it is open.
fn end_of(export: &Export) -> Result<Option<Ended>, Stop> {
    match (export.status, &export.result) {
        (Status::Ready, Some(file)) => {
            Ok(Some(Ended::Ready { rows: export.progress.rows, size_bytes: file.size_bytes }))
        }
        (Status::Ready, None) => {
            Err(DynamoError::unreadable("read", export.export_id.as_str(), "ready without a file").into())
        }
        (Status::Failed, _) => Ok(Some(Ended::Failed)),
        (Status::Queued | Status::Running | Status::Finishing, _) => Ok(None),
    }
}

/// Fails unless the write was done. If the row has ended under another lock, or has expired, the
/// next run reads it again.
pub(super) fn require_done(written: GuardedWrite) -> Result<(), Stop> {
    match written {
        GuardedWrite::Done => Ok(()),
        GuardedWrite::Overtaken | GuardedWrite::Over => Err(Stop::Overtaken),
    }
}
