//! A message: its type, its body, and the frame that receivers get.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::ids::{MessageId, UserId};
use crate::platform::outbox::EventType;

/// Largest frame, in bytes: API Gateway's limit (128 KB).
pub const MAX_FRAME_BYTES: usize = 128 * 1024;

/// First segments that users may not send. The first three are messages of the service, which
/// receivers trust; the others are answers to a sender, which use the same socket.
const RESERVED: &[&str] = &["order", "session", "export", "ack", "error", "inbox", "pong"];

/// Text that is not a message type, or a type that users may not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessageType {
    /// The form is wrong.
    #[error("a message type is words of a-z and 0-9, joined by dots, at most 64 characters")]
    Malformed,
    #[error("message types that start with {0:?} are the service's own")]
    Reserved(String),
}

/// The type of a message: `[a-z0-9]+(\.[a-z0-9]+)*`, such as `chat.message`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MessageType(String);

impl MessageType {
    /// Longest type, in characters.
    pub const MAX_CHARS: usize = 64;

    /// A type that a user may send.
    pub fn of_user(text: &str) -> Result<Self, InvalidMessageType> {
        let parsed: Self = text.parse()?;
        match text.split('.').next() {
            Some(first) if RESERVED.contains(&first) => Err(InvalidMessageType::Reserved(first.to_owned())),
            _ => Ok(parsed),
        }
    }

    /// `session.revoked`: the last message to a socket whose session has ended.
    pub fn session_revoked() -> Self {
        Self("session.revoked".to_owned())
    }

    /// The message about an event has the event's type.
    pub fn of_event(kind: EventType) -> Self {
        Self(kind.as_str().to_owned())
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MessageType {
    type Err = InvalidMessageType;

    fn from_str(text: &str) -> Result<Self, InvalidMessageType> {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if text.len() <= Self::MAX_CHARS && text.split('.').all(is_word) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidMessageType::Malformed)
        }
    }
}

impl<'de> Deserialize<'de> for MessageType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message's content: JSON text, which every receiver gets byte for byte as its sender wrote it.
///
/// It is serialised as a string, not as JSON within JSON, so that no step rewrites it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Body(String);

impl Body {
    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parsed value, for comparison with another body.
    pub fn value(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

impl From<&RawValue> for Body {
    fn from(text: &RawValue) -> Self {
        Self(text.get().to_owned())
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

/// A message. Invocations exchange it in this form; receivers get its [`Frame`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    #[serde(rename = "type")]
    pub kind: MessageType,
    /// Identifies repetitions: receivers show a message once.
    pub message_id: MessageId,
    /// The sender; `None` for a message of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UserId>,
    /// When the service accepted it.
    #[serde(with = "as_rfc3339")]
    pub sent_at: Timestamp,
    pub body: Body,
}

/// A frame above the limit of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message has {bytes} bytes as its receivers get it; at most {MAX_FRAME_BYTES} can be delivered")]
pub struct FrameTooLarge {
    /// The size that it would have.
    pub bytes: usize,
}

/// A message as the JSON text that goes to each receiver: serialised once, within the size limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(String);

impl Frame {
    /// The message's frame.
    pub fn of(message: &Message) -> Result<Self, FrameTooLarge> {
        let Message { kind, message_id, from, sent_at, body } = message;
        let mut head = json!({"type": kind, "messageId": message_id, "sentAt": rfc3339(*sent_at)});
        if let Some(from) = from {
            head["from"] = from.as_str().into();
        }
        let head = head.to_string();
        let members = head.trim_start_matches('{').trim_end_matches('}');
        Self::from_text(format!("{{{members},\"body\":{}}}", body.as_str()))
    }

    /// A frame of this text.
    pub fn from_text(text: String) -> Result<Self, FrameTooLarge> {
        if text.len() > MAX_FRAME_BYTES { Err(FrameTooLarge { bytes: text.len() }) } else { Ok(Self(text)) }
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(body_chars: usize) -> Message {
        Message {
            kind: "chat.message".parse().unwrap(),
            message_id: "01JD0000000000000000000000".parse().unwrap(),
            from: Some("usr_01JD0000000000000000000000".parse().unwrap()),
            sent_at: "2026-11-20T09:30:00Z".parse().unwrap(),
            body: Value::String("a".repeat(body_chars)).into(),
        }
    }

    #[test]
    fn a_frame_of_exactly_128_kib_is_taken_and_one_byte_more_is_not() {
        let envelope = Frame::of(&message(0)).unwrap().as_str().len();
        let room = MAX_FRAME_BYTES - envelope;
        assert_eq!(Frame::of(&message(room)).unwrap().as_str().len(), 131_072);
        assert_eq!(Frame::of(&message(room + 1)), Err(FrameTooLarge { bytes: 131_073 }));
    }

    #[test]
    fn a_body_is_handed_on_byte_for_byte() {
        let text = "{ \"b\": 1.50, \"a\": [1e400, 123456789012345678901234567890,\t\"\\u0041\"] }";
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let sent = Message { body: raw.into(), ..message(0) };
        // Handed from one invocation to the next on the way.
        let event = json!({"continuation": sent}).to_string();
        let event: Value = serde_json::from_str(&event).unwrap();
        let continued: Message = serde_json::from_value(event["continuation"].clone()).unwrap();
        assert_eq!(continued, sent);
        for message in [sent.clone(), Message { from: None, ..sent }] {
            let frame = Frame::of(&message).unwrap();
            let frame = frame.as_str();
            assert!(frame.ends_with(&format!(",\"body\":{text}}}")), "{frame}");
            let read: Value = serde_json::from_str(frame).unwrap();
            assert_eq!(read["from"].as_str(), message.from.as_ref().map(UserId::as_str));
            assert_eq!(
                (&read["type"], &read["sentAt"]),
                (&json!("chat.message"), &json!("2026-11-20T09:30:00.000Z"))
            );
        }
    }

    #[test]
    fn a_user_cannot_speak_for_the_service() {
        for reserved in ["order.placed", "session.revoked", "export.ready", "ack", "error", "pong", "order"] {
            assert!(
                matches!(MessageType::of_user(reserved), Err(InvalidMessageType::Reserved(_))),
                "{reserved}"
            );
        }
        for said in [MessageType::session_revoked(), MessageType::of_event(EventType::ExportReady)] {
            assert_eq!(said.as_str().parse(), Ok(said), "what the service says is of the form");
        }
        assert!(MessageType::of_user("orders.placed").is_ok(), "only the whole first word counts");
    }

    proptest! {
        #[test]
        fn types_are_exactly_the_documented_pattern(text in "[a-z0-9.A]{0,70}") {
            let dots_fit = !text.starts_with('.') && !text.ends_with('.') && !text.contains("..") && !text.is_empty();
            let fits = dots_fit && !text.contains('A') && text.len() <= 64;
            prop_assert_eq!(text.parse::<MessageType>().is_ok(), fits);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            prop_assert!(MessageType::of_user(&text).map_or(true, |kind| kind.as_str() == text));
        }
    }
}
