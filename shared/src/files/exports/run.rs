//! One run of an export: from where the last one stopped, as far as time allows.
//!
//! 1. Read the row. It has ended: tell the customer again if it is ready, and that is all.
//! 2. No checkpoint: begin an upload, and write its id down.
//! 3. Read the orders page by page behind the checkpoint, and collect their lines. When they make a part, at a page's end:
//!    store it as the next number, *then* write down the part and the last order in it. Memory holds one page and one part.
//! 4. Behind the last page: store the rest, and write `FINISHING` with the number of parts. The upload and that number fix the
//!    list: from here on nobody completes the file with another one.
//! 5. Read the list of parts and complete the file with it. Write `READY` and the event. Tell the customer's sockets.
//!
//! **A crash** between any two of these leaves a row that the next run goes on from: parts behind the checkpoint are stored
//! again under the same numbers, the list of `FINISHING` is completed again. Every write to the row carries the lock's
//! condition, so a run that was overtaken changes nothing in it. What it can do is store a part late. If its successor has
//! stored that number by then, the successor's list names a part that is no more: S3 refuses the list, and nothing was
//! completed. Then the upload is aborted and everything begins anew with a fresh one, but for the progress, which stays.
//! The same happens to an upload that is gone, and to a list of parts that has another length than the row says.
//!
//! **Time.** No page is begun after [`Slice::stop_at`]. A run that has stored a part by then has not been for nothing, and is
//! to be continued ([`Stop::OutOfTime`] says so). One that has not will not do better the next time: its message fails, which
//! the queue's `maxReceiveCount` bounds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use super::{
    Attempt, Checkpoint, Completion, CustomerOrders, Export, Guarded, MAX_PARTS, Notice, OrdersPage, Part,
    PartOutcome, Progress, ResultFile, ResultStore, Rows, Status, StoreError, Unreadable, csv,
};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::{AttemptId, ExportId, SharedIds};
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::{Metric, chain, count_case};

/// How often progress is written between two parts. A customer who looks at it looks once a second.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How much longer than a part the collected lines can get: those of one page, which is 1 MB of rows.
const PAGE_BYTES: usize = 1024 * 1024;

/// The reason of what was given up after many tries.
pub const GAVE_UP: &str = "the export failed too often; ask for it again";
/// The reason of what would be larger than a file may be.
const TOO_LARGE: &str = "there are too many orders for one file; ask for a shorter period";

/// How much a run may do.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// No page is begun after this.
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
        /// How many orders are in it.
        rows: u64,
        /// Its size.
        size_bytes: u64,
    },
    /// There is none, and the customer was told why.
    Failed,
}

/// Why a run ended before the export did.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The slice is used up.
    #[error("out of time")]
    OutOfTime {
        /// Whether the next run has something to go on from that this one had not.
        has_advanced: bool,
    },
    /// There is no such export, or it has expired.
    #[error("there is no such export")]
    Unknown,
    /// It was to be given up, and has come further since its message was sent.
    #[error("the export has advanced since")]
    NotStuck,
    /// Another run has the lock.
    #[error("a later run holds the lock")]
    Overtaken,
    /// The upload was spoiled, and so was the one that replaced it.
    #[error("the parts were lost or replaced twice")]
    Spoiled,
    /// A table did not answer.
    #[error(transparent)]
    Table(#[from] DynamoError),
    /// The object store did not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The customer's sockets could not be found.
    #[error("the customer was not told")]
    Notice(#[source] DynamoError),
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
            Self::Notice(_) => "notice-failed",
        }
    }
}

/// What runs work with.
#[derive(Debug)]
pub struct Exporter<R, O, S, N> {
    /// The exports.
    pub rows: R,
    /// The orders.
    pub orders: O,
    /// The files.
    pub results: S,
    /// The customers' sockets.
    pub notice: N,
    /// Tells the time.
    pub clock: SharedClock,
    /// Makes marks.
    pub ids: SharedIds,
    /// Smallest part but for the last, in bytes: [`PART_BYTES`](super::PART_BYTES) where S3 stores it.
    pub part_bytes: usize,
}

