//! The buffer in the process: a reference for the other adapters, and for running without any
//! service.
//!
//! It keeps every promise of the buffer except one: entries do not survive the process and are not
//! visible to other processes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::{
    AdapterSettings, Entry, LeasedBatch, Offered, QueueDepth, Receipt, TakenBatch, age, backpressure,
};
use crate::core::clock::SharedClock;

/// Most entries, whatever `BUFFER_LIMIT` says: the memory of one process. Entries of the largest
/// size take 330 MB then.
const MOST_IN_MEMORY: u64 = 20_000;

#[derive(Debug)]
pub(super) struct MemoryBuffer {
    terms: AdapterSettings,
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The oldest comes first.
    waiting: VecDeque<Entry>,
    leases: BTreeMap<u64, BatchLease>,
    next_token: u64,
}

#[derive(Debug)]
struct BatchLease {
    end: Instant,
    entries: Vec<Entry>,
}

impl State {
    fn len(&self) -> u64 {
        let leased: usize = self.leases.values().map(|lease| lease.entries.len()).sum();
        (self.waiting.len() + leased) as u64
    }

    /// Returns the entries of expired leases to the queue. Returns their number.
    fn expire_leases(&mut self, now: Instant) -> usize {
        let mut number = 0;
        for (_, lease) in self.leases.extract_if(.., |_, lease| lease.end <= now) {
            number += lease.entries.len();
            for entry in lease.entries.into_iter().rev() {
                self.waiting.push_front(entry);
            }
        }
        number
    }
}

impl MemoryBuffer {
    pub(super) fn new(terms: AdapterSettings, clock: SharedClock) -> Self {
        let terms = AdapterSettings { limit: terms.limit.min(MOST_IN_MEMORY), ..terms };
        Self { terms, clock, state: Mutex::default() }
    }

    pub(super) fn offer(&self, batch: &[Entry]) -> Offered {
        let mut state = self.state();
        if state.len() + batch.len() as u64 > self.terms.limit {
            return backpressure();
        }
        state.waiting.extend(batch.iter().cloned());
        Offered::Accepted
    }

    pub(super) fn poll(&self, n: usize) -> Option<TakenBatch> {
        let mut state = self.state();
        let now = Instant::now();
        let redelivered = state.expire_leases(now);
        let number = n.min(state.waiting.len());
        if number == 0 {
            return None;
        }
        let entries: Vec<Entry> = state.waiting.drain(..number).collect();
        let token = state.next_token;
        state.next_token += 1;
        state.leases.insert(token, BatchLease { end: now + self.terms.lease, entries: entries.clone() });
        let leased = LeasedBatch { entries, receipt: Receipt::Memory(token) };
        Some(TakenBatch { leased, redelivered, unreadable: 0 })
    }

    pub(super) fn ack(&self, token: u64) {
        self.state().leases.remove(&token);
    }

    pub(super) fn size(&self) -> QueueDepth {
        let state = self.state();
        let leased = state.leases.values().flat_map(|lease| &lease.entries);
        let oldest = state.waiting.iter().chain(leased).map(|entry| entry.offered_at).min();
        let now = self.clock.now();
        QueueDepth { entries: state.len(), oldest: oldest.map(|offered_at| age(offered_at, now)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
