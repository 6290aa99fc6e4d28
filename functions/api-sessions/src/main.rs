//! Accounts, sessions and the public keys: the one function that can sign access tokens, and open what a session keeps for
//! its user.
//!
//! It starts only when it can do its work: its keys are read from Secrets Manager, and the signing key must be one that
//! `TOKEN_JWKS` lets the other functions verify. The sealing keys are read again when a new one is met.

use std::process::ExitCode;

use app::{App, Keys};
use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::http;
use sojourn::platform::aws;

mod account;
mod app;
mod handler;
mod preferences;
mod sessions;
mod sign_in;

fn main() -> ExitCode {
    boot::run("api-sessions", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let keys = Keys::read(&aws_sdk_secretsmanager::Client::new(&sdk), &env).await?;
        let app = App::from_env(&dynamodb, &sdk, &env, keys, clock::system())?;
        http::serve("api-sessions", app, handler::handle).await
    })
}
