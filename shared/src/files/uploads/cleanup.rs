//! Ending uploads that nobody finished, and taking away what deleted ones left behind.
//!
//! The index `sweep` has every upload of which an object may still be written, with the time at which it has to be looked after.
//! It is worked off ([`backlog`]) as far as that time is before the scheduled one. What is due is read again,
//! consistently:
//!
//! 1. PENDING or REJECTED: its user had their time. One transaction makes it DELETED, on the condition of the status that was
//!    seen and of the lock. A completion that comes first wins: the upload is READY, and its file stays. After the transaction
//!    its parts and objects are deleted. What fails there is left to step 2.
//! 2. DELETED, by step 1 or by its user, so long ago that no link and no running request can write an object any more
//!    ([`Upload::settled_at`]). Parts and objects are deleted, once more or for the first time; then one transaction removes the
//!    row, on the condition that it is still this, and gives it back to the quota. That needs no lock: nobody else wants it any
//!    more.
//! 3. READY, and its links have ended: what was sent to them since is deleted, and the upload leaves the index.
//!
//! So the quota is given back exactly once, and a row goes after all that it names: wherever a run is cut off, another
//! one finds the row and begins with it anew.
//!
//! The bucket knows no lock: a run that was overtaken may still delete objects there. They are only ever those of an upload
//! that is DELETED, which no row ever stops being, or incoming ones of an upload that is READY, which nobody reads.
//!
//! An upload that fails or takes too long is put behind all that is due: the next slot meets it after the rest, so that no
//! number of them keeps the rest from its turn. What a run leaves over is counted ([`Metric::UploadsLeftOver`]), and an alarm
//! hears of it.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use tokio::sync::Semaphore;

use crate::coordination::backlog::{self, Backlog, BacklogError, Progress, Turn};
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::deadline::{Deadline, DeadlineExceeded};
use crate::core::ids::UploadId;
use crate::core::retry::Backoff;
use crate::core::shards::ShardPage;
use crate::files::links::FileError;
use crate::files::uploads::{Ending, SweepEntry, SweepRows, SweepShard, Upload, UploadRemoval, UploadStatus};
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::{self, Metric, chain};

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadCleanupResult {
    /// What was due before this was looked after.
    #[serde(with = "as_rfc3339")]
    pub due_before: Timestamp,
    /// Unfinished or rejected uploads that were deleted by this run.
    pub expired: u64,
    /// Of those, uploads whose objects could not be deleted yet.
    pub objects_left: u64,
    /// Deleted uploads whose rows went, with all that they named.
    pub forgotten: u64,
    /// READY uploads whose links have ended, and led to nothing any more.
    pub settled: u64,
    /// Uploads that were not due or gone by the time they were looked at.
    pub ended_before: u64,
    /// Uploads at whose rows others were until the deadline.
    pub contended: u64,
    /// Uploads that could not be looked after.
    pub failed: u64,
    /// Whether time ran out before the last page: the next slot goes on.
    pub remaining: bool,
}

/// What became of one upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    Expired,
    ExpiredButObjects,
    Forgotten,
    Settled,
    EndedBefore,
    Contended,
    Fenced,
}

/// Uploads in work at the same time. Most of them are READY, or tombstones of different users, which meet nobody: what bounds them
/// is memory and the number of connections, of which this many are cheap. Those that end under the lock are
/// [`backlog::AT_ONCE`].
const AT_ONCE: usize = 16;

/// How long putting an upload behind the rest may take. It is done after the upload's own time, and before the run's.
const PUT_BEHIND: Duration = Duration::from_secs(1);

