//! One function process: started, watched, timed and ended.
//!
//! 1. A listener of its own is bound and the binary started with its address in `AWS_LAMBDA_RUNTIME_API`: whoever
//!    speaks there is this process and no other.
//! 2. Starting until the first `next` (at most [`limits::INIT_LIMIT`](super::limits::INIT_LIMIT)); then idle and
//!    busy in turns, one invocation at a time.
//! 3. It ends by itself (a crash), by its timeout, by idleness, by `kill` or with the region. Whatever the cause,
//!    an invocation that it held is answered at once, and exactly that one.
//!
//! The timer costs nothing per invocation. All invocations of a function have the same timeout T, so one that
//! begins after a look at the clock cannot be overdue before T has passed since: the watch sleeps until then.
//!
//! A process that outlives a killed region (`kill -9` on the region itself) ends by itself: the runtime gives up
//! when the connection of its `next` or of its answer breaks. Nothing here needs a parent-death signal, which
//! Rust can't ask for without `unsafe`.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::limits::SHUTDOWN_GRACE;
use super::outcome::Outcome;
use super::output::{self, Flush};
use super::pool::{Job, Pool};
use super::runtime_api;
use super::tail::Tail;
use crate::clock;
use crate::logs::Source;

/// A process and what it is doing.
pub(super) struct Process {
    /// Unique within its pool; a pid may come back.
    pub(super) id: u64,
    pub(super) pool: Arc<Pool>,
    state: Mutex<State>,
    stop: watch::Sender<Option<Stop>>,
    gone: watch::Sender<bool>,
}

struct State {
    pid: Option<u32>,
    phase: Phase,
    started: jiff::Timestamp,
    invocations: u64,
    /// Of its output.
    flush: Flush,
}

enum Phase {
    Starting { until: Instant },
    Idle { since: Instant },
    Busy(Running),
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
    /// `cargo dev -- kill`: SIGKILL, as a crash would be.
    Kill,
    /// The region shuts down: SIGTERM first.
    Shutdown,
}

/// How far a process got before it was gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Before its first `next`, by itself.
    InitFailed,
    /// Before its first `next`, because somebody asked for it.
    InitStopped,
    /// After its first `next`.
    Afterwards,
}

/// One row of `ps`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Short name of the function.
    pub function: String,
    /// Process id; none while it is being spawned.
    pub pid: Option<u32>,
    /// `starting`, `idle`, `busy` or `gone`.
    pub state: String,
    /// The request that it is busy with.
    pub request_id: Option<String>,
    /// When it was started.
    pub started_at: String,
    /// Invocations handed to it so far.
    pub invocations: u64,
    /// Resident memory, where the system tells.
    pub resident_bytes: Option<u64>,
}

/// What the watch does when its timer fires.
enum Check {
    LookAgainAt(Instant),
    InitTimedOut,
    TimedOut,
    Retire,
}

