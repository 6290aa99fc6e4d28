//! Why a region does not start: one sentence for each reason.

use super::build::BuildError;
use super::code::CodeError;
use super::data::DataError;
use super::ports::PortError;
use super::ready::ReadyError;
use crate::event_sources::{CheckpointError, MappingError};
use crate::front_door;
use crate::gateway::http::HttpApiError;
use crate::gateway::websocket::SelectionError;
use crate::schedules::ScheduleError;
use crate::services::StartError;
use crate::services::dynamodb::DynamoDbError;
use crate::services::dynamodb::replication::ReplicationError;
use crate::services::s3::S3Error;
use crate::services::s3::replication as buckets;
use crate::services::secrets::{SecretError, SecretsError};
use crate::services::sqs::QueueError;
use crate::template::TemplateError;

/// Why a region does not start.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// A port is taken.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The data folder can't be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No region has a replica of a strongly consistent table.
    #[error("the table {table} has replicas in {} only, and none of these regions is to run; name one with --regions", replicas.join(" and "))]
    NobodyDecides {
        /// A strongly consistent table.
        table: String,
        /// AWS's names of its regions.
        replicas: Vec<String>,
    },
    /// The template is wrong.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The functions don't build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A function has no executable.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// What the caller does before the regions serve.
    #[error(transparent)]
    BeforeServing(Box<dyn std::error::Error + Send + Sync>),
    /// DynamoDB.
    #[error(transparent)]
    DynamoDb(#[from] DynamoDbError),
    /// S3.
    #[error(transparent)]
    S3(#[from] S3Error),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// A value of the template can't be put into its secret.
    #[error("a value can't be put into its secret: {0}")]
    Secret(#[from] SecretError),
    /// The queues.
    #[error(transparent)]
    Queues(#[from] QueueError),
    /// How far readers of streams have come.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointError),
    /// A function that may not read a queue or a stream.
    #[error("an event source can't be made: {0}")]
    Mapping(#[from] MappingError),
    #[error(transparent)]
    Sqs(#[from] StartError),
    #[error("the HTTP API can't be served: {0}")]
    Http(#[from] HttpApiError),
    #[error("the WebSocket API can't be served: {0}")]
    WebSocket(#[from] SelectionError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    #[error("the thread that replicates buckets can't start: {0}")]
    Buckets(#[source] std::io::Error),
    /// What is still to be copied between buckets.
    #[error(transparent)]
    Copies(#[from] buckets::Unreadable),
    /// The front door of several regions.
    #[error(transparent)]
    FrontDoor(#[from] front_door::StartError),
    #[error(transparent)]
    Ready(#[from] ReadyError),
}
