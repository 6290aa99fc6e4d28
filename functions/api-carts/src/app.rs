//! The adapters that the handler works with, built once.

use aws_sdk_dynamodb::Client;
use sojourn::commerce::carts::dynamo::Carts;
use sojourn::core::clock::SharedClock;
use sojourn::core::env::{ConfigError, Env};
use sojourn::core::ids;
use sojourn::edge::http::Authenticator;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) carts: Carts,
}

impl App {
    /// Reads the whole configuration. Does not connect yet.
    pub(crate) fn from_env(dynamodb: Client, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let carts = Carts::from_env(dynamodb.clone(), env, clock.clone(), ids::random())?;
        Ok(Self { authenticator: Authenticator::from_env(dynamodb, env, clock)?, carts })
    }
}
