//! What a subscription gets of a message: the message itself, SNS's envelope (SNS developer guide,
//! "HTTP/HTTPS notification JSON format", which queues get too) or a Lambda event (Lambda developer
//! guide, "Using AWS Lambda with Amazon SNS").

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::message::Notification;
use crate::services::delivery::{Content, DeadLetter, Delivery, Retries, Way};
use crate::services::sqs::{MessageAttribute, MessageAttributes};
use crate::template::arn;
use crate::template::model::{Subscription, Target};

/// Who delivers.
const PRINCIPAL: &str = "sns.amazonaws.com";

/// What stands in for the signature and what belongs to it.
const NOT_SIGNED: &str = "messages of the local region are not signed";

/// Attempts of a delivery to a queue or a function, and how long they last at most ("Message
/// delivery retries").
const ATTEMPTS: u32 = 100_015;
const LONGEST: Duration = Duration::from_hours(24 * 24);

/// A message with what SNS adds to it.
pub(super) struct Published<'a> {
    pub(super) id: String,
    pub(super) at: Timestamp,
    pub(super) topic_arn: &'a str,
    pub(super) notification: &'a Notification,
}

/// The delivery of a message to a subscription.
pub(super) fn to(subscription: &Subscription, published: &Published<'_>, way: Option<Way>) -> Delivery {
    let content = content(subscription, published);
    let dead_letter = subscription.dead_letter_queue.as_ref().map(|queue| DeadLetter {
        queue: queue.clone(),
        content: content.clone(),
        explain: |_| MessageAttributes::new(),
    });
    Delivery {
        principal: PRINCIPAL,
        source_arn: published.topic_arn.to_owned(),
        target: subscription.target.clone(),
        content,
        retries: Retries { maximum: ATTEMPTS - 1, maximum_age: LONGEST, pause },
        dead_letter,
        way,
    }
}

/// Three at once, two after a second each, ten that grow from 1 to 20 seconds, then every 20
/// seconds.
fn pause(retry: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(20);
    match retry {
        0..=3 => Duration::ZERO,
        4..=5 => Duration::from_secs(1),
        6..=15 => LONGEST.min(Duration::from_secs(1) * 2_u32.pow((retry - 6).min(5))),
        _ => LONGEST,
    }
}

fn content(subscription: &Subscription, published: &Published<'_>) -> Content {
    let none = MessageAttributes::new();
    let notification = published.notification;
    match subscription.target {
        Target::Queue(_) if subscription.raw => {
            Content { body: notification.message.clone(), attributes: notification.attributes.clone() }
        }
        Target::Queue(_) => {
            let envelope = envelope(published, ["SigningCertURL", "UnsubscribeURL"]);
            Content { body: Value::Object(envelope).to_string(), attributes: none }
        }
        Target::Function(_) => {
            Content { body: lambda_event(subscription, published).to_string(), attributes: none }
        }
    }
}

fn envelope(published: &Published<'_>, [certificate, unsubscribe]: [&str; 2]) -> Map<String, Value> {
    let Published { id, at, topic_arn, notification } = published;
    let mut envelope = Map::new();
    for (name, value) in [
        ("Type", "Notification"),
        ("MessageId", id),
        ("TopicArn", topic_arn),
        ("Message", &notification.message),
        ("Timestamp", &format!("{at:.3}")),
        ("SignatureVersion", "1"),
        ("Signature", NOT_SIGNED),
        (certificate, NOT_SIGNED),
        (unsubscribe, NOT_SIGNED),
    ] {
        envelope.insert(name.to_owned(), value.into());
    }
    if let Some(subject) = &notification.subject {
        envelope.insert("Subject".to_owned(), subject.as_str().into());
    }
    if !notification.attributes.is_empty() {
        envelope.insert("MessageAttributes".to_owned(), attributes(&notification.attributes));
    }
    envelope
}

fn attributes(attributes: &MessageAttributes) -> Value {
    let shown = attributes.iter().map(|(name, attribute)| {
        let MessageAttribute { data_type, string_value, binary_value } = attribute;
        (name.clone(), json!({"Type": data_type, "Value": string_value.as_ref().or(binary_value.as_ref())}))
    });
    Value::Object(shown.collect())
}

fn lambda_event(subscription: &Subscription, published: &Published<'_>) -> Value {
    let mut sns = envelope(published, ["SigningCertUrl", "UnsubscribeUrl"]);
    // Always there, unlike in a queue.
    sns.entry("Subject").or_insert(Value::Null);
    sns.entry("MessageAttributes").or_insert_with(|| json!({}));
    json!({"Records": [{
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": arn::subscription(published.topic_arn, &subscription.id),
        "Sns": sns,
    }]})
}
