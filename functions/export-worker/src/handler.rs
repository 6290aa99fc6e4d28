//! Messages to work: from the queue, to be done; from its dead-letter queue, to be given up.

use std::sync::Arc;

use sojourn::connections::DynamoConnections;
use sojourn::delivery::ApiGateway;
use sojourn::exports::dynamo::{DynamoCustomerOrders, DynamoRows};
use sojourn::exports::{ExportMessage, S3Results, SocketNotice, WorkError, Worker};
use sojourn::queue::{Delivered, MessageError, SqsQueue};

/// The worker on AWS.
pub(crate) type AwsWorker = Worker<
    DynamoRows,
    DynamoCustomerOrders,
    S3Results,
    SocketNotice<DynamoConnections, ApiGateway>,
    SqsQueue,
>;

/// What the function works with.
pub(crate) struct App {
    pub(crate) worker: AwsWorker,
    pub(crate) dead_letter_queue_arn: String,
}

/// Why a message failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It names no export, and never will. It waits in the dead-letter queue for somebody to look at it.
    #[error("the message is not {{\"exportId\": \"exp_…\"}}")]
    Message(#[source] serde_json::Error),
    /// The work did not end.
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl MessageError for Failure {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Message(_) => "invalid-message",
            Self::Work(error) => error.error_type(),
        }
    }
}

/// Does what a message asks for.
pub(crate) async fn handle(app: Arc<App>, delivered: Delivered) -> Result<(), Failure> {
    let message: ExportMessage = serde_json::from_str(&delivered.body).map_err(Failure::Message)?;
    if delivered.queue_arn == app.dead_letter_queue_arn {
        app.worker.give_up(&message, delivered.deadline).await?;
    } else {
        app.worker.take(&message, delivered.deadline).await?;
    }
    Ok(())
}
