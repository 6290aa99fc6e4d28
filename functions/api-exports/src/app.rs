//! The adapters that the handler works with, built once.

use aws_config::SdkConfig;
use sojourn::coordination::idempotency::dynamo::KeyedRequests;
use sojourn::core::clock::SharedClock;
use sojourn::core::env::{ConfigError, Env};
use sojourn::core::ids::{self, SharedIds};
use sojourn::edge::http::Authenticator;
use sojourn::files::exports::dynamo::{DynamoExports, DynamoSends, ExportTables};
use sojourn::files::links::downloads::Downloads;
use sojourn::platform::queue::SqsQueue;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) exports: DynamoExports,
    pub(crate) sends: DynamoSends,
    pub(crate) tables: ExportTables,
    pub(crate) requests: KeyedRequests,
    pub(crate) queue: SqsQueue,
    pub(crate) downloads: Downloads,
    pub(crate) ids: SharedIds,
}

impl App {
    /// Reads the whole configuration. Does not connect yet.
    pub(crate) fn from_env(sdk: &SdkConfig, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let ids = ids::random();
        let dynamodb = aws_sdk_dynamodb::Client::new(sdk);
        Ok(Self {
            authenticator: Authenticator::from_env(dynamodb.clone(), env, clock.clone())?,
            exports: DynamoExports::from_env(dynamodb.clone(), env, clock.clone())?,
            sends: DynamoSends::from_env(dynamodb.clone(), env, clock.clone())?,
            tables: ExportTables::from_env(env, ids.clone())?,
            requests: KeyedRequests::from_env(dynamodb, env, clock.clone())?,
            queue: SqsQueue::from_env(aws_sdk_sqs::Client::new(sdk), env, "EXPORTS_QUEUE_URL")?,
            downloads: Downloads::from_env(sdk, env, clock)?,
            ids,
        })
    }
}
