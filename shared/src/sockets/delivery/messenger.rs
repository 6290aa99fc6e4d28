//! Accepts a user's message: authenticates the sender, checks permission, deduplicates, delivers
//! and acknowledges.
//!
//! 1. Touch the sender's row: one call that returns whose the socket is, whether it is live, and
//!    whether it sends too fast. For a `ping`, only the session is checked then. An unreadable
//!    frame counts as well.
//! 2. Determine the receivers. A broadcast needs the role `operator`. A message about an order goes
//!    to the order's customer, from the customer or an operator; for anybody else the order does
//!    not exist. Whether users may write to others, and to how many, is a setting ([`Recipients`]).
//! 3. If the sender gave a `messageId`, claim it ([`crate::coordination::idempotency`], the
//!    external form): a repetition gets the first acknowledgement and is not delivered.
//! 4. Deliver, and concurrently publish the message for the other regions ([`PeerTopics`]), if
//!    there are any. Then complete the claim with the acknowledgement: each socket took the message
//!    or never will, and the inbox has it for users who were not reached. After an error, or if the
//!    receiver's inbox is full, the claim is released and the sender may repeat the message.
//!
//! The sender's session is checked, and the receiver counted, concurrently with steps 2 and 3 and
//! with reading the first page of the audience: only the first post and the answer wait for them.
//! If the session has ended, nothing is posted, the claim is released, and the sender only learns
//! that. The caller closes that socket, and a socket without a row
//! ([`SendError::ends_the_socket`]).
//!
//! An invocation that dies between delivery and completion leaves a claim that lapses; the
//! repetition is then delivered again under the same `messageId`, which its receivers have seen.

use std::error::Error;
use std::time::Duration;

use futures::future::{join, join3};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fan_out::ReadyHop;
use super::{
    Body, DeliveryProgress, FanOut, FrameTooLarge, HopReport, MAX_FRAME_BYTES, Message, MessageType,
    NotPublished, PeerTopics, Recipients,
};
use crate::coordination::idempotency::dynamo::DynamoClaims;
use crate::coordination::idempotency::{
    Claim, Fingerprint, IdempotencyCheck, IdempotencyKey, KeyedRequest, RequestScope,
};
use crate::core::clock::SharedClock;
use crate::core::cursor::MAX_PAGE_SIZE;
use crate::core::deadline::Deadline;
use crate::core::ids::{MessageId, OrderId, SharedIds, UserId};
use crate::core::reply::Reply;
use crate::identity::sessions::{SessionError, SessionReader, SessionStore};
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::{self, Metric};
use crate::sockets::connections::{
    Connection, ConnectionKey, DynamoConnections, MAX_REFUSED_FRAMES, Touched, json_true,
};
use crate::sockets::inbox::{InboxError, InboxPage, ReadBounds};

/// The operation that message ids are claimed for.
const OPERATION: &str = "message";

/// Bounds of a frame with messages of the inbox, which leave room for its other members.
const FRAME_BOUNDS: ReadBounds = ReadBounds { messages: MAX_PAGE_SIZE, bytes: MAX_FRAME_BYTES - 1_024 };

/// The receiver that a sender names. As JSON `{"userId": …}`, `{"orderId": …}` or
/// `{"broadcast": true}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Recipient {
    /// All sockets of a user.
    UserId(UserId),
    /// All sockets of the customer who placed the order.
    OrderId(OrderId),
    #[serde(with = "json_true")]
    Broadcast,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRequest {
    /// The sender's id for the message, if it may be repeated.
    pub message_id: Option<MessageId>,
    pub to: Recipient,
    pub kind: MessageType,
    pub body: Body,
}

