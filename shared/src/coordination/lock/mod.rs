//! The distributed lock: one holder at a time, and a fence against the one that does not know it no longer is.
//!
//! **Promise.** Of all attempts at one name, at most one at a time is the holder; a name is completed at most once;
//! a holder that crashed is replaced when its lease has run out; a holder that was paused and wakes up after its
//! replacement changes nothing. The clocks of two regions may differ by [`LeaseSettings::clock_skew`].
//!
//! **The item.** One per [`LockName`], in one of three states:
//!
//! | state | attributes beside `lockName`, `owner`, `fence`, `region`, `acquiredAt`, `expiresAt` |
//! |---|---|
//! | held | `leaseUntilMs`: the lease's end, epoch milliseconds |
//! | free | none. `owner` is the last holder's |
//! | done | `completedAt`, `result` |
//!
//! The lease's end is `leaseUntilMs` and not `expiresAt`. `expiresAt` is the table's TTL attribute, which *deletes* the
//! item, and with it the fence and the fact that the slot is done. It is the end of [`RETENTION`], weeks later. An item
//! past it and not yet deleted still counts: done stays done.
//!
//! **Protocol.**
//! 1. *Acquire* is one conditional update: absent, or not done and either free or expired by more than the allowed
//!    clock skew. It sets the owner and adds one to the fence. A refusal brings the item along, so there is no second
//!    read. The lease counts from the instant *before* the request was sent.
//! 2. An [`Owner`] takes a lock at most once. When the answer to an acquire is lost and the SDK sends it again, the
//!    update is refused by its own effect, and the item that comes along names the asker: [`AcquireOutcome::Acquired`].
//! 3. *Renew*, *release* and *complete* are conditional on owner, fence and the lock being held. Repeated after a lost
//!    answer, they find their own effect and say [`IfHolder::Done`] again. A renewal never shortens a lease.
//! 4. A write that the lock protects carries the same condition in its transaction ([`DynamoLocks::guard`]). A target
//!    outside of transactions' reach keeps the largest fence it has seen and takes a write only if
//!    `attribute_not_exists(lastFence) OR lastFence <= :fence`.
//! 5. Release and complete change the item and never delete it: the fence must not go back.
//!
//! **Regions.** The locks of one region are in its own table. What runs once in the world is a lock of the agreement table
//! ([`DynamoLocks::of_all_regions`]): the same item and the same steps, asked of whichever replica answers. That table has
//! no transactions, so such a lock has no guard (step 4) and its targets carry the fence. It has no TTL either, so a job
//! deletes the slots that are past their retention ([`DynamoLocks::forget`]).
//!
//! `shared/tests/lock_model.rs` checks these steps in every order, with crashes, pauses, skewed clocks, lost answers
//! and late duplicates.
//!
//! **Limits.** A lease is exclusive only among holders that look at their clocks; what must hold in spite of pauses
//! needs step 4. Transactions that carry the guard of one lock meet at its item: DynamoDB lets one at a time pass, the
//! rest conflict, so a holder gains little from running many side by side. A late duplicate of an acquire can take a
//! lock that was released in between: nobody works then until that lease has run out.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::ids::AttemptId;
use crate::platform::dynamo::DynamoError;

mod dynamo;
mod run;
mod slot;

pub use dynamo::DynamoLocks;
pub use run::{SlotRun, SlotRunner};
pub use slot::{InvalidLockName, JobSlot, LockName, Task};

/// Who asks for a lock: one attempt of one process, never used for a second one.
pub type Owner = AttemptId;

/// How long an item is kept after its last change. A delivery of a slot can come again as long as the schedules'
/// dead-letter queue keeps it (14 days), and somebody has to look at it first.
pub const RETENTION: Duration = Duration::from_hours(30 * 24);

/// How leases are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long a lease lasts without renewal.
    pub lease: Duration,
    /// How far two clocks may be apart. A lease is taken over only when it ended longer ago than this.
    pub clock_skew: Duration,
    /// Work ends this long before its lease or its invocation does: time to complete or release.
    pub margin: Duration,
}

impl LeaseSettings {
    /// The terms of scheduled jobs. Lease and skew together are shorter than the minute after which Lambda retries a
    /// failed event, so the retry of a crashed run finds its lease expired. The skew is a hundred times what the
    /// Amazon Time Sync Service keeps. The margin holds several calls to DynamoDB.
    pub const JOBS: Self = Self {
        lease: Duration::from_secs(40),
        clock_skew: Duration::from_secs(5),
        margin: Duration::from_secs(2),
    };

    /// The terms of exports. A worker that dies is replaced after twelve seconds, well inside of one invocation, so that a
    /// message that comes again need not come a third time.
    pub const EXPORTS: Self = Self {
        lease: Duration::from_secs(10),
        clock_skew: Duration::from_secs(2),
        margin: Duration::from_secs(2),
    };

    /// How often a holder renews: three renewals can fail before the lease is lost.
    pub fn heartbeat(self) -> Duration {
        self.lease / 4
    }
}

/// Rises by one each time a lock changes hands. A larger one means a later holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(pub u64);

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to act under a lock until an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub name: LockName,
    pub owner: Owner,
    /// Larger than that of every holder before.
    pub fence: FencingToken,
    /// The instant before the request was sent, plus the length of a lease.
    pub ends_at: Timestamp,
}

/// Outcome of asking for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcquireOutcome {
    /// The asker holds it.
    Acquired(Lease),
    Held {
        by: Owner,
        /// The end of its lease, if it does not renew.
        until: Timestamp,
    },
    /// It was completed, for good.
    Done {
        at: Timestamp,
        /// What the holder left on completion.
        result: Option<String>,
    },
}

/// Outcome of what only the holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfHolder<T = ()> {
    /// The asker is the holder, and it is done.
    Done(T),
    /// The asker is the holder no longer. Nothing was changed.
    Lost,
}

/// A lock could not be asked for, or an answer could not be read. Whether a write happened is unknown.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The store did not answer.
    #[error("the lock {name} could not be reached")]
    Store {
        name: LockName,
        #[source]
        source: DynamoError,
    },
    /// Other writes to the item were in progress each time.
    #[error("the lock {name} was busy at every try")]
    Busy { name: LockName },
}
