//! The schedule `region-watch`: records that the region works, and watches the other regions.

use std::process::ExitCode;

use sojourn::coordination::regions::Regions;
use sojourn::core::clock;
use sojourn::edge::boot;
use sojourn::edge::schedule;
use sojourn::platform::aws;

mod handler;

const FUNCTION: &str = "job-region-watch";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let sdk = aws::sdk_config(&env).await?;
        let app = handler::App { regions: Regions::from_env(&sdk, &env, clock::system())? };
        schedule::serve(FUNCTION, app, handler::handle).await
    })
}
