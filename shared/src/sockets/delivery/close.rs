//! Closes sockets whose session has ended.
//!
//! # Protocol
//! [`SocketCloser::close`] is called after a revocation is committed. It reads the sockets that the
//! user has in this region, page by page, and ends at most [`MAX_IN_FLIGHT`] of them at a time
//! ([`SocketCloser::end`]):
//! 1. The row of this connection is removed. From then on nothing is delivered to the socket, and a
//!    frame from it finds no row. The row is removed before the socket is closed, so that an
//!    interruption at any point is safe.
//! 2. Concurrently the socket gets a last message with the reason:
//!    `{"type": "session.revoked", …, "body": {"sessionId": …}}`. There is one try. A client that
//!    misses it gets 401 at its next handshake.
//! 3. The socket is closed. The gateway first sends what was posted before. A connection whose
//!    handshake is not answered yet is gone to the gateway, so that the close is retried for a
//!    while.
//!
//! Each socket has its own outcome ([`CloseOutcome`]); a socket that stays open does not delay
//! others. No close starts that could outlast the deadline.
//!
//! # Limits
//! It reports and never fails: the revocation is committed and holds. A missed socket is closed
//! when the event `sessions.revoked` has been published, by each region's `ws-deliver`
//! ([`SocketCloser::close_as_of`]), or at its next frame, which is checked against the session. A
//! socket is missed if it
//! - was registered so recently that the index, which lags by milliseconds, does not show it yet,
//! - is in another region,
//! - is after a page that could not be read, or after the deadline ([`CloseReport::is_cut_short`]).
//!
//! Until then such a socket receives messages to its user.

use std::pin::pin;
use std::time::Duration;

use futures::future::{BoxFuture, join};
use futures::stream::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::audience::{Interruption, peers, read_page};
use super::gateway::{CALL_TIMEOUT, GatewayError, LAST_START_MARGIN, retry};
use super::{ApiGateway, Frame, MAX_IN_FLIGHT, MessageType};
use crate::core::clock::{self, SharedClock};
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{self, MessageId, SessionId, SharedIds, UserId};
use crate::identity::sessions::{CloseSockets, EndedSessions};
use crate::platform::telemetry::{self, Metric, chain};
use crate::sockets::connections::{
    Audience, CallbackEndpoint, ConnectionKey, Cursor, DynamoConnections, Peer,
};

/// No close starts later than this before the deadline: time for the row, the last message, and the
/// close itself.
pub const LAST_CLOSE_MARGIN: Duration = CALL_TIMEOUT.saturating_add(LAST_START_MARGIN);

/// The result of closing one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseOutcome {
    Closed,
    Gone,
    /// It may still be open, without a row: it receives nothing, and is closed at its next frame.
    Failed,
}

impl CloseOutcome {
    /// The metric's dimension.
    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

/// The result of closing a user's sockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloseReport {
    /// Sockets that were closed.
    pub closed: u64,
    /// Sockets that were closed already.
    pub gone: u64,
    /// Sockets that could not be closed.
    pub failed: u64,
    /// Whether some sockets may not have been reached.
    pub is_cut_short: bool,
}

impl CloseReport {
    fn add(&mut self, closing: CloseOutcome) {
        let count = match closing {
            CloseOutcome::Closed => &mut self.closed,
            CloseOutcome::Gone => &mut self.gone,
            CloseOutcome::Failed => &mut self.failed,
        };
        *count += 1;
        telemetry::count_case(Metric::ClosedSockets, closing.name(), 1);
    }
}

/// Closes the sockets of this region.
#[derive(Debug)]
pub struct SocketCloser {
    registry: DynamoConnections,
    gateway: ApiGateway,
    clock: SharedClock,
    ids: SharedIds,
}

impl SocketCloser {
    /// Closes the sockets of `registry` through `gateway`.
    pub fn new(registry: DynamoConnections, gateway: ApiGateway, clock: SharedClock, ids: SharedIds) -> Self {
        Self { registry, gateway, clock, ids }
    }

    /// Closes the sockets in the table that `CONNECTIONS_TABLE` names.
    pub fn from_env(
        dynamo: aws_sdk_dynamodb::Client,
        gateway: ApiGateway,
        env: &Env,
    ) -> Result<Self, ConfigError> {
        let registry = DynamoConnections::from_env(dynamo, env, clock::system())?;
        Ok(Self::new(registry, gateway, clock::system(), ids::random()))
    }

    /// Closes the sockets of `user` whose sessions have ended, as far as `deadline` allows.
    pub async fn close(&self, user: &UserId, ended: &EndedSessions, deadline: Deadline) -> CloseReport {
        self.close_where(user, |session| ended.include(session), deadline).await
    }

