//! One region's copies of the replicated tables: what was written here, what still has to be sent,
//! and what arrives.
//!
//! 1. The engine numbers the records of a stream by the time of the write, in microseconds, and in
//!    the transaction of the write. So the record of a local write says when it was made, and costs
//!    a local write nothing.
//! 2. Learning reads the new records: each is a local write, becomes the version of its item, and
//!    waits for every other region.
//! 3. A local write holds its turn (a lock that local writes share) until its record can be read. A
//!    change that arrives takes the turn alone. So there is no write meanwhile, and after learning
//!    the versions are those of the items.
//! 4. The change is written if its version is greater than the item's, and is otherwise forgotten.
//!    Learning then continues behind the record of that write: changes that arrived are never
//!    forwarded.
//! 5. A deleted item keeps its version, its tombstone: an older change that arrives later does not
//!    bring it back.
//! 6. A version that is older than every change that can still arrive is not needed any more, and
//!    is dropped.
//!
//! Cost: a local write waits while a change is applied, and changes wait for the local writes under
//! way. Without arriving changes the cost is one shared lock.
//!
//! After a restart with data in a file, a region sends all of its own writes that its stream still
//! has, with the versions that they had. Other regions ignore versions that they already have.
//! Which records are of changes that arrived is in another file ([`kept`](super::kept)).
//!
//! Limits: what waits is in memory. The deletion of an item that is not here leaves no record, and
//! wins against nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dynoxide::{Database, DynoxideError};

use super::change::{Change, ItemKey, Version};
use super::kept::{Arrivals, Kept};
use crate::services::dynamodb::streams::{Position, StreamError, Streams};

/// Records that are learned at a time.
const PAGE: usize = 1_000;

/// How far the wall clock may be set back. Versions that are younger are kept in any case.
const CLOCK_SETBACK_US: i64 = 60_000_000;

/// Why a change could not be learned or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplicaError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("an item of {table} can't be written: {reason}")]
    Write { table: String, reason: String },
    /// The file beside the data.
    #[error("the file of the replication can't be read or written")]
    Kept(#[from] rusqlite::Error),
    /// A key can't be written as JSON.
    #[error("a key of {table} can't be read: {source}")]
    Key { table: String, source: serde_json::Error },
}

/// What became of a change that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the item now.
    Applied,
    /// The item is from a later write.
    Superseded,
}

/// A write of this region on its way to another one.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) change: Arc<Change>,
    pub(super) version: Version,
    /// Where in the range of lags its own one is.
    pub(super) luck: f64,
}

pub(super) struct Replica {
    pub(super) name: Arc<str>,
    database: Database,
    streams: Arc<Streams>,
    /// If the data is in a file.
    kept: Option<Arc<Kept>>,
    /// Shared by local writes, taken alone by a change that arrives.
    pub(super) turn: Arc<RwLock<()>>,
    learned: Mutex<Learned>,
}

#[derive(Debug, Default)]
struct Learned {
    tables: BTreeMap<Arc<str>, Place>,
    versions: HashMap<ItemKey, Version>,
    outgoing: BTreeMap<Arc<str>, Vec<Waiting>>,
    /// Records of changes that arrived before a restart. Empty after the first learning.
    arrived: HashMap<(Arc<str>, Position), Version>,
}

/// How far the stream of a table was read.
#[derive(Debug)]
struct Place {
    behind: Position,
    /// The stream's count of writes at that time.
    writes: Option<u64>,
}

impl Replica {
    /// `peers` are the other regions.
    pub(super) fn new(
        name: Arc<str>,
        (database, streams, kept): (Database, Arc<Streams>, Option<Arc<Kept>>),
        tables: &[Arc<str>],
        peers: &[Arc<str>],
    ) -> Result<Self, ReplicaError> {
        let arrivals = match &kept {
            Some(kept) => kept.arrivals(|item, behind| record_of(&streams, item, behind))?,
            None => Arrivals::default(),
        };
        let place = || Place { behind: Position::TRIM_HORIZON, writes: None };
        let learned = Learned {
            tables: tables.iter().map(|table| (Arc::clone(table), place())).collect(),
            versions: HashMap::new(),
            outgoing: peers.iter().map(|peer| (Arc::clone(peer), Vec::new())).collect(),
            arrived: arrivals.recorded,
        };
        let (turn, learned) = (Arc::default(), Mutex::new(learned));
        let replica = Self { name, database, streams, kept, turn, learned };
        {
            let mut learned = replica.learned();
            replica.learn(&mut learned)?;
            learned.arrived.clear();
            for (item, version) in arrivals.unrecorded {
                let known = learned.versions.entry(item).or_insert_with(|| version.clone());
                *known = version.max(known.clone());
            }
        }
        Ok(replica)
    }

