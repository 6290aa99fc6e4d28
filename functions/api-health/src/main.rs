//! `GET /health`: an answer proves that API Gateway, Lambda and the deployed package of this region
//! work.
//!
//! It calls no service of its own region: a short outage of the database must not take the region
//! out of the DNS. With several regions it asks the agreement table every few seconds whether the
//! region is evacuated. If the table does not answer, the last known state holds.

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
