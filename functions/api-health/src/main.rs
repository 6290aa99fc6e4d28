//! `GET /health`: this function answers, so the region's front, Lambda and the deployed package do.
//!
//! It asks no service of its own region: a region whose database has a bad minute must not be taken out of the DNS for it.
//! In several regions it asks the agreement table whether the region is evacuated, every few seconds. If the table does not
//! answer, what was known last holds.

use std::process::ExitCode;

use sojourn::coordination::regions::Regions;
use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::http;
use sojourn::platform::aws;

mod handler;

fn main() -> ExitCode {
    boot::run("api-health", |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let regions = Regions::from_env(&sdk, &env, clock::system())?;
        let app = handler::App::new(aws::region(&env)?, regions);
        http::serve("api-health", app, handler::handle).await
    })
}
