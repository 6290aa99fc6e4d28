//! Processing of a queue message.
//!
//! 1. Take the export's lock. If the lock is completed, the message is done.
//! 2. If another worker holds the lock, wait long enough for a dead holder to be replaced. A holder
//!    that renews its lease is alive: this message is done rather than failed, since failures are
//!    bounded. But the holder may be processing a duplicate of this very message, and may die; so a
//!    [delayed](LOOK_AGAIN) message replaces it. If nobody has renewed, this message fails, and is
//!    delivered again. Either way there is a message as long as the export has not ended.
//! 3. Run. An export that has ended completes the lock, for good. A run that was stopped, or that
//!    finds no row, releases it.
//! 4. If the run was out of time or cut off, and has advanced: send a new message, and this one is
//!    done. Otherwise it fails, and is delivered again (see
//!    [`hold`](crate::platform::queue::hold()), also for a worker that dies). A message that failed
//!    too often goes to the dead-letter queue, whose handler calls [`Worker::give_up`].
//! 5. Give up, but only if the export has not advanced. An export that has stored a part after the
//!    dead message was sent may have a new message on its way: send one more, and the dead one is
//!    done. The new message is younger than that part, so that the next [`Worker::give_up`] fails
//!    the export unless there was another part meanwhile; and after [`RETENTION`](super::RETENTION)
//!    there is no row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::ExportMessage;
use super::run::{Ended, Exporter, Slice, Stop};
use crate::coordination::lock::{DynamoLocks, LeaseSettings, LockError, SlotRun, SlotRunner, Task};
use crate::core::clock::SharedClock;
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::error_type::ErrorType;
use crate::core::ids::{AttemptId, SharedIds};
use crate::platform::queue::{NotSent, Queue, SqsQueue};

/// How long before the deadline the last page is read: time to read it (8 seconds at worst), to
/// store a part (10), to write the checkpoint (8), and for the last steps. A run that takes even
/// longer is cut off, and its stored parts count.
const STOP_BEFORE_DEADLINE: Duration = Duration::from_secs(30);

/// Time reserved at the end of a run: for releasing the lock, and for a new message.
const LAST_STEPS: Duration = Duration::from_secs(3);

/// How long to wait for the lock. A dead holder can be replaced by then.
const LOCK_WAIT: Duration = Duration::from_secs(15);
const _: () = assert!(
    LOCK_WAIT.as_secs()
        > LeaseSettings::EXPORTS.lease.as_secs() + LeaseSettings::EXPORTS.clock_skew.as_secs(),
    "a dead holder can be replaced within the wait"
);

/// Delay of the message that replaces one whose holder is alive: longer than most runs.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Why a message failed. Every cause may be temporary.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// Another worker holds the export's lock, and was not seen to renew it.
    #[error("{task} is held by {by} until {}", rfc3339(*until))]
    Held {
        task: Task,
        by: AttemptId,
        /// The end of its lease.
        until: Timestamp,
    },
    /// The run did not stop in time.
    #[error("{task} was cut off")]
    CutOff { task: Task },
    /// The lock was taken over.
    #[error("{task} was taken over by a later run")]
    TakenOver { task: Task },
    #[error("{task} was stopped")]
    Stopped {
        task: Task,
        #[source]
        why: Stop,
    },
    /// The lock's table failed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The new message was not sent; this one has to be delivered again.
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

/// Runs exports, one at a time.
#[derive(Debug)]
pub struct Worker<Q = SqsQueue> {
    runner: SlotRunner,
    exporter: Exporter,
    queue: Q,
}

/// What a message asks for.
#[derive(Clone, Copy)]
enum Action {
    Run,
    GiveUp { sent_at: Timestamp },
}

impl<Q: Queue> Worker<Q> {
    /// Runs `exporter` under `locks`, and sends new messages to `queue`.
    pub fn new(locks: DynamoLocks, exporter: Exporter, queue: Q, clock: SharedClock, ids: SharedIds) -> Self {
        Self { runner: SlotRunner::new(locks, clock, ids).patience(LOCK_WAIT), exporter, queue }
    }

    /// Runs the export of a message, as far as `deadline` allows.
    pub async fn take(&self, message: &ExportMessage, deadline: Deadline) -> Result<(), WorkError> {
        self.work(Action::Run, message, deadline).await
    }

    /// Ends the export of a message that failed too often, unless it has advanced since that was
    /// sent.
    pub async fn give_up(
        &self,
        message: &ExportMessage,
        sent_at: Timestamp,
        deadline: Deadline,
    ) -> Result<(), WorkError> {
        self.work(Action::GiveUp { sent_at }, message, deadline).await
    }

    async fn work(
        &self,
        action: Action,
        message: &ExportMessage,
        deadline: Deadline,
    ) -> Result<(), WorkError> {
        let task = Task::of_export(&message.export_id);
        let slice = Slice {
            stop_at: deadline.earlier_by(STOP_BEFORE_DEADLINE),
            deadline: deadline.earlier_by(LAST_STEPS),
        };
        let has_advanced = &AtomicBool::new(false);
        let run = |lease| async move {
            let guard = self.runner.locks().guard(&lease)?;
            let id = &message.export_id;
            match action {
                Action::Run => self.exporter.run(id, &guard, slice, has_advanced).await,
                Action::GiveUp { sent_at } => self.exporter.give_up(id, sent_at, &guard).await,
            }
        };
        match self.runner.run::<Ended, Stop, _>(&task, deadline, run).await? {
            SlotRun::Completed(ended) => {
                tracing::info!(%task, ?ended, "the export has ended");
                Ok(())
            }
            SlotRun::AlreadyDone { .. } => {
                tracing::info!(%task, "the export had ended before");
                Ok(())
            }
            SlotRun::HeldElsewhere { is_alive: true, by, .. } => {
                tracing::info!(%task, %by, "another worker runs the export; a later message continues it if that worker dies");
                Ok(self.queue.send_later(&message.body(), LOOK_AGAIN).await?)
            }
            SlotRun::HeldElsewhere { by, until, is_alive: false } => Err(WorkError::Held { task, by, until }),
            SlotRun::CutOff if has_advanced.load(Ordering::Relaxed) => {
                tracing::warn!(%task, "cut off; another message was sent to continue");
                Ok(self.queue.send(&message.body()).await?)
            }
            SlotRun::CutOff => Err(WorkError::CutOff { task }),
            SlotRun::TakenOver => Err(WorkError::TakenOver { task }),
            SlotRun::Failed(Stop::OutOfTime { has_advanced: true }) => {
                tracing::info!(%task, "out of time; another message was sent to continue");
                Ok(self.queue.send(&message.body()).await?)
            }
            SlotRun::Failed(Stop::NotStuck) => {
                tracing::warn!(%task, "not given up: the export has advanced; another message was sent to continue");
                Ok(self.queue.send(&message.body()).await?)
            }
            SlotRun::Failed(Stop::Unknown) => {
                tracing::info!(%task, "the export does not exist or has expired");
                Ok(())
            }
            SlotRun::Failed(why) => Err(WorkError::Stopped { task, why }),
        }
    }
}
