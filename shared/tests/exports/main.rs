//! Exports on an embedded DynamoDB and an embedded S3, by the real SDK.

#![expect(clippy::unwrap_used, reason = "a test stops where its stage breaks")]

mod crashes;
mod parts;
mod results;
mod sends;
mod slots;
mod stage;
mod zombies;