/// One run's knowledge of its export.
struct Run<'a, G> {
    export: &'a Export,
    guard: &'a G,
    slice: Slice,
    progress: Progress,
    has_advanced: &'a AtomicBool,
}

/// What came of reading the orders.
enum Filled {
    /// All parts are stored, and their list is final.
    Whole,
    /// The upload is gone.
    Spoiled,
    /// There will never be a file, and this is why.
    Refused(String),
}

/// Why there will be no file, and the upload that was begun for it.
struct Refused {
    reason: String,
    attempt: Attempt,
}

impl<R: Rows, O: CustomerOrders, S: ResultStore, N: Notice> Exporter<R, O, S, N> {
    /// Works on the export `id` under the lock of `guard`. `has_advanced` is set as soon as there is more to go on from, so
    /// that this is known of a run that is dropped, too.
    pub async fn run(
        &self,
        id: &ExportId,
        guard: &R::Guard,
        slice: Slice,
        has_advanced: &AtomicBool,
    ) -> Result<Ended, Stop> {
        let export = self.rows.get(id).await?.ok_or(Stop::Unknown)?;
        match end_of(&export)? {
            Some(End::Ready(file)) => return self.tell(&export, file, slice).await,
            Some(End::Failed) => return Ok(Ended::Failed),
            None => {}
        }
        let mut run = Run { export: &export, guard, slice, progress: export.progress, has_advanced };
        let checkpoint = match Box::pin(self.upload(&mut run)).await? {
            Ok(checkpoint) => checkpoint,
            Err(Refused { reason, attempt }) => {
                return self.refuse(&export, &reason, Some(&attempt), guard).await;
            }
        };
        let file = ResultFile {
            result_key: export.result_key(&checkpoint.attempt.mark),
            size_bytes: checkpoint.size_bytes,
            ready_at: self.clock.now(),
        };
        let rows = checkpoint.rows;
        match self.rows.ready(&export, &file, rows, guard).await? {
            Guarded::Done => {
                count_case(Metric::Exports, "ready", 1);
                tracing::info!(export_id = %id, rows, size_bytes = file.size_bytes, "export ready");
            }
            Guarded::Overtaken => return Err(Stop::Overtaken),
            // The lock is ours, so this was written by ourselves, by a request whose answer was lost; or the row expired.
            Guarded::Over => {
                let now = self.rows.get(id).await?.ok_or(Stop::Unknown)?;
                return match end_of(&now)? {
                    Some(End::Ready(file)) => self.tell(&now, file, slice).await,
                    Some(End::Failed) => Ok(Ended::Failed),
                    None => Err(Stop::Overtaken),
                };
            }
        }
        let ready = Export { progress: Progress { percent: 100, rows }, ..export.clone() };
        self.tell(&ready, &file, slice).await
    }

    /// Ends the export `id` without a result, unless it has ended, or has come further since `sent_at`.
    pub async fn give_up(
        &self,
        id: &ExportId,
        sent_at: Timestamp,
        guard: &R::Guard,
        slice: Slice,
    ) -> Result<Ended, Stop> {
        let export = self.rows.get(id).await?.ok_or(Stop::Unknown)?;
        match end_of(&export)? {
            // What is left to do is to tell, and that has failed as often as it may.
            Some(End::Ready(file)) => {
                let rows = export.progress.rows;
                if let Err(error) = self.tell(&export, file, slice).await {
                    tracing::warn!(export_id = %id, error = chain(&error), "the customer was not told");
                }
                return Ok(Ended::Ready { rows, size_bytes: file.size_bytes });
            }
            Some(End::Failed) => return Ok(Ended::Failed),
            None => {}
        }
        if export.checkpoint.as_ref().and_then(|checkpoint| checkpoint.advanced_at) > Some(sent_at) {
            return Err(Stop::NotStuck);
        }
        let attempt = export.checkpoint.as_ref().map(|checkpoint| &checkpoint.attempt);
        self.refuse(&export, GAVE_UP, attempt, guard).await
    }

