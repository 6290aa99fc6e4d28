//! The adapters that the handler works with, built once.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use sojourn::core::clock::SharedClock;
use sojourn::core::env::{ConfigError, Env};
use sojourn::core::ids;
use sojourn::edge::http::Authenticator;
use sojourn::files::uploads::{DynamoUploads, S3Uploads, UploadLimits, Uploads};
use sojourn::platform::aws;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) uploads: Uploads,
}

impl App {
    /// Reads the whole configuration, and connects nothing yet. Files are where `sdk` says.
    pub(crate) fn from_env(
        dynamodb: Client,
        sdk: &SdkConfig,
        env: &Env,
        clock: SharedClock,
    ) -> Result<Self, ConfigError> {
        let uploads = Uploads::new(
            DynamoUploads::from_env(dynamodb.clone(), env)?,
            S3Uploads::from_env(sdk, env, clock.clone())?,
            UploadLimits::from_env(env)?,
            aws::region(env)?,
            clock.clone(),
            ids::random(),
        );
        Ok(Self { authenticator: Authenticator::from_env(dynamodb, env, clock)?, uploads })
    }
}
