//! All processes of one function, and the invocations that wait for one.
//!
//! 1. An invocation goes to the process that became idle last (its caches are warmest, and the others can retire).
//! 2. Without one it joins a FIFO queue, and a process is started unless enough are starting or the limit is reached.
//! 3. A process that calls `next` takes the head of the queue, or becomes idle.
//! 4. An invocation that was meant for a process that died before it took it goes to another one.
//!
//! A function's reserved concurrency is a limit of its own, beyond which an invocation is throttled at once, as in Lambda.
//!
//! Deviation from Lambda: at the account's concurrency limit Lambda throttles at once too. Here that limit is ten and not
//! a thousand, so invocations wait: at most [`limits::QUEUE_LIMIT`](super::limits::QUEUE_LIMIT) of them, each at
//! most [`limits::QUEUE_WAIT`](super::limits::QUEUE_WAIT).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::outcome::Outcome;
use super::process::{Ended, First, Process, ProcessStatus, Stop};
use super::tail::Tail;
use super::{FunctionSpec, Settings};
use crate::logs::{Logs, Source};

/// An invocation on its way to a process.
pub(super) struct Job {
    pub(super) request_id: String,
    pub(super) payload: Bytes,
    pub(super) reply: oneshot::Sender<Outcome>,
    /// Gets the lines that the function writes meanwhile, if the invoker wants them.
    pub(super) tail: Option<Tail>,
}

/// The processes of one function.
pub(super) struct Pool {
    pub(super) spec: FunctionSpec,
    pub(super) settings: Settings,
    logs: Logs,
    /// Its permits are the reserved concurrency, if there is one.
    reserved: Option<Semaphore>,
    state: Mutex<State>,
    /// Every process's life, so that shutdown can wait for all.
    lives: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    processes: BTreeMap<u64, Arc<Process>>,
    /// Last in, first out.
    idle: Vec<(u64, oneshot::Sender<Job>)>,
    queue: VecDeque<Job>,
    starting: usize,
    failed_inits: u32,
    last_id: u64,
    stopping: bool,
}

/// What a process gets for its `next`.
pub(super) enum Next {
    /// Work that was waiting.
    Job(Job),
    /// Nothing yet.
    Wait(oneshot::Receiver<Job>),
}

enum Offer {
    HandedOver,
    Queued,
    Refused,
}

impl Pool {
    pub(super) fn new(spec: FunctionSpec, settings: Settings, logs: Logs) -> Arc<Self> {
        let reserved = spec.reserved_concurrency.map(Semaphore::new);
        Arc::new(Self { spec, settings, logs, reserved, state: Mutex::default(), lives: Mutex::default() })
    }

    /// Runs one invocation.
    pub(super) async fn invoke(
        self: &Arc<Self>,
        request_id: String,
        payload: Bytes,
        tail: Option<Tail>,
    ) -> Outcome {
        let Ok(_permit) = self.reserved.as_ref().map(Semaphore::try_acquire).transpose() else {
            return Outcome::Throttled;
        };
        let (reply, mut outcome) = oneshot::channel();
        let id = request_id.clone();
        match self.offer(Job { request_id, payload, reply, tail }) {
            Offer::HandedOver => {}
            Offer::Refused => return Outcome::Throttled,
            Offer::Queued => {
                tokio::select! {
                    outcome = &mut outcome => return outcome.unwrap_or(Outcome::Crashed),
                    () = tokio::time::sleep(self.settings.queue_wait) => {
                        if self.leave_queue(&id) {
                            return Outcome::Throttled;
                        }
                    }
                }
            }
        }
        // The sender is dropped without an answer only when the region shuts down.
        outcome.await.unwrap_or(Outcome::Crashed)
    }

    fn offer(self: &Arc<Self>, mut job: Job) -> Offer {
        let mut state = self.lock();
        while let Some((_, process)) = state.idle.pop() {
            match process.send(job) {
                Ok(()) => return Offer::HandedOver,
                Err(returned) => job = returned,
            }
        }
        if state.stopping || state.queue.len() >= self.settings.queue_limit {
            return Offer::Refused;
        }
        state.queue.push_back(job);
        self.scale(&mut state);
        Offer::Queued
    }

