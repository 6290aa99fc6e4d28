//! Sign-up, sign-in, the public keys, and what a session keeps for its user: the one function that can sign access tokens
//! and open payloads.
//!
//! It starts only when it can do its work: its keys are read from Secrets Manager once, and the signing key must be one
//! that `TOKEN_JWKS` lets the other functions verify.

use std::process::ExitCode;

use sojourn::http::Authenticator;
use sojourn::seal::SealingKeys;
use sojourn::sessions::dynamo::DynamoSessions;
use sojourn::sessions::{SessionPreferences, SessionStarter};
use sojourn::tokens::{PublicKeys, SigningKey, TokenSigner};
use sojourn::users::dynamo::DynamoUsers;
use sojourn::{aws, boot, clock, http, ids, secrets_manager};

mod handler;
mod preferences;

fn main() -> ExitCode {
    boot::run("api-sessions", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let secrets = aws_sdk_secretsmanager::Client::new(&sdk);
        let (clock, ids) = (clock::system(), ids::random());

        let (signing_key, sealing_keys) = tokio::try_join!(
            secrets_manager::read::<SigningKey>(&secrets, &env),
            secrets_manager::read::<SealingKeys>(&secrets, &env),
        )?;
        let sessions = DynamoSessions::from_env(dynamodb.clone(), &env)?;
        let app = handler::App {
            authenticator: Authenticator::from_env(&env, clock.clone())?,
            users: DynamoUsers::from_env(dynamodb, &env)?,
            preferences: SessionPreferences {
                store: sessions.clone(),
                sealing_keys: sealing_keys.clone(),
                clock: clock.clone(),
            },
            sessions: SessionStarter {
                store: sessions,
                signer: TokenSigner::from_env(&env, signing_key, clock.clone())?,
                sealing_keys,
                clock: clock.clone(),
                ids: ids.clone(),
                region: aws::region(&env)?,
            },
            public_keys: PublicKeys::from_env(&env)?,
            clock,
            ids,
        };
        http::serve("api-sessions", app, handler::handle).await
    })
}
