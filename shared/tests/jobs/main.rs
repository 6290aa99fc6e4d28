//! Locks, slots and the two scheduled jobs, on the embedded services, by the real SDK.

#![expect(clippy::unwrap_used, reason = "a test stops where its stage breaks")]

#[path = "../support/mod.rs"]
mod support;

mod cleanup;
mod lock;
mod reports;

use sojourn::env::Env;
use sojourn::tables;
use support::Store;

/// What the functions are given: the store's tables, a bucket, a region.
fn env_of(store: &Store) -> Env {
    let names = tables::ALL.iter().map(|table| (table.variable.to_owned(), table.name(&store.env).unwrap()));
    let rest = [("AWS_REGION", "local"), ("FILES_BUCKET", "filesbucket")];
    Env::of(names.chain(rest.map(|(name, value)| (name.to_owned(), value.to_owned()))))
}
