//! The thread that delivers changes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Shared;
use crate::clock;

/// The pause between two looks at due changes. A look that finds nothing new costs a counter for
/// each table.
const ROUND: Duration = Duration::from_millis(5);

/// Rounds between two looks at what can be forgotten. It reads everything that waits.
const FORGET_EVERY: u64 = 400;

/// A running thread. Stops when dropped.
#[derive(Debug)]
pub(super) struct Worker {
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("replication".to_owned()).spawn(move || {
            // Nothing is ever sent: the wait ends early when the sender is dropped.
            for round in 0_u64.. {
                if stopped.recv_timeout(ROUND) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                shared.deliver();
                if round % FORGET_EVERY == 0 {
                    shared.forget();
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the replication's thread panicked");
        }
    }
}

impl Shared {
    /// Delivers everything that is due.
    fn deliver(&self) {
        let now_us = clock::now().as_microsecond();
        for link in &self.links {
            link.deliver(&self.network, now_us);
        }
        if let Some(strong) = &self.strong {
            strong.spread();
        }
    }

    /// Lets each region forget what no change can be older than that is still to come.
    fn forget(&self) {
        // Before the links are asked: what is written from now on is younger.
        let now_us = clock::now().as_microsecond();
        let mut oldest_us: HashMap<&str, i64> = HashMap::new();
        for link in &self.links {
            // What can't be read now may be as old as anything.
            let oldest = link.oldest_us().map_or(i64::MIN, |oldest| oldest.unwrap_or(now_us));
            let known = oldest_us.entry(&link.to.name).or_insert(now_us);
            *known = oldest.min(*known);
        }
        for link in &self.links {
            if let Some(oldest) = oldest_us.get(&*link.to.name) {
                link.to.forget_before(*oldest, now_us);
            }
        }
    }
}
