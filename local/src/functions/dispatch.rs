//! Which process of a function gets which invocation.
//!
//! 1. An invocation goes to the process that became idle last (its caches are warmest, and the
//!    others can retire).
//! 2. Without one it joins a FIFO queue.
//! 3. A process that calls `next` takes the head of the queue, or becomes idle.
//! 4. An invocation that was meant for a process that died before it took it goes back to the head.
//!
//! Processes are known by their ids here; `pool` starts them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::job::Job;
use super::limits::Settings;

/// The idle processes of one function, and the invocations that wait for one.
#[derive(Default)]
pub(super) struct Dispatch {
    state: Mutex<State>,
    returned: Notify,
}

#[derive(Default)]
struct State {
    /// Last in, first out.
    idle: Vec<(u64, oneshot::Sender<Job>)>,
    queue: VecDeque<Job>,
    /// Processes, those that are starting among them.
    alive: usize,
    starting: usize,
    failed_inits: u32,
    last_id: u64,
    stopping: bool,
}

/// What became of an invocation.
pub(super) enum Offer {
    HandedOver,
    Queued,
    Refused,
}

/// What a process gets for its `next`.
pub(super) enum Next {
    /// Work that was waiting.
    Job(Job),
    Wait(oneshot::Receiver<Job>),
}

/// Whether a `next` is the process's first: the end of its init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Yes,
    No,
}

/// How far a process got before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Before its first `next`, by itself.
    InitFailed,
    /// Before its first `next`, because somebody asked for it.
    InitStopped,
    /// After its first `next`.
    Afterwards,
}

impl Dispatch {
    /// Gives `job` to an idle process, or lets it wait.
    pub(super) fn offer(&self, job: Job, queue_limit: usize) -> Offer {
        let mut state = self.lock();
        let Err(job) = state.hand_over(job) else { return Offer::HandedOver };
        if state.stopping || state.queue.len() >= queue_limit {
            return Offer::Refused;
        }
        state.queue.push_back(job);
        Offer::Queued
    }

    /// Puts back an invocation that no process has seen, at the head: it has waited longest.
    pub(super) fn put_back(&self, job: Job) {
        let mut state = self.lock();
        let Err(job) = state.hand_over(job) else { return };
        if !state.stopping {
            state.queue.push_front(job);
            self.returned.notify_one();
        }
    }

    /// Waits until an invocation was put back into the queue.
    pub(super) async fn returned(&self) {
        self.returned.notified().await;
    }

    /// Takes a waiting invocation out; false when it has left the queue already.
    pub(super) fn leave_queue(&self, request_id: &str) -> bool {
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

    /// Gives no more work to the processes that are idle now.
    pub(super) fn withdraw_all(&self) {
        self.lock().idle.clear();
    }

    /// The id of a process that is to be started, if the queue needs one more and the limit allows
    /// it.
    pub(super) fn start_one(&self, settings: &Settings) -> Option<u64> {
        let mut state = self.lock();
        let due = !state.stopping && state.starting < state.queue.len() && state.alive < settings.concurrency;
        due.then(|| {
            state.alive += 1;
            state.starting += 1;
            state.last_id += 1;
            state.last_id
        })
    }

    /// The process `id` is no more.
    pub(super) fn process_gone(&self, id: u64, ended: Ended, settings: &Settings) {
        let mut state = self.lock();
        state.idle.retain(|(other, _)| *other != id);
        state.alive = state.alive.saturating_sub(1);
        if ended != Ended::Afterwards {
            state.starting = state.starting.saturating_sub(1);
        }
        if ended == Ended::InitFailed {
            state.failed_inits += 1;
            if state.failed_inits >= settings.init_attempts {
                state.failed_inits = 0;
                // Dropping a job answers `Crashed`.
                state.queue.clear();
            }
        }
    }

    /// Refuses new work from now on, and drops what waits.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.queue.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives `job` to the process that became idle last. Returns it if there is none.
    fn hand_over(&mut self, mut job: Job) -> Result<(), Job> {
        while let Some((_, process)) = self.idle.pop() {
            match process.send(job) {
                Ok(()) => return Ok(()),
                Err(returned) => job = returned,
            }
        }
        Err(job)
    }
}