/// One upload could not be looked after.
#[derive(Debug, thiserror::Error)]
enum CareError {
    #[error(transparent)]
    Row(#[from] DynamoError),
    #[error(transparent)]
    Objects(#[from] FileError),
    #[error("it took too long")]
    OutOfTime(#[from] DeadlineExceeded),
}

/// Looks after what is due.
pub async fn run<R: SweepRows, F: UploadRemoval>(
    rows: &R,
    files: &F,
    turn: &Turn<R::Guard>,
) -> Result<UploadCleanupResult, BacklogError<DynamoError>> {
    let mut result = UploadCleanupResult::of_nothing(turn.scheduled_at);
    let uploads = DueUploads { rows, files, turn, under_lock: Semaphore::new(backlog::AT_ONCE) };
    let progress = backlog::work_off(&uploads, turn, |seen| result.count(seen)).await;
    result.remaining = matches!(progress, Ok(Progress::OutOfTime));
    result.tell();
    progress.map(|_| result)
}

struct DueUploads<'a, R: SweepRows, F> {
    rows: &'a R,
    files: &'a F,
    turn: &'a Turn<R::Guard>,
    under_lock: Semaphore,
}

impl<R: SweepRows, F: UploadRemoval> DueUploads<'_, R, F> {
    async fn look_after(&self, entry: &SweepEntry) -> Result<Care, CareError> {
        let due_before = self.turn.scheduled_at;
        let mut backoff = Backoff::within(self.turn.deadline);
        loop {
            let Some(seen) = self.rows.read(entry, due_before).await? else { return Ok(Care::EndedBefore) };
            let ending = match seen.status {
                UploadStatus::Ready => {
                    self.files.clear(&seen).await?;
                    self.rows.settle(&seen, due_before).await?
                }
                UploadStatus::Deleted => {
                    self.files.remove(&seen).await?;
                    self.rows.forget(&seen, due_before).await?
                }
                UploadStatus::Pending | UploadStatus::Rejected => {
                    // Never closed, so this is only ever a wait.
                    let _turn = self.under_lock.acquire().await;
                    self.rows.expire(&seen, self.turn.guard.clone()).await?
                }
            };
            match ending {
                Ending::Done => {
                    return Ok(match seen.status {
                        UploadStatus::Ready => Care::Settled,
                        UploadStatus::Deleted => Care::Forgotten,
                        UploadStatus::Pending | UploadStatus::Rejected => self.clear(&seen).await,
                    });
                }
                Ending::Fenced => return Ok(Care::Fenced),
                Ending::Refused => {}
                Ending::Busy => telemetry::count(Metric::TransactionConflicts, 1),
            }
            if !backoff.wait().await {
                return Ok(Care::Contended);
            }
        }
    }

    /// Lets the rest come first in the next slot.
    async fn put_behind(&self, entry: &SweepEntry) {
        let moved = self.rows.put_behind(entry, self.turn.scheduled_at);
        let moved = Deadline::after(PUT_BEHIND).cut_off(moved).await;
        if let Err(error) = moved.map_err(CareError::from).and_then(|moved| moved.map_err(CareError::from)) {
            tracing::warn!(upload = %entry.upload_id, error = chain(&error), "it is not put behind the rest");
        }
    }

    /// The end of step 1.
    async fn clear(&self, expired: &Upload) -> Care {
        match self.files.remove(expired).await {
            Ok(()) => Care::Expired,
            Err(error) => {
                tracing::warn!(upload = %expired.upload_id, error = chain(&error), "objects are left for later");
                Care::ExpiredButObjects
            }
        }
    }
}

impl<R: SweepRows, F: UploadRemoval> Backlog for DueUploads<'_, R, F> {
    type Shard = SweepShard;
    type Entry = SweepEntry;
    type Outcome = (UploadId, Result<Care, CareError>);
    type Error = DynamoError;

    const AT_ONCE: usize = AT_ONCE;

    fn shards(&self) -> Vec<SweepShard> {
        self.turn.rotated(SweepShard::all())
    }

    async fn page(
        &self,
        shard: SweepShard,
        after: Option<SweepEntry>,
    ) -> Result<ShardPage<SweepEntry>, DynamoError> {
        self.rows.page(shard, self.turn.scheduled_at, after).await
    }

    async fn work_on(&self, entry: SweepEntry) -> Self::Outcome {
        let care = self.turn.deadline.cut_off(self.look_after(&entry)).await;
        let care = care.unwrap_or_else(|passed| Err(passed.into()));
        if matches!(care, Err(_) | Ok(Care::Contended)) {
            self.put_behind(&entry).await;
        }
        (entry.upload_id, care)
    }
}

impl UploadCleanupResult {
    const fn of_nothing(due_before: Timestamp) -> Self {
        Self {
            due_before,
            expired: 0,
            objects_left: 0,
            forgotten: 0,
            settled: 0,
            ended_before: 0,
            contended: 0,
            failed: 0,
            remaining: false,
        }
    }

    /// Counts what is left over.
    fn tell(&self) {
        let left = [
            ("failed", self.failed),
            ("objects-left", self.objects_left),
            ("remaining", u64::from(self.remaining)),
        ];
        for (reason, count) in left.into_iter().filter(|(_, count)| *count > 0) {
            telemetry::count_case(Metric::UploadsLeftOver, reason, count);
        }
    }

    fn count(
        &mut self,
        (upload_id, care): (UploadId, Result<Care, CareError>),
    ) -> Result<(), BacklogError<DynamoError>> {
        match care {
            Ok(Care::Expired) => self.expired += 1,
            Ok(Care::ExpiredButObjects) => {
                self.expired += 1;
                self.objects_left += 1;
            }
            Ok(Care::Forgotten) => self.forgotten += 1,
            Ok(Care::Settled) => self.settled += 1,
            Ok(Care::EndedBefore) => self.ended_before += 1,
            Ok(Care::Contended) => self.contended += 1,
            Ok(Care::Fenced) => {
                tracing::warn!(%upload_id, due_before = %rfc3339(self.due_before), "the lock was taken over");
                return Err(BacklogError::Overtaken);
            }
            Err(error) => {
                tracing::error!(%upload_id, error = chain(&error), "an upload could not be looked after");
                self.failed += 1;
            }
        }
        Ok(())
    }
}
