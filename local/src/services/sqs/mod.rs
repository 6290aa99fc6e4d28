//! SQS on this machine: the template's queues, behind the service's JSON protocol.
//!
//! 1. A queue exists when the template has it, with its visibility timeout, delay, retention,
//!    message size and redrive policy. Its URL is where this endpoint is, so that it works for
//!    every client.
//! 2. What was sent is kept before the answer leaves: with a data folder in a file there, which a
//!    `kill -9` does not undo (see [`Queues::send`]).
//! 3. A receive hides a message for the visibility timeout and gives a new receipt handle. The
//!    handle deletes the message, also after the timeout, until somebody else has received it: from
//!    then on it deletes nothing. While the message is hidden the handle changes how long it stays
//!    hidden: 12 hours from the receive at most.
//! 4. A message that was received `maxReceiveCount` times goes to the dead-letter queue instead of
//!    being received once more. It keeps its id, its age and its count of receives.
//! 5. Messages come in the order in which they became visible, each at least once.
//!
//! Served: `SendMessage`, `DeleteMessage`, `ChangeMessageVisibility` and their batches,
//! `ReceiveMessage` (waiting too), `GetQueueUrl`, `GetQueueAttributes`, `PurgeQueue`. Functions
//! read queues by [`event_sources`](crate::event_sources), which asks [`Queues`] itself: fault
//! rules and usage do not see this, like Lambda's own calls on AWS.
//!
//! Limits: standard queues only, no encryption (`SqsManagedSseEnabled` is passed over); a sender's
//! `AWSTraceHeader` is not delivered.

mod endpoint;
mod message;
mod operations;
mod queues;
mod receipt;
mod refusal;
mod request;
mod store;

use std::net::TcpListener;
use std::sync::Arc;

pub use message::{
    Message, MessageAttribute, MessageAttributes, MessageError, attributes_digest, body_digest,
};
pub use queues::{MAX_IN_FLIGHT, Outgoing, Overview, QueueError, Queues, Watch};
pub use store::{Counts, Received, Take};

use super::json::{Endpoint, Protocol};
use super::pipeline::Controls;
use super::server::{Server, StartError};
use endpoint::{MAX_BODY_BYTES, SqsApi};

/// A running SQS. Stops when dropped.
#[derive(Debug)]
pub struct Sqs {
    server: Server,
}

impl Sqs {
    /// Serves the queues on `listener`, which is bound before: the queues' URLs are in the
    /// template.
    pub fn start(listener: TcpListener, queues: Arc<Queues>, controls: Controls) -> Result<Self, StartError> {
        let address =
            listener.local_addr().map_err(|source| StartError::Thread { service: "SQS", source })?;
        let api = SqsApi { queues, url: format!("http://{address}") };
        let switch = controls.switch.clone();
        let endpoint = Endpoint { api, protocol: Protocol::Json10, max_body_bytes: MAX_BODY_BYTES, controls };
        Ok(Self { server: Server::on("SQS", listener, endpoint, switch)? })
    }

    /// What `AWS_ENDPOINT_URL_SQS` is set to.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}
