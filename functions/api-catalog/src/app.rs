//! The adapters that the handler works with, built once.

use aws_sdk_dynamodb::Client;
use sojourn::catalog::dynamo::{DynamoCatalog, StockTables};
use sojourn::clock::SharedClock;
use sojourn::env::{ConfigError, Env};
use sojourn::http::Authenticator;
use sojourn::idempotency::dynamo::KeyedRequests;
use sojourn::ids::{self, SharedIds};
use sojourn::sessions::SessionStore;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) sessions: SessionStore,
    pub(crate) catalog: DynamoCatalog,
    pub(crate) stock: StockTables,
    pub(crate) requests: KeyedRequests,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
}

impl App {
    /// Reads the whole configuration, and connects nothing yet.
    pub(crate) fn from_env(dynamodb: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let sessions = SessionStore::from_env(dynamodb.clone(), env, clock.clone())?;
        Ok(Self {
            authenticator: Authenticator::from_env(env, sessions.clone(), clock.clone())?,
            sessions,
            catalog: DynamoCatalog::from_env(dynamodb.clone(), env)?,
            stock: StockTables::from_env(env)?,
            requests: KeyedRequests::from_env(dynamodb, env, clock.clone())?,
            clock,
            ids: ids::random(),
        })
    }
}
