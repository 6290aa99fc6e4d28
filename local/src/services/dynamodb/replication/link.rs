//! The way from one region to another.
//!
//! Each change draws a lag of its own from the link's range, and arrives when that has passed since
//! the write. So items arrive in another order than they were written, also those of one
//! transaction. An update that is overtaken by a later one of the same item is dropped: updates
//! coalesce.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::change::{ItemKey, Version};
use super::replica::{Arrival, Replica, ReplicaError, Waiting};
use crate::services::network::{Lag, Network};

/// Changes that one turn of a link delivers. The other links wait meanwhile.
const BATCH: usize = 200;

/// How long a link rests after a failure.
const REST: Duration = Duration::from_secs(1);

/// What waits on a link, and what passed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Where the changes were made.
    pub from: String,
    pub to: String,
    pub changes: usize,
    /// How long ago the oldest of them was made.
    pub oldest: Option<Duration>,
    /// Changes that were written at the other end.
    pub applied: u64,
    /// Changes that lost against a later write, or were overtaken by one.
    pub superseded: u64,
    /// Write units that those cost which were written.
    pub write_units: u64,
}

#[derive(Debug, Default)]
struct Counts {
    applied: AtomicU64,
    superseded: AtomicU64,
    write_units: AtomicU64,
}

pub(super) struct Link {
    pub(super) from: Arc<Replica>,
    pub(super) to: Arc<Replica>,
    lag: Mutex<Lag>,
    rests_until: Mutex<Option<Instant>>,
    counts: Counts,
}

impl Link {
    pub(super) fn new(from: Arc<Replica>, to: Arc<Replica>, lag: Lag) -> Self {
        Self { from, to, lag: Mutex::new(lag), rests_until: Mutex::default(), counts: Counts::default() }
    }

    /// From now on, also for changes that are on their way.
    pub(super) fn set_lag(&self, lag: Lag) {
        *self.lag.lock().unwrap_or_else(PoisonError::into_inner) = lag;
    }

    /// Delivers the changes that are due, if the regions reach each other.
    pub(super) fn deliver(&self, network: &Network, now_us: i64) {
        let mut rests_until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        if rests_until.is_some_and(|until| Instant::now() < until)
            || !network.holding(|map| map.reach(&self.from.name, &self.to.name))
        {
            return;
        }
        *rests_until = None;
        if let Err(error) = self.try_deliver(network, now_us) {
            let (from, to) = (&self.from.name, &self.to.name);
            tracing::warn!(%from, %to, %error, "replication rests");
            *rests_until = Some(Instant::now() + REST);
        }
    }

    fn try_deliver(&self, network: &Network, now_us: i64) -> Result<(), ReplicaError> {
        let lag = *self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let due = self.from.waiting(&self.to.name, |waiting| due(waiting, lag, now_us))?;
        let mut done = HashSet::new();
        let mut result = Ok(());
        for Due { newest, overtaken } in due {
            let arrival = network.holding(|map| {
                map.reach(&self.from.name, &self.to.name)
                    .then(|| self.to.apply(&newest.change, &newest.version))
            });
            match arrival {
                None => break,
                Some(Err(error)) => {
                    result = Err(error);
                    break;
                }
                Some(Ok(arrival)) => self.count(arrival, &newest, overtaken.len()),
            }
            let item = &newest.change.item;
            done.extend(overtaken.into_iter().map(|version| (item.clone(), version)));
            done.insert((item.clone(), newest.version));
        }
        if !done.is_empty() {
            self.from.arrived(&self.to.name, &done);
        }
        result
    }