impl Process {
    pub(super) fn new(id: u64, pool: Arc<Pool>) -> Arc<Self> {
        let until = Instant::now() + pool.settings.init_limit;
        Arc::new(Self {
            id,
            pool,
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

    /// The whole life: from spawn to the last log line.
    pub(super) async fn run(self: Arc<Self>) {
        match self.spawn().await {
            Ok((child, listener)) => self.watch(child, listener).await,
            Err(error) => {
                let binary = self.pool.spec.binary.display();
                self.pool.platform_log(format!("Cannot start {binary}: {error}")).await;
                self.finish(Ended::InitFailed);
            }
        }
    }

    async fn spawn(&self) -> std::io::Result<(Child, TcpListener)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let spec = &self.pool.spec;
        let child = Command::new(&spec.binary)
            .env_clear()
            .envs(&spec.environment)
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
            .env("AWS_LAMBDA_LOG_STREAM_NAME", format!("local/[$LATEST]{:032x}", rand::random::<u128>()))
            .current_dir(spec.binary.parent().unwrap_or(Path::new("/")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C at the terminal reaches the region only, which then stops its processes
            // in order; and a kill takes whatever the function itself started along.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        self.lock().pid = child.id();
        Ok((child, listener))
    }

    async fn watch(self: Arc<Self>, mut child: Child, listener: TcpListener) {
        let (mut output, flush) = output::forward(&mut child, &self);
        self.lock().flush = flush;
        let mut stop = self.stop.subscribe();
        let mut stop_asked = stop.borrow_and_update().is_some();
        let mut server = std::pin::pin!(runtime_api::serve(listener, Arc::clone(&self)));
        let mut look_at = Instant::now() + self.pool.settings.init_limit.min(self.pool.spec.timeout);
        let mut init_failed = None;
        let exit = loop {
            if stop_asked {
                let reason = *stop.borrow_and_update();
                break end(&mut child, reason.unwrap_or(Stop::Kill)).await;
            }
            tokio::select! {
                exit = child.wait() => break exit,
                () = &mut server => break end(&mut child, Stop::Kill).await,
                changed = stop.changed() => stop_asked = changed.is_ok(),
                () = tokio::time::sleep_until(look_at) => match self.check(Instant::now()) {
                    Check::LookAgainAt(at) => look_at = at,
                    Check::InitTimedOut => {
                        init_failed = Some(format!("Init timed out after {:.2} seconds", self.pool.settings.init_limit.as_secs_f64()));
                        break end(&mut child, Stop::Kill).await;
                    }
                    Check::TimedOut => {
                        self.time_out().await;
                        break end(&mut child, Stop::Kill).await;
                    }
                    Check::Retire => break end(&mut child, Stop::Shutdown).await,
                },
            }
        };
        let asked = self.stop.borrow().is_some();
        if self.tail().is_some() {
            output.drained().await;
        }
        let ended = self.answer_crash(asked);
        // What the process said before its end belongs before the region's own line about it.
        output.drained().await;
        if let Some(text) = init_failed {
            self.pool.platform_log(text).await;
        } else if ended.unexpected {
            self.pool.platform_log(exit_text(&exit, ended.request_id.as_deref())).await;
        }
        self.finish(ended.when);
    }

    /// What is due at `now`.
    fn check(&self, now: Instant) -> Check {
        let idle_limit = self.pool.settings.idle_limit;
        let timeout = self.pool.spec.timeout;
        let since = match &self.lock().phase {
            Phase::Starting { until } if *until <= now => return Check::InitTimedOut,
            Phase::Starting { until } => return Check::LookAgainAt((*until).min(now + timeout)),
            Phase::Busy(running) if running.deadline <= now => return Check::TimedOut,
            Phase::Busy(running) => return Check::LookAgainAt(running.deadline),
            Phase::Idle { since } => *since,
            Phase::Gone => return Check::LookAgainAt(now + timeout),
        };
        // The pool has the last word: only a process that it withdraws from the idle ones can't be given work.
        if since + idle_limit <= now && self.pool.withdraw(self.id) {
            return Check::Retire;
        }
        Check::LookAgainAt((now + timeout).min((since + idle_limit).max(now + Duration::from_millis(50))))
    }

    async fn time_out(&self) {
        self.flush_for_tail().await;
        let Some(running) = self.take_running() else { return };
        let seconds = self.pool.spec.timeout.as_secs_f64();
        self.answer(running.reply, Outcome::TimedOut);
        let text =
            format!("{} {} Task timed out after {seconds:.2} seconds", clock::now(), running.request_id);
        self.pool.platform_log(text).await;
    }

    /// `next` was called: true unless an invocation is still open.
    pub(super) fn become_idle(&self) -> Option<First> {
        let mut state = self.lock();
        let first = match state.phase {
            Phase::Starting { .. } => First::Yes,
            Phase::Idle { .. } => First::No,
            Phase::Busy(_) | Phase::Gone => return None,
        };
        state.phase = Phase::Idle { since: Instant::now() };
        Some(first)
    }

    /// Takes `job` on. A process that is gone gives it back.
    pub(super) fn begin(&self, job: Job) -> Result<Handover, Job> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Idle { .. }) {
            return Err(job);
        }
        let timeout = self.pool.spec.timeout;
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
        self.pool.log(source, pid, text).await;
    }

    /// Waits for the lines that the function has written so far, if the invoker wants them.
    pub(super) async fn flush_for_tail(&self) {
        if self.tail().is_some() {
            let flush = self.lock().flush.clone();
            flush.flush().await;
        }
    }

    fn tail(&self) -> Option<Tail> {
        match &self.lock().phase {
            Phase::Busy(running) => running.tail.clone(),
            Phase::Starting { .. } | Phase::Idle { .. } | Phase::Gone => None,
        }
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
            Phase::Busy(running) => ("busy", Some(running.request_id.clone())),
            Phase::Gone => ("gone", None),
        };
        ProcessStatus {
            function: self.pool.spec.name.clone(),
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
        match std::mem::replace(&mut state.phase, Phase::Idle { since: Instant::now() }) {
            Phase::Busy(running) => Some(running),
            other => {
                state.phase = other;
                None
            }
        }
    }

    /// The process is no more: answers the invocation that it held.
    fn answer_crash(&self, asked: bool) -> End {
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
            Phase::Idle { .. } | Phase::Gone => {
                End { when: Ended::Afterwards, unexpected: false, request_id: None }
            }
        }
    }

    fn finish(&self, ended: Ended) {
        self.lock().phase = Phase::Gone;
        self.pool.process_gone(self.id, ended);
        self.gone.send_replace(true);
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

/// Whether a `next` is the process's first: the end of its init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Yes,
    No,
}

/// What `next` sends to the process.
pub(super) struct Handover {
    pub(super) request_id: String,
    pub(super) payload: bytes::Bytes,
    pub(super) timeout: Duration,
}

struct End {
    when: Ended,
    unexpected: bool,
    request_id: Option<String>,
}

/// Ends the process group and reaps the process.
async fn end(child: &mut Child, stop: Stop) -> std::io::Result<ExitStatus> {
    if stop == Stop::Shutdown {
        signal(child, Signal::SIGTERM);
        if let Ok(exit) = tokio::time::timeout(SHUTDOWN_GRACE, child.wait()).await {
            return exit;
        }
    }
    signal(child, Signal::SIGKILL);
    child.wait().await
}

fn signal(child: &Child, signal: Signal) {
    // Not reaped yet, so the pid is still this process's.
    let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
    if let Err(error) = killpg(Pid::from_raw(pid), signal) {
        tracing::debug!(pid, %signal, %error, "the process group is gone already");
    }
}

fn exit_text(exit: &std::io::Result<ExitStatus>, request_id: Option<&str>) -> String {
    use std::os::unix::process::ExitStatusExt;
    let how = match exit {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("signal: {signal}"),
            (None, Some(code)) => format!("exit status {code}"),
            (None, None) => "unknown".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    match request_id {
        Some(id) => format!("RequestId: {id} Error: Runtime exited with error: {how} Runtime.ExitError"),
        None => format!("Init failed: Runtime exited with error: {how} Runtime.ExitError"),
    }
}

/// Resident set of a process on Linux, from the second field of `statm` (pages of 4 KiB).
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
