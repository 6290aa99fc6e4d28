//! The connection registry: which sockets are open in this region, and whose they are.
//!
//! # Protocol
//! 1. `$connect` registers a connection in one transaction ([`Registrar::register`]) before the
//!    handshake is answered, if its user has fewer than [`SocketsPerUser`]. The row stays only if
//!    the session is live ([`admit`]).
//! 2. Every frame touches its sender's row ([`DynamoConnections::touch`]). One conditional update
//!    returns who sends, whether the connection is live, and whether it sends too fast
//!    ([`FramesPerSocket`]), and stamps `lastActivity`.
//! 3. A delivery reads its audience page by page ([`DynamoConnections::find`]). A page ends at a
//!    [`Cursor`], so that another invocation can continue after it.
//! 4. `$disconnect`, a post that finds the connection gone, or the end of the session removes
//!    *that* connection ([`DynamoConnections::remove`]) and no other. A connection that may still
//!    be in its handshake is not gone ([`ConnectionKey::may_be_opening`]).
//!
//! # Identity
//! A connection is identified by its id and by the time at which it was opened ([`ConnectionKey`]);
//! every event contains both. AWS documents `connectionId` as "a unique ID for the connection" and
//! `connectedAt` as "the Epoch-formatted connection time" ([variables of a WebSocket API]). It does
//! not say that an id is never reused, nor that `connectedAt` is the same to the millisecond in all
//! events of a connection. So the registry relies on neither:
//! 1. Two events with the same id are of the same connection if their `connectedAt` are at most
//!    [`SAME_OPENING`] apart.
//! 2. Every change of a row is conditional on that. A late event of an old connection does not
//!    change a newer one with the same id, since the newer one was opened after the older one
//!    ended.
//! 3. If an id is reused within [`SAME_OPENING`], a late event could remove the newer row. The
//!    newer socket's next frame then finds no row and is answered 401, and its client reconnects:
//!    the mistake costs a connection, and grants no access.
//!
//! [variables of a WebSocket API]: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html
//!
//! # Limits
//! - The registry covers one region: a connection id has no meaning in another one.
//! - A row is written shortly before its socket is open ([`MAX_HANDSHAKE`] at most). A message
//!   within that time may miss it.
//! - `$disconnect` is best effort. A row whose `$disconnect` was lost is removed by the first post
//!   that finds the peer gone, and is ignored after `expiresAt`, which every read compares.
//! - [`Audience::User`] is read from an index that lags by milliseconds; a socket registered within
//!   them may be missed. [`Audience::Everyone`] is read page by page while sockets come and go: a
//!   socket that connects meanwhile may be missed too.
//!
//! # Example
//! The registry needs a DynamoDB table, so this example is compiled and not run.
//! ```no_run
//! use sojourn::core::clock;
//! use sojourn::core::env::Env;
//! use sojourn::core::ids::UserId;
//! use sojourn::sockets::connections::{Audience, Cursor, DynamoConnections};
//!
//! # async fn run(client: aws_sdk_dynamodb::Client, user: UserId) -> Result<(), Box<dyn std::error::Error>> {
//! let registry = DynamoConnections::from_env(client, &Env::of_process(), clock::system())?;
//! let audience = Audience::User(user);
//! let mut cursor = Some(Cursor::START);
//! while let Some(start) = cursor {
//!     let page = registry.find(&audience, &start).await?;
//!     for peer in &page.peers {
//!         println!("{} at {}", peer.key.connection_id, peer.endpoint.as_str());
//!     }
//!     cursor = page.next;
//! }
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_dynamo::to_item;

use crate::core::bounded::Bounded;
use crate::core::date_time::as_rfc3339;
use crate::core::ids::{ConnectionId, SessionId, UserId};
use crate::identity::principal::{Credential, Role};
use crate::platform::dynamo::{AttributeValue, DynamoError, Item, number};

mod admission;
mod dynamo;
mod endpoint;
mod registration;

pub use admission::{AdmissionError, admit};
pub use dynamo::DynamoConnections;
pub use endpoint::{CallbackEndpoint, InvalidEndpoint};
pub use registration::{Registered, Registrar, SocketsPerUser};

/// Most frames that a socket may send within [`FRAMES_WINDOW`]. Its row has the time of each, eight
/// bytes. A changed setting applies to sockets opened later.
pub type FramesPerSocket = Bounded<1, 100>;
/// The window of the frame limit: long enough for a client to send what it queued while connecting.
pub const FRAMES_WINDOW: Duration = Duration::from_secs(5);
/// A socket is closed at this number of frames that came too fast. A client that waits as the
/// refusals say never reaches it.
pub const MAX_REFUSED_FRAMES: u32 = 100;

/// API Gateway closes every WebSocket connection at this age.
pub const MAX_CONNECTION_AGE: Duration = Duration::from_hours(2);
/// API Gateway ends a handshake if `$connect` has not answered for 29 seconds; the last second is
/// for clock differences.
pub const MAX_HANDSHAKE: Duration = Duration::from_secs(30);
/// How far `connectedAt` of two events of one connection may differ. The largest plausible
/// difference is a handshake: its beginning in `$connect`, its end in later events.
pub const SAME_OPENING: Duration = MAX_HANDSHAKE;
/// How much longer a row is valid than its socket can live, for clock differences and the time of
/// the close.
pub const EXPIRY_GRACE: Duration = Duration::from_mins(5);

/// Names one connection; see the module's section on identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionKey {
    pub connection_id: ConnectionId,
    /// When it was opened according to the event, in milliseconds. The row has the value of
    /// `$connect`.
    #[serde(with = "as_rfc3339")]
    pub connected_at: Timestamp,
}

