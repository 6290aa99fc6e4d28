//! Catalogue, orders, payments and the keys that make them idempotent, on the embedded DynamoDB:
//! races are real tasks against a real server, failures are injected into real requests.

#![expect(clippy::unwrap_used, reason = "a test stops where its stage breaks")]

mod activity;
mod cart_regions;
mod carts;
mod catalog;
mod expiry;
mod idempotency;
mod orders;
mod payments;
mod regions;
mod shop;
mod summary;
mod unpaid;
