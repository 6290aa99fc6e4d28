//! Orders: place, pay, cancel, read. Every write is idempotent.

use std::process::ExitCode;

use app::App;
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::core::clock;
use sojourn::core::ids;
use sojourn::edge::boot;
use sojourn::edge::http;
use sojourn::platform::aws;

mod app;
mod handler;
#[cfg(test)]
mod tests;

fn main() -> ExitCode {
    boot::run("api-orders", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
        let provider = SandboxProvider::from_env(&sdk, &env, ids::random())?;
        let app = App::from_env(dynamodb, provider, &env, clock::system())?;
        http::serve("api-orders", app, handler::handle).await
    })
}
