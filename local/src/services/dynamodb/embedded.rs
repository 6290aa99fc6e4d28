//! A DynamoDB for one test: the given tables, in memory, on a free port, gone when dropped.

use std::net::{Ipv4Addr, SocketAddr};

use super::{DynamoDb, DynamoDbError, Storage};
use crate::template::model::Table;

/// A DynamoDB of one's own. Starting one takes a few milliseconds, so every test has its own.
#[derive(Debug)]
pub struct Embedded {
    dynamodb: DynamoDb,
}

impl Embedded {
    /// Starts a DynamoDB that holds exactly `tables`, empty. Any credentials are accepted.
    pub fn start(tables: &[Table]) -> Result<Self, DynamoDbError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Self { dynamodb: DynamoDb::start(address, Storage::Memory, tables)? })
    }

    /// The endpoint for an SDK client; region and credentials may be anything.
    pub fn endpoint_url(&self) -> String {
        self.dynamodb.endpoint_url()
    }
}