    /// Steps 2 to 5: the parts of the file that is complete then, or why there is none.
    async fn upload(&self, run: &mut Run<'_, R::Guard>) -> Result<Result<Checkpoint, Refused>, Stop> {
        let mut is_final = run.export.status == Status::Finishing;
        let mut checkpoint = match &run.export.checkpoint {
            Some(checkpoint) => checkpoint.clone(),
            None => self.begin(run, None).await?,
        };
        let mut has_begun_anew = false;
        loop {
            let filled = if is_final { Filled::Whole } else { self.fill(run, &mut checkpoint).await? };
            match filled {
                Filled::Whole => {
                    if self.complete(run.export, &checkpoint).await? == Completion::Done {
                        return Ok(Ok(checkpoint));
                    }
                }
                Filled::Spoiled => {}
                Filled::Refused(reason) => {
                    return Ok(Err(Refused { reason, attempt: checkpoint.attempt }));
                }
            }
            tracing::warn!(export_id = %run.export.export_id, "the parts were lost or replaced; beginning anew");
            if has_begun_anew {
                return Err(Stop::Spoiled);
            }
            has_begun_anew = true;
            self.drop_parts(run.export, &checkpoint.attempt).await;
            // What was gone on from is lost: nothing of it counts for the next run.
            run.has_advanced.store(false, Ordering::Relaxed);
            checkpoint = self.begin(run, checkpoint.advanced_at).await?;
            is_final = false;
        }
    }

    /// Makes the file of the parts that were written down.
    async fn complete(&self, export: &Export, checkpoint: &Checkpoint) -> Result<Completion, Stop> {
        let parts = self.rows.parts(&export.export_id, &checkpoint.attempt).await?;
        if parts.len() != checkpoint.parts {
            tracing::error!(
                export_id = %export.export_id, listed = parts.len(), stored = checkpoint.parts,
                "the list of parts is not that of the row"
            );
            return Ok(Completion::Impossible);
        }
        let key = export.result_key(&checkpoint.attempt.mark);
        Ok(self.results.complete(&key, &checkpoint.attempt, &parts).await?)
    }

    /// A fresh upload, written down. One that could not be written down has no parts, and is cleared away with its like.
    async fn begin(
        &self,
        run: &Run<'_, R::Guard>,
        advanced_at: Option<Timestamp>,
    ) -> Result<Checkpoint, Stop> {
        let mark: AttemptId = self.ids.next();
        let attempt = self.results.begin(&run.export.result_key(&mark), mark).await?;
        let checkpoint = Checkpoint { advanced_at, ..Checkpoint::of(attempt) };
        self.write_down(run, Status::Running, &checkpoint, None).await?;
        Ok(checkpoint)
    }

    async fn write_down(
        &self,
        run: &Run<'_, R::Guard>,
        status: Status,
        checkpoint: &Checkpoint,
        part: Option<&Part>,
    ) -> Result<(), Stop> {
        held(self.rows.checkpoint(run.export, status, checkpoint, part, run.progress, run.guard).await?)
    }

