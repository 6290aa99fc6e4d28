//! Runs a job, or any other task that is completed once, under its lock.
//!
//! 1. Acquire with a new owner. *Done*: the work is not run, and the caller gets the stored result.
//!    *Held*: ask again every [`HOLDER_POLL`] while time allows, until the holder completes,
//!    releases, or lets its lease expire. So one delivery is enough to finish a slot whose holder
//!    crashed. A caller with limited [patience](SlotRunner::patience) asks only until it is clear
//!    whether the holder is alive.
//! 2. Run the work and the heartbeat concurrently in one task. The work is dropped when the lease
//!    is lost, and [`LeaseSettings::margin`] before the lease or the invocation ends, whichever
//!    comes first.
//! 3. Finished: complete, and store the result of the work for later deliveries. Failed or cut off:
//!    release, so that the next delivery need not wait for the lease to expire.
//!
//! Dropping the work stops it at its next `.await`; a request already sent may still arrive. A
//! write that must not happen after a takeover needs the fence.

use std::future::Future;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{AcquireOutcome, DynamoLocks, IfHolder, Lease, LeaseSettings, LockError, Owner, Task};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::SharedIds;
use crate::platform::telemetry::{Metric, count_case};

/// How often a delivery polls a slot that another run holds. Duplicates are rare and runs take
/// seconds, so polling costs little: one refused write.
const HOLDER_POLL: Duration = Duration::from_millis(500);

/// The result of one delivery of a slot.
#[derive(Debug)]
pub enum SlotRun<T, E> {
    /// This run did the work and completed the slot.
    Completed(T),
    /// An earlier run completed the slot.
    AlreadyDone {
        at: Timestamp,
        /// Its result, as JSON text.
        result: Option<String>,
    },
    /// Another run held the slot for as long as there was time to wait.
    HeldElsewhere {
        by: Owner,
        /// The end of the holder's lease, if it does not renew.
        until: Timestamp,
        /// Whether the holder is alive: between two polls, the lease was renewed or the lock
        /// changed hands.
        is_alive: bool,
    },
    /// The work did not end in time. It was dropped and the lock released.
    CutOff,
    /// Another run took over. The result of this one is void.
    TakenOver,
    /// The work failed, and the lock was released.
    Failed(E),
}

impl<T, E> SlotRun<T, E> {
    /// The metric's dimension.
    const fn case(&self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::AlreadyDone { .. } => "done",
            Self::HeldElsewhere { .. } => "held",
            Self::CutOff => "cut-off",
            Self::TakenOver => "taken-over",
            Self::Failed(_) => "failed",
        }
    }
}

/// Runs work under locks.
#[derive(Debug, Clone)]
pub struct SlotRunner {
    locks: DynamoLocks,
    clock: SharedClock,
    ids: SharedIds,
    patience: Option<Duration>,
}

/// Why the heartbeat ended.
enum Stopped {
    OutOfTime,
    TakenOver,
}

impl SlotRunner {
    /// Locks in `locks`, owners from `ids`.
    pub fn new(locks: DynamoLocks, clock: SharedClock, ids: SharedIds) -> Self {
        Self { locks, clock, ids, patience: None }
    }

    /// Waits at most this long for a lock that is held, and no longer once its holder is known to
    /// be alive.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// The locks.
    pub fn locks(&self) -> &DynamoLocks {
        &self.locks
    }

    /// Runs `work` if the task's lock can be acquired, and completes the task with the result of
    /// `work`.
    ///
    /// # Errors
    /// The lock could not be reached. If the work had ended by then, it is unknown whether the task
    /// is completed; the next delivery finds out.
    pub async fn run<T, E, W>(
        &self,
        task: &Task,
        deadline: Deadline,
        work: impl FnOnce(Lease) -> W,
    ) -> Result<SlotRun<T, E>, LockError>
    where
        T: Serialize,
        W: Future<Output = Result<T, E>>,
    {
        let (acquired, is_alive) = self.acquire(task, deadline).await?;
        let run = match acquired {
            // Boxed: the size of the future depends on the job.
            AcquireOutcome::Acquired(lease) => Box::pin(self.run_held(lease, deadline, work)).await?,
            AcquireOutcome::Held { by, until } => SlotRun::HeldElsewhere { by, until, is_alive },
            AcquireOutcome::Done { at, result } => SlotRun::AlreadyDone { at, result },
        };
        count_case(Metric::LockOutcomes, run.case(), 1);
        // One region runs the job of all regions. The others report what they found; otherwise
        // their alarms would see no run.
        let of_all = self.locks.are_of_all_regions();
        if matches!(run, SlotRun::Completed(_)) || of_all && matches!(run, SlotRun::AlreadyDone { .. }) {
            count_case(Metric::JobsCompleted, task.job(), 1);
        }
        Ok(run)
    }

