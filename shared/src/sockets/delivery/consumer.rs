//! Consumes the messages of the region's queue: delivery to this region's sockets.
//!
//! 1. A message is claimed by its sender and its id ([`crate::coordination::idempotency`], the
//!    external form), because SNS and SQS deliver at least once. A message that was delivered
//!    before is done.
//! 2. It is delivered like any message ([`FanOut`]). If no socket took it, a message of this region
//!    to one user is stored; a message of another region is stored there.
//! 3. The claim is completed. After a failure it is released, and the queue delivers the message
//!    again.
//! 4. A revocation needs no claim: closing closed sockets changes nothing.
//!
//! A consumer that dies between delivery and completion leaves a claim that lapses. The message is
//! then delivered again, under the message id that its receivers have seen.

use serde_json::json;

use super::{FanOut, Message, SendError, SocketCloser, Task, TopicMessage};
use crate::coordination::idempotency::dynamo::DynamoClaims;
use crate::coordination::idempotency::{
    Fingerprint, IdempotencyCheck, IdempotencyKey, KeyedRequest, RequestScope,
};
use crate::core::deadline::Deadline;
use crate::core::error_type::ErrorType;
use crate::core::reply::Reply;
use crate::platform::dynamo::DynamoError;
use crate::sockets::connections::Audience;

/// The operation that messages are claimed for.
const OPERATION: &str = "deliver";

/// Why a message was not processed. The queue delivers it again.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// It could not be claimed.
    #[error("a message was not claimed")]
    Claim(#[from] DynamoError),
    /// Another invocation is delivering it, or died while delivering it.
    #[error("another invocation is delivering the message")]
    InProgress,
    /// A broadcast without a sender, which nothing publishes.
    #[error("the message has neither a sender nor a receiver")]
    Nobody,
    #[error("a message was not delivered")]
    Delivery(#[from] SendError),
    /// Not all sockets of a revoked session were reached.
    #[error("not all sockets of the user were reached")]
    NotClosed,
}

impl ErrorType for ConsumeError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Claim(_) => "store-failed",
            Self::InProgress => "message-in-progress",
            Self::Nobody => "invalid-message",
            Self::Delivery(_) => "delivery-failed",
            Self::NotClosed => "sockets-not-closed",
        }
    }
}

/// Processes the messages of the region's queue.
#[derive(Debug)]
pub struct TopicConsumer {
    /// Records which messages were delivered.
    pub claims: DynamoClaims,
    pub fan_out: FanOut,
    pub closer: SocketCloser,
    pub region: String,
}

impl TopicConsumer {
    /// Processes the message, once.
    pub async fn take(&self, message: TopicMessage, deadline: Deadline) -> Result<(), ConsumeError> {
        let TopicMessage { region, task } = message;
        match task {
            Task::Deliver { message, to } => self.deliver(&region, message, to, deadline).await,
            Task::Close { revoked, at } => {
                let closed = self.closer.close_as_of(at, &revoked.user_id, &revoked.ended(), deadline).await;
                // A socket that failed to close is not retried: its row is removed, or it is closed
                // at its next frame.
                if closed.is_cut_short { Err(ConsumeError::NotClosed) } else { Ok(()) }
            }
        }
    }

    async fn deliver(
        &self,
        region: &str,
        message: Message,
        to: Audience,
        deadline: Deadline,
    ) -> Result<(), ConsumeError> {
        let request = keyed(&message, &to)?;
        let claim = match self.claims.claim(request, deadline.remaining()).await? {
            IdempotencyCheck::Start(claim) => claim,
            IdempotencyCheck::InProgress { .. } => return Err(ConsumeError::InProgress),
            IdempotencyCheck::Replay(_) | IdempotencyCheck::Mismatch => {
                tracing::info!(message_id = message.message_id.as_str(), region, "delivered before");
                return Ok(());
            }
        };
        let sent = if region == self.region {
            self.fan_out.send(message, to, deadline).await
        } else {
            self.fan_out.send_copy(message, to, deadline).await
        };
        let done = sent.is_ok().then(|| Reply::empty(204));
        self.claims.settle(&claim, done.as_ref()).await;
        sent?;
        Ok(())
    }
}

/// The scope of a message: its sender and its id, or for a message of the service its receiver and
/// its id.
fn keyed(message: &Message, to: &Audience) -> Result<KeyedRequest, ConsumeError> {
    let receiver = match to {
        Audience::User(user) => Some(user),
        Audience::Everyone => None,
    };
    let party = message.from.as_ref().or(receiver).ok_or(ConsumeError::Nobody)?;
    let target = || format!("message {}", message.message_id);
    let key: Result<IdempotencyKey, _> = message.message_id.as_str().parse();
    let key = key.map_err(|error| DynamoError::unreadable("PutItem", target(), error))?;
    let payload = json!({ "to": to, "type": message.kind, "body": message.body });
    Ok(KeyedRequest {
        scope: RequestScope::new(OPERATION, party, key),
        fingerprint: Fingerprint::of(&payload),
    })
}
