//! The state of replication that a region needs after a restart, in a file beside its data.
//!
//! Every change that arrives:
//!
//! 1. Before it is written: what it is, and behind which record of the stream its own will be. No
//!    other write is made at that time.
//! 2. After it is written: the place of its record, or that it has none.
//! 3. If the process ended in between, the record behind that place is the change's, or nothing was
//!    written.
//!
//! Every write of a strongly consistent table: which item it is about, before it is made, until
//! every replica has it.
//!
//! Limits: as long as records of a stream, which is 24 hours.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dynoxide::Item;
use rusqlite::{Connection, named_params};

use super::change::{ItemKey, Version};
use crate::clock;
use crate::services::dynamodb::streams::{Position, RETENTION};
use crate::services::sqlite;

/// The file's name in the data folder.
const FILE_NAME: &str = "replication.sqlite3";

/// The place of a change that left no record.
const NO_RECORD: Position = Position::TRIM_HORIZON;

/// `position` is empty while a change is being written.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS arrivals (
        number INTEGER PRIMARY KEY,
        table_name TEXT NOT NULL,
        item TEXT NOT NULL,
        behind INTEGER NOT NULL,
        position INTEGER,
        written_us INTEGER NOT NULL,
        region TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS agreed (
        number INTEGER PRIMARY KEY,
        table_name TEXT NOT NULL,
        item TEXT NOT NULL,
        written_us INTEGER NOT NULL
    ) STRICT;";

const BEGIN: &str = "INSERT INTO arrivals (table_name, item, behind, written_us, region) \
     VALUES (:table, :item, :behind, :written_us, :region)";

const END: &str = "UPDATE arrivals SET position = :position WHERE number = :number";

const FORGET: &str = "DELETE FROM arrivals WHERE number = :number";

const ALL: &str = "SELECT number, table_name, item, behind, position, written_us, region FROM arrivals";

const TRIM: &str = "DELETE FROM arrivals WHERE written_us < :oldest_us";

const AGREE: &str = "INSERT INTO agreed (table_name, item, written_us) VALUES (:table, :item, :written_us)";

const AGREED: &str = "SELECT table_name, item, written_us FROM agreed ORDER BY number";

const SPREAD: &str = "DELETE FROM agreed";

pub(super) struct Kept(Mutex<Connection>);

/// The changes that arrived before a restart.
#[derive(Default)]
pub(super) struct Arrivals {
    /// By the table and the place of the record that each left.
    pub(super) recorded: HashMap<(Arc<str>, Position), Version>,
    /// Deletions of what was not there.
    pub(super) unrecorded: Vec<(ItemKey, Version)>,
}

/// A write of a strongly consistent table that a replica may lack.
pub(super) struct Agreed {
    pub(super) item: ItemKey,
    pub(super) key: Item,
    pub(super) written_us: i64,
}

struct Row {
    number: i64,
    item: ItemKey,
    behind: Position,
    position: Option<i64>,
    version: Version,
}

impl Kept {
    /// In this data folder.
    pub(super) fn open(folder: &Path) -> rusqlite::Result<Self> {
        let connection = sqlite::open(Some(&folder.join(FILE_NAME)), SCHEMA)?;
        let retention_us = i64::try_from(RETENTION.as_micros()).unwrap_or(i64::MAX);
        let oldest_us = clock::now().as_microsecond().saturating_sub(retention_us);
        connection.execute(TRIM, named_params! {":oldest_us": oldest_us})?;
        Ok(Self(Mutex::new(connection)))
    }

    /// A change is going to be written behind `behind`. Returns its number.
    pub(super) fn begin(&self, item: &ItemKey, version: &Version, behind: Position) -> rusqlite::Result<i64> {
        let connection = self.lock();
        connection.prepare_cached(BEGIN)?.execute(named_params! {
            ":table": &*item.table,
            ":item": item.attributes,
            ":behind": behind.0,
            ":written_us": version.written_us,
            ":region": &*version.region,
        })?;
        Ok(connection.last_insert_rowid())
    }

    /// The change was written, and this is its record.
    pub(super) fn end(&self, number: i64, record: Option<Position>) -> rusqlite::Result<()> {
        let position = record.unwrap_or(NO_RECORD).0;
        let connection = self.lock();
        connection
            .prepare_cached(END)?
            .execute(named_params! {":number": number, ":position": position})
            .map(drop)
    }

    fn forget(&self, number: i64) -> rusqlite::Result<()> {
        self.lock().execute(FORGET, named_params! {":number": number}).map(drop)
    }

