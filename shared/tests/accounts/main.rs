//! Who is calling: accounts and sessions on the embedded DynamoDB, tokens, and the keys of both.

#![expect(clippy::unwrap_used, reason = "a test stops where its stage cannot be set")]

mod hashes;
mod preferences;
mod region_schedules;
mod regions;
mod renewal;
mod revocation;
mod secrets;
mod sessions;
mod stage;
mod store;
mod throttle;
mod tokens;
mod users;
