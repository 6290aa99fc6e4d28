//! `$connect`: verifies the access token and registers the connection, if its session stands.

use std::process::ExitCode;

use sojourn::connections::{CallbackEndpoint, DynamoConnections};
use sojourn::origins::AllowedOrigins;
use sojourn::sessions::SessionStore;
use sojourn::tokens::TokenVerifier;
use sojourn::{aws, boot, clock, websocket};

mod handler;

const NAME: &str = "ws-connect";

fn main() -> ExitCode {
    boot::run(NAME, |env| async move {
        let dynamo = aws_sdk_dynamodb::Client::new(&aws::sdk_config(&env).await?);
        let app = handler::App {
            origins: AllowedOrigins::from_env(&env)?,
            verifier: TokenVerifier::from_env(&env, clock::system())?,
            sessions: SessionStore::from_env(dynamo.clone(), &env, clock::system())?,
            connections: DynamoConnections::from_env(dynamo, &env, clock::system())?,
            region: aws::region(&env)?,
            endpoint: env.parse::<CallbackEndpoint>("WEBSOCKET_ENDPOINT")?,
            clock: clock::system(),
        };
        websocket::serve_lifecycle(NAME, app, handler::handle).await
    })
}
