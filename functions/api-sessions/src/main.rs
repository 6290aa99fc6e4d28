//! Accounts, sessions and the public keys: the only function that signs access tokens and decrypts
//! the payloads of sessions.
//!
//! It reads its keys from Secrets Manager and does not start without them, or if `TOKEN_JWKS` lacks
//! the signing key, since other functions could not verify its tokens. The sealing keys are read
//! again when an unknown one is met.

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
