//! A message of the queue.

use std::sync::Arc;

use sojourn::core::error_type::ErrorType;
use sojourn::platform::queue::Delivered;
use sojourn::sockets::delivery::{ConsumeError, TopicConsumer, TopicMessage};

/// Why a message failed. After several failures the queue moves it to its dead-letter queue.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It is not a message of our topics.
    #[error("this is not a message for sockets")]
    Message(#[from] serde_json::Error),
    /// It was not delivered.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
}

impl ErrorType for Failure {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Message(_) => "invalid-message",
            Self::Consume(error) => error.error_type(),
        }
    }
}

/// Delivers the message.
pub(crate) async fn handle(consumer: Arc<TopicConsumer>, delivered: Delivered) -> Result<(), Failure> {
    let message: TopicMessage = serde_json::from_str(&delivered.body)?;
    Ok(consumer.take(message, delivered.deadline).await?)
}
