//! `EventBridge` on this machine: the template's buses and rules, behind the service's JSON
//! protocol.
//!
//! 1. `PutEvents` checks its entries one by one; those that are accepted get an id, the others an
//!    error, and the answer is 200 either way.
//! 2. An event goes to the targets of every enabled rule of its bus whose pattern it matches: the
//!    whole event, a part of it (`InputPath`) or a constant (`Input`). How deliveries fail and are
//!    tried again: `services/delivery.rs`.
//! 3. An event that a target can't get goes to its dead-letter queue, with the reason in the
//!    message's attributes.
//!
//! Sources of the limits: `EventBridge` API reference, `PutEvents` and `PutEventsResultEntry`; its
//! user guide, "Calculating event entry size", with the limit of 1 MB of January 2026, "Retrying to
//! deliver events", "Using dead-letter queues".
//!
//! Stricter than AWS: an entry for a bus that is not in the template fails (AWS answers with an id
//! and drops it), and a `Detail` that is nested more than 128 levels deep is malformed (AWS takes
//! 1,100).
//!
//! Limits: no archives, replays, global endpoints, or events of AWS's own services.

mod buses;
mod endpoint;
mod entry;

use std::net::SocketAddr;
use std::sync::Arc;

use super::delivery::Deliveries;
use super::json::{Endpoint, Protocol};
use super::pipeline::Controls;
use super::server::{Server, StartError};
use crate::template::model::Stack;
use buses::Buses;
use endpoint::{EventsApi, MAX_BODY_BYTES};

/// A running `EventBridge`. Stops when dropped.
#[derive(Debug)]
pub struct EventBridge {
    server: Server,
}

impl EventBridge {
    /// Serves the stack's buses on `address` (port 0 picks a free one).
    pub fn start(
        address: SocketAddr,
        stack: &Stack,
        deliveries: Arc<Deliveries>,
        controls: Controls,
    ) -> Result<Self, StartError> {
        let api = EventsApi { buses: Buses::new(stack, deliveries) };
        let switch = controls.switch.clone();
        let endpoint = Endpoint { api, protocol: Protocol::Json11, max_body_bytes: MAX_BODY_BYTES, controls };
        Ok(Self { server: Server::start("EventBridge", address, endpoint, switch)? })
    }

    /// What `AWS_ENDPOINT_URL_EVENTBRIDGE` is set to.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.server.address())
    }
}
