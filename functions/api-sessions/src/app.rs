//! The adapters that the handler works with, built once.

use aws_sdk_dynamodb::Client;
use sojourn::aws;
use sojourn::clock::SharedClock;
use sojourn::delivery::{ApiGateway, AwsSocketCloser};
use sojourn::env::{ConfigError, Env};
use sojourn::http::Authenticator;
use sojourn::ids::{self, SharedIds};
use sojourn::sessions::dynamo::{DynamoRevocations, SessionWrites};
use sojourn::sessions::{Announced, SessionStarter, SessionStore};
use sojourn::throttle::Throttle;
use sojourn::throttle::dynamo::DynamoAttempts;
use sojourn::tokens::{PublicKeys, SigningKey, TokenSigner};
use sojourn::users::dynamo::{DynamoPasswords, DynamoUsers};

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) users: DynamoUsers,
    pub(crate) throttle: Throttle<DynamoAttempts>,
    pub(crate) passwords: Announced<DynamoPasswords>,
    pub(crate) starter: SessionStarter<SessionStore>,
    pub(crate) sessions: SessionStore,
    pub(crate) revocations: Announced<DynamoRevocations>,
    pub(crate) closer: AwsSocketCloser,
    pub(crate) signer: TokenSigner,
    pub(crate) public_keys: PublicKeys,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
}

impl App {
    /// Reads the whole configuration, and connects nothing yet.
    pub(crate) fn from_env(
        dynamodb: &Client,
        gateway: ApiGateway,
        env: &Env,
        signing_key: SigningKey,
        clock: SharedClock,
    ) -> Result<Self, ConfigError> {
        let ids = ids::random();
        let writes = SessionWrites::from_env(env, ids.clone())?;
        let sessions = SessionStore::from_env(dynamodb.clone(), env, clock.clone())?;
        let passwords = DynamoPasswords::from_env(dynamodb.clone(), env, writes.clone())?;
        let revocations = DynamoRevocations::new(dynamodb.clone(), writes);
        let signer = TokenSigner::from_env(env, signing_key, clock.clone())?;
        Ok(Self {
            authenticator: Authenticator::from_env(env, clock.clone())?,
            users: DynamoUsers::from_env(dynamodb.clone(), env)?,
            throttle: Throttle {
                store: DynamoAttempts::from_env(dynamodb.clone(), env)?,
                clock: clock.clone(),
            },
            passwords: Announced::new(passwords, sessions.clone()),
            starter: SessionStarter {
                store: sessions.clone(),
                signer: signer.clone(),
                clock: clock.clone(),
                ids: ids.clone(),
                region: aws::region(env)?,
            },
            revocations: Announced::new(revocations, sessions.clone()),
            sessions,
            closer: AwsSocketCloser::from_env(dynamodb.clone(), gateway, env)?,
            signer,
            public_keys: PublicKeys::from_env(env)?,
            clock,
            ids,
        })
    }
}
