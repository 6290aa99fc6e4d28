//! Delivers a frame to an audience: from a cursor to the end of the audience, or until time is up.

use std::pin::pin;

use futures::stream::StreamExt;

use super::audience::{Interruption, peers, read_page};
use super::gateway::{ApiGateway, GatewayError, LAST_START_MARGIN, retry};
use super::unreached::InboxFallback;
use super::{DeliveryReport, Frame, PostOutcome};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::ConnectionId;
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::{self, Metric, chain};
use crate::sockets::connections::{Audience, Cursor, DynamoConnections, Peer, PeerPage, Removed};
use crate::sockets::inbox::StoreOutcome;

/// Most concurrent posts. A post takes about 10 ms, so that 64 make the 6,000 a second that leave a
/// share of the account's 10,000 requests a second to other callers; each uses one connection of a
/// process that may have 1,024.
pub const MAX_IN_FLIGHT: usize = 64;

/// Delivers frames to the connections of the registry.
#[derive(Debug)]
pub struct Deliverer {
    registry: DynamoConnections,
    gateway: ApiGateway,
    clock: SharedClock,
}

impl Deliverer {
    /// Delivers to the peers of `registry` through `gateway`.
    pub fn new(registry: DynamoConnections, gateway: ApiGateway, clock: SharedClock) -> Self {
        Self { registry, gateway, clock }
    }

    /// Posts `frame` to the part of `audience` after `start`, as far as `deadline` allows.
    ///
    /// # Errors
    /// The audience could not be read, and no post was sent. After the first post, an unreadable
    /// page has the effect of the deadline: the report has a cursor.
    pub async fn deliver(
        &self,
        frame: &Frame,
        audience: &Audience,
        start: &Cursor,
        deadline: Deadline,
    ) -> Result<DeliveryReport, DynamoError> {
        let first_page = self.first_page(audience, start, deadline).await;
        self.post_all(frame, audience, start, first_page, None, deadline).await
    }

    /// Reads the first page of the part of `audience` after `start`.
    pub(super) async fn first_page(
        &self,
        audience: &Audience,
        start: &Cursor,
        deadline: Deadline,
    ) -> Result<PeerPage, Interruption> {
        read_page(&self.registry, audience, start, deadline.earlier_by(LAST_START_MARGIN)).await
    }

    /// Posts `frame` to the part of `audience` after `start`, whose first page was read. With
    /// `unreached`, the message is stored for the user of each peer that did not take it.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver). Also if a message could not be stored, after all peers of the
    /// report were posted to.
    pub(super) async fn post_all(
        &self,
        frame: &Frame,
        audience: &Audience,
        start: &Cursor,
        first_page: Result<PeerPage, Interruption>,
        unreached: Option<&InboxFallback<'_>>,
        deadline: Deadline,
    ) -> Result<DeliveryReport, DynamoError> {
        let last_start = deadline.earlier_by(LAST_START_MARGIN);
        let posts = peers(&self.registry, audience, first_page, last_start).enumerate().map(
            |(place, peer)| async move {
                let peer = peer?;
                let outcome = self.serve(&peer, frame, deadline).await;
                let stored = match unreached {
                    Some(unreached) if outcome != PostOutcome::Delivered => {
                        unreached.store(&peer.user_id).await.map(Some)
                    }
                    _ => Ok(None),
                };
                Ok((place, peer.key.connection_id, outcome, stored))
            },
        );
        let mut posts = pin!(posts.buffer_unordered(MAX_IN_FLIGHT));

        let mut report = DeliveryReport::default();
        // Posts end in any order; `place` is the order in which they started.
        let mut last_served: Option<(usize, ConnectionId)> = None;
        let mut interruption = None;
        let mut not_stored = None;
        while let Some(post) = posts.next().await {
            match post {
                Ok((place, connection_id, outcome, stored)) => {
                    report.add(outcome);
                    match stored {
                        Ok(Some(StoreOutcome::Stored)) => report.stored += 1,
                        Ok(Some(StoreOutcome::Full)) => report.full += 1,
                        Ok(None) => {}
                        Err(error) => not_stored = Some(error),
                    }
                    if last_served.as_ref().is_none_or(|(last, _)| *last < place) {
                        last_served = Some((place, connection_id));
                    }
                }
                Err(reason) => interruption = Some(reason),
            }
        }
        count(&report);
        if let Some(error) = not_stored {
            return Err(error);
        }

        // Posts start in the audience's order, and each started post has ended: all peers up to the
        // last one are done.
        let served = last_served.map(|(_, connection_id)| Cursor::behind(connection_id));
        report.rest = match (interruption, served) {
            (None, _) => None,
            (Some(Interruption::Unreadable(error)), None) => return Err(error),
            (Some(Interruption::Unreadable(error)), Some(rest)) => {
                tracing::warn!(error = chain(&error), "a page could not be read; the next hop continues");
                Some(rest)
            }
            (Some(Interruption::OutOfTime), served) => Some(served.unwrap_or_else(|| start.clone())),
        };
        Ok(report)
    }

    async fn serve(&self, peer: &Peer, frame: &Frame, deadline: Deadline) -> PostOutcome {
        let connection_id = &peer.key.connection_id;
        match retry(deadline, || self.gateway.post(&peer.endpoint, connection_id, frame), || false).await {
            Ok(()) => PostOutcome::Delivered,
            Err(GatewayError::Gone) => {
                // Removing the row during the handshake would leave an unregistered socket. If the
                // connection is indeed closed, a later message removes the row.
                if !peer.key.may_be_opening(self.clock.now()) {
                    self.remove(peer, deadline).await;
                }
                PostOutcome::Gone
            }
            Err(GatewayError::Throttled) => PostOutcome::Throttled,
            Err(GatewayError::TooLarge) => PostOutcome::TooLarge,
            Err(error @ GatewayError::Failed(_)) => {
                let connection_id = connection_id.as_str();
                tracing::warn!(connection_id, error = chain(&error), "a message was not delivered");
                PostOutcome::Failed
            }
        }
    }

    /// If the row cannot be removed now, the next message finds the peer gone again.
    async fn remove(&self, peer: &Peer, deadline: Deadline) {
        let connection_id = peer.key.connection_id.as_str();
        let removed = match deadline.cut_off(self.registry.remove(&peer.key)).await {
            Ok(removed) => removed,
            Err(passed) => {
                tracing::warn!(connection_id, error = %passed, "the row of a gone connection could not be removed now");
                return;
            }
        };
        match removed {
            Ok(Removed::Removed) => tracing::info!(connection_id, "removed a connection that is gone"),
            Ok(Removed::NotThere) => tracing::debug!(connection_id, "the connection was removed before"),
            Err(error) => {
                tracing::warn!(
                    connection_id,
                    error = chain(&error),
                    "the row of a gone connection could not be removed now"
                );
            }
        }
    }
}

fn count(report: &DeliveryReport) {
    for outcome in PostOutcome::ALL {
        let peers = report.count(outcome);
        if peers > 0 {
            telemetry::count_case(Metric::Deliveries, outcome.name(), peers);
        }
    }
    if report.gone > 0 {
        telemetry::count(Metric::GoneConnections, report.gone);
    }
}