    /// All that arrived. `next` finds the record behind a place, and whose it is.
    pub(super) fn arrivals<E: From<rusqlite::Error>>(
        &self,
        next: impl Fn(&ItemKey, Position) -> Result<Option<Position>, E>,
    ) -> Result<Arrivals, E> {
        let mut arrivals = Arrivals::default();
        for Row { number, item, behind, position, version } in self.rows()? {
            let record = match position {
                Some(position) => Some(Position(position)),
                None => next(&item, behind)?,
            };
            match record {
                Some(NO_RECORD) => arrivals.unrecorded.push((item, version)),
                Some(record) => {
                    arrivals.recorded.insert((item.table, record), version);
                    if position.is_none() {
                        self.end(number, Some(record))?;
                    }
                }
                // The process ended before it was written. It comes again.
                None => self.forget(number)?,
            }
        }
        Ok(arrivals)
    }

    fn rows(&self) -> rusqlite::Result<Vec<Row>> {
        let connection = self.lock();
        let mut statement = connection.prepare(ALL)?;
        let rows = statement.query_map([], |row| {
            let region = row.get::<_, String>("region")?.into();
            Ok(Row {
                number: row.get("number")?,
                item: item(row)?,
                behind: Position(row.get("behind")?),
                position: row.get("position")?,
                version: Version { written_us: row.get("written_us")?, region },
            })
        })?;
        rows.collect()
    }

    /// A strongly consistent item is going to be written.
    pub(super) fn agree(&self, item: &ItemKey) -> rusqlite::Result<()> {
        let connection = self.lock();
        let written_us = clock::now().as_microsecond();
        connection
            .prepare_cached(AGREE)?
            .execute(named_params! {
                ":table": &*item.table, ":item": item.attributes, ":written_us": written_us,
            })
            .map(drop)
    }

    /// What a replica may lack, in the order of the writes.
    pub(super) fn agreed(&self) -> rusqlite::Result<Vec<Agreed>> {
        let connection = self.lock();
        let mut statement = connection.prepare(AGREED)?;
        let rows = statement.query_map([], |row| {
            let item = item(row)?;
            let key = serde_json::from_str(&item.attributes).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into())
            })?;
            Ok(Agreed { item, key, written_us: row.get("written_us")? })
        })?;
        rows.collect()
    }

    /// Every replica has all of it.
    pub(super) fn spread(&self) -> rusqlite::Result<()> {
        self.lock().execute(SPREAD, []).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn item(row: &rusqlite::Row<'_>) -> rusqlite::Result<ItemKey> {
    Ok(ItemKey { table: row.get::<_, String>("table_name")?.into(), attributes: row.get("item")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Failed;

    impl From<rusqlite::Error> for Failed {
        fn from(_: rusqlite::Error) -> Self {
            Self
        }
    }

    #[test]
    fn a_change_that_was_being_written_when_the_process_ended_has_its_record_or_was_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let item = |id: &str| ItemKey { table: "Stock".into(), attributes: id.to_owned() };
        let version = |written_us| Version { written_us, region: "tokyo".into() };
        let now_us = clock::now().as_microsecond();
        let kept = Kept::open(folder.path()).unwrap();
        kept.begin(&item("written"), &version(now_us), Position(5)).unwrap();
        kept.begin(&item("unwritten"), &version(now_us + 1), Position(6)).unwrap();
        let silent = kept.begin(&item("silent"), &version(now_us + 2), Position(6)).unwrap();
        kept.end(silent, None).unwrap();
        drop(kept);
        let next = |of: &ItemKey, _: Position| -> Result<_, Failed> {
            Ok((*of == item("written")).then_some(Position(6)))
        };
        for restart in 1..=2 {
            let arrivals = Kept::open(folder.path()).unwrap().arrivals(next).unwrap();
            let recorded = [(("Stock".into(), Position(6)), version(now_us))];
            assert_eq!(arrivals.recorded, recorded.into(), "restart {restart}");
            assert_eq!(arrivals.unrecorded, [(item("silent"), version(now_us + 2))], "restart {restart}");
        }
    }

    #[test]
    fn what_is_older_than_any_record_of_a_stream_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let item = ItemKey { table: "Stock".into(), attributes: "old".to_owned() };
        let version = Version { written_us: 1, region: "tokyo".into() };
        let kept = Kept::open(folder.path()).unwrap();
        let number = kept.begin(&item, &version, Position(5)).unwrap();
        kept.end(number, Some(Position(6))).unwrap();
        drop(kept);
        let arrivals = Kept::open(folder.path()).unwrap().arrivals(|_, _| Ok::<_, Failed>(None)).unwrap();
        assert!(arrivals.recorded.is_empty());
    }
}
