//! From a request to a message in the queue.
//!
//! 1. Run the request under its key: the first one writes the export, every later one finds its answer.
//! 2. Send the export's id to the queue. A later one does so too if the export is still `QUEUED`, since nobody knows whether the
//!    first one came to that; but only one of them within [`SEND_EVERY`](super::dynamo::SEND_EVERY) ([`DynamoSends`]). When a
//!    worker has begun, or the row is gone, there is nothing to send.
//!    An export of another region is left to that region.
//! 3. Give the answer. An export that was acknowledged is in the queue.

use super::ExportMessage;
use super::dynamo::{DynamoSends, SendClaim};
use crate::coordination::idempotency::REPLAYED;
use crate::core::reply::Reply;
use crate::platform::dynamo::DynamoError;
use crate::platform::queue::{NotSent, Queue};

/// Why an export was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The table did not tell whether to send.
    #[error(transparent)]
    Table(#[from] DynamoError),
    /// The export is there, and nobody knows whether a worker will come. The same request makes sure of it.
    #[error(transparent)]
    NotSent(#[from] NotSent),
    /// Another repetition may be sending just now. The same request finds out.
    #[error("another request may be sending the message")]
    BeingSent,
    /// The export was asked for in another region, and nobody knows whether a worker will come there. 503: when a worker has begun, the
    /// same request is answered here, too. Another request, with another key, asks for an export of this region.
    #[error("the export was asked for in the region {region}, which has not begun it")]
    Elsewhere { region: String },
}

/// Has a worker come to the export that `reply` acknowledges, and gives the reply.
pub async fn submit(reply: Reply, queue: &impl Queue, sends: &DynamoSends) -> Result<Reply, SubmitError> {
    // A refusal that is given again names no export.
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

/// The region that works on the export of an answer. Answers that were stored before exports had a region name none.
fn region_of(reply: &Reply) -> Option<&str> {
    reply.body.as_ref()?.get("region")?.as_str()
}

fn message_of(reply: &Reply) -> Option<ExportMessage> {
    let export_id = reply.body.as_ref()?.get("exportId")?.as_str()?.parse().ok()?;
    Some(ExportMessage { export_id })
}
