//! The inbox: reads and deletes messages that no socket of their user took.

use std::process::ExitCode;

use handler::App;
use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::http::{self, Authenticator};
use sojourn::platform::aws;
use sojourn::sockets::inbox::Inbox;

mod handler;

fn main() -> ExitCode {
    boot::run("api-inbox", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let app = App {
            authenticator: Authenticator::from_env(dynamodb.clone(), &env, clock::system())?,
            inbox: Inbox::from_env(dynamodb, &env, clock::system())?,
        };
        http::serve("api-inbox", app, handler::handle).await
    })
}
