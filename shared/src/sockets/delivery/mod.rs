//! Delivery of messages to the sockets of this region, and the way a message takes to get there.
//!
//! # Protocol
//! 1. A user's message is accepted in [`Messenger::send`]: who sends it, may they, was it sent before. Whether the sender's
//!    session still stands is asked meanwhile, and known before the first post ([`Permission`]).
//! 2. It becomes a [`Frame`]: over 128 KB is refused here, before the first post.
//! 3. [`Deliverer::deliver`] walks the audience page by page and posts to at most [`MAX_IN_FLIGHT`] peers at a time;
//!    the next page is read while the present one is posted. Each peer has its own [`Outcome`]; one bad peer fails
//!    nobody else and holds nobody up.
//! 4. A throttled post is tried again with jitter; a peer that is gone is removed from the registry, and nobody else.
//!    One that is only being opened looks the same to a post, and keeps its row.
//! 5. No post is begun that could outlast the deadline. What is left is a [`Cursor`] behind the last peer that was
//!    served, and [`FanOut`] hands it to a fresh invocation ([`Continuation`]): never silently cut off.
//!
//! # Closing
//! [`SocketCloser`] ends sockets whose session has ended, with the same walk and the same bounds. What it promises is
//! told there. [`EndingSockets`] joins it to whatever ends sessions.
//!
//! # The seam between regions
//! [`FanOut`] *delivers here*. Everything above it (acceptance, acknowledgement) does not know that; with more regions
//! a message is *published* at that point instead, and each region's consumer calls [`FanOut::send`] for its own
//! sockets, with the message id as the key that makes a repetition harmless.
//!
//! # Limits
//! A message reaches a peer at least once as long as the peer is there: an invocation that dies between two posts is
//! repeated from its cursor. Receivers drop a `messageId` that they have seen. An acknowledgement counts the sockets
//! that API Gateway took the message for, not the people who read it.

use std::error::Error;
use std::future::Future;

use crate::core::ids::ConnectionId;
use crate::sockets::connections::{CallbackEndpoint, Cursor};

mod close;
mod deliver;
mod dynamo;
mod ending;
mod fan_out;
mod gateway;
mod lambda;
mod message;
mod messenger;
mod patience;
mod permission;
mod walk;

pub use crate::commerce::orders::dynamo::DynamoOrders as DynamoOrderOwners;
pub use close::{AwsSocketCloser, Closed, Closing, LAST_CLOSE_MARGIN, Selection, SocketCloser};
pub use deliver::{DeliverError, Deliverer, MAX_IN_FLIGHT};
pub use ending::EndingSockets;
pub use fan_out::{
    Continuation, Continue, FanOut, FanOutError, HAND_ON_MARGIN, MAX_HOPS, NotHandedOn, Progress,
};
pub use gateway::ApiGateway;
pub use lambda::SelfInvocation;
pub use message::{Body, Frame, FrameTooLarge, InvalidMessageType, MAX_FRAME_BYTES, Message, MessageType};
pub use messenger::{Ack, Messenger, OrderOwners, Recipient, SendError, SendRequest};
pub use patience::LAST_START_MARGIN;
pub use permission::{Grant, Permission, Withheld};

/// Why one post to one socket did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// 410: the connection is over, or not yet established.
    #[error("the connection is gone")]
    Gone,
    /// 429: too many posts, or the receiver's buffer is full. Later may do.
    #[error("the post was throttled")]
    Throttled,
    /// 413: the frame is larger than the gateway takes.
    #[error("the frame is too large for the gateway")]
    TooLarge,
    /// Anything else: forbidden, a server error, no answer in time.
    #[error("the post failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Posts to sockets.
pub trait PostToConnection: Send + Sync {
    /// Tries once to hand `frame` to one connection of the API at `endpoint`.
    fn post(
        &self,
        endpoint: &CallbackEndpoint,
        connection_id: &ConnectionId,
        frame: &Frame,
    ) -> impl Future<Output = Result<(), PostError>> + Send;
}

/// Why a socket was not closed by one call.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// 410: the connection is over, or not yet established.
    #[error("the connection is gone")]
    Gone,
    /// 429: too many calls. Later may do.
    #[error("the call was throttled")]
    Throttled,
    /// Anything else: forbidden, a server error, no answer in time.
    #[error("the connection could not be closed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Closes sockets.
pub trait CloseConnection: Send + Sync {
    /// Tries once to close one connection of the API at `endpoint`. What was posted to it before goes out first.
    fn close(
        &self,
        endpoint: &CallbackEndpoint,
        connection_id: &ConnectionId,
    ) -> impl Future<Output = Result<(), CloseError>> + Send;
}

/// How the delivery to one peer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway took it.
    Delivered,
    /// The connection is over, and its row is removed; or it is not open yet, and the row stays.
    Gone,
    /// Throttled until patience or time ran out.
    Throttled,
    /// The gateway found it too large.
    TooLarge,
    /// Failed twice.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Delivered, Self::Gone, Self::Throttled, Self::TooLarge, Self::Failed];

    /// The metric's case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Throttled => "throttled",
            Self::TooLarge => "too_large",
            Self::Failed => "failed",
        }
    }
}

/// How one turn of a delivery went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Peers that got it.
    pub delivered: u64,
    /// Peers that were over.
    pub gone: u64,
    /// Peers that were throttled to the end.
    pub throttled: u64,
    /// Peers whose gateway found it too large.
    pub too_large: u64,
    /// Peers that it failed for.
    pub failed: u64,
    /// Where to go on, if time ran out before the audience did.
    pub rest: Option<Cursor>,
}

impl Report {
    /// Peers with the given outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Delivered => self.delivered,
            Outcome::Gone => self.gone,
            Outcome::Throttled => self.throttled,
            Outcome::TooLarge => self.too_large,
            Outcome::Failed => self.failed,
        }
    }

    fn add(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Delivered => &mut self.delivered,
            Outcome::Gone => &mut self.gone,
            Outcome::Throttled => &mut self.throttled,
            Outcome::TooLarge => &mut self.too_large,
            Outcome::Failed => &mut self.failed,
        };
        *count += 1;
    }
}
