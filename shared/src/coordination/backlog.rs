//! Working off what has piled up in an index, in the time that a slot has.
//!
//! 1. The index is spread over shards, which are read one after the other: a page at a time, oldest first. Each slot
//!    begins with another shard ([`JobRun::rotated`]), so that none waits for ever behind the others.
//! 2. The state of the work is the index itself: what is done is no longer in it, or not yet due again. So a run can be cut off
//!    anywhere and another can begin anywhere, also beside it.
//! 3. Nothing is begun after [`JobRun::stop_at`]. What remains is left to the next slot.
//! 4. What fails with one entry is its job's to count. The job also puts the entry behind the rest, so that entries that
//!    always fail never keep later ones from being worked on; a later slot meets the entry again. When a page cannot be
//!    read, the run fails, and its retry begins anew. So it does when a later run holds the lock.

use std::future::Future;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;

use crate::coordination::lock::{JobSlot, LeaseSettings};
use crate::core::deadline::Deadline;
use crate::core::shards::ShardPage;
use crate::platform::dynamo::DynamoError;

/// Entries that change something under the lock, in work at the same time. All transactions of a run check the same lock, and DynamoDB lets one transaction at
/// a time touch an item: more would meet each other there as conflicts. Two let one's other requests run beside the other's
/// transaction.
pub const AT_ONCE: usize = 2;

/// Time kept back for what is in work when the run stops to begin anew, and for completing the slot. An entry takes
/// milliseconds, one that meets others or a slow provider some seconds.
const STOP_BEFORE_DEADLINE: Duration = Duration::from_secs(10);

/// Of that, time for completing the slot alone: the lock's margin, at which the run is cut off, and as long again. One entry
/// that hangs must not cost the run its result.
const COMPLETE_BEFORE_DEADLINE: Duration = LeaseSettings::JOBS.margin.saturating_mul(2);

/// What a run may do, and until when.
#[derive(Debug, Clone)]
pub struct JobRun<G> {
    /// The time for which it was scheduled. What is due counts from here, so that every delivery has the same work.
    pub scheduled_at: Timestamp,
    /// Where among the shards to begin: the number of the slot's hour, which rises from slot to slot.
    pub first_shard: usize,
    /// Nothing is begun after this.
    pub stop_at: Deadline,
    /// What has been begun is tried until this.
    pub deadline: Deadline,
    /// The lock's condition, for every write that the lock protects.
    pub guard: G,
}

impl<G> JobRun<G> {
    /// The turn of a slot.
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

    /// `shards` in the order in which this turn works them off.
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
    /// Time ran out before the last page: the next slot goes on.
    OutOfTime,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError<E: std::error::Error + 'static> {
    /// A page of the index could not be read.
    #[error("what is to be done could not be read")]
    Page(#[source] E),
    /// The lock's condition could not be made.
    #[error("the lock's condition could not be made")]
    Guard(#[source] DynamoError),
    /// The lock was taken over; this run must stop.
    #[error("a later run holds the lock")]
    Overtaken,
}

/// What a job works off.
pub trait Backlog: Sync {
    /// Entries in work at the same time.
    const AT_ONCE: usize = AT_ONCE;
    /// A partition of the index.
    type Shard: Copy + Send + Sync;
    /// What names a thing that is to be done, and its place in the shard.
    type Entry: Send;
    /// What became of an entry.
    type Outcome: Send;
    /// A store that did not answer.
    type Error: std::error::Error + Send + 'static;

    /// All partitions, in the order in which they are worked off.
    fn shards(&self) -> Vec<Self::Shard>;

    /// A page of what is due, behind the entry `after`. It may name what has been done meanwhile.
    fn page(
        &self,
        shard: Self::Shard,
        after: Option<Self::Entry>,
    ) -> impl Future<Output = Result<ShardPage<Self::Entry>, Self::Error>> + Send;

    /// Does what is to be done with an entry.
    fn process_entry(&self, entry: Self::Entry) -> impl Future<Output = Self::Outcome> + Send;
}

/// Works off what there is, and hands every outcome to `count`, which ends the run by an error.
pub async fn process_backlog<B: Backlog, G: Sync>(
    backlog: &B,
    turn: &JobRun<G>,
    mut count: impl FnMut(B::Outcome) -> Result<(), BacklogError<B::Error>> + Send,
) -> Result<BacklogProgress, BacklogError<B::Error>> {
    for shard in backlog.shards() {
        if process_shard(backlog, turn, shard, &mut count).await? == BacklogProgress::OutOfTime {
            tracing::warn!("out of time; the next slot does what remains");
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
