//! Activity: puts events into the write-behind buffer, and returns the counts of a product.

use std::process::ExitCode;

use app::App;
use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::http;
use sojourn::platform::aws;

mod app;
mod handler;

fn main() -> ExitCode {
    boot::run("api-activity", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let app = App::from_env(&sdk, &env, clock::system())?;
        http::serve("api-activity", app, handler::handle).await
    })
}
