//! All processes of one function.
//!
//! An invocation that finds no idle process waits, and a process is started unless enough are
//! starting or the limit is reached (see `dispatch`). A process that has just answered is given
//! [`limits::RETURN_TIME`](super::limits::RETURN_TIME) to ask for the next event first. So a client
//! that sends one request after the other is served by one process.
//!
//! A function's reserved concurrency is a limit of its own, beyond which an invocation is throttled
//! at once, as in Lambda.
//!
//! Deviation from Lambda: at the account's concurrency limit Lambda throttles at once too. Here
//! that limit is ten and not a thousand, so invocations wait: at most
//! [`limits::QUEUE_LIMIT`](super::limits::QUEUE_LIMIT) of them, each at most
//! [`limits::QUEUE_WAIT`](super::limits::QUEUE_WAIT).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::dispatch::{Dispatch, Offer};
use super::function::{Function, FunctionSpec};
use super::job::{Job, Tail};
use super::life;
use super::limits::Settings;
use super::outcome::Outcome;
use super::process::{Process, ProcessStatus, Stop};
use crate::logs::Logs;

/// The processes of one function.
pub(super) struct Pool {
    pub(super) function: Arc<Function>,
    /// Its permits are the reserved concurrency, if there is one.
    reserved: Option<Semaphore>,
    dispatch: Arc<Dispatch>,
    /// Locked before `dispatch` wherever both are.
    processes: Mutex<BTreeMap<u64, Arc<Process>>>,
    /// Every process's life, so that shutdown can wait for all.
    lives: Mutex<JoinSet<()>>,
}

impl Pool {
    pub(super) fn new(spec: FunctionSpec, settings: Settings, logs: Logs) -> Arc<Self> {
        let reserved = spec.reserved_concurrency.map(Semaphore::new);
        Arc::new(Self {
            function: Arc::new(Function { spec, settings, logs }),
            reserved,
            dispatch: Arc::default(),
            processes: Mutex::default(),
            lives: Mutex::default(),
        })
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
        let settings = &self.function.settings;
        match self.dispatch.offer(Job { request_id, payload, reply, tail }, settings.queue_limit) {
            Offer::HandedOver => {}
            Offer::Refused => return Outcome::Throttled,
            Offer::Queued => {
                let waiting = async {
                    if self.is_one_returning() {
                        tokio::time::sleep(settings.return_time).await;
                    }
                    self.scale();
                    tokio::time::sleep(settings.queue_wait).await;
                };
                tokio::select! {
                    outcome = &mut outcome => return outcome.unwrap_or(Outcome::Crashed),
                    () = waiting => {
                        if self.dispatch.leave_queue(&id) {
                            return Outcome::Throttled;
                        }
                    }
                }
            }
        }
        // The sender is dropped without an answer only when the region shuts down.
        outcome.await.unwrap_or(Outcome::Crashed)
    }

    fn is_one_returning(&self) -> bool {
        self.processes().values().any(|process| process.is_returning())
    }

    /// Starts as many processes as the queue needs and the limit allows.
    fn scale(self: &Arc<Self>) {
        let mut processes = self.processes();
        while let Some(id) = self.dispatch.start_one(&self.function.settings) {
            let process = Process::new(id, Arc::clone(&self.function), Arc::clone(&self.dispatch));
            processes.insert(id, Arc::clone(&process));
            let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
            while lives.try_join_next().is_some() {}
            lives.spawn(Arc::clone(self).live(process));
        }
    }

    /// The life of a process, from its start until the pool has forgotten it.
    async fn live(self: Arc<Self>, process: Arc<Process>) {
        let mut life = std::pin::pin!(life::run(&process));
        let ended = loop {
            tokio::select! {
                ended = &mut life => break ended,
                () = self.dispatch.returned() => self.scale(),
            }
        };
        self.processes().remove(&process.id);
        self.dispatch.process_gone(process.id, ended, &self.function.settings);
        self.scale();
        process.has_gone();
    }

    /// Kills every process; their pids, once they are gone.
    pub(super) async fn kill(&self) -> Vec<u32> {
        // Nothing is given to a process that is about to die.
        self.dispatch.withdraw_all();
        let processes: Vec<_> = self.processes().values().cloned().collect();
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
        self.processes().values().map(|process| process.status()).collect()
    }

    /// Refuses new work, ends every process in that way and returns when none is left.
    pub(super) async fn end(&self, how: Stop) {
        self.dispatch.stop();
        let processes: Vec<_> = self.processes().values().cloned().collect();
        for process in processes {
            process.ask_to_stop(how);
        }
        let mut lives = std::mem::take(&mut *self.lives.lock().unwrap_or_else(PoisonError::into_inner));
        while lives.join_next().await.is_some() {}
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Process>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
