//! The journal of strongly consistent tables: every change in its order, until every replica has
//! taken it over.
//!
//! A replica whose data is in a file also notes which items it wrote. After a restart, which
//! empties the journal, [`level`] gives them to the others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use dynoxide::{Database, DynoxideError, Item};

use super::Streams;
use super::change::{self, Change, ItemKey};
use super::kept::{Agreed, Kept};
use super::replica::ReplicaError;

/// A replica's tables.
pub(super) struct Copy {
    pub(super) database: Database,
    pub(super) streams: Arc<Streams>,
    /// If the data is in a file.
    pub(super) kept: Option<Arc<Kept>>,
}

/// The changes that not every replica has taken over yet.
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    /// How many were taken out at the front.
    trimmed: usize,
    /// How many of all each replica has taken over.
    taken: BTreeMap<String, usize>,
    /// Whether files say that a replica lacks something.
    kept: bool,
}

struct Entry {
    change: Change,
    arrives: Instant,
}

impl Journal {
    /// Of the replicas in these regions.
    pub(super) fn new(regions: impl Iterator<Item = String>) -> Self {
        let taken = regions.map(|region| (region, 0)).collect();
        Self { entries: VecDeque::new(), trimmed: 0, taken, kept: false }
    }

    /// Writes to the copy what it lacks: all of it, or what has arrived at `now`.
    pub(super) fn take_over(
        &mut self,
        region: &str,
        copy: &Copy,
        now: Option<Instant>,
    ) -> Result<(), DynoxideError> {
        let Some(taken) = self.taken.get_mut(region) else { return Ok(()) };
        while let Some(entry) = self.entries.get(*taken - self.trimmed)
            && now.is_none_or(|now| entry.arrives <= now)
        {
            entry.change.write_to(&copy.database)?;
            copy.streams.written(&[entry.change.item.table.to_string()]);
            *taken += 1;
        }
        Ok(())
    }

    /// A change that the copy of `region`, which has taken everything over, has made.
    pub(super) fn add(&mut self, region: &str, change: Change, arrives: Instant) {
        self.entries.push_back(Entry { change, arrives });
        if let Some(taken) = self.taken.get_mut(region) {
            *taken += 1;
        }
    }

    /// Takes out what every replica has.
    pub(super) fn trim(&mut self) {
        let everybody = self.taken.values().min().copied().unwrap_or(0);
        self.entries.drain(..everybody - self.trimmed);
        self.trimmed = everybody;
    }

    /// The copy is going to write the item: should the process end, the others have to take it
    /// over.
    pub(super) fn keep(&mut self, copy: &Copy, item: &ItemKey) -> rusqlite::Result<()> {
        if let Some(kept) = &copy.kept {
            self.kept = true;
            kept.agree(item)?;
        }
        Ok(())
    }

    /// Empties the files when every replica has everything.
    pub(super) fn forget(&mut self, copies: &BTreeMap<String, Copy>) -> rusqlite::Result<()> {
        if self.kept && self.entries.is_empty() {
            self.kept = false;
            copies.values().filter_map(|copy| copy.kept.as_ref()).try_for_each(|kept| kept.spread())?;
        }
        Ok(())
    }
}

/// Gives every copy what another one wrote before a restart: of each item the last write.
pub(super) fn level(copies: &BTreeMap<String, Copy>) -> Result<(), ReplicaError> {
    let mut agreed: Vec<(Agreed, &Copy)> = Vec::new();
    for copy in copies.values() {
        let own = copy.kept.as_ref().map(|kept| kept.agreed()).transpose()?;
        agreed.extend(own.into_iter().flatten().map(|agreed| (agreed, copy)));
    }
    agreed.sort_by_key(|(agreed, _)| agreed.written_us);
    let last: HashMap<ItemKey, (Item, &Copy)> =
        agreed.into_iter().map(|(Agreed { item, key, .. }, copy)| (item, (key, copy))).collect();
    for (item, (key, writer)) in last {
        let table = item.table.to_string();
        let failed =
            |error: DynoxideError| ReplicaError::Write { table: table.clone(), reason: error.to_string() };
        let image = change::read(&writer.database, &table, &key).map_err(failed)?;
        let change = Change { item, key, image };
        for copy in copies.values() {
            if change::read(&copy.database, &table, &change.key).map_err(failed)? != change.image {
                change.write_to(&copy.database).map_err(failed)?;
            }
        }
    }
    copies.values().filter_map(|copy| copy.kept.as_ref()).try_for_each(|kept| kept.spread())?;
    Ok(())
}