    fn count(&self, arrival: Arrival, arrived: &Waiting, overtaken: usize) {
        let mut superseded = overtaken;
        match arrival {
            Arrival::Applied => {
                self.counts.applied.fetch_add(1, Ordering::Relaxed);
                let units = u64::try_from(arrived.change.write_units()).unwrap_or(u64::MAX);
                self.counts.write_units.fetch_add(units, Ordering::Relaxed);
            }
            Arrival::Superseded => superseded += 1,
        }
        self.counts.superseded.fetch_add(u64::try_from(superseded).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When the oldest change that waits was written.
    pub(super) fn oldest_us(&self) -> Result<Option<i64>, ReplicaError> {
        self.from.waiting(&self.to.name, oldest_us)
    }

    pub(super) fn pending(&self, now_us: i64) -> Result<Pending, ReplicaError> {
        let (changes, oldest) =
            self.from.waiting(&self.to.name, |waiting| (waiting.len(), oldest_us(waiting)))?;
        let age = |us: i64| Duration::from_micros(u64::try_from(now_us.saturating_sub(us)).unwrap_or(0));
        Ok(Pending {
            from: self.from.name.to_string(),
            to: self.to.name.to_string(),
            changes,
            oldest: oldest.map(age),
            applied: self.counts.applied.load(Ordering::Relaxed),
            superseded: self.counts.superseded.load(Ordering::Relaxed),
            write_units: self.counts.write_units.load(Ordering::Relaxed),
        })
    }
}

fn oldest_us(waiting: &[Waiting]) -> Option<i64> {
    waiting.iter().map(|entry| entry.version.written_us).min()
}

/// The newest change of an item that is due, and the versions before it that are due too.
struct Due {
    newest: Waiting,
    overtaken: Vec<Version>,
}

/// Up to [`BATCH`] items that are due, the longest due first.
fn due(waiting: &[Waiting], lag: Lag, now_us: i64) -> Vec<Due> {
    let mut items: HashMap<&ItemKey, (i64, Due)> = HashMap::new();
    for entry in waiting {
        let due_us = lag.due_us(entry.version.written_us, entry.luck);
        if due_us > now_us {
            continue;
        }
        // They wait in the order of their versions.
        if let Some((_, due)) = items.get_mut(&entry.change.item) {
            due.overtaken.push(std::mem::replace(&mut due.newest, entry.clone()).version);
        } else {
            let due = Due { newest: entry.clone(), overtaken: Vec::new() };
            items.insert(&entry.change.item, (due_us, due));
        }
    }
    let mut due: Vec<_> = items.into_values().collect();
    due.sort_by_key(|(due_us, _)| *due_us);
    due.truncate(BATCH);
    due.into_iter().map(|(_, due)| due).collect()
}

#[cfg(test)]
mod tests {
    use dynoxide::Item;
    use serde_json::json;

    use super::*;
    use crate::services::dynamodb::replication::change::Change;

    fn waiting(id: &str, written_us: i64, luck: f64) -> Waiting {
        let key: Item = serde_json::from_value(json!({"id": {"S": id}})).unwrap();
        let item = ItemKey::new(&"Orders".into(), &key).unwrap();
        let change = Arc::new(Change { item, key, image: None });
        Waiting { change, version: Version { written_us, region: "tokyo".into() }, luck }
    }

    fn at(due: &[Due]) -> Vec<i64> {
        due.iter().map(|due| due.newest.version.written_us).collect()
    }

    const LAG: Lag = Lag { min: Duration::from_micros(100), max: Duration::from_micros(200) };

    #[test]
    fn each_change_has_a_lag_of_its_own() {
        let changes = [waiting("a", 1_000, 1.0), waiting("b", 1_010, 0.0)];
        assert!(due(&changes, LAG, 1_109).is_empty());
        assert_eq!(at(&due(&changes, LAG, 1_110)), [1_010]);
        assert_eq!(at(&due(&changes, LAG, 1_200)), [1_010, 1_000], "the longest due first");
    }

    #[test]
    fn updates_of_an_item_that_are_due_together_coalesce() {
        let changes = [waiting("a", 1_000, 0.0), waiting("a", 1_001, 0.0), waiting("a", 1_090, 1.0)];
        let due = due(&changes, LAG, 1_150);
        assert_eq!(at(&due), [1_001]);
        assert_eq!(due[0].overtaken.len(), 1);
    }
}