    /// Steps 3 and 4.
    async fn fill(&self, run: &mut Run<'_, R::Guard>, checkpoint: &mut Checkpoint) -> Result<Filled, Stop> {
        let mut lines = self.buffer();
        if checkpoint.parts == 0 {
            csv::write_header(&mut lines);
        }
        let mut after = checkpoint.after.clone();
        let mut rows = checkpoint.rows;
        let mut written_at = Instant::now();
        loop {
            if run.slice.stop_at.has_passed() {
                return Err(Stop::OutOfTime { has_advanced: run.has_advanced.load(Ordering::Relaxed) });
            }
            let export = run.export;
            let page = self.orders.page(&export.customer_id, &export.period, after.as_ref());
            let OrdersPage { orders, next } = match page.await {
                Ok(page) => page,
                Err(Unreadable::Store(error)) => return Err(error.into()),
                Err(error @ Unreadable::Order { .. }) => {
                    tracing::error!(export_id = %export.export_id, error = chain(&error), "no export");
                    return Ok(Filled::Refused(error.to_string()));
                }
            };
            for order in &orders {
                csv::write_order(&mut lines, order);
                rows += 1;
            }
            let is_last = next.is_none();
            let percent = next.as_ref().map_or(99, |next| export.period.percent_before(next.created_at));
            run.progress = run.progress.at_least(Progress { percent, rows });
            after = next;
            if is_last || lines.len() >= self.part_bytes {
                let mut stored = None;
                if !lines.is_empty() {
                    if checkpoint.parts >= MAX_PARTS {
                        return Ok(Filled::Refused(TOO_LARGE.to_owned()));
                    }
                    let bytes = Bytes::from(std::mem::replace(&mut lines, self.buffer()));
                    let number = checkpoint.parts + 1;
                    let key = export.result_key(&checkpoint.attempt.mark);
                    let part = self.results.put_part(&key, &checkpoint.attempt, number, bytes);
                    let PartOutcome::Taken(part) = part.await? else { return Ok(Filled::Spoiled) };
                    checkpoint.parts = number;
                    checkpoint.size_bytes += part.size_bytes;
                    stored = Some(part);
                }
                (checkpoint.after, checkpoint.rows) = (after.clone(), rows);
                checkpoint.advanced_at = Some(self.clock.now());
                let status = if is_last { Status::Finishing } else { Status::Running };
                self.write_down(run, status, checkpoint, stored.as_ref()).await?;
                run.has_advanced.store(true, Ordering::Relaxed);
                written_at = Instant::now();
                if is_last {
                    return Ok(Filled::Whole);
                }
            } else if written_at.elapsed() >= PROGRESS_EVERY {
                held(self.rows.progress(&export.export_id, run.progress, run.guard).await?)?;
                written_at = Instant::now();
            }
        }
    }

    /// Room for the lines of a part.
    fn buffer(&self) -> String {
        String::with_capacity(self.part_bytes + PAGE_BYTES)
    }

    /// Ends the export without a result, and drops the upload, if there is one.
    async fn refuse(
        &self,
        export: &Export,
        reason: &str,
        attempt: Option<&Attempt>,
        guard: &R::Guard,
    ) -> Result<Ended, Stop> {
        held(self.rows.failed(export, reason, guard).await?)?;
        count_case(Metric::Exports, "failed", 1);
        tracing::error!(export_id = %export.export_id, reason, "export failed");
        if let Some(attempt) = attempt {
            self.drop_parts(export, attempt).await;
        }
        Ok(Ended::Failed)
    }

    /// Drops an upload that is of no use any more. One that is left is cleared away with its like.
    async fn drop_parts(&self, export: &Export, attempt: &Attempt) {
        if let Err(error) = self.results.abort(&export.result_key(&attempt.mark), attempt).await {
            tracing::warn!(export_id = %export.export_id, error = chain(&error), "parts are left over");
        }
    }

    /// Tells the customer that the export is ready.
    async fn tell(&self, export: &Export, file: &ResultFile, slice: Slice) -> Result<Ended, Stop> {
        match self.notice.ready(export, file, slice.deadline).await {
            Ok(true) => Ok(Ended::Ready { rows: export.progress.rows, size_bytes: file.size_bytes }),
            // Nothing was stored: how often this is tried is bounded by the queue.
            Ok(false) => Err(Stop::OutOfTime { has_advanced: false }),
            Err(error) => Err(Stop::Notice(error)),
        }
    }
}

/// How an export has ended.
enum End<'a> {
    Ready(&'a ResultFile),
    Failed,
}

/// How `export` has ended; none if it is open.
fn end_of(export: &Export) -> Result<Option<End<'_>>, Stop> {
    match (export.status, &export.result) {
        (Status::Ready, Some(file)) => Ok(Some(End::Ready(file))),
        (Status::Ready, None) => {
            Err(DynamoError::unreadable("read", export.export_id.as_str(), "ready without a file").into())
        }
        (Status::Failed, _) => Ok(Some(End::Failed)),
        (Status::Queued | Status::Running | Status::Finishing, _) => Ok(None),
    }
}

/// Goes on only if the write was done.
fn held(written: Guarded) -> Result<(), Stop> {
    match written {
        Guarded::Done => Ok(()),
        // A row that has ended under somebody else's lock, or has expired meanwhile: reading it again tells.
        Guarded::Overtaken | Guarded::Over => Err(Stop::Overtaken),
    }
}
