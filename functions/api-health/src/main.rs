//! `GET /health`: this function answers, so the region's front, Lambda and the deployed package do.
//!
//! Liveness only. It asks no table and no other service: a region whose database has a bad minute must not be taken
//! out of the DNS for it, and a health check that costs nothing can be called as often as anybody likes.

use std::process::ExitCode;

use sojourn::edge::boot;
use sojourn::edge::http;
use sojourn::platform::aws;

mod handler;

fn main() -> ExitCode {
    boot::run("api-health", |env| async move {
        let app = handler::App { region: aws::region(&env)? };
        http::serve("api-health", app, handler::handle).await
    })
}
