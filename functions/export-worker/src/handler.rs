//! Messages of the queue run exports; messages of its dead-letter queue end them as failed.

use std::sync::Arc;

use sojourn::core::error_type::ErrorType;
use sojourn::files::exports::{ExportMessage, WorkError, Worker};
use sojourn::platform::queue::{Delivered, SqsQueue, hold};
use sojourn::platform::telemetry::{Metric, count_case};

/// The `error_type` of a dead letter that was dropped because it names no export.
const DROPPED: &str = "invalid-message-dropped";

/// What the function works with.
pub(crate) struct App {
    pub(crate) worker: Worker,
    pub(crate) queue: SqsQueue,
    pub(crate) dead_letter_queue: SqsQueue,
    pub(crate) dead_letter_queue_arn: String,
}

/// Why a message failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It names no export. The queue delivers it as often as any other; then the dead-letter queue
    /// delivers it once more, and it is logged and dropped.
    #[error("the message is not {{\"exportId\": \"exp_…\"}}")]
    Message(#[source] serde_json::Error),
    /// The run failed.
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl ErrorType for Failure {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Message(_) => "invalid-message",
            Self::Work(error) => error.error_type(),
        }
    }
}

/// Processes a message.
pub(crate) async fn handle(app: Arc<App>, delivered: Delivered) -> Result<(), Failure> {
    let is_dead = delivered.queue_arn == app.dead_letter_queue_arn;
    let message: ExportMessage = match serde_json::from_str(&delivered.body) {
        Ok(message) => message,
        // There is no export to fail, and a retry would not help.
        Err(_) if is_dead => {
            count_case(Metric::Errors, DROPPED, 1);
            let Delivered { message_id, body, .. } = delivered;
            tracing::error!(
                message_id,
                bytes = body.len(),
                error_type = DROPPED,
                "a message names no export"
            );
            return Ok(());
        }
        Err(error) => return Err(Failure::Message(error)),
    };
    if is_dead {
        let work = app.worker.give_up(&message, delivered.sent_at, delivered.deadline);
        Box::pin(hold(&app.dead_letter_queue, &delivered, work)).await?;
    } else {
        hold(&app.queue, &delivered, app.worker.take(&message, delivered.deadline)).await?;
    }
    Ok(())
}
