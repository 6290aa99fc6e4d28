//! Locks, slots and the scheduled jobs, on the embedded services, by the real SDK.

#![expect(clippy::unwrap_used, reason = "a test stops where its stage breaks")]

mod cleanup;
mod lock;
mod reports;
mod upload_cleanup;

use sojourn::core::env::Env;
use sojourn::platform::tables;
use sojourn_testing::{BUCKET, Store};

/// What the functions are given: the store's tables, a bucket, a region.
fn env_of(store: &Store) -> Env {
    env_with(store, [])
}

/// The same, and settings.
fn env_with(store: &Store, settings: impl IntoIterator<Item = (&'static str, String)>) -> Env {
    let names = tables::ALL.iter().map(|table| (table.variable.to_owned(), table.name(&store.env).unwrap()));
    let place = [
        ("AWS_REGION", "local".to_owned()),
        ("STAGE", "local".to_owned()),
        ("PAYMENT_PROVIDER", "sandbox".to_owned()),
        ("FILES_BUCKET", BUCKET.to_owned()),
    ];
    Env::of(names.chain(place.into_iter().chain(settings).map(|(name, value)| (name.to_owned(), value))))
}
