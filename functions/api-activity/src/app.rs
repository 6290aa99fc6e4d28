//! The adapters that the handler works with, built once.

use aws_config::SdkConfig;
use sojourn::commerce::activity::dynamo::DynamoActivity;
use sojourn::commerce::activity::writer::ActivityWriter;
use sojourn::core::clock::SharedClock;
use sojourn::core::env::{ConfigError, Env};
use sojourn::edge::http::Authenticator;
use sojourn::platform::buffer::{BufferKind, WriteBehindBuffer};
use sojourn::platform::queue::SqsQueue;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) activity: DynamoActivity,
    pub(crate) buffer: WriteBehindBuffer,
    /// If the buffer is in this process, only this process can store its events. Otherwise `None`.
    pub(crate) writer: Option<ActivityWriter<SqsQueue>>,
    pub(crate) clock: SharedClock,
}

impl App {
    /// Reads the whole configuration. Does not connect yet.
    pub(crate) fn from_env(sdk: &SdkConfig, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        let dynamodb = aws_sdk_dynamodb::Client::new(sdk);
        let sqs = aws_sdk_sqs::Client::new(sdk);
        let activity = DynamoActivity::from_env(dynamodb.clone(), env, clock.clone())?;
        let buffer = WriteBehindBuffer::from_env(sqs.clone(), env, clock.clone())?;
        let writer = match buffer.kind() {
            BufferKind::Memory => {
                let dead_letters = SqsQueue::from_env(sqs, env, "ACTIVITY_DEAD_LETTER_QUEUE_URL")?;
                Some(ActivityWriter::new(activity.clone(), dead_letters))
            }
            BufferKind::Redis | BufferKind::Sqs | BufferKind::Kafka => None,
        };
        Ok(Self {
            authenticator: Authenticator::from_env(dynamodb, env, clock.clone())?,
            activity,
            buffer,
            writer,
            clock,
        })
    }
}
