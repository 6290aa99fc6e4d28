//! Checkpoints: the position of each reader of a stream, in `SQLite`, in memory or in a file of the
//! data folder.
//!
//! A reader saves its position after each batch. After a crash, the records behind that position
//! are read again. So every record is handled at least once.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, named_params};

use crate::services::dynamodb::streams::Position;
use crate::services::sqlite;

/// Why checkpoints can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoints of the streams can't be read or written")]
pub struct CheckpointError(#[from] rusqlite::Error);

/// `lane` counts the parallel readers of one mapping.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS checkpoints (
        mapping TEXT NOT NULL,
        lane INTEGER NOT NULL,
        position INTEGER NOT NULL,
        PRIMARY KEY (mapping, lane)
    ) STRICT;";

const KNOWN: &str = "SELECT position FROM checkpoints WHERE mapping = :mapping ORDER BY lane";

const FORGET: &str = "DELETE FROM checkpoints WHERE mapping = :mapping";

const MAPPINGS: &str = "SELECT DISTINCT mapping FROM checkpoints";

const SAVE: &str =
    "INSERT OR REPLACE INTO checkpoints (mapping, lane, position) VALUES (:mapping, :lane, :position)";

/// The places of all readers.
pub struct Checkpoints(Mutex<Connection>);

impl Checkpoints {
    /// In `file`, or in memory.
    pub fn open(file: Option<&Path>) -> Result<Self, CheckpointError> {
        Ok(Self(Mutex::new(sqlite::open(file, SCHEMA)?)))
    }

    /// Deletes the positions of all other mappings: AWS deletes them with the mapping.
    pub(super) fn retain(&self, mappings: &[String]) -> Result<(), CheckpointError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let known: Vec<String> =
            transaction.prepare(MAPPINGS)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for other in known.iter().filter(|name| !mappings.contains(name)) {
            transaction.execute(FORGET, named_params! {":mapping": other})?;
        }
        Ok(transaction.commit()?)
    }

    /// The positions of the `lanes` readers of `mapping`. A new mapping begins at `start`. If the
    /// number of readers has changed, all of them start at the position of the slowest one.
    pub(super) fn begin(
        &self,
        mapping: &str,
        lanes: usize,
        start: Position,
    ) -> Result<Vec<Position>, CheckpointError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let known: Vec<i64> = transaction
            .prepare(KNOWN)?
            .query_map(named_params! {":mapping": mapping}, |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        if known.len() == lanes {
            return Ok(known.into_iter().map(Position).collect());
        }
        let slowest = known.into_iter().min().map_or(start, Position);
        transaction.execute(FORGET, named_params! {":mapping": mapping})?;
        for lane in 0..lanes {
            save(&transaction, mapping, lane, slowest)?;
        }
        transaction.commit()?;
        Ok(vec![slowest; lanes])
    }

    /// Everything up to `position` is done with.
    pub(super) fn save(&self, mapping: &str, lane: usize, position: Position) -> Result<(), CheckpointError> {
        Ok(save(&self.lock(), mapping, lane, position)?)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic leaves no transaction open: it is rolled back when it is dropped.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn save(connection: &Connection, mapping: &str, lane: usize, position: Position) -> rusqlite::Result<()> {
    let parameters = named_params! {
        ":mapping": mapping,
        ":lane": i64::try_from(lane).unwrap_or(i64::MAX),
        ":position": position.0,
    };
    connection.prepare_cached(SAVE)?.execute(parameters)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_go_on_where_they_were_and_a_new_number_of_them_where_the_slowest_was() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Checkpoints::open(Some(&folder.path().join("streams.db"))).unwrap();
        let checkpoints = open();
        assert_eq!(checkpoints.begin("relay", 2, Position(7)).unwrap(), [Position(7); 2]);
        checkpoints.save("relay", 0, Position(9)).unwrap();
        checkpoints.save("relay", 1, Position(8)).unwrap();
        drop(checkpoints);
        let checkpoints = open();
        assert_eq!(checkpoints.begin("relay", 2, Position(1)).unwrap(), [Position(9), Position(8)]);
        assert_eq!(checkpoints.begin("relay", 3, Position(1)).unwrap(), [Position(8); 3]);
        assert_eq!(checkpoints.begin("other", 1, Position(1)).unwrap(), [Position(1)]);
    }

    #[test]
    fn a_mapping_that_was_removed_begins_anew_when_it_comes_back() {
        let checkpoints = Checkpoints::open(None).unwrap();
        for mapping in ["relay", "other"] {
            checkpoints.begin(mapping, 1, Position(7)).unwrap();
        }
        checkpoints.retain(&["relay".to_owned()]).unwrap();
        assert_eq!(checkpoints.begin("relay", 1, Position(9)).unwrap(), [Position(7)]);
        assert_eq!(checkpoints.begin("other", 1, Position(9)).unwrap(), [Position(9)]);
    }
}
