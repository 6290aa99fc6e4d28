//! `$connect`: verifies the access token and registers the connection, if its session is live and
//! its user may have one more socket.

use std::process::ExitCode;

use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::websocket;
use sojourn::identity::origins::AllowedOrigins;
use sojourn::identity::sessions::SessionStore;
use sojourn::identity::tokens::TokenVerifier;
use sojourn::platform::aws;
use sojourn::sockets::connections::{CallbackEndpoint, Registrar};

mod handler;

const NAME: &str = "ws-connect";

fn main() -> ExitCode {
    boot::run(NAME, |env| async move {
        let dynamo = aws_sdk_dynamodb::Client::new(&aws::sdk_config(&env).await?);
        let app = handler::App {
            origins: AllowedOrigins::from_env(&env)?,
            verifier: TokenVerifier::from_env(&env, clock::system())?,
            sessions: SessionStore::from_env(dynamo.clone(), &env, clock::system())?,
            registrar: Registrar::from_env(dynamo, &env, clock::system())?,
            region: aws::region(&env)?,
            endpoint: env.parse::<CallbackEndpoint>("WEBSOCKET_ENDPOINT")?,
            clock: clock::system(),
        };
        websocket::serve_lifecycle(NAME, app, handler::handle).await
    })
}