impl ConnectionKey {
    /// The earliest and the latest `connectedAt` that other events of the connection can have.
    pub fn opened_between(&self) -> (Timestamp, Timestamp) {
        let at = self.connected_at;
        (
            at.checked_sub(SAME_OPENING).unwrap_or(Timestamp::MIN),
            at.checked_add(SAME_OPENING).unwrap_or(Timestamp::MAX),
        )
    }

    /// Whether its handshake may not have been answered yet. Its row exists then, but API Gateway
    /// answers posts with 410 as if it were gone.
    pub fn may_be_opening(&self, now: Timestamp) -> bool {
        self.connected_at.checked_add(MAX_HANDSHAKE).is_ok_and(|answered| now < answered)
    }
}

/// An open connection, as registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    #[serde(flatten)]
    pub key: ConnectionKey,
    pub user_id: UserId,
    /// The session that it belongs to and ends with.
    pub session_id: SessionId,
    /// The user's roles at the time of connecting, from the token.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Role>,
    /// The region that holds the socket.
    pub region: String,
    /// Where to post to it.
    pub endpoint: CallbackEndpoint,
    /// When the client last sent a frame.
    #[serde(with = "as_rfc3339")]
    pub last_activity: Timestamp,
    /// When the row expires, epoch seconds.
    pub expires_at: i64,
}

impl Connection {
    /// A connection that `credential` opens at `now`. Its session is not checked yet: see
    /// [`admit`].
    pub fn opened_by(
        credential: &Credential,
        key: ConnectionKey,
        region: String,
        endpoint: CallbackEndpoint,
        now: Timestamp,
    ) -> Self {
        Self {
            key,
            user_id: credential.user_id().clone(),
            session_id: credential.session_id().clone(),
            roles: credential.roles().clone(),
            region,
            endpoint,
            last_activity: now,
            expires_at: expiry(now),
        }
    }

    /// Its row, with room for `frames` recent frames.
    pub fn row(&self, frames: FramesPerSocket) -> Result<Item, DynamoError> {
        let target = self.key.connection_id.as_str();
        let mut row: Item = to_item(self).map_err(|error| DynamoError::unreadable("write", target, error))?;
        let none_yet = vec![number(0); usize::from(frames.get())];
        row.insert("recentFrames".to_owned(), AttributeValue::L(none_yet));
        Ok(row)
    }

    /// Whether its user had the role at the time of connecting.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// When the row of a connection that opens at `now` expires, in epoch seconds: with the socket,
/// which ends before its session does ([`admit`]). `now` is from this clock, since reads compare
/// with it.
pub fn expiry(now: Timestamp) -> i64 {
    now.checked_add(MAX_CONNECTION_AGE + EXPIRY_GRACE).unwrap_or(Timestamp::MAX).as_second()
}

/// The part of a connection that a delivery needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    #[serde(flatten)]
    pub key: ConnectionKey,
    pub user_id: UserId,
    pub session_id: SessionId,
    pub endpoint: CallbackEndpoint,
}

/// The receivers of a message. As JSON `{"userId": "usr_…"}` or `{"broadcast": true}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Audience {
    /// All sockets of one user.
    #[serde(rename = "userId")]
    User(UserId),
    /// All sockets of this region.
    #[serde(rename = "broadcast", with = "json_true")]
    Everyone,
}

/// Serde for a variant whose only value is the JSON `true`.
pub(super) mod json_true {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        if bool::deserialize(deserializer)? {
            Ok(())
        } else {
            Err(D::Error::custom("must be true or left out"))
        }
    }
}

/// A position in an audience, after the last peer that was seen. It stays valid when that peer is
/// removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(Option<ConnectionId>);

impl Cursor {
    /// Before the first peer.
    pub const START: Self = Self(None);

    /// After a peer.
    pub fn behind(connection_id: ConnectionId) -> Self {
        Self(Some(connection_id))
    }

    /// The last peer that was seen.
    pub fn last_seen(&self) -> Option<&ConnectionId> {
        self.0.as_ref()
    }
}

/// A page of an audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPage {
    /// Live peers. May be empty although more follow: expired rows are left out.
    pub peers: Vec<Peer>,
    /// Where the next page starts. `None` on the last one.
    pub next: Option<Cursor>,
}

/// Outcome of a touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// The connection is live; this is its row, stamped.
    Live(Connection),
    /// The connection is live, and it sent more frames than it may. This one is refused.
    TooFast {
        /// When it may send the next one.
        retry_after: Duration,
        /// Frames that were refused so far.
        refused: u32,
    },
    /// There is no such connection, or it has expired.
    Unknown,
}

/// Outcome of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The connection's row is gone.
    Removed,
    /// There was no row. A newer connection with the same id is untouched.
    NotThere,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_until_the_socket_has_ended() {
        let opened: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        let ended: Timestamp = "2026-11-20T12:05:00Z".parse().unwrap();
        assert_eq!(expiry(opened), ended.as_second());
    }

    #[test]
    fn an_audience_is_one_member_and_broadcast_is_true() {
        let read = serde_json::from_str::<Audience>;
        assert_eq!(read(r#"{"broadcast":true}"#).unwrap(), Audience::Everyone);
        assert!(matches!(read(r#"{"userId":"usr_01JD0000000000000000000000"}"#), Ok(Audience::User(_))));
        assert!(read(r#"{"broadcast":false}"#).is_err());
        assert!(read(r#"{"broadcast":true,"userId":"usr_01JD0000000000000000000000"}"#).is_err());
        assert!(read("{}").is_err());
    }
}
