//! A message that was published: its checks, and what filter policies see of it.

use serde_json::{Map, Value};

use super::form::Part;
use super::refusal::Refusal;
use crate::patterns::FilterScope;
use crate::services::sqs::{Message, MessageAttribute, MessageAttributes};
use crate::template::model::FilterPolicy;

/// Characters of a subject (SNS API reference, `Publish`).
const MAX_SUBJECT_CHARACTERS: usize = 100;

/// Parameters that are not served here, and what they are for.
const NOT_SERVED: [(&str, &str); 3] = [
    ("MessageStructure", "MessageStructure is not served here"),
    (
        "MessageDeduplicationId",
        "The request includes MessageDeduplicationId, which is not valid for this topic type",
    ),
    ("MessageGroupId", "MessageGroupId is not served here"),
];

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) message: String,
    pub(super) subject: Option<String>,
    pub(super) attributes: MessageAttributes,
}

impl Notification {
    /// Reads a message as it came, without a look at it.
    pub(super) fn read(part: &Part<'_>) -> Result<Self, Refusal> {
        if let Some((_, reason)) = NOT_SERVED.iter().find(|(name, _)| part.get(name).is_some()) {
            return Err(Refusal::parameter(reason));
        }
        let attributes = part.attributes().map_err(|name| attribute(&name, "it comes twice"))?;
        Ok(Self {
            message: part.get("Message").unwrap_or_default().to_owned(),
            subject: part.get("Subject").map(str::to_owned),
            attributes,
        })
    }

    /// Whether a topic takes it whose `MaximumMessageSize` is `limit`.
    pub(super) fn check(&self, limit: usize) -> Result<(), Refusal> {
        if self.message.is_empty() {
            return Err(Refusal::parameter("Empty message"));
        }
        if self.size_bytes() > limit {
            return Err(Refusal::parameter("Message too long"));
        }
        if self.subject.as_deref().is_some_and(|subject| !is_subject(subject)) {
            return Err(Refusal::parameter("Subject"));
        }
        for (name, value) in &self.attributes {
            value.check(name).map_err(|reason| attribute(name, reason))?;
            if value.data_type == "String.Array" && elements(value).is_none() {
                return Err(attribute(
                    name,
                    "it must be a JSON array of texts, numbers, true, false and null",
                ));
            }
        }
        Ok(())
    }

    /// Body and attributes. The subject is not counted.
    pub(super) fn size_bytes(&self) -> usize {
        Message::size_of(&self.message, &self.attributes)
    }

    /// Whether a subscription with that filter policy gets it.
    pub(super) fn passes(&self, filter: &FilterPolicy) -> bool {
        let seen = match filter.scope {
            // Not even `{"exists": false}` matches a message without attributes ("Key matching" in
            // the SNS developer guide).
            FilterScope::MessageAttributes if self.attributes.is_empty() => return false,
            FilterScope::MessageAttributes => self.attributes_seen(),
            // What is no JSON object matches no policy ("Filter policy scope", same guide).
            FilterScope::MessageBody => serde_json::from_str(&self.message).unwrap_or(Value::Null),
        };
        filter.pattern.matches(&seen)
    }

    /// Policies see texts, lists of texts and numbers, not binaries ("Filter policy constraints",
    /// same guide).
    fn attributes_seen(&self) -> Value {
        let seen = |(name, value): (&String, &MessageAttribute)| {
            let text = value.string_value.as_deref()?;
            let seen = match value.data_type.split('.').next() {
                _ if value.data_type == "String.Array" => elements(value)?,
                // `+5` and `.5` are numbers to SNS, and none to JSON.
                Some("Number") => match serde_json::from_str(text) {
                    Ok(number) => number,
                    Err(_) => text.parse::<f64>().ok()?.into(),
                },
                _ => Value::from(text),
            };
            Some((name.clone(), seen))
        };
        Value::Object(self.attributes.iter().filter_map(seen).collect::<Map<_, _>>())
    }
}

/// The elements of a `String.Array`.
fn elements(attribute: &MessageAttribute) -> Option<Value> {
    let value: Value = serde_json::from_str(attribute.string_value.as_deref()?).ok()?;
    let is_leaf = |element: &Value| !(element.is_array() || element.is_object());
    value.as_array()?.iter().all(is_leaf).then_some(value)
}

/// ASCII that begins with a letter, digit or punctuation mark and has no control characters
/// (`Publish`).
fn is_subject(subject: &str) -> bool {
    (1..=MAX_SUBJECT_CHARACTERS).contains(&subject.len())
        && subject.starts_with(|first: char| first.is_ascii_graphic())
        && subject.chars().all(|character| character.is_ascii_graphic() || character == ' ')
}

fn attribute(name: &str, reason: &str) -> Refusal {
    let message = format!("The message attribute '{name}' is invalid: {reason}.");
    Refusal::bad("ParameterValueInvalid", &message)
}
