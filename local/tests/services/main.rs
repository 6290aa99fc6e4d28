//! The region's services, asked by the real AWS SDK.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage stops there")]

mod access;
mod dynamodb;
mod dynamodb_limits;
mod eventbridge;
mod faults;
mod messaging;
mod replication;
mod s3;
mod secrets;
mod sns;
mod sqs;
mod streams;
mod support;
mod usage;
