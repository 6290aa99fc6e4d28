//! Processes the backlog of an index within the time of a job's slot.
//!
//! 1. The index is spread over shards. The run reads them one after the other, a page at a time,
//!    oldest entry first. Each slot starts with another shard ([`JobRun::rotated`]), so no shard is
//!    starved.
//! 2. The index is the only state: a processed entry leaves the index or becomes due later. So a
//!    run can stop at any point, and another run can start at any point, even concurrently.
//! 3. No entry is started after [`JobRun::stop_at`]. The next slot processes the rest.
//! 4. The job counts the entries that fail and postpones them, so that entries that always fail do
//!    not block others. A page that cannot be read fails the run, and the retry starts from the
//!    beginning. So does a lock that was taken over.

use std::future::Future;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;

use crate::coordination::lock::{JobSlot, LeaseSettings};
use crate::core::deadline::Deadline;
use crate::core::shards::ShardPage;
use crate::platform::dynamo::DynamoError;

/// How many entries are processed at the same time under a lock. All transactions of a run check
/// the same lock item, and DynamoDB lets one transaction at a time touch an item, so more would
/// conflict. With two, the reads of one entry run beside the transaction of the other.
pub const AT_ONCE: usize = 2;

/// Time reserved at the end of an invocation for the entries in progress and for completing the
/// slot. An entry takes milliseconds; conflicts or a slow provider make it seconds.
const STOP_BEFORE_DEADLINE: Duration = Duration::from_secs(10);

/// The part of [`STOP_BEFORE_DEADLINE`] that is reserved for completing the slot: twice the lock's
/// margin, at which the run is cut off. An entry that hangs must not cost the run its result.
const COMPLETE_BEFORE_DEADLINE: Duration = LeaseSettings::JOBS.margin.saturating_mul(2);

/// What a run may do, and until when.
#[derive(Debug, Clone)]
pub struct JobRun<G> {
    /// The time for which the run was scheduled. Entries are due relative to this time, so that
    /// every delivery has the same work.
    pub scheduled_at: Timestamp,
    /// The shard to start with: the number of the slot's hour.
    pub first_shard: usize,
    /// No entry is started after this.
    pub stop_at: Deadline,
    /// An entry in progress is retried until this.
    pub deadline: Deadline,
    /// The lock's condition, part of every write that the lock protects.
    pub guard: G,
}

impl<G> JobRun<G> {
    /// The run of a slot.
    pub fn of_slot(slot: &JobSlot, deadline: Deadline, guard: G) -> Self {
        let scheduled_at = slot.scheduled_at();
        let hour = scheduled_at.as_second().div_euclid(60 * 60).unsigned_abs();
        Self {
            scheduled_at,
            first_shard: usize::try_from(hour).unwrap_or(0),
            stop_at: deadline.earlier_by(STOP_BEFORE_DEADLINE),
            deadline: deadline.earlier_by(COMPLETE_BEFORE_DEADLINE),
            guard,
        }
    }

    /// `shards` in the order in which this run processes them.
    pub fn rotated<S>(&self, shards: impl IntoIterator<Item = S>) -> Vec<S> {
        let mut shards: Vec<S> = shards.into_iter().collect();
        let first = self.first_shard % shards.len().max(1);
        shards.rotate_left(first);
        shards
    }
}

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BacklogProgress {
    Through,
    /// Time ran out before the last page. The next slot continues.
    OutOfTime,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError<E: std::error::Error + 'static> {
    /// A page of the index could not be read.
    #[error("a page of the backlog could not be read")]
    Page(#[source] E),
    /// The lock's condition could not be built.
    #[error("the lock's condition could not be built")]
    Guard(#[source] DynamoError),
    /// The lock was taken over; this run must stop.
    #[error("a later run holds the lock")]
    Overtaken,
}

/// The entries that a job processes.
pub trait Backlog: Sync {
    /// How many entries are processed at the same time.
    const AT_ONCE: usize = AT_ONCE;
    /// A partition of the index.
    type Shard: Copy + Send + Sync;
    /// The id of an entry, and its place in the shard.
    type Entry: Send;
    /// The result of processing an entry.
    type Outcome: Send;
    /// A page could not be read.
    type Error: std::error::Error + Send + 'static;

    /// All partitions, in processing order.
    fn shards(&self) -> Vec<Self::Shard>;

    /// A page of due entries after the entry `after`. It may contain entries that were processed
    /// meanwhile.
    fn page(
        &self,
        shard: Self::Shard,
        after: Option<Self::Entry>,
    ) -> impl Future<Output = Result<ShardPage<Self::Entry>, Self::Error>> + Send;

    /// Processes an entry.
    fn process_entry(&self, entry: Self::Entry) -> impl Future<Output = Self::Outcome> + Send;
}

/// Processes all due entries and passes each outcome to `count`. An error of `count` ends the run.
pub async fn process_backlog<B: Backlog, G: Sync>(
    backlog: &B,
    turn: &JobRun<G>,
    mut count: impl FnMut(B::Outcome) -> Result<(), BacklogError<B::Error>> + Send,
) -> Result<BacklogProgress, BacklogError<B::Error>> {
    for shard in backlog.shards() {
        if process_shard(backlog, turn, shard, &mut count).await? == BacklogProgress::OutOfTime {
            tracing::warn!("out of time; the next slot continues");
            return Ok(BacklogProgress::OutOfTime);
        }
    }
    Ok(BacklogProgress::Through)
}

async fn process_shard<B: Backlog, G: Sync>(
    backlog: &B,
    turn: &JobRun<G>,
    shard: B::Shard,
    count: &mut (impl FnMut(B::Outcome) -> Result<(), BacklogError<B::Error>> + Send),
) -> Result<BacklogProgress, BacklogError<B::Error>> {
    let mut after = None;
    loop {
        if turn.stop_at.has_passed() {
            return Ok(BacklogProgress::OutOfTime);
        }
        let page = backlog.page(shard, after).await.map_err(BacklogError::Page)?;
        let visits = stream::iter(page.entries).map(|entry| async move {
            if turn.stop_at.has_passed() { None } else { Some(backlog.process_entry(entry).await) }
        });
        let mut visits = std::pin::pin!(visits.buffer_unordered(B::AT_ONCE));
        let mut progress = BacklogProgress::Through;
        while let Some(visit) = visits.next().await {
            match visit {
                Some(outcome) => count(outcome)?,
                None => progress = BacklogProgress::OutOfTime,
            }
        }
        after = page.next;
        if after.is_none() || progress == BacklogProgress::OutOfTime {
            return Ok(progress);
        }
    }
}
