//! Usage of the services: counters, capacity units and a log of every request with its times.
//!
//! 1. Nothing is counted until [`Usage::record`], which starts from zero; [`Usage::snapshot`] can
//!    be read at any time.
//! 2. Capacity is what DynamoDB itself says (`ReturnConsumedCapacity`), asked for on the request's
//!    behalf while recording and taken out of the answer again.
//!
//! Limits: the log keeps the first [`LOG_CAPACITY`] requests and counts the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::access::{Case, matches};
use super::call::{Call, Service};

/// Requests that the log keeps: enough for any test, and bounded under a benchmark.
pub const LOG_CAPACITY: usize = 100_000;

/// What is being counted.
#[derive(Debug, Default)]
pub struct Usage {
    recording: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    since: Instant,
    requests: BTreeMap<(String, Service, String, Vec<String>), Count>,
    capacity: BTreeMap<(String, String, String), Units>,
    log: Vec<Entry>,
    unlogged: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            requests: BTreeMap::new(),
            capacity: BTreeMap::new(),
            log: Vec::new(),
            unlogged: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    requests: u64,
    failures: u64,
}

/// Capacity units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Units {
    pub read: f64,
    pub write: f64,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// In the order in which requests ended, from 1.
    pub sequence: u64,
    /// The function's short name, or `operator`.
    pub caller: String,
    pub service: Service,
    pub operation: String,
    /// What it was about: see [`Call::resources`].
    pub resources: Vec<String>,
    /// Microseconds since the recording began.
    pub start_micros: u64,
    /// Microseconds since the recording began.
    pub end_micros: u64,
    /// HTTP status; absent when the connection was cut off.
    pub status: Option<u16>,
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// The function's short name, or `operator`.
    pub caller: String,
    pub service: Service,
    pub operation: String,
    /// What it was about.
    pub resources: Vec<String>,
    pub requests: u64,
    /// How many of them ended with a status of 400 or more, or with none.
    pub failures: u64,
}

/// Capacity that one operation of one caller consumed on one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// The function's short name, or `operator`.
    pub caller: String,
    pub operation: String,
    /// Which table, its indexes included.
    pub table: String,
    #[serde(flatten)]
    pub units: Units,
}

/// All that was counted since the recording began.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Whether counting is on.
    pub recording: bool,
    /// Microseconds since the recording began.
    pub elapsed_micros: u64,
    /// Requests by caller, operation and resources.
    pub requests: Vec<Requests>,
    /// Capacity by caller, operation and table.
    pub capacity: Vec<Capacity>,
    pub log: Vec<Entry>,
    /// Requests that found the log full.
    pub unlogged: u64,
}

impl Usage {
    /// Begins a recording; an earlier one is forgotten.
    pub fn record(&self) {
        *self.lock() = State::default();
        self.recording.store(true, Ordering::Release);
    }

    /// Ends the recording. What was counted stays readable.
    pub fn stop(&self) {
        self.recording.store(false, Ordering::Release);
    }

    /// Whether requests are being counted.
    pub fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Acquire)
    }

    /// Counts one request that was received at `start`, if somebody measures. `status` is the
    /// answer's, if it has one; `consumed` is the capacity by table.
    pub fn note(&self, call: &Call, start: Instant, status: Option<u16>, consumed: Vec<(String, Units)>) {
        if !self.is_recording() {
            return;
        }
        let mut state = self.lock();
        // A request from before the recording is not counted.
        let Some(started) = start.checked_duration_since(state.since) else { return };
        let caller = call.caller.name();
        let key = (caller.to_owned(), call.service, call.operation.clone(), call.resources.clone());
        let count = state.requests.entry(key).or_default();
        count.requests += 1;
        count.failures += u64::from(status.is_none_or(|status| status >= 400));
        for (table, units) in consumed {
            let total = state.capacity.entry((caller.to_owned(), call.operation.clone(), table)).or_default();
            total.read += units.read;
            total.write += units.write;
        }
        if state.log.len() >= LOG_CAPACITY {
            state.unlogged += 1;
            return;
        }
        let entry = Entry {
            sequence: state.log.len() as u64 + 1,
            caller: caller.to_owned(),
            service: call.service,
            operation: call.operation.clone(),
            resources: call.resources.clone(),
            start_micros: micros(started),
            end_micros: micros(state.since.elapsed()),
            status,
        };
        state.log.push(entry);
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let requests =
            state.requests.iter().map(|((caller, service, operation, resources), count)| Requests {
                caller: caller.clone(),
                service: *service,
                operation: operation.clone(),
                resources: resources.clone(),
                requests: count.requests,
                failures: count.failures,
            });
        let capacity = state.capacity.iter().map(|((caller, operation, table), units)| Capacity {
            caller: caller.clone(),
            operation: operation.clone(),
            table: table.clone(),
            units: *units,
        });
        Snapshot {
            recording: self.is_recording(),
            elapsed_micros: micros(state.since.elapsed()),
            requests: requests.collect(),
            capacity: capacity.collect(),
            log: state.log.clone(),
            unlogged: state.unlogged,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain counters: a panic elsewhere leaves them valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// What callers of that name did; `*` stands for any text.
    #[must_use]
    pub fn of_callers(mut self, pattern: &str) -> Self {
        let fits = |caller: &str| matches(pattern, caller, Case::Kept);
        self.requests.retain(|row| fits(&row.caller));
        self.capacity.retain(|row| fits(&row.caller));
        self.log.retain(|entry| fits(&entry.caller));
        self
    }

    /// How many requests were made.
    pub fn total(&self) -> u64 {
        self.requests.iter().map(|row| row.requests).sum()
    }

    /// How many requests of that operation were made.
    pub fn count(&self, operation: &str) -> u64 {
        self.requests.iter().filter(|row| row.operation == operation).map(|row| row.requests).sum()
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
