//! Queues: work that outlives a request.
//!
//! A queue delivers at least once, in any order, until a message is done. So the work of a message
//! runs under a lock or on a condition, and a message only names a row that says what to do.
//!
//! - [`Queue`] sends. After success the message will be delivered; after a failure it may be.
//! - The edge (`edge::queue`) receives events of Lambda's event source mapping, and answers with
//!   the messages that failed. Lambda deletes the others. A failed message is delivered again after
//!   its visibility timeout. A message that failed too often goes to the dead-letter queue, where a
//!   function handles it.
//! - [`hold`](hold()) keeps a message hidden while its work runs, and not long after its worker has
//!   died.

use std::future::Future;
use std::time::Duration;

use aws_sdk_sqs::Client;
use jiff::Timestamp;

use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};

mod hold;

pub use hold::{HEARTBEAT, HELD, NotHidden, Visibility, hold};

/// One message of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    pub body: String,
    /// The queue's id of the message.
    pub message_id: String,
    /// The queue's id of this receive.
    pub receipt_handle: String,
    /// How often the message was received, including this time.
    pub receive_count: u32,
    /// The ARN of the queue.
    pub queue_arn: String,
    /// When it was sent. For a dead letter: when it was sent to the first queue.
    pub sent_at: Timestamp,
    /// When the work must be done.
    pub deadline: Deadline,
}

/// A message was not sent, or that is unknown. 503: a retry of the request sends it again.
#[derive(Debug, thiserror::Error)]
#[error("a message was not sent to {queue}")]
pub struct NotSent {
    pub queue: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Sends messages.
pub trait Queue: Send + Sync {
    /// Sends a message of at most 1 MiB of text.
    fn send(&self, body: &str) -> impl Future<Output = Result<(), NotSent>> + Send {
        self.send_later(body, Duration::ZERO)
    }

    /// Sends a message that is delivered after a delay of whole seconds, at most 900.
    fn send_later(&self, body: &str, delay: Duration) -> impl Future<Output = Result<(), NotSent>> + Send;
}

/// [`Queue`] and [`Visibility`] over one SQS queue. Calls `SendMessage` and
/// `ChangeMessageVisibility`.
#[derive(Debug, Clone)]
pub struct SqsQueue {
    client: Client,
    url: String,
}

impl SqsQueue {
    /// The queue whose URL `variable` holds.
    pub fn from_env(client: Client, env: &Env, variable: &'static str) -> Result<Self, ConfigError> {
        Ok(Self { client, url: env.required(variable)?.to_owned() })
    }
}

impl Queue for SqsQueue {
    /// The SDK retries after a lost answer, so the message may be sent twice.
    async fn send_later(&self, body: &str, delay: Duration) -> Result<(), NotSent> {
        let request =
            self.client.send_message().queue_url(&self.url).message_body(body).delay_seconds(seconds(delay));
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(NotSent { queue: self.url.clone(), source: Box::new(error) }),
        }
    }
}

impl Visibility for SqsQueue {
    async fn hide(&self, receipt_handle: &str, timeout: Duration) -> Result<(), NotHidden> {
        let request = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt_handle)
            .visibility_timeout(seconds(timeout));
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(NotHidden { queue: self.url.clone(), source: Box::new(error) }),
        }
    }
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}
