//! The region's services, asked by the real AWS SDK.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage stops there")]

mod access;
mod dynamodb;
mod dynamodb_limits;
mod faults;
mod s3;
mod secrets;
mod sqs;
mod streams;
mod support;
mod usage;
