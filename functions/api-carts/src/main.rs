//! Carts: read, replace, delete. One per customer, the same on every device.

use std::process::ExitCode;

use app::App;
use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::http;
use sojourn::platform::aws;

mod app;
mod handler;
#[cfg(test)]
mod tests;

fn main() -> ExitCode {
    boot::run("api-carts", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let app = App::from_env(aws_sdk_dynamodb::Client::new(&sdk), &env, clock::system())?;
        http::serve("api-carts", app, handler::handle).await
    })
}
