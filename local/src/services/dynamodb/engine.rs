//! The database engine, in memory or in a file, with two additions: an index, and the rules of
//! streams.
//!
//! A write to a table with a stream takes the number after the stream's last one, and the engine
//! finds that by reading every record of the stream: the ten-thousandth order would pay for all
//! before it. With [`STREAM_INDEX`] it is one step, however long the stream is. The index goes into
//! the file and stays there; a later engine with such an index is not disturbed.
//!
//! Records of a stream that can't be read any more are deleted when the file is opened, and every
//! stream in the file keeps both images from then on (see [`streams`](super::streams)).

use std::path::Path;
use std::sync::{Arc, OnceLock};

use dynoxide::storage::Storage;
use dynoxide::{Database, DynoxideError};
use ulid::Ulid;

use super::remote::Remote;
use super::replication::Membership;
use super::streams::{RETENTION, Streams};
use super::tokens::Tokens;
use crate::clock;

/// On the very expression that the engine asks the largest value of, or `SQLite` would not use it.
const STREAM_INDEX: &str = "CREATE INDEX IF NOT EXISTS stream_order \
     ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";

/// Both images, whatever the template says: without them, a write that changes nothing looks like
/// any other.
const KEEP_BOTH_IMAGES: &str =
    "UPDATE _tables SET stream_view_type = 'NEW_AND_OLD_IMAGES' WHERE stream_enabled = 1";

const TRIM: &str = "DELETE FROM _stream_records WHERE created_at < ?1";

/// What answers the requests.
pub(super) enum Engine {
    /// A database in this process.
    Embedded {
        database: Database,
        /// The tokens of transactions.
        tokens: Tokens,
        /// The streams of the tables.
        streams: Arc<Streams>,
        /// Empty unless the region has joined others.
        membership: Arc<OnceLock<Membership>>,
    },
    Remote(Remote),
}

impl Engine {
    /// Deletes expired items now; how many there were.
    pub(super) fn sweep_ttl(&self) -> Result<usize, String> {
        let Self::Embedded { database, streams, membership, .. } = self else {
            return Err("they are in another DynamoDB".to_owned());
        };
        let _turn = membership.get().map(Membership::write);
        let items = database.sweep_ttl().map_err(|error| error.to_string())?;
        if items > 0 {
            streams.written(&[]);
        }
        Ok(items)
    }
}

/// An empty database in memory.
pub(super) fn in_memory() -> Result<Database, DynoxideError> {
    // The engine does not give its connection away. So the index is made in another database, which
    // has a name by which it can be copied, and is gone at the end of this function.
    let name = format!("file:{}?mode=memory&cache=shared", Ulid::generate());
    let prepared = Storage::new(&name)?;
    prepared.conn().execute_batch(STREAM_INDEX)?;
    let database = Database::memory()?;
    database.restore_from(&name)?;
    Ok(database)
}

/// The database in a file, which is made if it isn't there.
pub(super) fn on_file(path: &Path) -> Result<Database, DynoxideError> {
    let path = path.to_string_lossy();
    let storage = Storage::new(&path)?;
    storage.conn().execute_batch(STREAM_INDEX)?;
    storage.conn().execute_batch(KEEP_BOTH_IMAGES)?;
    let oldest = clock::now().as_second().saturating_sub_unsigned(RETENTION.as_secs());
    storage.conn().execute(TRIM, [oldest])?;
    drop(storage);
    Database::new(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How `SQLite` would find the last number of a stream.
    fn plan(path: &Path) -> String {
        let storage = Storage::new(&path.to_string_lossy()).unwrap();
        let question = "EXPLAIN QUERY PLAN SELECT COALESCE(MAX(CAST(sequence_number AS INTEGER)), 0) + 1 \
                        FROM _stream_records WHERE table_name = ?1";
        storage.conn().query_row(question, ["Outbox"], |row| row.get(3)).unwrap()
    }

    #[test]
    fn the_last_number_of_a_stream_is_found_by_the_index() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file.sqlite3");
        drop(on_file(&file).unwrap());
        assert!(plan(&file).contains("stream_order"), "{}", plan(&file));

        let copy = folder.path().join("memory.sqlite3");
        in_memory().unwrap().vacuum_into(&copy.to_string_lossy()).unwrap();
        assert!(plan(&copy).contains("stream_order"), "{}", plan(&copy));
    }
}
