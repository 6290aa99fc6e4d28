//! A DynamoDB for one test: the given tables, in memory, on a free port, deleted when dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::replication::RegionTables;
use super::streams::Streams;
use super::{DynamoDb, DynamoDbError, Storage};
use crate::services::Controls;
use crate::services::access::Access;
use crate::services::faults::Faults;
use crate::services::usage::Usage;
use crate::template::model::{Stack, Table};

/// A DynamoDB of one's own. Starting one takes a few milliseconds, so every test has its own.
#[derive(Debug)]
pub struct Embedded {
    dynamodb: DynamoDb,
    controls: Controls,
}

impl Embedded {
    /// Starts a DynamoDB that holds exactly `tables`, empty. Any credentials are accepted and may
    /// do everything.
    pub fn start(tables: &[Table]) -> Result<Self, DynamoDbError> {
        Self::with(Storage::Memory, tables, Controls::new(Access::unrestricted()))
    }

    /// The same, with the rows in a file in `folder`.
    pub fn start_in(folder: &Path, tables: &[Table]) -> Result<Self, DynamoDbError> {
        Self::with(Storage::Folder(folder), tables, Controls::new(Access::unrestricted()))
    }

    /// The same, with the rows in another DynamoDB: see [`Storage::Remote`]. Faults and usage are
    /// still this one's.
    pub fn start_over(url: &str, tables: &[Table]) -> Result<Self, DynamoDbError> {
        Self::with(Storage::Remote(url), tables, Controls::new(Access::unrestricted()))
    }

    /// The same with the stack's tables and its functions' policies: clients need a key of
    /// [`Access`].
    pub fn start_guarded(stack: &Stack) -> Result<Self, DynamoDbError> {
        Self::with(Storage::Memory, &stack.tables, Controls::new(Access::new(stack)))
    }

    fn with(storage: Storage<'_>, tables: &[Table], controls: Controls) -> Result<Self, DynamoDbError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let dynamodb = DynamoDb::start(address, storage, tables, controls.clone())?;
        Ok(Self { dynamodb, controls })
    }

    /// The endpoint for an SDK client; its region may be anything.
    pub fn endpoint_url(&self) -> String {
        self.dynamodb.endpoint_url()
    }

    /// Who may do what.
    pub fn access(&self) -> &Access {
        &self.controls.access
    }

    /// What goes wrong on purpose.
    pub fn faults(&self) -> &Faults {
        &self.controls.faults
    }

    /// What was asked.
    pub fn usage(&self) -> &Usage {
        &self.controls.usage
    }

    /// The streams of the tables; `None` over another DynamoDB.
    pub fn streams(&self) -> Option<Arc<Streams>> {
        self.dynamodb.streams()
    }

    /// The tables, for a replication; `None` over another DynamoDB.
    pub fn region_tables(&self) -> Option<RegionTables> {
        self.dynamodb.region_tables()
    }

    /// Deletes expired items now, as TTL does in its own time; how many there were.
    pub fn sweep_ttl(&self) -> Result<usize, DynamoDbError> {
        self.dynamodb.sweep_ttl()
    }
}