/// The acknowledgement of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "ack", rename_all = "camelCase")]
pub struct Ack {
    /// The message's id: the sender's own, or a new one.
    pub message_id: MessageId,
    /// Sockets that took it so far.
    pub delivered: u64,
    /// Open sockets that did not take it.
    #[serde(default)]
    pub failed: u64,
    /// Whether an inbox has it for a user who was not reached.
    #[serde(default)]
    pub stored: bool,
    /// Whether delivery to more sockets continues.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

/// Why a message was not accepted or not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The sender's connection is unknown or has expired. 401.
    #[error("the sender's connection is not registered or has expired")]
    NotConnected,
    /// The sender's session has ended, 401, or could not be checked: 500, or 503 if a retry may
    /// succeed.
    #[error(transparent)]
    Session(SessionError),
    /// The socket sends more frames than it may. 429.
    #[error("too many frames on this socket")]
    TooFast {
        /// When the next one is accepted.
        retry_after: Duration,
    },
    /// The socket has ignored the limit too often. 429, and the socket is closed.
    #[error("too many refused frames on this socket; it is closed")]
    Flooding,
    /// A message to another user under `MessagesFrom::Parties`. 403.
    #[error(
        "a message goes to the sender or is about one of the sender's orders; others need the role operator"
    )]
    NotAParty,
    /// The sender has written to too many users. 429.
    #[error("the sender has written to too many users within a minute")]
    TooManyReceivers {
        /// The end of the minute.
        retry_after: Duration,
    },
    /// A broadcast by a user without the role `operator`. 403.
    #[error("a broadcast needs the role operator")]
    BroadcastForbidden,
    /// There is no such order, or it belongs to another customer. 404.
    #[error("there is no order {0} that the sender may know of")]
    NoSuchOrder(OrderId),
    /// The same message id is being delivered. 409.
    #[error("a message with this id is being delivered")]
    InProgress {
        /// When that attempt will have ended.
        retry_after: Duration,
    },
    /// The message id was used for another message. 422.
    #[error("the message id was used for another message")]
    MessageIdReused,
    /// The receiver is not connected, and the inbox is full. 409.
    #[error("the receiver is not connected, and the receiver's inbox is full")]
    InboxFull,
    /// A table failed. 500, or 503 if a retry may succeed. The whole message can be sent again:
    /// receivers drop duplicates.
    #[error(transparent)]
    Store(#[from] DynamoError),
    /// The sender's inbox could not be read. The status is that of the error.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// The frame is above the limit of a socket. 413.
    #[error(transparent)]
    TooLarge(#[from] FrameTooLarge),
    /// The message was not published for the other regions. 503: the whole message can be sent
    /// again. With the sender's own message id, receivers drop duplicates.
    #[error(transparent)]
    NotPublished(#[from] NotPublished),
    /// The invocation for the rest of the audience could not be started. 503: the whole message can
    /// be sent again; receivers drop duplicates.
    #[error("the next hop of a delivery could not be started")]
    NotHandedOn(#[source] Box<dyn Error + Send + Sync>),
}

impl SendError {
    /// Whether the sending socket must be closed.
    pub fn ends_the_socket(&self) -> bool {
        matches!(self, Self::NotConnected | Self::Flooding | Self::Session(SessionError::Ended))
    }
}

/// Accepts users' messages.
#[derive(Debug)]
pub struct Messenger {
    pub registry: DynamoConnections,
    pub sessions: SessionStore,
    /// Records which messages were sent before.
    pub claims: DynamoClaims,
    /// Decides whom users may write to.
    pub recipients: Recipients,
    /// Delivers, and starts further hops.
    pub fan_out: FanOut,
    /// The other regions, if there are any.
    pub peers: Option<PeerTopics>,
    pub clock: SharedClock,
    pub ids: SharedIds,
}

/// What happens to a permitted message.
enum Accepted {
    New { claim: Option<Claim>, hop: Box<ReadyHop> },
    Repeated(Ack),
}

impl Messenger {
    /// Accepts a frame of the connection and stamps the connection. For an unreadable frame, this
    /// is all.
    pub async fn touch(&self, sender: &ConnectionKey) -> Result<Connection, SendError> {
        match self.registry.touch(sender).await? {
            Touched::Live(connection) => Ok(connection),
            Touched::TooFast { retry_after, refused } => {
                telemetry::count_case(Metric::SocketLimits, "frames", 1);
                let is_flood = refused >= MAX_REFUSED_FRAMES;
                Err(if is_flood { SendError::Flooding } else { SendError::TooFast { retry_after } })
            }
            Touched::Unknown => Err(SendError::NotConnected),
        }
    }

    /// Checks that the connection and its session are live, and stamps the connection. Otherwise a
    /// socket that only listens and pings would outlive a revocation that missed it.
    pub async fn ping(&self, sender: &ConnectionKey) -> Result<(), SendError> {
        let sender = self.touch(sender).await?;
        self.check_session(&sender).await
    }

    /// The messages in the inbox of the connection's user, after the cursor `after`: as many as fit
    /// into a frame.
    pub async fn inbox(&self, reader: &ConnectionKey, after: Option<&str>) -> Result<InboxPage, SendError> {
        let reader = self.touch(reader).await?;
        let inbox = self.fan_out.inbox();
        let page = inbox.read(&reader.user_id, after, FRAME_BOUNDS);
        let (session, page) = join(self.check_session(&reader), page).await;
        session?;
        Ok(page?)
    }

    /// Accepts and delivers a message of the connection `sender`.
    pub async fn send(
        &self,
        sender: &ConnectionKey,
        request: SendRequest,
        deadline: Deadline,
    ) -> Result<Ack, SendError> {
        let sender = self.touch(sender).await?;
        let to = request.to.clone();
        let (session, counted, accepted) = join3(
            self.check_session(&sender),
            self.recipients.count(&sender, &to),
            self.accept(&sender, request, deadline),
        )
        .await;
        let (claim, hop) = match accepted {
            Ok(Accepted::New { claim, hop }) => (claim, hop),
            Ok(Accepted::Repeated(ack)) => return session.map(|()| ack),
            Err(error) => return Err(session.err().unwrap_or(error)),
        };
        let sent = match session.and(counted) {
            Ok(()) => self.deliver(*hop, deadline).await,
            Err(error) => Err(error),
        };
        // The sender gets the result of the delivery. A record that could not be written costs at
        // most a second delivery, which receivers drop.
        if let Some(claim) = &claim {
            let reply = sent.as_ref().ok().map(|ack| Reply::json(200, json!(ack)));
            self.claims.settle(claim, reply.as_ref()).await;
        }
        sent
    }

    async fn check_session(&self, sender: &Connection) -> Result<(), SendError> {
        let rows =
            self.sessions.read(&sender.session_id, &sender.user_id).await.map_err(SendError::Session)?;
        if rows.admit_socket(&sender.session_id, &sender.user_id, self.clock.now()) {
            Ok(())
        } else {
            Err(SendError::Session(SessionError::Ended))
        }
    }

    /// Steps 2 and 3, and the data that the first post needs.
    async fn accept(
        &self,
        sender: &Connection,
        request: SendRequest,
        deadline: Deadline,
    ) -> Result<Accepted, SendError> {
        let target = self.recipients.audience(sender, &request.to).await?;
        let (message_id, claim) = match &request.message_id {
            None => (self.ids.next(), None),
            Some(id) => {
                let keyed = keyed(&sender.user_id, id, &request)?;
                match self.claims.claim(keyed, deadline.remaining()).await? {
                    IdempotencyCheck::Start(claim) => (id.clone(), Some(claim)),
                    IdempotencyCheck::Replay(reply) => return first_ack(reply).map(Accepted::Repeated),
                    IdempotencyCheck::InProgress { retry_after } => {
                        return Err(SendError::InProgress { retry_after });
                    }
                    IdempotencyCheck::Mismatch => return Err(SendError::MessageIdReused),
                }
            }
        };
        let message = Message {
            kind: request.kind,
            message_id,
            from: Some(sender.user_id.clone()),
            sent_at: self.clock.now(),
            body: request.body,
        };
        let hop = Box::new(self.fan_out.prepare(message, target, deadline).await);
        Ok(Accepted::New { claim, hop })
    }

    async fn deliver(&self, hop: ReadyHop, deadline: Deadline) -> Result<Ack, SendError> {
        let message_id = hop.message_id().clone();
        let is_to_one_user = hop.is_to_one_user();
        let copy = self.peers.as_ref().map(|peers| (peers, hop.addressed()));
        let publish = async {
            match &copy {
                Some((peers, (message, to))) => peers.publish(message, to).await,
                None => Ok(()),
            }
        };
        let (sent, published) = join(self.fan_out.post(hop, deadline), publish).await;
        let HopReport { progress, delivered, failed, stored, full } = sent?;
        published?;
        if is_to_one_user && full > 0 {
            return Err(SendError::InboxFull);
        }
        let continues = progress == DeliveryProgress::HandedOn;
        Ok(Ack { message_id, delivered, failed, stored: stored > 0, continues })
    }
}

fn keyed(user: &UserId, message_id: &MessageId, request: &SendRequest) -> Result<KeyedRequest, DynamoError> {
    let target = format!("message {message_id}");
    let key: Result<IdempotencyKey, _> = message_id.as_str().parse();
    let key = key.map_err(|error| DynamoError::unreadable("PutItem", &target, error))?;
    let body = request.body.value();
    let body = body.map_err(|error| DynamoError::unreadable("PutItem", &target, error))?;
    let payload = json!({ "to": request.to, "type": request.kind, "body": body });
    Ok(KeyedRequest {
        scope: RequestScope::new(OPERATION, user, key),
        fingerprint: Fingerprint::of(&payload),
    })
}

fn first_ack(reply: Reply) -> Result<Ack, SendError> {
    serde_json::from_value(reply.body.unwrap_or_default())
        .map_err(|error| DynamoError::unreadable("PutItem", "a message's record", error).into())
}
