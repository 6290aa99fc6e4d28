//! What a message of the queue leads to.
//!
//! 1. Take the export's lock. It is done: so is the message.
//! 2. Somebody else holds it: wait long enough for a holder that died to be replaced, and no longer. One that is seen to
//!    renew its lease lives: this message need not fail, which is bounded, and is done. But it may be the holder's own,
//!    delivered twice, and the holder may die; so one that looks again [later](LOOK_AGAIN) takes its place. Nobody has renewed:
//!    this one fails, and comes again. Either way a message is left for as long as the export has not ended.
//! 3. Run. An export that has ended completes the lock, for good. What was stopped gives it back, and so does a run that
//!    finds no row.
//! 4. Out of time, or cut off, and further than before: send a fresh message, and this one is done. Else it fails, and comes
//!    again (see [`hold`](crate::platform::queue::hold()), also for what happens when the worker dies); when that has happened too often, the dead-letter queue brings it to [`Worker::give_up`].
//! 5. Give up, but only what stands still. An export that has stored a part after the dead message was sent may have a fresh
//!    message on its way, which the dead one knows nothing of: send one more, and the dead one is done. It is younger than
//!    that part, so that the next verdict falls unless there was another part meanwhile; and after
//!    [`RETENTION`](super::RETENTION) there is no row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::run::{Ended, Exporter, Slice, Stop};
use super::{CustomerOrders, ExportMessage, Notice, ResultStore, Rows};
use crate::coordination::lock::{DynamoLocks, LeaseTerms, LockError, SlotRun, SlotRunner, Task};
use crate::core::clock::SharedClock;
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::error_type::ErrorType;
use crate::core::ids::{AttemptId, SharedIds};
use crate::platform::dynamo::Guard;
use crate::platform::queue::{NotSent, Queue};

/// How long before the deadline the last page is begun: the time to read it (8 seconds at worst), to store a part (10), to
/// write that down (8), and for the last steps. What takes even longer is cut off, and what it has stored counts.
const STOP_BEFORE_DEADLINE: Duration = Duration::from_secs(30);

/// What ends before the run is cut off by its lock: giving it back, and a fresh message.
const LAST_STEPS: Duration = Duration::from_secs(3);

/// How long to wait for the lock: by then a holder that died has been replaced.
const PATIENCE: Duration = Duration::from_secs(15);
const _: () = assert!(
    PATIENCE.as_secs() > LeaseTerms::EXPORTS.lease.as_secs() + LeaseTerms::EXPORTS.clock_skew.as_secs(),
    "a dead holder can be replaced by whoever waits"
);

/// How long after a holder was seen alive somebody looks again: longer than most runs.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Why a message failed. All of it may pass.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Somebody else has the export's lock, and was not seen to live.
    #[error("{task} is held by {by} until {}", rfc3339(*until))]
    Held {
        /// The lock.
        task: Task,
        /// The holder.
        by: AttemptId,
        /// The end of its lease.
        until: Timestamp,
    },
    /// The run did not stop in time by itself.
    #[error("{task} was cut off")]
    CutOff {
        /// The lock.
        task: Task,
    },
    /// The lock has changed hands.
    #[error("{task} was taken over by a later run")]
    TakenOver {
        /// The lock.
        task: Task,
    },
    /// The run stopped.
    #[error("{task} was stopped")]
    Stopped {
        /// The lock.
        task: Task,
        /// Why.
        #[source]
        why: Stop,
    },
    /// The lock's table did not answer.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There will be no fresh message; this one has to come again.
    #[error(transparent)]
    NotSent(#[from] NotSent),
}

impl ErrorType for WorkError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Held { .. } => "export-held",
            Self::CutOff { .. } => "export-cut-off",
            Self::TakenOver { .. } => "export-overtaken",
            Self::Stopped { why, .. } => why.error_type(),
            Self::Lock(_) => "lock-unavailable",
            Self::NotSent(_) => "message-not-sent",
        }
    }
}

