//! A distributed lock: one holder at a time, and a fencing token against a holder that was
//! overtaken. Known from the [DynamoDB Lock
//! Client](https://aws.amazon.com/blogs/database/building-distributed-locks-with-the-dynamodb-lock-client/).
//!
//! **Promise.** A name has at most one holder at a time and is completed at most once. A holder
//! that crashed is replaced when its lease has expired. A holder that was paused and wakes up after
//! its replacement changes nothing. The clocks of two regions may differ by
//! [`LeaseSettings::clock_skew`].
//!
//! **The item.** One per [`LockName`], in one of three states:
//!
//! | state | attributes beside `lockName`, `owner`, `fence`, `region`, `acquiredAt`, `expiresAt` |
//! |---|---|
//! | held | `leaseUntilMs`: the lease's end, epoch milliseconds |
//! | free | none. `owner` is the last holder's |
//! | done | `completedAt`, `result` |
//!
//! `expiresAt` is the table's TTL attribute: the end of [`RETENTION`], weeks later. It is not the
//! lease's end, since TTL *deletes* the item, with its fence and the fact that the slot is done. An
//! item past its TTL that is not deleted yet still counts.
//!
//! **Protocol.**
//! 1. *Acquire* is one conditional update: the item is absent, or it is not done and is free or
//!    expired by more than the allowed clock skew. The update sets the owner and adds one to the
//!    fence. A failed condition returns the item, so there is no second read. The lease counts from
//!    the instant *before* the request was sent.
//! 2. An [`Owner`] takes a lock at most once. If the answer to an acquire is lost and the SDK sends
//!    it again, its own effect refuses the update, and the returned item names the asker:
//!    [`AcquireOutcome::Acquired`].
//! 3. *Renew*, *release* and *complete* are conditional on owner, fence and the lock being held.
//!    Repeated after a lost answer, they find their own effect and return [`IfHolder::Done`] again.
//!    A renewal never shortens a lease.
//! 4. A write that the lock protects includes the same condition in its transaction
//!    ([`DynamoLocks::guard`]). A target that no transaction reaches stores the largest fence it
//!    has seen and accepts a write only if
//!    `attribute_not_exists(lastFence) OR lastFence <= :fence`.
//! 5. Release and complete update the item and never delete it: the fence must not decrease.
//!
//! **Regions.** The locks of one region are in its own table. A job that runs once in the world has
//! a lock in the agreement table ([`DynamoLocks::of_all_regions`]): the same item and protocol,
//! sent to whichever replica answers. That table has no transactions, so such a lock has no guard
//! (step 4) and its targets store the fence. It has no TTL either, so a job deletes the items past
//! their retention ([`DynamoLocks::forget`]).
//!
//! `shared/tests/lock_model.rs` checks these steps in every order, with crashes, pauses, skewed
//! clocks, lost answers and late duplicates.
//!
//! **Limits.** A lease is exclusive only among holders that check their clocks; what must hold in
//! spite of pauses needs step 4. DynamoDB lets one transaction at a time touch the lock's item and
//! cancels the others as conflicts, so a holder gains little from concurrent transactions. A late
//! duplicate of an acquire can take a lock that was released in between: nobody works until that
//! lease has expired.
//!
//! # Example
//! A nightly job that runs once, however often its schedule is delivered. It needs a DynamoDB
//! table, so this example is compiled and not run.
//! ```no_run
//! use jiff::Timestamp;
//! use sojourn::coordination::lock::{DynamoLocks, JobSlot, LeaseSettings, SlotRun, SlotRunner};
//! use sojourn::core::deadline::Deadline;
//! use sojourn::core::{clock, ids};
//!
//! # async fn run(
//! #     client: aws_sdk_dynamodb::Client,
//! #     scheduled_at: Timestamp,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let clock = clock::system();
//! let locks = DynamoLocks::new(client, "locks", "eu-west-1", clock.clone(), LeaseSettings::JOBS);
//! let runner = SlotRunner::new(locks, clock, ids::random());
//! let slot = JobSlot::of_day("nightly-cleanup", scheduled_at);
//! let deadline = Deadline::after(std::time::Duration::from_secs(60));
//!
//! let outcome = runner
//!     .run(slot.task(), deadline, |lease| async move {
//!         // Each write that the lock protects carries the fence, or the guard of the lease.
//!         Ok::<u64, std::io::Error>(lease.fence.0)
//!     })
//!     .await?;
//! match outcome {
//!     SlotRun::Completed(fence) => println!("done, fence {fence}"),
//!     SlotRun::AlreadyDone { .. } => println!("another run was first"),
//!     other => println!("try again later: {other:?}"),
//! }
//! # Ok(())
//! # }
//! ```

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

/// Identifies one attempt of one process to take a lock; never reused.
pub type Owner = AttemptId;

/// How long an item is kept after its last change: longer than the schedules' dead-letter queue
/// keeps a delivery (14 days), which an operator may redeliver.
pub const RETENTION: Duration = Duration::from_hours(30 * 24);

/// Settings of leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long a lease lasts without renewal.
    pub lease: Duration,
    /// Largest difference between two clocks. A lease is taken over only when it ended longer ago
    /// than this.
    pub clock_skew: Duration,
    /// Work ends this long before its lease or its invocation, to leave time to complete or
    /// release.
    pub margin: Duration,
}

impl LeaseSettings {
    /// Settings for scheduled jobs. Lease and skew together are shorter than the minute after which
    /// Lambda retries a failed event, so the retry of a crashed run finds its lease expired. The
    /// skew is a hundred times what the Amazon Time Sync Service guarantees. The margin allows
    /// several calls to DynamoDB.
    pub const JOBS: Self = Self {
        lease: Duration::from_secs(40),
        clock_skew: Duration::from_secs(5),
        margin: Duration::from_secs(2),
    };

    /// Settings for exports. A worker that dies is replaced after twelve seconds, well within one
    /// invocation, so that a redelivered message finds the lease expired.
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

/// Rises by one each time a lock changes hands. A larger token means a later holder. See [how to do
/// distributed
/// locking](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).
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

/// The result of asking for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AcquireOutcome {
    /// The asker holds it.
    Acquired(Lease),
    Held {
        by: Owner,
        /// The end of the holder's lease, if it does not renew.
        until: Timestamp,
    },
    /// It was completed, for good.
    Done {
        at: Timestamp,
        /// What the holder stored on completion.
        result: Option<String>,
    },
}

/// The result of an operation that only the holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfHolder<T = ()> {
    /// The caller is the holder, and the operation succeeded.
    Done(T),
    /// The caller is no longer the holder. Nothing was changed.
    Lost,
}

/// A lock could not be asked for, or its answer could not be read. It is unknown whether the write
/// happened.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The store did not answer.
    #[error("the lock {name} could not be reached")]
    Store {
        name: LockName,
        #[source]
        source: DynamoError,
    },
    /// Other writes to the item were in progress at each try.
    #[error("the lock {name} was busy at every try")]
    Busy { name: LockName },
}
