//! Queues: work that outlives a request.
//!
//! A queue delivers at least once, in any order, and again until it is told that a message is done. So what a message asks
//! for is done under a lock or on a condition, and a message says *what* to look after, never what to do about it: the
//! rows know that.
//!
//! - [`Queue`] sends. When it says that it did, the message will come; when it fails, it may come or not.
//! - The edge (`edge::queue`) receives: events of Lambda's event source mapping in, the messages that failed out. What is not named as
//!   failed is deleted, what is named comes again when its visibility timeout has passed. A message that failed too often
//!   goes to the dead-letter queue, and somebody has to look after it there.
//! - [`hold`](hold()) keeps a message hidden while it is worked on, and not for long after its worker has died.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::deadline::Deadline;

mod hold;
mod sqs;

pub use hold::{HEARTBEAT, HELD, NotHidden, Visibility, hold};
pub use sqs::SqsQueue;

/// One message of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// What was sent.
    pub body: String,
    /// The queue's id of it.
    pub message_id: String,
    /// By which the queue knows this receive.
    pub receipt_handle: String,
    /// How often it was received, this time included.
    pub receive_count: u32,
    /// The ARN of the queue that it came from.
    pub queue_arn: String,
    /// When it was sent; for one from a dead-letter queue: to the queue before that.
    pub sent_at: Timestamp,
    /// When it must be done.
    pub deadline: Deadline,
}

/// A message was not sent, or nobody knows. 503: the same request sends it again.
#[derive(Debug, thiserror::Error)]
#[error("a message was not sent to {queue}")]
pub struct NotSent {
    /// The queue.
    pub queue: String,
    /// The cause.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Sends messages.
pub trait Queue: Send + Sync {
    /// Sends one, of at most 1 MiB of text.
    fn send(&self, body: &str) -> impl Future<Output = Result<(), NotSent>> + Send {
        self.send_later(body, Duration::ZERO)
    }

    /// Sends one that comes when so many whole seconds have passed: 900 at most.
    fn send_later(&self, body: &str, delay: Duration) -> impl Future<Output = Result<(), NotSent>> + Send;
}
