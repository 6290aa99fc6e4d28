//! The topics of the stack and who subscribes to them.

use std::sync::{Arc, PoisonError, RwLock};

use super::delivery::{self, Published};
use super::message::Notification;
use super::refusal::Refusal;
use crate::clock;
use crate::services::delivery::{Deliveries, Way};
use crate::services::trail::{Delivered, Passed};
use crate::template::arn::Arns;
use crate::template::model::{Stack, Subscription, Topic};

#[derive(Debug)]
pub(super) struct Topics {
    pub(super) arns: Arns,
    all: Vec<Topic>,
    subscriptions: Vec<Subscription>,
    deliveries: Arc<Deliveries>,
    /// Regions whose stacks subscribe to these topics.
    peers: RwLock<Vec<Peer>>,
}

/// A region that subscribes to topics of another one.
#[derive(Debug)]
pub struct Peer {
    /// All of its subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Delivers to its queues and functions.
    pub deliveries: Arc<Deliveries>,
    pub way: Way,
}

impl Topics {
    pub(super) fn new(stack: &Stack, deliveries: Arc<Deliveries>) -> Self {
        let (all, subscriptions) = (stack.topics.clone(), stack.subscriptions.clone());
        Self { arns: stack.arns.clone(), all, subscriptions, deliveries, peers: RwLock::default() }
    }

    /// Delivers to the subscriptions of `peer` too, from now on.
    pub(super) fn add(&self, peer: Peer) {
        self.peers.write().unwrap_or_else(PoisonError::into_inner).push(peer);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|topic| topic.name.as_str())
    }

    /// The topic of an ARN.
    pub(super) fn find(&self, topic_arn: &str) -> Result<&Topic, Refusal> {
        let name =
            topic_arn.strip_prefix(&self.arns.topic("")).ok_or_else(|| Refusal::parameter("TopicArn"))?;
        self.all.iter().find(|topic| topic.name == name).ok_or_else(Refusal::no_topic)
    }

    /// Delivers a message that was checked to all who are to have it; its id.
    pub(super) fn publish(&self, topic: &Topic, notification: &Notification) -> String {
        let topic_arn = self.arns.topic(&topic.name);
        let published = Published {
            id: uuid::Uuid::new_v4().to_string(),
            at: clock::now(),
            topic_arn: &topic_arn,
            notification,
        };
        let wants = |subscription: &&Subscription| {
            subscription.topic_arn == topic_arn
                && subscription.filter.as_ref().is_none_or(|filter| notification.passes(filter))
        };
        let deliver = |subscription: &Subscription, deliveries: &Arc<Deliveries>, way| Delivered {
            by: subscription.id.clone(),
            to: subscription.target.name().to_owned(),
            outcome: deliveries.deliver(delivery::to(subscription, &published, way)),
        };
        let own = self.subscriptions.iter().filter(wants);
        let mut delivered: Vec<_> =
            own.map(|subscription| deliver(subscription, &self.deliveries, None)).collect();
        for Peer { subscriptions, deliveries, way } in
            &*self.peers.read().unwrap_or_else(PoisonError::into_inner)
        {
            let theirs = subscriptions.iter().filter(wants);
            delivered.extend(theirs.map(|subscription| deliver(subscription, deliveries, Some(way.clone()))));
        }
        self.deliveries.trail.push(Passed {
            at: published.at,
            through: topic_arn.clone(),
            id: published.id.clone(),
            title: notification.subject.clone().unwrap_or_default(),
            body: notification.message.clone(),
            deliveries: delivered,
        });
        published.id
    }
}
