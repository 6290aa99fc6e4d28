//! One function process: what it is doing, and the invocation that it holds.
//!
//! It is starting until its first `next`; then idle and busy in turns, one invocation at a time. In
//! between, from its answer until its next `next`, it is *returning*.
//! `life` starts and ends it, `runtime_api` serves it.
//!
//! The timer costs nothing per invocation. All invocations of a function have the same timeout T,
//! so one that begins after a look at the clock cannot be overdue before T has passed since: the
//! watch sleeps until then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::dispatch::{Dispatch, Ended, First};
use super::function::Function;
use super::job::{Job, Tail};
use super::outcome::Outcome;
use crate::clock;
use crate::logs::Source;

/// A process and what it is doing.
pub(super) struct Process {
    /// Unique within its function; a pid may come back.
    pub(super) id: u64,
    pub(super) function: Arc<Function>,
    pub(super) dispatch: Arc<Dispatch>,
    state: Mutex<State>,
    stop: watch::Sender<Option<Stop>>,
    gone: watch::Sender<bool>,
}

struct State {
    pid: Option<u32>,
    phase: Phase,
    started: jiff::Timestamp,
    invocations: u64,
    flush: Flush,
}

enum Phase {
    Starting { until: Instant },
    Idle { since: Instant },
    Busy(Running),
    Returning { since: Instant },
    Gone,
}

/// The invocation that a process holds.
struct Running {
    request_id: String,
    deadline: Instant,
    reply: oneshot::Sender<Outcome>,
    tail: Option<Tail>,
}

/// Why the region ends a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// `kill`: SIGKILL, as a crash would be.
    Kill,
    /// The region shuts down: SIGTERM first.
    Shutdown,
}

/// One row of `ps`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Short name of the function.
    pub function: String,
    /// Process id; none while it is being spawned.
    pub pid: Option<u32>,
    /// `starting`, `idle`, `busy`, `returning` or `gone`.
    pub state: String,
    /// The request that it is busy with.
    pub request_id: Option<String>,
    pub started_at: String,
    /// Invocations handed to it so far.
    pub invocations: u64,
    /// Resident memory, where the system tells.
    pub resident_bytes: Option<u64>,
}

/// What the watch does when its timer fires.
pub(super) enum Check {
    LookAgainAt(Instant),
    InitTimedOut,
    TimedOut,
    Retire,
}

impl Process {
    pub(super) fn new(id: u64, function: Arc<Function>, dispatch: Arc<Dispatch>) -> Arc<Self> {
        let until = Instant::now() + function.settings.init_limit;
        Arc::new(Self {
            id,
            function,
            dispatch,
            state: Mutex::new(State {
                pid: None,
                phase: Phase::Starting { until },
                started: clock::now(),
                invocations: 0,
                flush: Flush::default(),
            }),
            stop: watch::Sender::new(None),
            gone: watch::Sender::new(false),
        })
    }

    /// What is due at `now`.
    pub(super) fn check(&self, now: Instant) -> Check {
        let idle_limit = self.function.settings.idle_limit;
        let timeout = self.function.spec.timeout;
        let since = match &self.lock().phase {
            Phase::Starting { until } if *until <= now => return Check::InitTimedOut,
            Phase::Starting { until } => return Check::LookAgainAt((*until).min(now + timeout)),
            Phase::Busy(running) if running.deadline <= now => return Check::TimedOut,
            Phase::Busy(running) => return Check::LookAgainAt(running.deadline),
            Phase::Idle { since } | Phase::Returning { since } => *since,
            Phase::Gone => return Check::LookAgainAt(now + timeout),
        };
        // The dispatch has the last word: only a process that it withdraws from the idle ones can't
        // be given work.
        if since + idle_limit <= now && self.dispatch.withdraw(self.id) {
            return Check::Retire;
        }
        Check::LookAgainAt((now + timeout).min((since + idle_limit).max(now + Duration::from_millis(50))))
    }

    /// It runs, with `pid`.
    pub(super) fn spawned(&self, pid: Option<u32>, flush: Flush) {
        let mut state = self.lock();
        state.pid = pid;
        state.flush = flush;
    }

    /// Answers the invocation whose deadline has passed; its request id.
    pub(super) fn time_out(&self) -> Option<String> {
        let running = self.take_running()?;
        self.answer(running.reply, Outcome::TimedOut);
        Some(running.request_id)
    }

    /// `next` was called: true unless an invocation is still open.
    pub(super) fn become_idle(&self) -> Option<First> {
        let mut state = self.lock();
        let first = match state.phase {
            Phase::Starting { .. } => First::Yes,
            Phase::Idle { .. } | Phase::Returning { .. } => First::No,
            Phase::Busy(_) | Phase::Gone => return None,
        };
        state.phase = Phase::Idle { since: Instant::now() };
        Some(first)
    }

