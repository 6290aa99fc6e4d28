//! One request to a service, as fault rules match it and usage counts it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::access::Caller;

/// The services that faults and usage tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Tables and their streams.
    DynamoDb,
    S3,
    Sqs,
    Sns,
    EventBridge,
    Secrets,
    Lambda,
    /// The WebSocket API's `@connections`.
    Connections,
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DynamoDb => "dynamodb",
            Self::S3 => "s3",
            Self::Sqs => "sqs",
            Self::Sns => "sns",
            Self::EventBridge => "eventbridge",
            Self::Secrets => "secrets",
            Self::Lambda => "lambda",
            Self::Connections => "connections",
        })
    }
}

/// One request whose caller, operation and resources are known.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller.
    pub caller: Caller,
    /// Which service is asked.
    pub service: Service,
    /// The API's name of the operation: `TransactWriteItems`, `PutObject`, `SendMessage`,
    /// `GetSecretValue`, `Invoke`, `PostToConnection`.
    pub operation: String,
    /// What it is about: table names, `bucket/key`, a queue's, a topic's, a bus's, a secret's or a
    /// function's name, a connection id.
    pub resources: Vec<String>,
}

/// The connection is to be closed without an answer.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection was closed without an answer")]
pub struct Hangup;
