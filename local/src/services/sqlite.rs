//! The `SQLite` files in which services and event sources keep data across restarts.

use std::path::Path;

use rusqlite::Connection;

/// Opens the database in `file`, or one in memory, with the tables of `schema`. A commit survives a
/// `kill -9` of the region.
pub(crate) fn open(file: Option<&Path>, schema: &str) -> rusqlite::Result<Connection> {
    let connection = match file {
        Some(file) => {
            let connection = Connection::open(file)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection
        }
        None => Connection::open_in_memory()?,
    };
    connection.execute_batch(schema)?;
    Ok(connection)
}
