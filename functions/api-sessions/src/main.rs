//! Sign-up, sign-in and the public keys: the one function that can sign access tokens.
//!
//! It starts only when it can do its work: the signing key is read from Secrets Manager once, and must be one that
//! `TOKEN_JWKS` lets the other functions verify.

use std::process::ExitCode;

use sojourn::sessions::{SessionStarter, SessionStore};
use sojourn::tokens::{PublicKeys, TokenSigner, secrets_manager};
use sojourn::users::dynamo::DynamoUsers;
use sojourn::{aws, boot, clock, http, ids};

mod handler;

fn main() -> ExitCode {
    boot::run("api-sessions", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let secrets = aws_sdk_secretsmanager::Client::new(&sdk);
        let (clock, ids) = (clock::system(), ids::random());

        let signing_key = secrets_manager::signing_key(&secrets, &env).await?;
        let app = handler::App {
            users: DynamoUsers::from_env(dynamodb.clone(), &env)?,
            sessions: SessionStarter {
                store: SessionStore::from_env(dynamodb, &env, clock.clone())?,
                signer: TokenSigner::from_env(&env, signing_key, clock.clone())?,
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
