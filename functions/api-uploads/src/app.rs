//! The adapters that the handler works with, built once.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use sojourn::core::clock::SharedClock;
use sojourn::core::env::{ConfigError, Env};
use sojourn::core::ids;
use sojourn::edge::http::Authenticator;
use sojourn::files::uploads::Uploads;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) uploads: Uploads,
}

impl App {
    /// Reads the whole configuration. Does not connect yet. `sdk` decides where files are.
    pub(crate) fn from_env(
        dynamodb: Client,
        sdk: &SdkConfig,
        env: &Env,
        clock: SharedClock,
    ) -> Result<Self, ConfigError> {
        let uploads = Uploads::from_env(dynamodb.clone(), sdk, env, clock.clone(), ids::random())?;
        Ok(Self { authenticator: Authenticator::from_env(dynamodb, env, clock)?, uploads })
    }
}
