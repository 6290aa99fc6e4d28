//! The clean-up: deletes unfinished uploads, and the remains of deleted ones.
//!
//! The index `sweep` has every upload of which an object may still be written, from its creation
//! on, with the time at which it is due. So whatever happens to a client, its objects are deleted
//! and its quota is released. A run processes the index ([`backlog`]) for uploads that are due
//! before the scheduled time. Each of them is read again, consistently:
//!
//! 1. PENDING or REJECTED: one transaction makes it DELETED, on the condition of the status that
//!    was read and of the lock. A completion that comes first wins: the upload is READY, and its
//!    file stays. After the transaction the parts and objects are deleted. Failures are left to
//!    step 2.
//! 2. DELETED, by step 1 or by its user, so long ago that no link and no running request can write
//!    an object any more ([`Upload::settled_at`]): parts and objects are deleted, once more or for
//!    the first time. Then one transaction removes the row, on the condition that it is still this
//!    tombstone, and releases its share of the quota. That needs no lock: nobody else uses the row
//!    any more.
//! 3. READY, and its links have ended: the object that was sent to them since is deleted, and the
//!    upload leaves the index.
//!
//! So each share of the quota is released exactly once, and a row is removed after its objects.
//! Wherever a run is interrupted, the next run finds the row and starts over with it.
//!
//! The lock does not cover the bucket: a run that was overtaken may still delete objects. They only
//! ever belong to an upload that is DELETED, which is final, or are incoming objects of a READY
//! upload, which nobody reads.
//!
//! An upload that fails or takes too long is postponed: the next slot processes it after the
//! others, so that failing uploads never block the rest. Remaining uploads are counted
//! ([`Metric::UploadsLeftOver`]), with an alarm.

use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{DynamoUploads, EndOutcome, S3Uploads, Upload, UploadStatus};
use crate::coordination::backlog::{self, Backlog, BacklogError, BacklogProgress, JobRun};
use crate::core::clock::SharedClock;
use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::deadline::Deadline;
use crate::core::ids::{UploadId, UserId};
use crate::core::retry::Backoff;
use crate::core::shards::{ShardPage, spread};
use crate::files::links::LINK_LIFETIME;
use crate::platform::dynamo::{DynamoError, Guard};
use crate::platform::telemetry::{self, Metric, chain};

/// Shards of a region's uploads in the index `sweep`. Part of the data: raising it is safe,
/// lowering it hides rows.
pub const SWEEP_SHARDS: u8 = 8;

/// How long after the creation of an upload its links may write: [`LINK_LIFETIME`] until they end,
/// and an hour for requests that started just before that, and for clock differences.
pub const LINKS_WRITE: Duration = LINK_LIFETIME.saturating_add(Duration::from_hours(1));

/// How long after the end of an upload a completion may write that started before. The request
/// lasts half a minute, but S3 may continue after its caller disconnected.
pub const COMPLETIONS_WRITE: Duration = Duration::from_hours(1);

/// One shard of a region's uploads in the index `sweep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SweepShard(u8);

impl SweepShard {
    /// The shard of an upload.
    pub fn of(upload_id: &UploadId) -> Self {
        Self(spread(upload_id.as_str(), SWEEP_SHARDS))
    }

    /// All shards.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SWEEP_SHARDS).map(Self)
    }

    /// The index's key in `region`: `local#3`.
    pub fn key(self, region: &str) -> String {
        format!("{region}#{}", self.0)
    }
}

/// An upload in the index `sweep`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepEntry {
    pub owner_id: UserId,
    pub upload_id: UploadId,
    #[serde(with = "as_rfc3339")]
    pub sweep_at: Timestamp,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadCleanupResult {
    /// Uploads due before this were cleaned up.
    #[serde(with = "as_rfc3339")]
    pub due_before: Timestamp,
    /// Unfinished or rejected uploads that were deleted by this run.
    pub expired: u64,
    /// Of those, uploads whose objects could not be deleted yet.
    pub objects_left: u64,
    /// Deleted uploads whose rows and objects were removed.
    pub forgotten: u64,
    /// READY uploads that left the index, since their links have ended.
    pub settled: u64,
    /// Uploads that were not due any more, or gone, when they were read.
    pub ended_before: u64,
    /// Uploads whose rows had conflicts until the deadline.
    pub contended: u64,
    /// Uploads that could not be cleaned up.
    pub failed: u64,
    /// Whether time was up before the last page: the next slot continues.
    pub remaining: bool,
}

/// The result for one upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CleanupOutcome {
    Expired,
    ExpiredButObjects,
    Removed,
    Settled,
    EndedBefore,
    Contended,
    Overtaken,
}

/// The result, or why the upload could not be cleaned up.
type Cleaned = Result<CleanupOutcome, Box<dyn Error + Send + Sync>>;

/// Most concurrent uploads. Most are READY, or tombstones of different users, and do not conflict:
/// the bound is for memory and connections. Uploads that are written under the lock are bounded by
/// [`backlog::AT_ONCE`].
const AT_ONCE: usize = 16;

/// Timeout for postponing an upload. It happens after the upload's own time, and before the run's
/// ends.
const PUT_BEHIND: Duration = Duration::from_secs(1);

