//! Who is calling: accounts and sessions on the embedded DynamoDB, tokens, and the key that signs them.

#![expect(clippy::unwrap_used, reason = "a test stops where its stage cannot be set")]

mod hashes;
mod sessions;
mod signing_key;
mod store;
mod throttle;
mod tokens;
mod users;

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/token_keys.rs"]
mod token_keys;
