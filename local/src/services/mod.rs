//! The AWS services that the region's functions call, in this process: DynamoDB, S3, SQS and Secrets Manager.
//!
//! The AWS SDK in the functions is the real one and is pointed here by `AWS_ENDPOINT_URL_*`; so each service is an HTTP
//! endpoint on 127.0.0.1 that speaks the service's own protocol. Every request goes the same way:
//!
//! 1. [`access`] tells who calls by the access key, and holds the call against the function's policy of template.yaml.
//! 2. [`faults`] may fail, delay, hold or cut it off: before the effect, or after it.
//! 3. The service does its work.
//! 4. [`usage`] counts it, if somebody measures.
//!
//! Not here: topics and event buses.

pub mod access;
pub mod control;
pub mod dynamodb;
pub mod faults;
mod json;
pub mod s3;
pub mod secrets;
mod server;
pub mod sqs;
pub mod usage;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use server::{Hangup, StartError};

use access::{Access, Caller};
use faults::Faults;
use usage::Usage;

/// The services that faults and usage tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Tables and their streams.
    DynamoDb,
    /// Buckets.
    S3,
    /// Queues.
    Sqs,
    /// Secrets Manager.
    Secrets,
    /// The WebSocket API's `@connections`.
    Connections,
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DynamoDb => "dynamodb",
            Self::S3 => "s3",
            Self::Sqs => "sqs",
            Self::Secrets => "secrets",
            Self::Connections => "connections",
        })
    }
}

/// One request, as faults match it and usage counts it.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// Which service is asked.
    pub service: Service,
    /// The API's name of the operation: `TransactWriteItems`, `PutObject`, `SendMessage`, `GetSecretValue`,
    /// `PostToConnection`.
    pub operation: &'a str,
    /// What it is about: table names, `bucket/key`, a queue's or a secret's name, a connection id.
    pub resources: &'a [String],
}

/// What every service asks before and after it acts. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Controls {
    /// Who may do what.
    pub access: Arc<Access>,
    /// What goes wrong on purpose.
    pub faults: Arc<Faults>,
    /// What was asked.
    pub usage: Arc<Usage>,
}

impl Controls {
    /// No faults and no measurement yet.
    pub fn new(access: Access) -> Self {
        Self { access: Arc::new(access), faults: Arc::default(), usage: Arc::default() }
    }
}
