//! One turn of a delivery: from a cursor to the end of the audience, or to the end of the time.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};

use super::gateway::POST_TIMEOUT;
use super::{Frame, Outcome, PostError, PostToConnection, Report};
use crate::connections::{Audience, Cursor, Find, Peer, Remove, Removed};
use crate::deadline::Deadline;
use crate::dynamo::DynamoError;
use crate::problem::chain;
use crate::retry::Backoff;
use crate::telemetry::{self, Metric};

/// Posts under way at a time. A post takes about 10 ms, so that 64 make the 6,000 a second that leave other callers of
/// the account's 10,000 requests a second their share; each holds one connection of a process that may have 1,024.
pub const MAX_IN_FLIGHT: usize = 64;

/// How long one throttled peer is tried again. A client whose buffer is still full by then does not read; longer would
/// hold up the sender's acknowledgement for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries of a post that fails for another reason than throttling: a broken connection or a server's hiccup deserves a
/// second one, a standing refusal no third.
const MAX_FAILURES: u32 = 2;

/// No post begins later than this before the deadline: patience, and one last try that ends in a timeout.
pub const LAST_START_MARGIN: Duration = PATIENCE.saturating_add(POST_TIMEOUT);

/// Delivers frames to the sockets that the registry knows.
#[derive(Debug)]
pub struct Deliverer<R, P> {
    registry: R,
    posts: P,
}

impl<R: Find + Remove, P: PostToConnection> Deliverer<R, P> {
    /// Delivers to the peers of `registry` by `posts`.
    pub fn new(registry: R, posts: P) -> Self {
        Self { registry, posts }
    }

    /// The registry.
    pub fn registry(&self) -> &R {
        &self.registry
    }

    /// Posts `frame` to the part of `audience` behind `start`, as far as the time until `deadline` reaches.
    ///
    /// # Errors
    /// The audience could not be read and nobody was served. Once somebody was, a page that can't be read ends the turn
    /// as the deadline does: with a cursor.
    pub async fn deliver(
        &self,
        frame: &Frame,
        audience: &Audience,
        start: &Cursor,
        deadline: Deadline,
    ) -> Result<Report, DynamoError> {
        let last_start = deadline.earlier_by(LAST_START_MARGIN);
        let last_served = RefCell::new(None);
        let unreadable = RefCell::new(None);
        let out_of_time = Cell::new(false);

        let outcomes = self
            .peers(audience, start.clone())
            .take_while(|peer| {
                out_of_time.set(last_start.has_passed());
                std::future::ready(peer.is_err() || !out_of_time.get())
            })
            .filter_map(|peer| std::future::ready(peer.map_err(|error| unreadable.replace(Some(error))).ok()))
            .map(|peer| {
                last_served.replace(Some(peer.key.connection_id.clone()));
                self.serve(peer, frame, deadline)
            })
            .buffer_unordered(MAX_IN_FLIGHT);
        let mut outcomes = pin!(outcomes);

        let mut report = Report::default();
        while let Some(outcome) = outcomes.next().await {
            report.add(outcome);
        }
        count(&report);

        let last_served = last_served.take().map(Cursor::behind);
        match unreadable.take() {
            Some(error) if last_served.is_none() => return Err(error),
            Some(error) => {
                tracing::warn!(error = chain(&error), "a page could not be read; the rest is handed on");
                report.rest = last_served;
            }
            None if out_of_time.get() => report.rest = Some(last_served.unwrap_or_else(|| start.clone())),
            None => {}
        }
        Ok(report)
    }

    /// The audience, a page at a time; ends after the first page that can't be read.
    fn peers(&self, audience: &Audience, start: Cursor) -> impl Stream<Item = Result<Peer, DynamoError>> {
        stream::unfold(Some(start), move |cursor| async move {
            match self.registry.find(audience, &cursor?).await {
                Ok(page) => Some((page.peers.into_iter().map(Ok).collect::<Vec<_>>(), page.next)),
                Err(error) => Some((vec![Err(error)], None)),
            }
        })
        .flat_map(stream::iter)
    }

    async fn serve(&self, peer: Peer, frame: &Frame, deadline: Deadline) -> Outcome {
        let outcome = self.post(&peer, frame, deadline).await;
        if outcome == Outcome::Gone {
            self.remove(&peer).await;
        }
        outcome
    }

    async fn post(&self, peer: &Peer, frame: &Frame, deadline: Deadline) -> Outcome {
        let mut backoff = Backoff::within(Deadline::after(PATIENCE).min(deadline));
        let mut failures = 0;
        loop {
            match self.posts.post(&peer.endpoint, &peer.key.connection_id, frame).await {
                Ok(()) => return Outcome::Delivered,
                Err(PostError::Gone) => return Outcome::Gone,
                Err(PostError::TooLarge) => return Outcome::TooLarge,
                Err(PostError::Throttled) => {
                    if !backoff.wait().await {
                        return Outcome::Throttled;
                    }
                }
                Err(error @ PostError::Failed(_)) => {
                    failures += 1;
                    if failures == MAX_FAILURES || !backoff.wait().await {
                        let connection_id = peer.key.connection_id.as_str();
                        tracing::warn!(connection_id, error = chain(&error), "a peer was given up");
                        return Outcome::Failed;
                    }
                }
            }
        }
    }

    /// A row that can't be removed now is found gone again by the next message: that is no reason to fail this one.
    async fn remove(&self, peer: &Peer) {
        let connection_id = peer.key.connection_id.as_str();
        match self.registry.remove(&peer.key).await {
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
