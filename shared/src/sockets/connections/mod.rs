//! The connection registry: which sockets are open in this region, and whose they are.
//!
//! # Protocol
//! 1. `$connect` registers a connection in one transaction ([`Registrar::register`]) before the handshake is answered, if its user
//!    has fewer than [`SocketsPerUser`]. The row stays only if the session is live ([`admit`]).
//! 2. Every frame touches its sender's row ([`DynamoConnections::touch`]). One conditional update tells who sends, whether the
//!    connection is live, and whether it sends too fast ([`FramesPerSocket`]), and stamps `lastActivity`.
//! 3. A delivery finds its audience page by page ([`DynamoConnections::find`]). A page ends at a [`Cursor`], so that another
//!    invocation can continue behind it.
//! 4. `$disconnect`, a post that finds the connection gone, or the end of the session removes *that* connection
//!    ([`DynamoConnections::remove`]) and no other. A connection that may still be in its handshake is not gone
//!    ([`ConnectionKey::may_be_opening`]).
//!
//! # Identity
//! A connection is named by its id and by the time at which it was opened ([`ConnectionKey`]); every event carries both. AWS
//! documents `connectionId` as "a unique ID for the connection" and `connectedAt` as "the Epoch-formatted connection time"
//! ([variables of a WebSocket API]). It says neither that an id never comes back, nor that `connectedAt` is the same to the
//! millisecond in all events of a connection. So the registry relies on neither:
//! 1. Two events with the same id are of the same connection if their `connectedAt` are at most [`SAME_OPENING`] apart.
//! 2. Every change of a row is conditional on that. A late event of an old connection changes nothing of a newer one that
//!    has its id: the newer one was opened after the older one ended.
//! 3. Should an id come back within [`SAME_OPENING`], a late event could remove the newer row. The newer socket's next frame
//!    then finds no row and is answered 401, and its client connects again: the mistake costs a connection, and gives
//!    nobody a right.
//!
//! [variables of a WebSocket API]: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html
//!
//! # Limits
//! - The registry covers one region: a connection id means nothing in another one.
//! - A row is written shortly before its socket is open ([`MAX_HANDSHAKE`] at most). A message within that time may miss it.
//! - `$disconnect` is best effort. A row whose `$disconnect` was lost is removed by the first post that finds the peer gone, and
//!   counts no longer than `expiresAt`, which every read compares.
//! - [`Audience::User`] is read from an index that follows the table by milliseconds; a socket registered within them
//!   may be missed. [`Audience::Everyone`] is read page by page while sockets come and go: a socket that connects meanwhile may
//!   be missed too.

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

/// Frames that a socket may send within [`FRAMES_WINDOW`], whatever they say. Its row has the time of each, eight bytes. Another
/// setting holds for sockets that are opened with it.
pub type FramesPerSocket = Bounded<1, 100>;
/// The time that frames are counted in: long enough that a client may send what has piled up while it connected.
pub const FRAMES_WINDOW: Duration = Duration::from_secs(5);
/// A socket is closed at this number of frames that came too fast. Whoever waits as long as the refusals say never gets there, and one
/// that does not costs no more than this.
pub const MAX_REFUSED_FRAMES: u32 = 100;

/// API Gateway closes every WebSocket connection at this age.
pub const MAX_CONNECTION_AGE: Duration = Duration::from_hours(2);
/// API Gateway gives a handshake up when `$connect` has not answered for 29 seconds; the last one is for clocks that
/// differ.
pub const MAX_HANDSHAKE: Duration = Duration::from_secs(30);
/// How far `connectedAt` of two events of one connection may differ. The widest difference that can be explained is a
/// handshake: its beginning in `$connect`, its end in the events after it.
pub const SAME_OPENING: Duration = MAX_HANDSHAKE;
/// How much longer a row counts than its socket can live: clocks differ, and the close takes a moment.
pub const EXPIRY_GRACE: Duration = Duration::from_mins(5);

/// Names one connection; see the module's section on identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionKey {
    pub connection_id: ConnectionId,
    /// When it was opened, as an event of it says; milliseconds. The row has what `$connect` said.
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

    /// Whether its handshake may not have been answered yet. Its row is there by then, but API Gateway says 410 to
    /// posts, as if it were gone.
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
    /// The sign-in it belongs to; ends with it.
    pub session_id: SessionId,
    /// What the user may do beyond being a customer, as the token said when the connection was opened.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Role>,
    /// The region that holds the socket.
    pub region: String,
    /// Where to post to it.
    pub endpoint: CallbackEndpoint,
    /// When its user last sent something.
    #[serde(with = "as_rfc3339")]
    pub last_activity: Timestamp,
    /// When the row stops to count, epoch seconds.
    pub expires_at: i64,
}

impl Connection {
    /// A connection that `credential` opens at `now`. Its session was not checked yet: see [`admit`].
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

    /// Its row, with room for as many recent frames.
    pub fn row(&self, frames: FramesPerSocket) -> Result<Item, DynamoError> {
        let target = self.key.connection_id.as_str();
        let mut row: Item = to_item(self).map_err(|error| DynamoError::unreadable("write", target, error))?;
        let none_yet = vec![number(0); usize::from(frames.get())];
        row.insert("recentFrames".to_owned(), AttributeValue::L(none_yet));
        Ok(row)
    }

    /// Whether its user had the role when it was opened.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// When the row of a connection that opens at `now` stops to count, in epoch seconds: with the socket, which ends before its
/// session does ([`admit`]). `now` is our clock, since that is what reads compare with.
pub fn expiry(now: Timestamp) -> i64 {
    now.checked_add(MAX_CONNECTION_AGE + EXPIRY_GRACE).unwrap_or(Timestamp::MAX).as_second()
}

/// What a delivery needs to know of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    #[serde(flatten)]
    pub key: ConnectionKey,
    pub user_id: UserId,
    /// The sign-in it belongs to.
    pub session_id: SessionId,
    /// Where to post to it.
    pub endpoint: CallbackEndpoint,
}

/// Whom a message is for. As JSON `{"userId": "usr_…"}` or `{"broadcast": true}`.
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

/// Serde for a variant whose value is the JSON `true`, and no other.
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

/// A place in an audience, behind the last peer that was seen. It stays good when that peer is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(Option<ConnectionId>);

impl Cursor {
    /// Before the first peer.
    pub const START: Self = Self(None);

    /// Behind a peer.
    pub fn behind(connection_id: ConnectionId) -> Self {
        Self(Some(connection_id))
    }

    /// The last peer that was seen.
    pub fn last_seen(&self) -> Option<&ConnectionId> {
        self.0.as_ref()
    }
}

/// A part of an audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPage {
    /// Live peers. May be none, and yet more follow: expired rows are left out.
    pub peers: Vec<Peer>,
    /// Where the next page starts. `None` on the last one.
    pub next: Option<Cursor>,
}

/// Outcome of a touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// The connection counts; this is its row, stamped.
    Live(Connection),
    /// The connection counts, and it sent more frames than it may. This one is refused.
    TooFast {
        /// When it may send the next one.
        retry_after: Duration,
        /// Frames that were refused so far.
        refused: u32,
    },
    /// No such connection, or its time is over.
    Unknown,
}

/// Outcome of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The connection's row is gone.
    Removed,
    /// There was none; a newer connection of the same id, if there is one, was left alone.
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