    /// Asks until the lock is acquired or done, or time is up. Also returns whether a holder was
    /// seen to be alive.
    async fn acquire(&self, task: &Task, deadline: Deadline) -> Result<(AcquireOutcome, bool), LockError> {
        let in_time = deadline.earlier_by(self.locks.terms().margin);
        let ask_until = self.patience.map_or(in_time, |patience| in_time.min(Deadline::after(patience)));
        let mut first_seen = None;
        loop {
            let outcome = self.locks.acquire(task.lock_name(), &self.ids.next()).await?;
            let AcquireOutcome::Held { by, until } = &outcome else { return Ok((outcome, false)) };
            let seen = (by.clone(), *until);
            let is_alive = *first_seen.get_or_insert_with(|| seen.clone()) != seen;
            let knows_enough = is_alive && self.patience.is_some();
            if knows_enough || ask_until.remaining() <= HOLDER_POLL {
                return Ok((outcome, is_alive));
            }
            tracing::debug!(lock = %task, %by, %until, "held by another run; waiting");
            tokio::time::sleep(HOLDER_POLL).await;
        }
    }

    async fn run_held<T, E, W>(
        &self,
        lease: Lease,
        deadline: Deadline,
        work: impl FnOnce(Lease) -> W,
    ) -> Result<SlotRun<T, E>, LockError>
    where
        T: Serialize,
        W: Future<Output = Result<T, E>>,
    {
        tracing::info!(lock = %lease.name, owner = %lease.owner, fence = lease.fence.0, "lock acquired");
        let ended = tokio::select! {
            // Work that has ended counts, even if its time is up at the same moment.
            biased;
            ended = work(lease.clone()) => Ok(ended),
            stopped = self.keep_alive(lease.clone(), deadline) => Err(stopped),
        };
        match ended {
            Ok(Ok(value)) => self.complete(&lease, value).await,
            Ok(Err(error)) => {
                self.release(&lease).await;
                Ok(SlotRun::Failed(error))
            }
            Err(Stopped::OutOfTime) => {
                self.release(&lease).await;
                Ok(SlotRun::CutOff)
            }
            Err(Stopped::TakenOver) => Ok(SlotRun::TakenOver),
        }
    }

    /// Renews the lease until it is lost or time is up.
    async fn keep_alive(&self, mut lease: Lease, deadline: Deadline) -> Stopped {
        let LeaseSettings { margin, .. } = self.locks.terms();
        let heartbeat = self.locks.terms().heartbeat();
        loop {
            let stop_at = deadline.min(self.end_of(&lease)).earlier_by(margin);
            let renewal = async {
                tokio::time::sleep(heartbeat).await;
                self.locks.renew(&lease).await
            };
            match stop_at.cut_off(renewal).await {
                Ok(Ok(IfHolder::Done(renewed))) => lease = renewed,
                Ok(Ok(IfHolder::Lost)) => return Stopped::TakenOver,
                // The next heartbeat tries again; the lease's end bounds the tries.
                Ok(Err(error)) => tracing::warn!(lock = %lease.name, %error, "lease not renewed"),
                Err(_) => return Stopped::OutOfTime,
            }
        }
    }

    /// The lease's end on this process's own timer.
    fn end_of(&self, lease: &Lease) -> Deadline {
        let left: SignedDuration = lease.ends_at.duration_since(self.clock.now());
        Deadline::after(Duration::try_from(left).unwrap_or_default())
    }

    async fn complete<T: Serialize, E>(&self, lease: &Lease, value: T) -> Result<SlotRun<T, E>, LockError> {
        let result = match serde_json::to_string(&value) {
            Ok(json) => Some(json),
            Err(error) => {
                tracing::error!(lock = %lease.name, %error, "the result could not be stored with the slot");
                None
            }
        };
        match self.locks.complete(lease, result.as_deref()).await? {
            IfHolder::Done(()) => Ok(SlotRun::Completed(value)),
            IfHolder::Lost => Ok(SlotRun::TakenOver),
        }
    }

    async fn release(&self, lease: &Lease) {
        match self.locks.release(lease).await {
            Ok(IfHolder::Done(())) => tracing::info!(lock = %lease.name, "lock released"),
            Ok(IfHolder::Lost) => tracing::info!(lock = %lease.name, "lock had been taken over"),
            Err(error) => {
                tracing::warn!(lock = %lease.name, %error, "lock not released; its lease will expire");
            }
        }
    }
}
