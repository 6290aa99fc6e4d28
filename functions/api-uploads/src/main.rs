//! Uploads: create, complete, list, delete. Clients send files to the bucket directly.

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
    boot::run("api-uploads", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let app = App::from_env(aws_sdk_dynamodb::Client::new(&sdk), &sdk, &env, clock::system())?;
        http::serve("api-uploads", app, handler::handle).await
    })
}
