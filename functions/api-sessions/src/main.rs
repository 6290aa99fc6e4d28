//! Accounts, sessions and the public keys: the one function that can sign access tokens.
//!
//! It starts only when it can do its work: the signing key is read from Secrets Manager once, and must be one that
//! `TOKEN_JWKS` lets the other functions verify.

use std::process::ExitCode;

use app::App;
use sojourn::delivery::ApiGateway;
use sojourn::tokens::secrets_manager;
use sojourn::{aws, boot, clock, http};

mod account;
mod app;
mod handler;
mod sessions;
mod sign_in;

fn main() -> ExitCode {
    boot::run("api-sessions", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let signing_key =
            secrets_manager::signing_key(&aws_sdk_secretsmanager::Client::new(&sdk), &env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let app = App::from_env(&dynamodb, ApiGateway::new(sdk), &env, signing_key, clock::system())?;
        http::serve("api-sessions", app, handler::handle).await
    })
}
