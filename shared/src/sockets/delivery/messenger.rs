//! Acceptance of a user's message: who sends it, may they, was it sent before. Then it is delivered and acknowledged.
//!
//! 1. Touch the sender's row: one call that tells whose the socket is and whether it still counts. For a `ping` the
//!    session is read then, and that is all.
//! 2. Decide whom it goes to. A broadcast needs the role `operator`. A message about an order goes to the order's
//!    customer, from the customer or an operator; to anybody else the order does not exist.
//! 3. With a `messageId` of the sender's own, claim it ([`crate::coordination::idempotency`], the external form): a repetition gets
//!    the first acknowledgement again and is delivered to nobody.
//! 4. Deliver, then complete the claim with the acknowledgement. If delivery fails as a whole, the claim is released
//!    and the sender may repeat the message.
//!
//! The sender's session is read beside all this, from the end of the first step on: nothing waits for it but the first
//! post ([`Permission`]) and the answer. If it has ended, nobody is posted to, the claim is released, and the sender learns
//! that and nothing else. Its socket, like one without a row, is for the caller to close
//! ([`SendError::ends_the_socket`]).
//!
//! An invocation that dies between delivery and completion leaves a claim that lapses; the repetition is then delivered
//! again under the same `messageId`, which its receivers have seen.

use std::future::Future;
use std::time::Duration;

use futures::future::join;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Body, Continue, FanOut, FanOutError, Message, MessageType, Permission, PostToConnection, Progress,
};
use crate::coordination::idempotency::dynamo::DynamoClaims;
use crate::coordination::idempotency::{
    Admission, Claim, Fingerprint, IdempotencyKey, KeyedRequest, Scope, Settlement,
};
use crate::core::clock::SharedClock;
use crate::core::deadline::Deadline;
use crate::core::ids::{MessageId, OrderId, SharedIds, UserId};
use crate::core::reply::Reply;
use crate::identity::principal::Role;
use crate::identity::sessions::{SessionError, SessionReader};
use crate::platform::dynamo::DynamoError;
use crate::platform::telemetry::chain;
use crate::sockets::connections::{Audience, Connection, ConnectionKey, Find, Remove, Touch, Touched, True};

/// The operation that message ids are claimed for.
const OPERATION: &str = "message";

/// Whom a sender names. As JSON `{"userId": …}`, `{"orderId": …}` or `{"broadcast": true}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Recipient {
    /// All sockets of a user.
    UserId(UserId),
    /// All sockets of the customer who placed the order.
    OrderId(OrderId),
    /// Everybody.
    Broadcast(True),
}

/// A message as its sender wants it sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRequest {
    /// The sender's own id for it, if it may be repeated.
    pub message_id: Option<MessageId>,
    /// To whom.
    pub to: Recipient,
    /// What it is about.
    pub kind: MessageType,
    /// Its content.
    pub body: Body,
}

