//! Delivery of messages to the sockets of this region, from a user's frame to the posts.
//!
//! # Protocol
//! 1. [`Messenger::send`] accepts a user's message. The sender's session is checked concurrently;
//!    the result is known before the first post.
//! 2. The message becomes a [`Frame`]. A frame over 128 KB is refused before the first post.
//! 3. [`Deliverer::deliver`] reads the audience page by page and posts to at most [`MAX_IN_FLIGHT`]
//!    peers at a time; the next page is read while the current one is posted. Each peer has its own
//!    [`PostOutcome`]; a failing peer neither fails nor delays the others.
//! 4. A throttled post is retried with jitter. The row of a peer that is gone is removed from the
//!    registry. A peer whose handshake is not answered yet looks the same to a post, and keeps its
//!    row.
//! 5. No post starts that could outlast the deadline. The rest of the audience is a [`Cursor`]
//!    after the last peer, and [`FanOut`] passes it to a new invocation ([`Continuation`]). Nothing
//!    is cut off silently.
//!
//! # Closing
//! [`SocketCloser`] closes sockets whose session has ended. It reads the same pages with the same
//! bounds, and documents its own promise.
//!
//! # Other regions
//! A connection id has no meaning outside its region. [`FanOut`] therefore delivers in this region,
//! and messages for other regions are published to topics (`topics.rs` has the protocol).
//!
//! # Undelivered messages
//! A message is accepted for a user, not for a socket. If no socket of the user took it, the inbox
//! stores it ([`crate::sockets::inbox`]). For a message to one user, that is known after all
//! sockets were tried. A broadcast reaches the sockets of a user at different times, so it stores
//! the message for each socket that did not take it; the inbox stores a message once per user. A
//! user with another socket that took it may get it twice.
//!
//! # Limits
//! A message reaches a peer at least once while the peer is connected: an invocation that dies
//! between two posts is repeated from its cursor. Receivers drop a `messageId` that they have seen.
//! An acknowledgement counts the sockets for which API Gateway took the message, not the people who
//! read it. API Gateway may take a message for a socket whose client is gone without a close: that
//! message is lost.

use crate::sockets::connections::Cursor;

mod audience;
mod close;
mod consumer;
mod deliver;
mod fan_out;
mod gateway;
mod message;
mod messenger;
mod recipients;
mod topics;
mod unreached;

pub use close::{CloseOutcome, CloseReport, LAST_CLOSE_MARGIN, SocketCloser};
pub use consumer::{ConsumeError, TopicConsumer};
pub use deliver::{Deliverer, MAX_IN_FLIGHT};
pub use fan_out::{Continuation, DeliveryProgress, FanOut, HAND_ON_MARGIN, HopReport, MAX_HOPS, NextHop};
pub use gateway::{ApiGateway, LAST_START_MARGIN};
pub use message::{Body, Frame, FrameTooLarge, InvalidMessageType, MAX_FRAME_BYTES, Message, MessageType};
pub use messenger::{Ack, Messenger, Recipient, SendError, SendRequest};
pub use recipients::{InvalidMessagesFrom, MessagesFrom, Recipients, RecipientsPerMinute};
pub use topics::{NotPublished, PeerTopics, Task, Topic, TopicMessage};

/// The result of delivering to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostOutcome {
    /// The gateway took it.
    Delivered,
    /// The connection has ended, and its row is removed; or it is not open yet, and the row stays.
    Gone,
    /// Throttled until the retries ended.
    Throttled,
    /// Too large for the gateway.
    TooLarge,
    /// Failed twice.
    Failed,
}

impl PostOutcome {
    /// All values.
    pub const ALL: [Self; 5] = [Self::Delivered, Self::Gone, Self::Throttled, Self::TooLarge, Self::Failed];

    /// The metric's dimension.
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

/// The results of one hop of a delivery: a count per outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    /// Peers that got it.
    pub delivered: u64,
    /// Peers that were gone.
    pub gone: u64,
    /// Peers that were throttled to the end.
    pub throttled: u64,
    /// Peers whose gateway found it too large.
    pub too_large: u64,
    /// Peers whose posts failed.
    pub failed: u64,
    /// Peers that did not take it, whose users have it in the inbox.
    pub stored: u64,
    /// Peers that did not take it, whose users' inbox is full.
    pub full: u64,
    /// Where to continue, if time was up before the end of the audience.
    pub rest: Option<Cursor>,
}

impl DeliveryReport {
    /// Peers with the given outcome.
    pub fn count(&self, outcome: PostOutcome) -> u64 {
        match outcome {
            PostOutcome::Delivered => self.delivered,
            PostOutcome::Gone => self.gone,
            PostOutcome::Throttled => self.throttled,
            PostOutcome::TooLarge => self.too_large,
            PostOutcome::Failed => self.failed,
        }
    }

    fn add(&mut self, outcome: PostOutcome) {
        let count = match outcome {
            PostOutcome::Delivered => &mut self.delivered,
            PostOutcome::Gone => &mut self.gone,
            PostOutcome::Throttled => &mut self.throttled,
            PostOutcome::TooLarge => &mut self.too_large,
            PostOutcome::Failed => &mut self.failed,
        };
        *count += 1;
    }
}
