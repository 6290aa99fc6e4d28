//! Making the file: steps 2 to 5 of [`run`](super::run).

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Exporter, Run, Stop, require_done};
use crate::commerce::orders::{OrderCursor, OrdersPage};
use crate::core::ids::AttemptId;
use crate::files::exports::orders::{write_header, write_order};
use crate::files::exports::{
    Attempt, Checkpoint, Completion, CustomerOrders, Export, ExportProgress, MAX_PARTS, Part, PartOutcome,
    ResultStore, Status,
};
use crate::platform::telemetry::chain;

/// How often progress is written between two parts. A client polls once a second.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// How much longer than a part the collected lines can get: the lines of one page, which is 1 MB of
/// rows.
const PAGE_BYTES: usize = 1024 * 1024;

/// The reason of an export that is larger than a file may be.
const TOO_LARGE: &str = "there are too many orders for one file; ask for a shorter period";

/// The result of a run.
pub(super) enum FileOutcome {
    /// The complete file of this checkpoint.
    File(Checkpoint),
    /// There can be no file. The upload had been started.
    Nothing { reason: String, attempt: Attempt },
}

/// How reading the orders ended.
enum ReadEnd {
    /// All parts are stored, and their list is final.
    Whole,
    /// The upload is gone.
    Spoiled,
    /// There can be no file, for this reason.
    Refused(String),
}

/// Orders that were read and are not in a stored part yet.
struct UnstoredRows {
    lines: String,
    /// The last order that was read, if another page follows.
    after: Option<OrderCursor>,
    /// The number of orders read, including those in stored parts.
    rows: u64,
}

impl<O: CustomerOrders, S: ResultStore> Exporter<O, S> {
    /// Makes the file, from the checkpoint on. A spoiled upload is replaced once.
    pub(super) async fn make_file(&self, run: &mut Run<'_>) -> Result<FileOutcome, Stop> {
        let mut is_final = run.export.status == Status::Finishing;
        let mut checkpoint = match &run.export.checkpoint {
            Some(checkpoint) => checkpoint.clone(),
            None => self.begin(run, None).await?,
        };
        let mut has_started_over = false;
        loop {
            let filled = if is_final { ReadEnd::Whole } else { self.fill(run, &mut checkpoint).await? };
            match filled {
                ReadEnd::Whole => {
                    if self.complete(run.export, &checkpoint).await? == Completion::Done {
                        return Ok(FileOutcome::File(checkpoint));
                    }
                }
                ReadEnd::Spoiled => {}
                ReadEnd::Refused(reason) => {
                    return Ok(FileOutcome::Nothing { reason, attempt: checkpoint.attempt });
                }
            }
            tracing::warn!(export_id = %run.export.export_id, "the parts were lost or replaced; starting over");
            if has_started_over {
                return Err(Stop::Spoiled);
            }
            has_started_over = true;
            self.abort(run.export, &checkpoint.attempt).await;
            // The next run cannot continue this upload.
            run.has_advanced.store(false, Ordering::Relaxed);
            checkpoint = self.begin(run, checkpoint.advanced_at).await?;
            is_final = false;
        }
    }

    /// Aborts an upload that is not needed any more. If that fails, the bucket's lifecycle removes
    /// it.
    pub(super) async fn abort(&self, export: &Export, attempt: &Attempt) {
        if let Err(error) = self.results.abort(&export.result_key(&attempt.mark), attempt).await {
            tracing::warn!(export_id = %export.export_id, error = chain(&error), "the upload was not aborted; its parts are left to the lifecycle");
        }
    }

    /// Starts an upload, and writes its id. An upload whose id could not be written has no parts,
    /// and the bucket's lifecycle removes it.
    async fn begin(&self, run: &Run<'_>, advanced_at: Option<Timestamp>) -> Result<Checkpoint, Stop> {
        let mark: AttemptId = self.ids.next();
        let attempt = self.results.begin(&run.export.result_key(&mark), mark).await?;
        let checkpoint = Checkpoint { advanced_at, ..Checkpoint::of(attempt) };
        self.write(run, Status::Running, &checkpoint, None).await?;
        Ok(checkpoint)
    }

