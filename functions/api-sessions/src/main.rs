//! Sign-up, sign-in and the public keys: the one function that can sign access tokens.
//!
//! It starts only when it can do its work: its keys are read from Secrets Manager once, and the signing key must be one
//! that `TOKEN_JWKS` lets the other functions verify.

use std::process::ExitCode;

use sojourn::sessions::SessionStarter;
use sojourn::sessions::dynamo::DynamoSessions;
use sojourn::tokens::{PublicKeys, TokenSigner};
use sojourn::users::dynamo::DynamoUsers;
use sojourn::{aws, boot, clock, http, ids, secrets_manager};

mod handler;

fn main() -> ExitCode {
    boot::run("api-sessions", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let secrets = aws_sdk_secretsmanager::Client::new(&sdk);
        let (clock, ids) = (clock::system(), ids::random());

        let (signing_key, sealing_keys) =
            tokio::try_join!(secrets_manager::read(&secrets, &env), secrets_manager::read(&secrets, &env))?;
        let app = handler::App {
            users: DynamoUsers::from_env(dynamodb.clone(), &env)?,
            sessions: SessionStarter {
                store: DynamoSessions::from_env(dynamodb, &env)?,
                signer: TokenSigner::from_env(&env, signing_key, clock.clone())?,
                clock: clock.clone(),
                ids: ids.clone(),
                region: aws::region(&env)?,
            },
            sealing_keys,
            public_keys: PublicKeys::from_env(&env)?,
            clock,
            ids,
        };
        http::serve("api-sessions", app, handler::handle).await
    })
}