/// Looks after exports, one at a time.
#[derive(Debug)]
pub struct Worker<R, O, S, N, Q> {
    runner: SlotRunner,
    exporter: Exporter<R, O, S, N>,
    queue: Q,
}

/// What a message is about: the next slice of work, or the end.
#[derive(Clone, Copy)]
enum Errand {
    Run,
    GiveUp { sent_at: Timestamp },
}

impl<R, O, S, N, Q> Worker<R, O, S, N, Q>
where
    R: Rows<Guard = Guard>,
    O: CustomerOrders,
    S: ResultStore,
    N: Notice,
    Q: Queue,
{
    /// Works with `exporter` under `locks`, and asks `queue` for more time.
    pub fn new(
        locks: DynamoLocks,
        exporter: Exporter<R, O, S, N>,
        queue: Q,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Self {
        Self { runner: SlotRunner::new(locks, clock, ids).patience(PATIENCE), exporter, queue }
    }

    /// Does what a message asks for, as far as the time until `deadline` reaches.
    pub async fn take(&self, message: &ExportMessage, deadline: Deadline) -> Result<(), WorkError> {
        self.go(Errand::Run, message, deadline).await
    }

    /// Ends the export of a message that failed too often, unless it has come further since that was sent.
    pub async fn give_up(
        &self,
        message: &ExportMessage,
        sent_at: Timestamp,
        deadline: Deadline,
    ) -> Result<(), WorkError> {
        self.go(Errand::GiveUp { sent_at }, message, deadline).await
    }

    async fn go(&self, errand: Errand, message: &ExportMessage, deadline: Deadline) -> Result<(), WorkError> {
        let task = Task::of_export(&message.export_id);
        let slice = Slice {
            stop_at: deadline.earlier_by(STOP_BEFORE_DEADLINE),
            deadline: deadline.earlier_by(LAST_STEPS),
        };
        let has_advanced = &AtomicBool::new(false);
        let work = |lease| async move {
            let guard = self.runner.locks().guard(&lease)?;
            let id = &message.export_id;
            match errand {
                Errand::Run => self.exporter.run(id, &guard, slice, has_advanced).await,
                Errand::GiveUp { sent_at } => self.exporter.give_up(id, sent_at, &guard, slice).await,
            }
        };
        match self.runner.run::<Ended, Stop, _>(&task, deadline, work).await? {
            SlotRun::Completed(ended) => {
                tracing::info!(%task, ?ended, "the export has ended");
                Ok(())
            }
            SlotRun::AlreadyDone { .. } => {
                tracing::info!(%task, "the export had ended before");
                Ok(())
            }
            SlotRun::HeldElsewhere { is_alive: true, by, .. } => {
                tracing::info!(%task, %by, "somebody else is at the export; another message goes on if they die");
                Ok(self.queue.send_later(&message.body(), LOOK_AGAIN).await?)
            }
            SlotRun::HeldElsewhere { by, until, is_alive: false } => Err(WorkError::Held { task, by, until }),
            SlotRun::CutOff if has_advanced.load(Ordering::Relaxed) => {
                tracing::warn!(%task, "cut off; another message goes on");
                Ok(self.queue.send(&message.body()).await?)
            }
            SlotRun::CutOff => Err(WorkError::CutOff { task }),
            SlotRun::TakenOver => Err(WorkError::TakenOver { task }),
            SlotRun::Failed(Stop::OutOfTime { has_advanced: true }) => {
                tracing::info!(%task, "out of time; another message goes on");
                Ok(self.queue.send(&message.body()).await?)
            }
            SlotRun::Failed(Stop::NotStuck) => {
                tracing::warn!(%task, "not given up: it has advanced since; another message goes on");
                Ok(self.queue.send(&message.body()).await?)
            }
            SlotRun::Failed(Stop::Unknown) => {
                tracing::info!(%task, "there is no such export, or not any more");
                Ok(())
            }
            SlotRun::Failed(why) => Err(WorkError::Stopped { task, why }),
        }
    }
}