    /// Accepts `job`. A process that has ended returns it.
    pub(super) fn begin(&self, job: Job) -> Result<Handover, Job> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Idle { .. }) {
            return Err(job);
        }
        let timeout = self.function.spec.timeout;
        let Job { request_id, payload, reply, tail } = job;
        let handover = Handover { request_id: request_id.clone(), payload, timeout };
        let deadline = Instant::now() + timeout;
        if let Some(tail) = &tail {
            tail.push(&format!("START RequestId: {request_id} Version: $LATEST"));
        }
        state.phase = Phase::Busy(Running { request_id, deadline, reply, tail });
        state.invocations += 1;
        Ok(handover)
    }

    /// Whether `request_id` is the open invocation.
    pub(super) fn holds(&self, request_id: &str) -> bool {
        matches!(&self.lock().phase, Phase::Busy(running) if running.request_id == request_id)
    }

    /// One line of its output.
    pub(super) async fn log(&self, source: Source, pid: Option<u32>, text: String) {
        if let Some(tail) = self.tail() {
            tail.push(&text);
        }
        self.function.log(source, pid, text).await;
    }

    /// Waits for the lines that the function has written so far, if the invoker wants them.
    pub(super) async fn flush_for_tail(&self) {
        if self.tail().is_some() {
            let flush = self.lock().flush.clone();
            flush.flush().await;
        }
    }

    /// Where the lines of the open invocation go besides the log.
    pub(super) fn tail(&self) -> Option<Tail> {
        match &self.lock().phase {
            Phase::Busy(running) => running.tail.clone(),
            Phase::Starting { .. } | Phase::Idle { .. } | Phase::Returning { .. } | Phase::Gone => None,
        }
    }

    /// Whether it has answered, and has not asked for its next event yet.
    pub(super) fn is_returning(&self) -> bool {
        matches!(self.lock().phase, Phase::Returning { .. })
    }

    /// Ends the open invocation `request_id`; false when it isn't open (any more).
    pub(super) fn complete(&self, request_id: &str, outcome: Outcome) -> bool {
        if !self.holds(request_id) {
            return false;
        }
        match self.take_running() {
            Some(running) => {
                if let Some(tail) = &running.tail {
                    tail.push(&format!("END RequestId: {request_id}"));
                }
                self.answer(running.reply, outcome);
                true
            }
            None => false,
        }
    }

    pub(super) fn ask_to_stop(&self, stop: Stop) {
        self.stop.send_replace(Some(stop));
    }

    /// Hears that it is asked to stop, and why.
    pub(super) fn stop_asked(&self) -> watch::Receiver<Option<Stop>> {
        self.stop.subscribe()
    }

    /// The pool has forgotten it.
    pub(super) fn has_gone(&self) {
        self.gone.send_replace(true);
    }

    /// Waits until the process is no more and its pool knows.
    pub(super) async fn gone(&self) {
        // The sender lives in `self`, so waiting ends by the process's end only.
        if self.gone.subscribe().wait_for(|gone| *gone).await.is_err() {
            tracing::debug!("a process vanished without an end");
        }
    }

    pub(super) fn status(&self) -> ProcessStatus {
        let state = self.lock();
        let (name, request_id) = match &state.phase {
            Phase::Starting { .. } => ("starting", None),
            Phase::Idle { .. } => ("idle", None),
            Phase::Returning { .. } => ("returning", None),
            Phase::Busy(running) => ("busy", Some(running.request_id.clone())),
            Phase::Gone => ("gone", None),
        };
        ProcessStatus {
            function: self.function.spec.name.clone(),
            pid: state.pid,
            state: name.to_owned(),
            request_id,
            started_at: state.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            invocations: state.invocations,
            resident_bytes: state.pid.and_then(resident_bytes),
        }
    }

    fn take_running(&self) -> Option<Running> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.phase, Phase::Returning { since: Instant::now() }) {
            Phase::Busy(running) => Some(running),
            other => {
                state.phase = other;
                None
            }
        }
    }

    /// The process is no more: answers the invocation that it held.
    pub(super) fn end(&self) -> End {
        let asked = self.stop.borrow().is_some();
        let mut state = self.lock();
        state.pid = None;
        match std::mem::replace(&mut state.phase, Phase::Gone) {
            Phase::Starting { .. } if asked => {
                End { when: Ended::InitStopped, unexpected: false, request_id: None }
            }
            Phase::Starting { .. } => End { when: Ended::InitFailed, unexpected: true, request_id: None },
            Phase::Busy(running) => {
                self.answer(running.reply, Outcome::Crashed);
                End { when: Ended::Afterwards, unexpected: true, request_id: Some(running.request_id) }
            }
            Phase::Idle { .. } | Phase::Returning { .. } | Phase::Gone => {
                End { when: Ended::Afterwards, unexpected: false, request_id: None }
            }
        }
    }

    /// An invoker that went away (its client hung up) is no loss: Lambda drops such an answer too.
    #[expect(clippy::unused_self, reason = "reads as what the process does with its invocation")]
    fn answer(&self, reply: oneshot::Sender<Outcome>, outcome: Outcome) {
        if reply.send(outcome).is_err() {
            tracing::debug!("the invoker is gone; the outcome is dropped");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `next` sends to the process.
pub(super) struct Handover {
    pub(super) request_id: String,
    pub(super) payload: bytes::Bytes,
    pub(super) timeout: Duration,
}

/// The end of a process.
pub(super) struct End {
    pub(super) when: Ended,
    pub(super) unexpected: bool,
    /// The invocation that it held.
    pub(super) request_id: Option<String>,
}

/// Has the readers of one process's output forward what it has written so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Flush(pub(super) Vec<mpsc::Sender<oneshot::Sender<()>>>);

impl Flush {
    /// Returns when everything that was written before the call has been forwarded.
    async fn flush(&self) {
        for reader in &self.0 {
            let (done, flushed) = oneshot::channel();
            // A reader that has ended has forwarded everything.
            if reader.send(done).await.is_ok() && flushed.await.is_err() {
                tracing::debug!("a function's output ended while it was flushed");
            }
        }
    }
}

/// Resident set of a process on Linux, from the second field of `statm` (pages of 4 KiB).
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