/// The answer to a message that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "ack", rename_all = "camelCase")]
pub struct Ack {
    /// The message's id: the sender's own, or a new one.
    pub message_id: MessageId,
    /// Sockets that took it so far.
    pub delivered: u64,
    /// Whether more sockets are still being served.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The sender's connection is unknown or over. 401.
    #[error("the sender's connection is not registered, or its time is over")]
    NotConnected,
    /// The sender's session has ended, 401, or could not be checked: 500, or 503 when it will pass.
    #[error(transparent)]
    Session(SessionError),
    /// A broadcast by somebody who is no operator. 403.
    #[error("a broadcast needs the role operator")]
    BroadcastForbidden,
    /// There is no such order, or it is somebody else's. 404.
    #[error("there is no order {0} that the sender may know of")]
    NoSuchOrder(OrderId),
    /// The same message id is being delivered. 409.
    #[error("the same message id is being delivered")]
    InProgress {
        /// When that will have ended.
        retry_after: Duration,
    },
    /// The message id was used for another message. 422.
    #[error("the message id was used for another message")]
    MessageIdReused,
    /// The store failed. 500, or 503 when it will pass.
    #[error(transparent)]
    Store(#[from] DynamoError),
    /// It could not be delivered. As [`FanOutError`] says.
    #[error(transparent)]
    FanOut(#[from] FanOutError),
}

impl SendError {
    /// Whether the socket that the message came from has no right to be open any more.
    pub fn ends_the_socket(&self) -> bool {
        matches!(self, Self::NotConnected | Self::Session(SessionError::Ended))
    }
}

/// The right to know whose an order is.
pub trait OrderOwners: Send + Sync {
    /// The customer who placed the order; `None` if there is no such order.
    fn owner(&self, order_id: &OrderId) -> impl Future<Output = Result<Option<UserId>, DynamoError>> + Send;
}

/// Takes users' messages.
#[derive(Debug)]
pub struct Messenger<R, S, O, P, C> {
    registry: R,
    sessions: S,
    orders: O,
    claims: DynamoClaims,
    fan_out: FanOut<R, P, C>,
    clock: SharedClock,
    ids: SharedIds,
}

impl<R, S, O, P, C> Messenger<R, S, O, P, C>
where
    R: Touch + Find + Remove,
    S: SessionReader,
    O: OrderOwners,
    P: PostToConnection,
    C: Continue,
{
    /// Takes messages from the connections of `registry` whose `sessions` stand, and sends them by `fan_out`.
    pub fn new(
        registry: R,
        sessions: S,
        orders: O,
        claims: DynamoClaims,
        fan_out: FanOut<R, P, C>,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Self {
        Self { registry, sessions, orders, claims, fan_out, clock, ids }
    }

    /// What delivers; takes the further turns too.
    pub fn fan_out(&self) -> &FanOut<R, P, C> {
        &self.fan_out
    }

    /// The live connection of that key, its activity stamped.
    pub async fn touch(&self, sender: &ConnectionKey) -> Result<Connection, SendError> {
        match self.registry.touch(sender).await? {
            Touched::Live(connection) => Ok(connection),
            Touched::Unknown => Err(SendError::NotConnected),
        }
    }

    /// Finds out whether the connection and its session stand, and stamps it. A socket that only listens and pings would
    /// otherwise outlive a revocation that missed it.
    pub async fn ping(&self, sender: &ConnectionKey) -> Result<(), SendError> {
        let sender = self.touch(sender).await?;
        self.session_stands(&sender).await.map_err(SendError::Session)
    }

    /// Takes a message from the connection `sender`.
    pub async fn send(
        &self,
        sender: &ConnectionKey,
        request: SendRequest,
        deadline: Deadline,
    ) -> Result<Ack, SendError> {
        let sender = self.touch(sender).await?;
        let (grant, permission) = Permission::pending();
        let check = async {
            let stands = self.session_stands(&sender).await;
            if stands.is_ok() {
                grant.give();
            }
            stands
        };
        let (stands, sent) = join(check, self.take(&sender, request, permission, deadline)).await;
        stands.map_err(SendError::Session)?;
        sent
    }

    async fn session_stands(&self, sender: &Connection) -> Result<(), SessionError> {
        let rows = self.sessions.read(&sender.session_id, &sender.user_id).await?;
        let standing = rows.standing_of(&sender.session_id, &sender.user_id, self.clock.now());
        standing.require_live().map(|_| ())
    }

    async fn take(
        &self,
        sender: &Connection,
        request: SendRequest,
        permission: Permission,
        deadline: Deadline,
    ) -> Result<Ack, SendError> {
        let target = self.audience(sender, &request.to).await?;
        let Some(message_id) = &request.message_id else {
            let message = self.message(self.ids.next(), sender, request);
            return self.deliver(message, target, permission, deadline).await;
        };
        match self.claims.claim(keyed(&sender.user_id, message_id, &request)?, deadline.remaining()).await? {
            Admission::Start(claim) => {
                let message = self.message(message_id.clone(), sender, request);
                let sent = self.deliver(message, target, permission, deadline).await;
                self.settle(&claim, sent).await
            }
            Admission::Replay(reply) => first_ack(reply),
            Admission::InProgress { retry_after } => Err(SendError::InProgress { retry_after }),
            Admission::Mismatch => Err(SendError::MessageIdReused),
        }
    }

    async fn audience(&self, sender: &Connection, to: &Recipient) -> Result<Audience, SendError> {
        match to {
            Recipient::UserId(user) => Ok(Audience::User(user.clone())),
            Recipient::Broadcast(all) if sender.has_role(Role::Operator) => Ok(Audience::Everyone(*all)),
            Recipient::Broadcast(_) => Err(SendError::BroadcastForbidden),
            Recipient::OrderId(order_id) => match self.orders.owner(order_id).await? {
                Some(owner) if owner == sender.user_id || sender.has_role(Role::Operator) => {
                    Ok(Audience::User(owner))
                }
                _ => Err(SendError::NoSuchOrder(order_id.clone())),
            },
        }
    }

    fn message(&self, message_id: MessageId, sender: &Connection, request: SendRequest) -> Message {
        Message {
            kind: request.kind,
            message_id,
            from: Some(sender.user_id.clone()),
            sent_at: self.clock.now(),
            body: request.body,
        }
    }

    async fn deliver(
        &self,
        message: Message,
        target: Audience,
        permission: Permission,
        deadline: Deadline,
    ) -> Result<Ack, SendError> {
        let message_id = message.message_id.clone();
        let (delivered, continues) = match self.fan_out.send(message, target, permission, deadline).await? {
            Progress::Complete { delivered } | Progress::Abandoned { delivered } => (delivered, false),
            Progress::HandedOn { delivered } => (delivered, true),
        };
        Ok(Ack { message_id, delivered, continues })
    }

    /// Records the acknowledgement, or frees the message id for a repetition. The sender's answer is what happened to
    /// the message; a record that could not be written costs at most a second delivery, which receivers drop.
    async fn settle(&self, claim: &Claim, sent: Result<Ack, SendError>) -> Result<Ack, SendError> {
        let settled = match &sent {
            Ok(ack) => self.claims.complete(claim, &Reply::json(200, json!(ack))).await,
            Err(_) => self.claims.release(claim).await,
        };
        match settled {
            Ok(Settlement::Recorded) => {}
            Ok(Settlement::Superseded) => tracing::warn!("another attempt took the message over"),
            Err(error) => {
                tracing::warn!(error = chain(&error), "the message id stays claimed until it lapses");
            }
        }
        sent
    }
}

fn keyed(user: &UserId, message_id: &MessageId, request: &SendRequest) -> Result<KeyedRequest, DynamoError> {
    let target = format!("message {message_id}");
    let key: Result<IdempotencyKey, _> = message_id.as_str().parse();
    let key = key.map_err(|error| DynamoError::unreadable("PutItem", &target, error))?;
    let body = request.body.value();
    let body = body.map_err(|error| DynamoError::unreadable("PutItem", &target, error))?;
    let payload = json!({ "to": request.to, "type": request.kind, "body": body });
    Ok(KeyedRequest { scope: Scope::new(OPERATION, user, key), fingerprint: Fingerprint::of(&payload) })
}

fn first_ack(reply: Reply) -> Result<Ack, SendError> {
    serde_json::from_value(reply.body.unwrap_or_default())
        .map_err(|error| DynamoError::unreadable("PutItem", "a message's record", error).into())
}
