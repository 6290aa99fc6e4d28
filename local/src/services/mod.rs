//! The AWS services that the region's functions call, in this process: DynamoDB, S3, SQS, SNS,
//! `EventBridge` and Secrets Manager.
//!
//! The AWS SDK in the functions is the real one and is pointed here by `AWS_ENDPOINT_URL_*`; each
//! service is an HTTP endpoint on 127.0.0.1 that speaks the service's own protocol. Every request
//! takes the same path, `pipeline`: who calls ([`access`]), whether its policy allows it, whether a
//! fault rule hits it ([`faults`]), then the service's work; at the end it is counted ([`usage`]).
//! Lambda's Invoke API (`functions`) and `@connections` (`gateway`) take the same path.
//!
//! SNS and `EventBridge` share [`delivery`]; [`trail`] lists their events and messages.

pub mod access;
mod call;
pub mod control;
mod cross_region;
pub mod delivery;
pub mod dynamodb;
pub mod events;
pub mod faults;
mod json;
pub mod network;
pub(crate) mod pipeline;
pub mod s3;
pub mod secrets;
mod server;
pub mod sns;
pub(crate) mod sqlite;
pub mod sqs;
pub(crate) mod switch;
pub mod trail;
pub mod usage;

pub use call::{Call, Hangup, Service};
pub use pipeline::Controls;
pub use server::StartError;
pub use switch::Switch;
