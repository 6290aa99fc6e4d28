//! Messages to the sockets of every region, by SNS topics.
//!
//! # Protocol
//! 1. A region publishes a [`TopicMessage`] to its own topic: the relay for an event (`relay`),
//!    `ws-send` for a user's message ([`PeerTopics`]). There is one [`Topic`] per kind of message.
//! 2. The queue of each region subscribes to the topics of all regions. A user's message is
//!    delivered at once in the sender's region, without a queue. So that region's queue skips its
//!    own messages in the topics `chat` and `notices`: the subscription filters by the attribute
//!    `region`.
//! 3. `ws-deliver` takes the messages of its region's queue, claims each message id, and delivers
//!    to the sockets of its region ([`TopicConsumer`](super::TopicConsumer)).
//!
//! # Undelivered messages
//! The region that publishes a message to a user also stores it in that region's inbox, if no
//! socket there took it. Other regions deliver it and store nothing. A user who is connected to
//! another region only therefore gets the message on the socket, and finds it in the inbox of the
//! first region too, under the same message id. A broadcast is stored by each region for its own
//! sockets that did not take it.

use aws_sdk_sns::Client;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Message, MessageType};
use crate::core::date_time::as_rfc3339;
use crate::core::env::{ConfigError, Env};
use crate::identity::sessions::SessionsRevoked;
use crate::platform::publish::{EntryOutcome, TopicEntry, Topics};
use crate::sockets::connections::Audience;

/// A kind of message, and its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// A user's message to a user.
    Chat,
    /// An operator's message to everybody.
    Notices,
    /// What happened to an order.
    Orders,
    /// What happened to an export.
    Exports,
    /// Sessions that were revoked.
    Sessions,
}

impl Topic {
    /// The environment variable with the topic's ARN.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Chat => "CHAT_TOPIC_ARN",
            Self::Notices => "NOTICES_TOPIC_ARN",
            Self::Orders => "ORDERS_TOPIC_ARN",
            Self::Exports => "EXPORTS_TOPIC_ARN",
            Self::Sessions => "SESSIONS_TOPIC_ARN",
        }
    }
}

/// A message to all regions. A region with an older version ignores unknown members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicMessage {
    pub region: String,
    pub task: Task,
}

/// What a region does for a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// Deliver it to the sockets of this region.
    Deliver { message: Message, to: Audience },
    /// Close the sockets of sessions that were revoked.
    Close {
        /// The sessions. None that began after `at`.
        revoked: SessionsRevoked,
        /// When they were revoked.
        #[serde(with = "as_rfc3339")]
        at: Timestamp,
    },
}

impl TopicMessage {
    /// The message for its topic: JSON text, and the attributes that subscriptions filter by.
    pub fn entry(&self) -> TopicEntry {
        let kind = match &self.task {
            Task::Deliver { message, .. } => message.kind.clone(),
            Task::Close { .. } => MessageType::session_revoked(),
        };
        TopicEntry {
            body: json!(self).to_string(),
            attributes: vec![("region", self.region.clone()), ("type", kind.as_str().to_owned())],
        }
    }
}

/// A user's message did not reach its topic, or that is unknown.
#[derive(Debug, thiserror::Error)]
#[error("the message was not published to {topic}: {reason}")]
pub struct NotPublished {
    pub topic: String,
    pub reason: String,
}

/// The topics by which users' messages reach the other regions.
#[derive(Debug, Clone)]
pub struct PeerTopics {
    topics: Topics,
    chat: String,
    notices: String,
    region: String,
}

impl PeerTopics {
    /// The topics that `CHAT_TOPIC_ARN` and `NOTICES_TOPIC_ARN` name. `None` without them: there is
    /// no other region.
    pub fn from_env(client: Client, env: &Env, region: String) -> Result<Option<Self>, ConfigError> {
        if env.optional(Topic::Chat.variable()).is_none() && env.optional(Topic::Notices.variable()).is_none()
        {
            return Ok(None);
        }
        let arn = |topic: Topic| env.required(topic.variable()).map(str::to_owned);
        let (chat, notices) = (arn(Topic::Chat)?, arn(Topic::Notices)?);
        Ok(Some(Self { topics: Topics::new(client), chat, notices, region }))
    }

    /// Publishes a message that this region delivers itself.
    pub async fn publish(&self, message: &Message, to: &Audience) -> Result<(), NotPublished> {
        let topic = match to {
            Audience::User(_) => &self.chat,
            Audience::Everyone => &self.notices,
        };
        let task = Task::Deliver { message: message.clone(), to: to.clone() };
        let entry = TopicMessage { region: self.region.clone(), task }.entry();
        match self.topics.publish(topic, &[&entry]).await.pop() {
            Some(EntryOutcome::Published) => Ok(()),
            Some(EntryOutcome::Failed(reason) | EntryOutcome::Refused(reason)) => {
                Err(NotPublished { topic: topic.clone(), reason })
            }
            None => Err(NotPublished { topic: topic.clone(), reason: "no answer".to_owned() }),
        }
    }
}