    /// What waits for `peer`, after `choose`.
    pub(super) fn waiting<T>(
        &self,
        peer: &str,
        choose: impl FnOnce(&[Waiting]) -> T,
    ) -> Result<T, ReplicaError> {
        let mut learned = self.learned();
        self.learn(&mut learned)?;
        Ok(choose(learned.outgoing.get(peer).map_or(&[], Vec::as_slice)))
    }

    /// These have arrived at `peer`, and need not be sent again.
    pub(super) fn arrived(&self, peer: &str, done: &HashSet<(ItemKey, Version)>) {
        if let Some(waiting) = self.learned().outgoing.get_mut(peer) {
            waiting.retain(|entry| !done.contains(&(entry.change.item.clone(), entry.version.clone())));
        }
    }

    /// A change arrives.
    pub(super) fn apply(&self, change: &Change, version: &Version) -> Result<Arrival, ReplicaError> {
        let _alone = self.turn.write().unwrap_or_else(PoisonError::into_inner);
        let mut learned = self.learned();
        self.learn(&mut learned)?;
        if learned.versions.get(&change.item).is_some_and(|own| own >= version) {
            return Ok(Arrival::Superseded);
        }
        let Learned { tables, versions, .. } = &mut *learned;
        let table = &change.item.table;
        let Some(place) = tables.get_mut(table) else {
            return Err(StreamError::NoStream { table: table.to_string() }.into());
        };
        let begin = |kept: &Arc<Kept>| kept.begin(&change.item, version, place.behind);
        let number = self.kept.as_ref().map(begin).transpose()?;
        change.write_to(&self.database).map_err(|error| write_error(table, &error))?;
        versions.insert(change.item.clone(), version.clone());
        self.streams.written(&[table.to_string()]);
        // The deletion of an item that is not here has no record.
        let record = self.streams.stored(table, place.behind, 1)?.into_iter().next().map(|(at, _)| at);
        place.behind = record.unwrap_or(place.behind);
        place.writes = Some(self.streams.writes(table)?);
        if let (Some(kept), Some(number)) = (&self.kept, number) {
            kept.end(number, record)?;
        }
        Ok(Arrival::Applied)
    }

    /// Forgets versions that are older than everything that can still arrive: the changes that
    /// wait, from `oldest_us` on, and those that are made from `now_us` on.
    pub(super) fn forget_before(&self, oldest_us: i64, now_us: i64) {
        let oldest = oldest_us.min(now_us.saturating_sub(CLOCK_SETBACK_US));
        self.learned().versions.retain(|_, version| version.written_us >= oldest);
    }

