//! `AWS::SNS::Topic` and `AWS::SNS::Subscription`.
//!
//! A subscription may name a topic of another region. It is read and delivers nothing here: one
//! region runs at a time.
//!
//! What AWS refuses when the stack is deployed is refused here. Refused as well, since it is not
//! done here: FIFO topics, the property `Subscription` of a topic, and other protocols than `sqs`
//! and `lambda`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Problem;
use super::model::{FilterPolicy, Subscription, Target, Topic};
use super::properties::{Properties, unexpected};
use super::queues;
use super::scope::{Located, Scope};
use crate::patterns::{FilterScope, Pattern};

pub(super) const TOPIC: &str = "AWS::SNS::Topic";
pub(super) const SUBSCRIPTION: &str = "AWS::SNS::Subscription";

/// `MaximumMessageSize` of a topic: its default and its range (SNS developer guide, "Publishing
/// large messages").
const DEFAULT_MESSAGE_BYTES: u64 = 256 * 1024;
const MESSAGE_BYTES: std::ops::RangeInclusive<u64> = 1_024..=1_048_576;

/// What a subscription may consist of.
const PROPERTIES: [&str; 8] = [
    "Endpoint",
    "FilterPolicy",
    "FilterPolicyScope",
    "Protocol",
    "RawMessageDelivery",
    "RedrivePolicy",
    "Region",
    "TopicArn",
];

pub(super) fn topics(scope: &Scope<'_>) -> Result<Vec<Topic>, Located> {
    let read = |(id, resource): (&str, &Value)| {
        topic(id, Properties::of(resource, scope)).map_err(|problem| (id.to_owned(), problem))
    };
    scope.of_type(TOPIC).map(read).collect()
}

fn topic(id: &str, properties: Properties<'_>) -> Result<Topic, Problem> {
    if properties.flag("FifoTopic")? == Some(true) {
        return Err(unsupported("a FIFO topic", "use a standard topic, and have the order in the messages"));
    }
    if properties.raw("Subscription").is_some() {
        return Err(unsupported("Subscription of a topic", "write an AWS::SNS::Subscription"));
    }
    let bytes = properties.number("MaximumMessageSize")?.unwrap_or(DEFAULT_MESSAGE_BYTES);
    if !MESSAGE_BYTES.contains(&bytes) {
        return Err(unexpected("MaximumMessageSize", "1024 to 1048576"));
    }
    Ok(Topic {
        name: properties.scope().physical_name(id)?,
        maximum_message_bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
    })
}

/// All subscriptions. `functions` has the functions' short names by their ARNs.
pub(super) fn subscriptions(
    scope: &Scope<'_>,
    functions: &BTreeMap<String, String>,
) -> Result<Vec<Subscription>, Located> {
    let read = |(id, resource): (&str, &Value)| {
        let properties = Properties::of(resource, scope);
        subscription(id, properties, functions).map_err(|problem| (id.to_owned(), problem))
    };
    scope.of_type(SUBSCRIPTION).map(read).collect()
}

fn subscription(
    id: &str,
    properties: Properties<'_>,
    functions: &BTreeMap<String, String>,
) -> Result<Subscription, Problem> {
    if let Some(other) = properties.names().find(|name| !PROPERTIES.contains(name)) {
        return Err(unsupported(&format!("{other} of a subscription"), "leave it out"));
    }
    let endpoint = properties.text("Endpoint")?;
    let target = match properties.text("Protocol")?.as_str() {
        "sqs" => Target::Queue(queues::named(&endpoint, properties.scope())?),
        "lambda" => function(&endpoint, functions)?,
        other => return Err(unsupported(&format!("the protocol {other}"), "use sqs or lambda")),
    };
    let raw = properties.flag("RawMessageDelivery")?.unwrap_or(false);
    if raw && matches!(target, Target::Function(_)) {
        return Err(unexpected("RawMessageDelivery", "left out where the protocol is lambda"));
    }
    let dead_letter_queue = match object(properties, "RedrivePolicy")? {
        None => None,
        Some(policy) => {
            let arn = Properties::within(&policy, properties.scope()).text("deadLetterTargetArn")?;
            Some(queues::named(&arn, properties.scope())?)
        }
    };
    Ok(Subscription {
        id: id.to_owned(),
        topic_arn: properties.text("TopicArn")?,
        target,
        raw,
        filter: filter(properties)?,
        dead_letter_queue,
    })
}

fn filter(subscription: Properties<'_>) -> Result<Option<FilterPolicy>, Problem> {
    let scope = match subscription.optional_text("FilterPolicyScope")?.as_deref() {
        None | Some("MessageAttributes") => FilterScope::MessageAttributes,
        Some("MessageBody") => FilterScope::MessageBody,
        Some(_) => return Err(unexpected("FilterPolicyScope", "MessageAttributes or MessageBody")),
    };
    let Some(policy) = object(subscription, "FilterPolicy")? else { return Ok(None) };
    let pattern = Pattern::parse_filter_policy(&policy, scope).map_err(Problem::Pattern)?;
    Ok(Some(FilterPolicy { policy, scope, pattern }))
}

/// The function of this template that has the ARN `arn`.
pub(super) fn function(arn: &str, functions: &BTreeMap<String, String>) -> Result<Target, Problem> {
    functions.get(arn).cloned().map(Target::Function).ok_or_else(|| {
        let what = format!("the function {arn}, which is not of this template,");
        unsupported(&what, "name one of its functions, by !GetAtt Function.Arn")
    })
}

/// An object, also one that is written as the text of its JSON.
pub(super) fn object(properties: Properties<'_>, name: &'static str) -> Result<Option<Value>, Problem> {
    let wrong = || unexpected(name, "a JSON object");
    match properties.value(name)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let value: Value = serde_json::from_str(&text).map_err(|_| wrong())?;
            if value.is_object() { Ok(Some(value)) } else { Err(wrong()) }
        }
        Some(value @ Value::Object(_)) => Ok(Some(value)),
        Some(_) => Err(wrong()),
    }
}

pub(super) fn unsupported(what: &str, instead: &'static str) -> Problem {
    Problem::Unsupported { what: what.to_owned(), instead }
}
