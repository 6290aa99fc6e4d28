//! SNS on this machine: the template's topics and subscriptions, behind the service's query
//! protocol.
//!
//! 1. `Publish` and `PublishBatch` check a message as SNS does, and answer with its id.
//! 2. Each subscription of the topic whose filter policy matches gets the message: a queue as it
//!    was published (raw) or in SNS's envelope, a function as a Lambda event. How deliveries fail
//!    and are tried again: `services/delivery.rs`.
//! 3. A subscription to a topic of another region is known from the template. It gets messages if
//!    that region runs in the same process ([`Sns::add`]), with retries while the regions do not
//!    reach each other.
//!
//! Sources of the limits: SNS API reference, `Publish` and `PublishBatch`; SNS developer guide,
//! "Publishing large messages", "Message attributes", "Message delivery retries".
//!
//! Limits: standard topics only. Refused: `TargetArn` and `PhoneNumber`, `MessageStructure`,
//! `MessageGroupId`, `MessageDeduplicationId`. Envelopes are not signed.

mod delivery;
mod endpoint;
mod form;
mod message;
mod refusal;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;

use super::delivery::Deliveries;
use super::json::{Endpoint, Protocol};
use super::pipeline::Controls;
use super::server::{Server, StartError};
use crate::template::model::Stack;
use endpoint::{MAX_BODY_BYTES, SnsApi};
pub use topics::Peer;
use topics::Topics;

/// A running SNS. Stops when dropped.
#[derive(Debug)]
pub struct Sns {
    server: Server,
    topics: Arc<Topics>,
}

impl Sns {
    /// Serves the stack's topics on `address` (port 0 picks a free one).
    pub fn start(
        address: SocketAddr,
        stack: &Stack,
        deliveries: Arc<Deliveries>,
        controls: Controls,
    ) -> Result<Self, StartError> {
        let topics = Arc::new(Topics::new(stack, deliveries));
        let api = SnsApi { topics: Arc::clone(&topics) };
        let switch = controls.switch.clone();
        let endpoint = Endpoint { api, protocol: Protocol::Query, max_body_bytes: MAX_BODY_BYTES, controls };
        Ok(Self { server: Server::start("SNS", address, endpoint, switch)?, topics })
    }

    /// Delivers to the subscriptions of another region too, from now on.
    pub fn add(&self, peer: Peer) {
        self.topics.add(peer);
    }

    /// What `AWS_ENDPOINT_URL_SNS` is set to.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}
