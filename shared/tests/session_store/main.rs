//! The session store: what every adapter promises, on DynamoDB and on Redis with DynamoDB behind
//! it, and what happens to the second one when Redis is paused, killed, emptied or cut off.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod conformance;
mod copies;
mod outages;
mod stage;
