//! The end of sockets whose session has ended.
//!
//! # Protocol
//! [`SocketCloser::close`] is called when a revocation has been committed. It walks the sockets that the user has in this
//! region, page by page, at most [`MAX_IN_FLIGHT`] at a time, and ends each of them ([`SocketCloser::end`]):
//! 1. Its row is removed, that very connection's and no other: from here on nothing is delivered to it, and a frame from
//!    it finds no row. That the row goes before the socket does is what makes it safe to be cut off anywhere: a socket
//!    without a row is mute, and closed at its next frame.
//! 2. Meanwhile it is told why: `{"type": "session.revoked", …, "body": {"sessionId": …}}`. One try. The message is a
//!    courtesy; whoever misses it learns the same from the 401 of the next handshake.
//! 3. It is closed. The gateway lets go out first what was posted before. One that is only being opened is gone to the
//!    gateway until its handshake is answered, so that it is tried again for a while.
//!
//! Each socket has its own outcome ([`Closing`]); one that does not end holds up nobody else. No socket is begun with
//! that could outlast the deadline.
//!
//! # What it leaves to others
//! It reports and never fails: the revocation stands, and holds without it. A socket that it missed is closed at its
//! next frame, which is checked against the session. It can miss one that
//! - is registered so shortly before that the index, which follows the table by milliseconds, does not show it yet,
//! - is in another region,
//! - is behind a page that could not be read, or that the deadline left ([`Closed::is_cut_short`]).
//!
//! Until that frame, and for two hours at most, such a socket hears what is sent to its user.

use std::pin::pin;
use std::time::Duration;

use futures::future::join;
use futures::stream::StreamExt;
use serde_json::{Value, json};

use super::gateway::CALL_TIMEOUT;
use super::patience::{LAST_START_MARGIN, Tries};
use super::walk::{Step, Stop, walk};
use super::{
    ApiGateway, CloseConnection, CloseError, Frame, MAX_IN_FLIGHT, MessageType, PostError, PostToConnection,
};
use crate::core::clock::{self, SharedClock};
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{self, MessageId, SessionId, SharedIds, UserId};
use crate::platform::telemetry::{self, Metric, chain};
use crate::sockets::connections::{
    Audience, CallbackEndpoint, ConnectionKey, Cursor, DynamoConnections, Find, Peer, Remove,
};

/// No socket is begun with later than this before the deadline: the time for its row and its last word, and what closing
/// it may take.
pub const LAST_CLOSE_MARGIN: Duration = CALL_TIMEOUT.saturating_add(LAST_START_MARGIN);

/// Which of a user's sockets end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Those of one session.
    Session(SessionId),
    /// All but those of the session that was kept, if one was.
    AllBut(Option<SessionId>),
}

impl Selection {
    fn includes(&self, session_id: &SessionId) -> bool {
        match self {
            Self::Session(ended) => ended == session_id,
            Self::AllBut(kept) => kept.as_ref() != Some(session_id),
        }
    }
}

/// How the end of one socket went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// It was open, and is closed.
    Closed,
    /// It was over already.
    Gone,
    /// It may be open still, without a row: mute, and closed at its next frame.
    Failed,
}

impl Closing {
    /// The metric's case.
    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Gone => "gone",
            Self::Failed => "failed",
        }
    }
}

/// How the end of a user's sockets went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// Sockets that were closed.
    pub closed: u64,
    /// Sockets that were over already.
    pub gone: u64,
    /// Sockets that could not be closed.
    pub failed: u64,
    /// Whether there may be more that nobody looked at.
    pub is_cut_short: bool,
}

impl Closed {
    fn add(&mut self, closing: Closing) {
        let count = match closing {
            Closing::Closed => &mut self.closed,
            Closing::Gone => &mut self.gone,
            Closing::Failed => &mut self.failed,
        };
        *count += 1;
        telemetry::count_case(Metric::ClosedSockets, closing.name(), 1);
    }
}

/// Closes sockets on AWS.
pub type AwsSocketCloser = SocketCloser<DynamoConnections, ApiGateway>;

/// Ends the sockets of this region.
#[derive(Debug)]
pub struct SocketCloser<R, P> {
    registry: R,
    gateway: P,
    clock: SharedClock,
    ids: SharedIds,
}

impl AwsSocketCloser {
    /// Closes the sockets in the table that `CONNECTIONS_TABLE` names.
    pub fn from_env(
        dynamo: aws_sdk_dynamodb::Client,
        gateway: ApiGateway,
        env: &Env,
    ) -> Result<Self, ConfigError> {
        let registry = DynamoConnections::from_env(dynamo, env, clock::system())?;
        Ok(Self::new(registry, gateway, clock::system(), ids::random()))
    }
}

impl<R: Find + Remove, P: PostToConnection + CloseConnection> SocketCloser<R, P> {
    /// Closes the sockets of `registry` by `gateway`.
    pub fn new(registry: R, gateway: P, clock: SharedClock, ids: SharedIds) -> Self {
        Self { registry, gateway, clock, ids }
    }

