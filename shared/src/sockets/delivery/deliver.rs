//! One turn of a delivery: from a cursor to the end of the audience, or to the end of the time.

use std::pin::pin;

use futures::future::join;
use futures::stream::StreamExt;

use super::patience::{LAST_START_MARGIN, Tries};
use super::walk::{Step, Stop, walk};
use super::{Frame, Outcome, Permission, PostError, PostToConnection, Report, Withheld};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::ConnectionId;
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::{self, Metric, chain};
use crate::sockets::connections::{Audience, Cursor, Find, Peer, Remove, Removed};

/// Posts under way at a time. A post takes about 10 ms, so that 64 make the 6,000 a second that leave other callers of
/// the account's 10,000 requests a second their share; each holds one connection of a process that may have 1,024.
pub const MAX_IN_FLIGHT: usize = 64;

/// A step that has been taken. Steps end in any order; `place` is where they began.
enum Done {
    Served { place: usize, connection_id: ConnectionId, outcome: Outcome },
    Stopped(Stop),
}

/// Why a turn served nobody.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The audience could not be read. 500, or 503 when it will pass.
    #[error(transparent)]
    Registry(#[from] DynamoError),
    /// It was not allowed to.
    #[error(transparent)]
    Withheld(#[from] Withheld),
}

/// Delivers frames to the sockets that the registry knows.
#[derive(Debug)]
pub struct Deliverer<R, P> {
    registry: R,
    posts: P,
    clock: SharedClock,
}

impl<R: Find + Remove, P: PostToConnection> Deliverer<R, P> {
    /// Delivers to the peers of `registry` by `posts`.
    pub fn new(registry: R, posts: P, clock: SharedClock) -> Self {
        Self { registry, posts, clock }
    }

    /// The registry.
    pub fn registry(&self) -> &R {
        &self.registry
    }

    /// Posts `frame` to the part of `audience` behind `start`, as far as the time until `deadline` reaches. The first page
    /// is read while `permission` is waited for.
    ///
    /// # Errors
    /// The permission was withheld, or the audience could not be read, and nobody was served. Once somebody was, a page that can't be read ends the turn
    /// as the deadline does: with a cursor.
    pub async fn deliver(
        &self,
        frame: &Frame,
        audience: &Audience,
        start: &Cursor,
        permission: Permission,
        deadline: Deadline,
    ) -> Result<Report, DeliverError> {
        let last_start = deadline.earlier_by(LAST_START_MARGIN);
        let mut steps = pin!(walk(&self.registry, audience, start.clone(), last_start).peekable());
        let (permitted, _) = join(permission.wait(), steps.as_mut().peek()).await;
        permitted?;
        let done = steps.enumerate().map(|(place, step)| self.take(place, step, frame, deadline));
        let mut done = pin!(done.buffer_unordered(MAX_IN_FLIGHT));

        let mut report = Report::default();
        let mut last_served: Option<(usize, ConnectionId)> = None;
        let mut stop = None;
        while let Some(done) = done.next().await {
            match done {
                Done::Served { place, connection_id, outcome } => {
                    report.add(outcome);
                    if last_served.as_ref().is_none_or(|(last, _)| *last < place) {
                        last_served = Some((place, connection_id));
                    }
                }
                Done::Stopped(why) => stop = Some(why),
            }
        }
        count(&report);

        // Peers begin in the audience's order, and each that began has ended: all up to the last one are served.
        let served = last_served.map(|(_, connection_id)| Cursor::behind(connection_id));
        report.rest = match (stop, served) {
            (None, _) => None,
            (Some(Stop::Unreadable(error)), None) => return Err(error.into()),
            (Some(Stop::Unreadable(error)), Some(rest)) => {
                tracing::warn!(error = chain(&error), "a page could not be read; the rest is handed on");
                Some(rest)
            }
            (Some(Stop::OutOfTime), served) => Some(served.unwrap_or_else(|| start.clone())),
        };
        Ok(report)
    }

    async fn take(&self, place: usize, step: Step, frame: &Frame, deadline: Deadline) -> Done {
        match step {
            Step::Serve(peer) => {
                let outcome = self.serve(&peer, frame, deadline).await;
                Done::Served { place, connection_id: peer.key.connection_id, outcome }
            }
            Step::Stop(why) => Done::Stopped(why),
        }
    }

    async fn serve(&self, peer: &Peer, frame: &Frame, deadline: Deadline) -> Outcome {
        let outcome = self.post(peer, frame, deadline).await;
        // Removed while it is being opened, it would be a socket that nobody knows of. If it is indeed over, a later
        // message removes it.
        if outcome == Outcome::Gone && !peer.key.may_be_opening(self.clock.now()) {
            self.remove(peer, deadline).await;
        }
        outcome
    }

    async fn post(&self, peer: &Peer, frame: &Frame, deadline: Deadline) -> Outcome {
        let mut tries = Tries::within(deadline);
        loop {
            match self.posts.post(&peer.endpoint, &peer.key.connection_id, frame).await {
                Ok(()) => return Outcome::Delivered,
                Err(PostError::Gone) => return Outcome::Gone,
                Err(PostError::TooLarge) => return Outcome::TooLarge,
                Err(PostError::Throttled) => {
                    if !tries.again().await {
                        return Outcome::Throttled;
                    }
                }
                Err(error @ PostError::Failed(_)) => {
                    if !tries.again_after_failure().await {
                        let connection_id = peer.key.connection_id.as_str();
                        tracing::warn!(connection_id, error = chain(&error), "a peer was given up");
                        return Outcome::Failed;
                    }
                }
            }
        }
    }

    /// A row that can't be removed now is found gone again by the next message: that is no reason to fail this one.
    async fn remove(&self, peer: &Peer, deadline: Deadline) {
        let connection_id = peer.key.connection_id.as_str();
        let removed = match deadline.cut_off(self.registry.remove(&peer.key)).await {
            Ok(removed) => removed,
            Err(passed) => {
                tracing::warn!(connection_id, error = %passed, "a gone connection's row stays for now");
                return;
            }
        };
        match removed {
            Ok(Removed::Removed) => tracing::info!(connection_id, "removed a connection that is gone"),
            Ok(Removed::NotThere) => tracing::debug!(connection_id, "the connection was removed already"),
            Err(error) => {
                tracing::warn!(connection_id, error = chain(&error), "a gone connection's row stays for now");
            }
        }
    }
}

fn count(report: &Report) {
    for outcome in Outcome::ALL {
        let peers = report.count(outcome);
        if peers > 0 {
            telemetry::count_case(Metric::Deliveries, outcome.name(), peers);
        }
    }
    if report.gone > 0 {
        telemetry::count(Metric::GoneConnections, report.gone);
    }
}
