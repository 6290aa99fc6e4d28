//! `$disconnect`: removes the connection that ended, and no other.

use std::process::ExitCode;

use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::websocket;
use sojourn::platform::aws;
use sojourn::sockets::connections::DynamoConnections;

mod handler;

const NAME: &str = "ws-disconnect";

fn main() -> ExitCode {
    boot::run(NAME, |env| async move {
        let dynamo = aws_sdk_dynamodb::Client::new(&aws::sdk_config(&env).await?);
        let connections = DynamoConnections::from_env(dynamo, &env, clock::system())?;
        websocket::serve_lifecycle(NAME, connections, handler::handle).await
    })
}