    /// Ends those of `user`'s sockets that `selection` includes, as far as the time until `deadline` reaches.
    pub async fn close(&self, user: &UserId, selection: &Selection, deadline: Deadline) -> Closed {
        let audience = Audience::User(user.clone());
        let steps = walk(&self.registry, &audience, Cursor::START, deadline.earlier_by(LAST_CLOSE_MARGIN));
        let mut steps =
            pin!(steps.map(|step| self.take(step, selection, deadline)).buffer_unordered(MAX_IN_FLIGHT));
        let mut report = Closed::default();
        while let Some(done) = steps.next().await {
            match done {
                Ok(Some(closing)) => report.add(closing),
                Ok(None) => {}
                Err(stop) => {
                    report.is_cut_short = true;
                    let reason = match stop {
                        Stop::OutOfTime => "out of time".to_owned(),
                        Stop::Unreadable(error) => chain(&error),
                    };
                    tracing::warn!(
                        user_id = user.as_str(),
                        reason,
                        "some sockets stay until their next frame"
                    );
                }
            }
        }
        tracing::info!(user_id = user.as_str(), ?selection, ?report, "sockets closed");
        report
    }

    /// Ends one socket. `last_word` is the last that it hears.
    pub async fn end(
        &self,
        key: &ConnectionKey,
        endpoint: &CallbackEndpoint,
        last_word: &Value,
        deadline: Deadline,
    ) -> Closing {
        let connection_id = key.connection_id.as_str();
        let ((), told) = join(self.remove(key, deadline), self.tell(key, endpoint, last_word)).await;
        if let Err(error) = told {
            tracing::info!(connection_id, error = chain(&error), "a socket is not told why it ends");
        }
        let closing = self.hang_up(key, endpoint, deadline).await;
        tracing::info!(connection_id, outcome = closing.name(), "a socket ends");
        closing
    }

    async fn take(
        &self,
        step: Step,
        selection: &Selection,
        deadline: Deadline,
    ) -> Result<Option<Closing>, Stop> {
        match step {
            Step::Serve(peer) if selection.includes(&peer.session_id) => {
                let last_word = self.revoked(&peer);
                Ok(Some(self.end(&peer.key, &peer.endpoint, &last_word, deadline).await))
            }
            Step::Serve(_) => Ok(None),
            Step::Stop(why) => Err(why),
        }
    }

    fn revoked(&self, peer: &Peer) -> Value {
        let message_id: MessageId = self.ids.next();
        json!({
            "type": MessageType::session_revoked(),
            "messageId": message_id,
            "sentAt": rfc3339(self.clock.now()),
            "body": { "sessionId": peer.session_id },
        })
    }

    /// A row that can't be removed now is removed by `$disconnect`, when the socket has been closed.
    async fn remove(&self, key: &ConnectionKey, deadline: Deadline) {
        let connection_id = key.connection_id.as_str();
        match deadline.earlier_by(LAST_START_MARGIN).cut_off(self.registry.remove(key)).await {
            Ok(Ok(removed)) => tracing::debug!(connection_id, ?removed, "nothing is delivered any more"),
            Ok(Err(error)) => {
                tracing::warn!(
                    connection_id,
                    error = chain(&error),
                    "the row stays until the socket is closed"
                );
            }
            Err(error) => {
                tracing::warn!(connection_id, %error, "the row stays until the socket is closed");
            }
        }
    }

    async fn tell(
        &self,
        key: &ConnectionKey,
        endpoint: &CallbackEndpoint,
        last_word: &Value,
    ) -> Result<(), PostError> {
        let frame = Frame::from_bytes(last_word.to_string().into()).map_err(|_| PostError::TooLarge)?;
        self.gateway.post(endpoint, &key.connection_id, &frame).await
    }

    async fn hang_up(&self, key: &ConnectionKey, endpoint: &CallbackEndpoint, deadline: Deadline) -> Closing {
        let mut tries = Tries::within(deadline);
        loop {
            let error = match self.gateway.close(endpoint, &key.connection_id).await {
                Ok(()) => return Closing::Closed,
                Err(CloseError::Gone) if !key.may_be_opening(self.clock.now()) => return Closing::Gone,
                Err(error) => error,
            };
            let goes_on = match error {
                CloseError::Gone | CloseError::Throttled => tries.again().await,
                CloseError::Failed(_) => tries.again_after_failure().await,
            };
            match error {
                _ if goes_on => {}
                CloseError::Gone => return Closing::Gone,
                CloseError::Throttled | CloseError::Failed(_) => {
                    let connection_id = key.connection_id.as_str();
                    tracing::warn!(connection_id, error = chain(&error), "a socket may still be open");
                    return Closing::Failed;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::random;

    #[test]
    fn a_selection_names_one_session_or_spares_one() {
        let (one, other): (SessionId, SessionId) = (random().next(), random().next());
        assert!(Selection::Session(one.clone()).includes(&one));
        assert!(!Selection::Session(one.clone()).includes(&other));
        assert!(!Selection::AllBut(Some(one.clone())).includes(&one));
        assert!(Selection::AllBut(Some(one.clone())).includes(&other));
        assert!(Selection::AllBut(None).includes(&one));
    }
}