    /// The same for a revocation at the instant `at`, possibly some time ago: later sessions are
    /// kept.
    pub async fn close_as_of(
        &self,
        at: Timestamp,
        user: &UserId,
        ended: &EndedSessions,
        deadline: Deadline,
    ) -> CloseReport {
        let has_ended = |session: &SessionId| ended.include(session) && session.began_at() <= at;
        self.close_where(user, has_ended, deadline).await
    }

    async fn close_where(
        &self,
        user: &UserId,
        has_ended: impl Fn(&SessionId) -> bool,
        deadline: Deadline,
    ) -> CloseReport {
        let has_ended = &has_ended;
        let audience = Audience::User(user.clone());
        let last_start = deadline.earlier_by(LAST_CLOSE_MARGIN);
        let first = read_page(&self.registry, &audience, &Cursor::START, last_start).await;
        let ends = peers(&self.registry, &audience, first, last_start).map(|peer| async move {
            let peer = peer?;
            if !has_ended(&peer.session_id) {
                return Ok(None);
            }
            let last_message = self.session_revoked(&peer);
            Ok(Some(self.end(&peer.key, &peer.endpoint, &last_message, deadline).await))
        });
        let mut ends = pin!(ends.buffer_unordered(MAX_IN_FLIGHT));
        let mut report = CloseReport::default();
        while let Some(end) = ends.next().await {
            match end {
                Ok(Some(closing)) => report.add(closing),
                Ok(None) => {}
                Err(interruption) => {
                    report.is_cut_short = true;
                    let reason = match interruption {
                        Interruption::OutOfTime => "out of time".to_owned(),
                        Interruption::Unreadable(error) => chain(&error),
                    };
                    let user_id = user.as_str();
                    tracing::warn!(user_id, reason, "some sockets stay open until their next frame");
                }
            }
        }
        tracing::info!(user_id = user.as_str(), ?report, "sockets closed");
        report
    }

    /// Removes the row of one socket, posts `last_message` to it, and closes it.
    pub async fn end(
        &self,
        key: &ConnectionKey,
        endpoint: &CallbackEndpoint,
        last_message: &Value,
        deadline: Deadline,
    ) -> CloseOutcome {
        let connection_id = key.connection_id.as_str();
        let ((), told) = join(self.remove(key, deadline), self.tell(key, endpoint, last_message)).await;
        if let Err(error) = told {
            tracing::info!(
                connection_id,
                error = chain(&error),
                "the last message of a socket was not posted"
            );
        }
        let close = || self.gateway.close(endpoint, &key.connection_id);
        let may_be_opening = || key.may_be_opening(self.clock.now());
        let closing = match retry(deadline, close, may_be_opening).await {
            Ok(()) => CloseOutcome::Closed,
            Err(GatewayError::Gone) => CloseOutcome::Gone,
            Err(error) => {
                tracing::warn!(connection_id, error = chain(&error), "a socket may still be open");
                CloseOutcome::Failed
            }
        };
        tracing::info!(connection_id, outcome = closing.name(), "closing a socket");
        closing
    }

    fn session_revoked(&self, peer: &Peer) -> Value {
        let message_id: MessageId = self.ids.next();
        json!({
            "type": MessageType::session_revoked(),
            "messageId": message_id,
            "sentAt": rfc3339(self.clock.now()),
            "body": { "sessionId": peer.session_id },
        })
    }

    /// If the row cannot be removed now, `$disconnect` removes it.
    async fn remove(&self, key: &ConnectionKey, deadline: Deadline) {
        let connection_id = key.connection_id.as_str();
        match deadline.earlier_by(LAST_START_MARGIN).cut_off(self.registry.remove(key)).await {
            Ok(Ok(removed)) => {
                tracing::debug!(connection_id, ?removed, "the row of a closing socket was removed");
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    connection_id,
                    error = chain(&error),
                    "the row could not be removed before the close"
                );
            }
            Err(error) => {
                tracing::warn!(connection_id, %error, "the row could not be removed before the close");
            }
        }
    }

    async fn tell(
        &self,
        key: &ConnectionKey,
        endpoint: &CallbackEndpoint,
        last_message: &Value,
    ) -> Result<(), GatewayError> {
        let frame = Frame::from_text(last_message.to_string()).map_err(|_| GatewayError::TooLarge)?;
        self.gateway.post(endpoint, &key.connection_id, &frame).await
    }
}

impl CloseSockets for SocketCloser {
    fn close_sockets<'a>(
        &'a self,
        user: &'a UserId,
        ended: &'a EndedSessions,
        deadline: Deadline,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.close(user, ended, deadline).await;
        })
    }
}
