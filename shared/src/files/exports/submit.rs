//! From a request to a queue message.
//!
//! 1. Run the request with its idempotency key: the first one writes the export, later ones find
//!    its answer.
//! 2. Send the export's id to the queue. A later request does so too if the export is still
//!    `QUEUED`, since the first one may have died before; but only one within
//!    [`SEND_EVERY`](super::dynamo::SEND_EVERY) ([`DynamoSends`]). If a worker has started, or the
//!    row is gone, nothing is sent. An export of another region is left to that region.
//! 3. Return the answer. An acknowledged export is in the queue.

use super::ExportMessage;
use super::dynamo::{DynamoSends, SendClaim};
use crate::coordination::idempotency::REPLAYED;
use crate::core::reply::Reply;
use crate::platform::dynamo::DynamoError;
use crate::platform::queue::{NotSent, Queue};

/// Why an export was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It is unknown whether a message has to be sent: the table failed.
    #[error(transparent)]
    Table(#[from] DynamoError),
    /// The export exists, but its message may not. The same request retries.
    #[error(transparent)]
    NotSent(#[from] NotSent),
    /// Another repetition may be sending at this moment. The same request checks again.
    #[error("another request may be sending the message")]
    BeingSent,
    /// The export was requested in another region, and it is unknown whether it has a message
    /// there. 503: once a worker has started, the same request is acknowledged here, too. A request
    /// with another key asks for an export of this region.
    #[error("the export was asked for in the region {region}, which has not begun it")]
    Elsewhere { region: String },
}

/// Makes sure that the export of `reply` has a message or a worker, and returns the reply.
pub async fn submit(reply: Reply, queue: &impl Queue, sends: &DynamoSends) -> Result<Reply, SubmitError> {
    // A replayed refusal names no export.
    if let Some(message) = message_of(&reply) {
        if !reply.headers.contains_key(REPLAYED) {
            queue.send(&message.body()).await?;
            return Ok(reply);
        }
        match sends.claim(&message.export_id, region_of(&reply)).await? {
            SendClaim::Claimed => {
                queue.send(&message.body()).await?;
                sends.sent(&message.export_id).await?;
            }
            SendClaim::NotNeeded => {}
            SendClaim::BeingSent => return Err(SubmitError::BeingSent),
            SendClaim::Elsewhere(region) => return Err(SubmitError::Elsewhere { region }),
        }
    }
    Ok(reply)
}

/// The region that works on the export of an answer. Answers from before exports had a region have
/// none.
fn region_of(reply: &Reply) -> Option<&str> {
    reply.body.as_ref()?.get("region")?.as_str()
}

fn message_of(reply: &Reply) -> Option<ExportMessage> {
    let export_id = reply.body.as_ref()?.get("exportId")?.as_str()?.parse().ok()?;
    Some(ExportMessage { export_id })
}