    fn learn(&self, learned: &mut Learned) -> Result<(), ReplicaError> {
        let Learned { tables, versions, outgoing, arrived } = learned;
        for (table, place) in tables {
            // Before the stream is read: what is written meanwhile may be missed and is counted
            // later.
            let writes = self.streams.writes(table)?;
            if place.writes == Some(writes) {
                continue;
            }
            loop {
                let records = self.streams.stored(table, place.behind, PAGE)?;
                let all = records.len() < PAGE;
                for (position, record) in records {
                    place.behind = position;
                    let key = record.dynamodb.keys;
                    let item = ItemKey::new(table, &key)
                        .map_err(|source| ReplicaError::Key { table: table.to_string(), source })?;
                    if let Some(version) = arrived.remove(&(Arc::clone(table), position)) {
                        versions.insert(item, version);
                        continue;
                    }
                    // Later than the version that it replaced, also if the wall clock was set back.
                    let replaced =
                        versions.get(&item).map_or(i64::MIN, |version| version.written_us.saturating_add(1));
                    let written_us = position.0.max(replaced);
                    let version = Version { written_us, region: Arc::clone(&self.name) };
                    versions.insert(item.clone(), version.clone());
                    let change = Arc::new(Change { item, key, image: record.dynamodb.new_image });
                    for waiting in outgoing.values_mut() {
                        waiting.push(Waiting {
                            change: Arc::clone(&change),
                            version: version.clone(),
                            luck: rand::random(),
                        });
                    }
                }
                if all {
                    break;
                }
            }
            place.writes = Some(writes);
        }
        Ok(())
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        // What was learned is whole at any time: the place is moved together with what it is
        // behind.
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The record behind a place, if it is of the item.
fn record_of(streams: &Streams, item: &ItemKey, behind: Position) -> Result<Option<Position>, ReplicaError> {
    let Some((position, record)) = streams.stored(&item.table, behind, 1)?.into_iter().next() else {
        return Ok(None);
    };
    let key = ItemKey::new(&item.table, &record.dynamodb.keys)
        .map_err(|source| ReplicaError::Key { table: item.table.to_string(), source })?;
    Ok((key == *item).then_some(position))
}

fn write_error(table: &str, error: &DynoxideError) -> ReplicaError {
    ReplicaError::Write { table: table.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use dynoxide::Item;
    use serde_json::json;

    use super::*;
    use crate::services::dynamodb::{engine, tables};
    use crate::template::model::Table;

    fn replica() -> (Replica, Arc<str>) {
        let table = Table {
            logical_id: "StockTable".to_owned(),
            name: "Stock".to_owned(),
            create: json!({
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"},
            }),
            ttl_attribute: None,
        };
        let database = engine::in_memory().unwrap();
        tables::ensure(&database, std::slice::from_ref(&table)).unwrap();
        let streams =
            Arc::new(Streams::new(database.clone(), &[table], crate::template::arn::Arns::default()));
        let name: Arc<str> = "Stock".into();
        let place = (database, streams, None);
        (Replica::new("tokyo".into(), place, &[Arc::clone(&name)], &["taiwan".into()]).unwrap(), name)
    }

    fn put(table: &Arc<str>) -> Change {
        let key: Item = serde_json::from_value(json!({"id": {"S": "tea"}})).unwrap();
        Change { item: ItemKey::new(table, &key).unwrap(), image: Some(key.clone()), key }
    }

    fn deletion(table: &Arc<str>) -> Change {
        Change { image: None, ..put(table) }
    }

    fn at(written_us: i64, region: &str) -> Version {
        Version { written_us, region: region.into() }
    }

    #[test]
    fn of_two_writes_at_the_same_time_the_one_of_the_greater_region_stands() {
        let (replica, table) = replica();
        assert_eq!(replica.apply(&put(&table), &at(5, "singapore")).unwrap(), Arrival::Applied);
        assert_eq!(replica.apply(&deletion(&table), &at(5, "osaka")).unwrap(), Arrival::Superseded);
        assert_eq!(replica.apply(&deletion(&table), &at(5, "taiwan")).unwrap(), Arrival::Applied);
        assert_eq!(
            replica.apply(&deletion(&table), &at(5, "taiwan")).unwrap(),
            Arrival::Superseded,
            "it has come"
        );
    }

    #[test]
    fn a_change_that_arrives_waits_for_the_local_write_under_way_and_loses_against_it() {
        let (replica, table) = replica();
        std::thread::scope(|scope| {
            let turn = replica.turn.read().unwrap();
            let arrival = scope.spawn(|| replica.apply(&deletion(&table), &at(1, "taiwan")).unwrap());
            let (_hold, never) = std::sync::mpsc::channel::<()>();
            // Time enough to be applied by mistake.
            never.recv_timeout(std::time::Duration::from_millis(50)).unwrap_err();
            put(&table).write_to(&replica.database).unwrap();
            replica.streams.written(&[]);
            drop(turn);
            assert_eq!(arrival.join().unwrap(), Arrival::Superseded);
        });
    }

    #[test]
    fn a_version_is_kept_while_an_older_change_can_arrive() {
        let (replica, table) = replica();
        let hour_us = 3_600_000_000;
        replica.apply(&deletion(&table), &at(hour_us, "taiwan")).unwrap();
        replica.forget_before(hour_us - 2, 3 * hour_us);
        replica.forget_before(i64::MAX, hour_us + CLOCK_SETBACK_US);
        assert_eq!(replica.apply(&put(&table), &at(hour_us - 1, "taiwan")).unwrap(), Arrival::Superseded);
        replica.forget_before(hour_us + 1, 3 * hour_us);
        assert!(replica.learned().versions.is_empty());
    }

    #[test]
    fn a_local_write_is_later_than_the_version_that_it_replaces_also_by_a_clock_that_was_set_back() {
        let (replica, table) = replica();
        let far_ahead = i64::MAX / 2;
        replica.apply(&put(&table), &at(far_ahead, "taiwan")).unwrap();
        deletion(&table).write_to(&replica.database).unwrap();
        replica.streams.written(&[]);
        let versions = replica.waiting("taiwan", |waiting| {
            waiting.iter().map(|entry| entry.version.clone()).collect::<Vec<_>>()
        });
        assert_eq!(versions.unwrap(), [at(far_ahead + 1, "tokyo")]);
    }
}