/// Cleans up what is due.
pub async fn run(
    rows: &DynamoUploads,
    files: &S3Uploads,
    clock: &SharedClock,
    turn: &JobRun<Guard>,
) -> Result<UploadCleanupResult, BacklogError<DynamoError>> {
    let mut result = UploadCleanupResult::of_nothing(turn.scheduled_at);
    let uploads = DueUploads { rows, files, clock, turn, under_lock: Semaphore::new(backlog::AT_ONCE) };
    let progress = backlog::process_backlog(&uploads, turn, |seen| result.count(seen)).await;
    result.remaining = matches!(progress, Ok(BacklogProgress::OutOfTime));
    result.count_left_over();
    progress.map(|_| result)
}

struct DueUploads<'a> {
    rows: &'a DynamoUploads,
    files: &'a S3Uploads,
    clock: &'a SharedClock,
    turn: &'a JobRun<Guard>,
    under_lock: Semaphore,
}

impl DueUploads<'_> {
    async fn clean_up(&self, entry: &SweepEntry) -> Cleaned {
        let due_before = self.turn.scheduled_at;
        let mut backoff = Backoff::within(self.turn.deadline);
        loop {
            let Some(upload) = self.rows.read_due(entry, due_before).await? else {
                return Ok(CleanupOutcome::EndedBefore);
            };
            let ending = match upload.status {
                UploadStatus::Ready => {
                    self.files.delete_incoming(&upload).await?;
                    self.rows.settle(&upload, due_before).await?
                }
                UploadStatus::Deleted => {
                    self.files.delete_all(&upload).await?;
                    self.rows.remove(&upload, due_before).await?
                }
                UploadStatus::Pending | UploadStatus::Rejected => {
                    // The semaphore is never closed, so this only waits.
                    let _permit = self.under_lock.acquire().await;
                    self.rows.expire(&upload, self.clock.now(), self.turn.guard.clone()).await?
                }
            };
            match ending {
                EndOutcome::Done => {
                    return Ok(match upload.status {
                        UploadStatus::Ready => CleanupOutcome::Settled,
                        UploadStatus::Deleted => CleanupOutcome::Removed,
                        UploadStatus::Pending | UploadStatus::Rejected => self.delete_objects(&upload).await,
                    });
                }
                EndOutcome::Overtaken => return Ok(CleanupOutcome::Overtaken),
                EndOutcome::Refused => {}
                EndOutcome::Conflict => telemetry::count(Metric::TransactionConflicts, 1),
            }
            if !backoff.wait().await {
                return Ok(CleanupOutcome::Contended);
            }
        }
    }

    /// Postpones the upload to the next slot.
    async fn postpone(&self, entry: &SweepEntry) {
        let moved = self.rows.postpone(entry, self.turn.scheduled_at);
        let error = match Deadline::after(PUT_BEHIND).cut_off(moved).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => chain(&error),
            Err(passed) => passed.to_string(),
        };
        tracing::warn!(upload = %entry.upload_id, error, "an upload could not be postponed");
    }

    /// The end of step 1.
    async fn delete_objects(&self, expired: &Upload) -> CleanupOutcome {
        match self.files.delete_all(expired).await {
            Ok(()) => CleanupOutcome::Expired,
            Err(error) => {
                tracing::warn!(upload = %expired.upload_id, error = chain(&error), "objects could not be deleted and are left to a later run");
                CleanupOutcome::ExpiredButObjects
            }
        }
    }
}

impl Backlog for DueUploads<'_> {
    type Shard = SweepShard;
    type Entry = SweepEntry;
    type Outcome = (UploadId, Cleaned);
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
        self.rows.page_of_due(shard, self.turn.scheduled_at, after).await
    }

    async fn process_entry(&self, entry: SweepEntry) -> Self::Outcome {
        let cleaned = self.turn.deadline.cut_off(self.clean_up(&entry)).await;
        let cleaned = cleaned.unwrap_or_else(|passed| Err(passed.into()));
        if matches!(cleaned, Err(_) | Ok(CleanupOutcome::Contended)) {
            self.postpone(&entry).await;
        }
        (entry.upload_id, cleaned)
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

    fn count_left_over(&self) {
        let left = [
            ("failed", self.failed),
            ("objects-left", self.objects_left),
            ("remaining", u64::from(self.remaining)),
        ];
        for (reason, count) in left.into_iter().filter(|(_, count)| *count > 0) {
            telemetry::count_case(Metric::UploadsLeftOver, reason, count);
        }
    }

    fn count(&mut self, (upload_id, cleaned): (UploadId, Cleaned)) -> Result<(), BacklogError<DynamoError>> {
        match cleaned {
            Ok(CleanupOutcome::Expired) => self.expired += 1,
            Ok(CleanupOutcome::ExpiredButObjects) => {
                self.expired += 1;
                self.objects_left += 1;
            }
            Ok(CleanupOutcome::Removed) => self.forgotten += 1,
            Ok(CleanupOutcome::Settled) => self.settled += 1,
            Ok(CleanupOutcome::EndedBefore) => self.ended_before += 1,
            Ok(CleanupOutcome::Contended) => self.contended += 1,
            Ok(CleanupOutcome::Overtaken) => {
                tracing::warn!(%upload_id, due_before = %rfc3339(self.due_before), "the lock was taken over");
                return Err(BacklogError::Overtaken);
            }
            Err(error) => {
                tracing::error!(%upload_id, error = chain(error.as_ref()), "an upload could not be cleaned up");
                self.failed += 1;
            }
        }
        Ok(())
    }
}
