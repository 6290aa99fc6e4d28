//! The adapters that the handler works with, built once.

use aws_sdk_dynamodb::Client;
use sojourn::core::clock::SharedClock;
use sojourn::core::env::{ConfigError, Env};
use sojourn::core::ids::{self, SharedIds};
use sojourn::edge::http::{Authenticator, TrustedProxy};
use sojourn::identity::seal::SealingKeys;
use sojourn::identity::sessions::{IdleTimeout, SessionPreferences, SessionRevoker};
use sojourn::identity::sign_in::SessionStarter;
use sojourn::identity::throttle::dynamo::DynamoAttempts;
use sojourn::identity::throttle::{DeviceTokens, Throttle};
use sojourn::identity::tokens::{PublicKeys, SigningKey, TokenSigner};
use sojourn::identity::users::dynamo::{DynamoPasswords, DynamoUsers};
use sojourn::platform::aws::{self, SdkConfig};
use sojourn::platform::dynamo::Agreement;
use sojourn::platform::secrets_manager::{self, SecretError, SecretsManager};
use sojourn::sockets::delivery::{ApiGateway, SocketCloser};

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) users: DynamoUsers,
    pub(crate) throttle: Throttle,
    pub(crate) sign_ups_per_address: u32,
    pub(crate) device_tokens: DeviceTokens,
    pub(crate) trusted_proxy: TrustedProxy,
    pub(crate) passwords: DynamoPasswords,
    pub(crate) starter: SessionStarter,
    pub(crate) preferences: SessionPreferences,
    pub(crate) revoker: SessionRevoker,
    pub(crate) sealing_keys: SealingKeys,
    pub(crate) public_keys: PublicKeys,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
}

/// The keys that only this function has.
#[derive(Debug)]
pub(crate) struct Keys {
    signing: SigningKey,
    sealing: SealingKeys,
}

impl Keys {
    /// Reads both secrets concurrently.
    pub(crate) async fn read(
        secrets: &aws_sdk_secretsmanager::Client,
        env: &Env,
    ) -> Result<Self, SecretError> {
        let signing = secrets_manager::read(secrets, env);
        let sealing = secrets_manager::read::<SealingKeys>(secrets, env);
        let (signing, sealing) = tokio::try_join!(signing, sealing)?;
        let source = SecretsManager { client: secrets.clone(), env: env.clone() };
        Ok(Self { signing, sealing: sealing.with_source(source) })
    }
}

impl App {
    /// Reads the whole configuration. Does not connect yet.
    pub(crate) fn from_env(
        dynamodb: &Client,
        sdk: &SdkConfig,
        env: &Env,
        keys: Keys,
        clock: SharedClock,
    ) -> Result<Self, ConfigError> {
        let ids = ids::random();
        let Keys { signing: signing_key, sealing: sealing_keys } = keys;
        let authenticator = Authenticator::from_env(dynamodb.clone(), env, clock.clone())?;
        let sessions = authenticator.sessions().clone();
        let sockets = SocketCloser::from_env(dynamodb.clone(), ApiGateway::new(sdk.clone()), env)?;
        let revoker = SessionRevoker::from_env(sessions.clone(), env, ids.clone())?.with_sockets(sockets);
        let users = DynamoUsers::from_env(dynamodb.clone(), env)?.agreeing(Agreement::from_env(sdk, env)?);
        Ok(Self {
            authenticator,
            users: users.clone(),
            throttle: Throttle {
                store: DynamoAttempts::from_env(dynamodb.clone(), env)?,
                clock: clock.clone(),
            },
            sign_ups_per_address: env.parse("SIGN_UPS_PER_ADDRESS")?,
            device_tokens: DeviceTokens { keys: sealing_keys.clone(), clock: clock.clone() },
            trusted_proxy: TrustedProxy::from_env(env)?,
            passwords: DynamoPasswords::new(users, revoker.clone()),
            starter: SessionStarter {
                store: sessions.clone(),
                signer: TokenSigner::from_env(env, signing_key, clock.clone())?,
                sealing_keys: sealing_keys.clone(),
                clock: clock.clone(),
                ids: ids.clone(),
                region: aws::region(env)?,
                idle_timeout: IdleTimeout::from_env(env)?,
            },
            preferences: SessionPreferences { store: sessions, sealing_keys: sealing_keys.clone() },
            revoker,
            sealing_keys,
            public_keys: PublicKeys::from_env(env)?,
            clock,
            ids,
        })
    }
}