    /// Puts back an invocation that no process has seen, at the head: it has waited longest.
    pub(super) fn put_back(self: &Arc<Self>, mut job: Job) {
        let mut state = self.lock();
        while let Some((_, process)) = state.idle.pop() {
            match process.send(job) {
                Ok(()) => return,
                Err(returned) => job = returned,
            }
        }
        if !state.stopping {
            state.queue.push_front(job);
            self.scale(&mut state);
        }
    }

    fn leave_queue(&self, request_id: &str) -> bool {
        let mut state = self.lock();
        let position = state.queue.iter().position(|job| job.request_id == request_id);
        position.and_then(|position| state.queue.remove(position)).is_some()
    }

    /// Work for the process `id`, or a place among the idle ones.
    pub(super) fn next(&self, id: u64, first: First) -> Next {
        let mut state = self.lock();
        if first == First::Yes {
            state.starting = state.starting.saturating_sub(1);
            state.failed_inits = 0;
        }
        while let Some(job) = state.queue.pop_front() {
            // An invoker that hung up while it waited is not served.
            if !job.reply.is_closed() {
                return Next::Job(job);
            }
        }
        let (sender, receiver) = oneshot::channel();
        state.idle.retain(|(other, _)| *other != id);
        state.idle.push((id, sender));
        Next::Wait(receiver)
    }

    /// Takes the process `id` out of the idle ones; false when it just got work.
    pub(super) fn withdraw(&self, id: u64) -> bool {
        let mut state = self.lock();
        let before = state.idle.len();
        state.idle.retain(|(other, _)| *other != id);
        state.idle.len() < before
    }

    /// The process `id` is no more.
    pub(super) fn process_gone(self: &Arc<Self>, id: u64, ended: Ended) {
        let mut state = self.lock();
        state.idle.retain(|(other, _)| *other != id);
        state.processes.remove(&id);
        if ended != Ended::Afterwards {
            state.starting = state.starting.saturating_sub(1);
        }
        if ended == Ended::InitFailed {
            state.failed_inits += 1;
            if state.failed_inits >= self.settings.init_attempts {
                state.failed_inits = 0;
                // Dropping a job answers `Crashed`.
                state.queue.clear();
            }
        }
        self.scale(&mut state);
    }

    /// Starts as many processes as the queue needs and the limit allows.
    fn scale(self: &Arc<Self>, state: &mut State) {
        while !state.stopping
            && state.starting < state.queue.len()
            && state.processes.len() < self.settings.concurrency
        {
            state.last_id += 1;
            let process = Process::new(state.last_id, Arc::clone(self));
            state.processes.insert(process.id, Arc::clone(&process));
            state.starting += 1;
            let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
            while lives.try_join_next().is_some() {}
            lives.spawn(process.run());
        }
    }

    /// Kills every process; their pids, once they are gone.
    pub(super) async fn kill(&self) -> Vec<u32> {
        let processes: Vec<_> = {
            let mut state = self.lock();
            // Nothing is given to a process that is about to die.
            state.idle.clear();
            state.processes.values().cloned().collect()
        };
        let mut killed = Vec::new();
        for process in &processes {
            killed.extend(process.status().pid);
            process.ask_to_stop(Stop::Kill);
        }
        for process in &processes {
            process.gone().await;
        }
        killed
    }

    pub(super) fn ps(&self) -> Vec<ProcessStatus> {
        self.lock().processes.values().map(|process| process.status()).collect()
    }

    /// Refuses new work, ends every process and returns when none is left.
    pub(super) async fn shut_down(&self) {
        let processes: Vec<_> = {
            let mut state = self.lock();
            state.stopping = true;
            state.queue.clear();
            state.processes.values().cloned().collect()
        };
        for process in processes {
            process.ask_to_stop(Stop::Shutdown);
        }
        let mut lives = std::mem::take(&mut *self.lives.lock().unwrap_or_else(PoisonError::into_inner));
        while lives.join_next().await.is_some() {}
    }

    /// One of the region's own lines in the function's log.
    pub(super) async fn platform_log(&self, text: String) {
        self.log(Source::Platform, None, text).await;
    }

    pub(super) async fn log(&self, source: Source, pid: Option<u32>, text: String) {
        self.logs.push(&self.spec.name, source, pid, text).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
