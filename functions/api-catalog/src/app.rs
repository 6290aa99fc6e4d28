//! The adapters that the handler works with, built once.

use aws_sdk_dynamodb::Client;
use sojourn::commerce::catalog::cached::Catalog;
use sojourn::commerce::catalog::dynamo::StockTables;
use sojourn::coordination::idempotency::dynamo::KeyedRequests;
use sojourn::core::clock::SharedClock;
use sojourn::core::env::{ConfigError, Env};
use sojourn::core::ids::{self, SharedIds};
use sojourn::edge::http::Authenticator;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) catalog: Catalog,
    pub(crate) stock: StockTables,
    pub(crate) requests: KeyedRequests,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
}

impl App {
    /// Reads the whole configuration. Does not connect yet.
    pub(crate) fn from_env(dynamodb: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self {
            authenticator: Authenticator::from_env(dynamodb.clone(), env, clock.clone())?,
            catalog: Catalog::from_env(dynamodb.clone(), env, clock.clone())?,
            stock: StockTables::from_env(env)?,
            requests: KeyedRequests::from_env(dynamodb, env, clock.clone())?,
            clock,
            ids: ids::random(),
        })
    }
}
