//! DynamoDB in the process: the template's tables over an embedded SQLite-backed engine, behind our own endpoint.
//!
//! Limits of the engine: reads are always consistent, there are no global tables, nothing is ever throttled and no
//! transaction conflicts by itself; ARNs in answers carry the engine's own region name.

mod embedded;
mod endpoint;
mod operations;
mod tables;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dynoxide::Database;

pub use embedded::Embedded;
pub use tables::TableError;

use super::server::{Server, StartError};
use crate::template::model::Table;

/// Where the rows live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage<'a> {
    /// Gone when the service stops.
    Memory,
    /// In `dynamodb.sqlite3` in this folder, which must exist.
    Folder(&'a Path),
}

/// The file name of the database in the data folder.
const FILE_NAME: &str = "dynamodb.sqlite3";

/// Why DynamoDB did not start.
#[derive(Debug, thiserror::Error)]
pub enum DynamoDbError {
    /// The database can't be opened.
    #[error("the DynamoDB data in {path} can't be opened: {reason}")]
    Open {
        /// The file, or `memory`.
        path: PathBuf,
        /// The engine's words.
        reason: String,
    },
    /// A table can't be made.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The endpoint can't be served.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running DynamoDB. Stops when dropped.
#[derive(Debug)]
pub struct DynamoDb {
    server: Server,
}

impl DynamoDb {
    /// Opens the database, makes `tables` exist and serves them on `address` (port 0 picks a free one).
    pub fn start(address: SocketAddr, storage: Storage<'_>, tables: &[Table]) -> Result<Self, DynamoDbError> {
        let database = open(storage)?;
        tables::ensure(&database, tables)?;
        let server = Server::start("DynamoDB", address, endpoint::Endpoint { database })?;
        Ok(Self { server })
    }

    /// What `AWS_ENDPOINT_URL_DYNAMODB` is set to.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}

fn open(storage: Storage<'_>) -> Result<Database, DynamoDbError> {
    let (path, opened) = match storage {
        Storage::Memory => (PathBuf::from("memory"), Database::memory()),
        Storage::Folder(folder) => {
            let path = folder.join(FILE_NAME);
            let opened = Database::new(&path.to_string_lossy());
            (path, opened)
        }
    };
    opened.map_err(|error| DynamoDbError::Open { path, reason: error.to_string() })
}
