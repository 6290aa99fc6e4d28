//! The AWS services that the region's functions call, in this process: DynamoDB, S3 and Secrets Manager.
//!
//! The AWS SDK in the functions is the real one and is pointed here by `AWS_ENDPOINT_URL_*`; so each service here is
//! an HTTP endpoint on 127.0.0.1 that speaks the service's own protocol.

pub mod dynamodb;
mod server;

pub use server::StartError;
