//! The streams of products and orders: invalidates the region's cache.

use std::process::ExitCode;

use sojourn::commerce::invalidation::Invalidator;
use sojourn::core::clock;
use sojourn::edge::{boot, stream};
use sojourn::platform::cache::Cache;

const FUNCTION: &str = "cache-invalidator";

fn main() -> ExitCode {
    boot::run(FUNCTION, |env| async move {
        let invalidator = Invalidator::new(Cache::from_env(&env, clock::system())?);
        stream::serve(FUNCTION, invalidator, |invalidator, changes, deadline| async move {
            invalidator.process(&changes, deadline).await
        })
        .await
    })
}