    async fn write(
        &self,
        run: &Run<'_>,
        status: Status,
        checkpoint: &Checkpoint,
        part: Option<&Part>,
    ) -> Result<(), Stop> {
        let written = self.rows.checkpoint(run.export, status, checkpoint, part, run.progress, run.guard);
        require_done(written.await?)
    }

    /// Steps 3 and 4.
    async fn fill(&self, run: &mut Run<'_>, checkpoint: &mut Checkpoint) -> Result<ReadEnd, Stop> {
        let export = run.export;
        let mut unstored =
            UnstoredRows { lines: self.buffer(), after: checkpoint.after.clone(), rows: checkpoint.rows };
        if checkpoint.parts == 0 {
            write_header(&mut unstored.lines);
        }
        let mut written_at = Instant::now();
        loop {
            if run.slice.stop_at.has_passed() {
                return Err(Stop::OutOfTime { has_advanced: run.has_advanced.load(Ordering::Relaxed) });
            }
            let page = self.orders.page(&export.customer_id, &export.period, unstored.after.as_ref());
            let OrdersPage { orders, next } = page.await?;
            for order in orders {
                match order {
                    Ok(order) => write_order(&mut unstored.lines, &order),
                    // A retry does not help.
                    Err(error) => {
                        tracing::error!(export_id = %export.export_id, error = chain(&error), "no export");
                        return Ok(ReadEnd::Refused(error.to_string()));
                    }
                }
                unstored.rows += 1;
            }
            let percent = next.as_ref().map_or(99, |next| export.period.percent_before(next.created_at));
            run.progress = run.progress.at_least(ExportProgress { percent, rows: unstored.rows });
            unstored.after = next;
            if unstored.after.is_none() || unstored.lines.len() >= self.part_bytes {
                if let Some(filled) = self.store(run, checkpoint, &mut unstored).await? {
                    return Ok(filled);
                }
                written_at = Instant::now();
            } else if written_at.elapsed() >= PROGRESS_EVERY {
                require_done(self.rows.progress(&export.export_id, run.progress, run.guard).await?)?;
                written_at = Instant::now();
            }
        }
    }

    /// Stores the lines as the next part, and writes the checkpoint. `None`: more pages follow.
    async fn store(
        &self,
        run: &Run<'_>,
        checkpoint: &mut Checkpoint,
        unstored: &mut UnstoredRows,
    ) -> Result<Option<ReadEnd>, Stop> {
        let mut stored = None;
        if !unstored.lines.is_empty() {
            if checkpoint.parts >= MAX_PARTS {
                return Ok(Some(ReadEnd::Refused(TOO_LARGE.to_owned())));
            }
            let bytes = Bytes::from(std::mem::replace(&mut unstored.lines, self.buffer()));
            let number = checkpoint.parts + 1;
            let key = run.export.result_key(&checkpoint.attempt.mark);
            let part = self.results.put_part(&key, &checkpoint.attempt, number, bytes).await?;
            let PartOutcome::Taken(part) = part else { return Ok(Some(ReadEnd::Spoiled)) };
            checkpoint.parts = number;
            checkpoint.size_bytes += part.size_bytes;
            stored = Some(part);
        }
        let is_last = unstored.after.is_none();
        checkpoint.after.clone_from(&unstored.after);
        checkpoint.rows = unstored.rows;
        checkpoint.advanced_at = Some(self.clock.now());
        let status = if is_last { Status::Finishing } else { Status::Running };
        self.write(run, status, checkpoint, stored.as_ref()).await?;
        run.has_advanced.store(true, Ordering::Relaxed);
        Ok(is_last.then_some(ReadEnd::Whole))
    }

    /// Makes the file of the parts that were written to the table.
    async fn complete(&self, export: &Export, checkpoint: &Checkpoint) -> Result<Completion, Stop> {
        let parts = self.rows.parts(&export.export_id, &checkpoint.attempt).await?;
        if parts.len() != checkpoint.parts {
            tracing::error!(
                export_id = %export.export_id, listed = parts.len(), stored = checkpoint.parts,
                "the list of parts has another length than the row says"
            );
            return Ok(Completion::Impossible);
        }
        let key = export.result_key(&checkpoint.attempt.mark);
        Ok(self.results.complete(&key, &checkpoint.attempt, &parts).await?)
    }

    /// A buffer for the lines of a part.
    fn buffer(&self) -> String {
        String::with_capacity(self.part_bytes + PAGE_BYTES)
    }
}
