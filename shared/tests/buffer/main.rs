//! The write-behind buffer: what every adapter promises, and what is special about each: Redis that
//! dies, is full or may evict, and SQS that takes a part only.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod conformance;
mod kafka;
mod redis;
mod sqs;
mod stage;
