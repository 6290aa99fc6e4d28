//! Frames of clients: `{"action": "send", …}`, `{"action": "inbox", …}` and `{"action": "ping"}`.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::core::ids::MessageId;
use crate::core::json::{self, ParseError};
use crate::sockets::delivery::{InvalidMessageType, MessageType, Recipient, SendRequest};

/// A frame from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFrame {
    Send(SendRequest),
    /// Read undelivered messages, after the cursor of an earlier answer.
    Inbox {
        after: Option<String>,
    },
    /// Keep the connection active, and check that it is still live.
    Ping,
}

/// Why a frame is invalid. All are 400.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFrame {
    /// Not JSON, a duplicate member, an unknown action or member, a value of another form.
    #[error("a frame is {{\"action\": \"send\", \"inbox\" or \"ping\", …}}: {0}")]
    Malformed(#[from] ParseError),
    /// The message's type is invalid, or reserved for the service.
    #[error(transparent)]
    Type(#[from] InvalidMessageType),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Action {
    Send,
    Inbox,
    Ping,
}

/// Any frame.
#[derive(Deserialize)]
struct AnyFrame {
    action: Action,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SendFrame<'a> {
    #[serde(rename = "action")]
    _action: IgnoredAny,
    message_id: Option<MessageId>,
    to: Recipient,
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InboxFrame {
    #[serde(rename = "action")]
    _action: IgnoredAny,
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PingFrame {
    #[serde(rename = "action")]
    _action: IgnoredAny,
}

impl ClientFrame {
    /// Reads a frame's text.
    pub fn parse(text: &str) -> Result<Self, InvalidFrame> {
        let text = text.as_bytes();
        match json::parse::<AnyFrame>(text)?.action {
            Action::Ping => json::parse::<PingFrame>(text).map(|_| Self::Ping).map_err(InvalidFrame::from),
            Action::Inbox => {
                let InboxFrame { after, .. } = json::parse(text)?;
                Ok(Self::Inbox { after })
            }
            Action::Send => {
                let SendFrame { message_id, to, kind, body, .. } = json::parse(text)?;
                let (kind, body) = (MessageType::of_user(&kind)?, body.into());
                Ok(Self::Send(SendRequest { message_id, to, kind, body }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const USER: &str = "usr_01JD0000000000000000000000";
    const MESSAGE: &str = "01JD0000000000000000000000";

    fn send(change: impl FnOnce(&mut Value)) -> Result<ClientFrame, InvalidFrame> {
        let mut frame = json!({
            "action": "send", "messageId": MESSAGE, "to": {"userId": USER}, "type": "chat.message", "body": {"text": "hi"},
        });
        change(&mut frame);
        ClientFrame::parse(&frame.to_string())
    }

    #[test]
    fn a_message_is_read_as_documented() {
        let expected = SendRequest {
            message_id: Some(MESSAGE.parse().unwrap()),
            to: Recipient::UserId(USER.parse().unwrap()),
            kind: "chat.message".parse().unwrap(),
            body: json!({"text": "hi"}).into(),
        };
        assert_eq!(send(|_| ()).unwrap(), ClientFrame::Send(expected));
        assert_eq!(ClientFrame::parse(r#"{"action":"ping"}"#).unwrap(), ClientFrame::Ping);
        let inbox = ClientFrame::parse(r#"{"action":"inbox","after":"abc"}"#).unwrap();
        assert_eq!(inbox, ClientFrame::Inbox { after: Some("abc".to_owned()) });
        assert_eq!(ClientFrame::parse(r#"{"action":"inbox"}"#).unwrap(), ClientFrame::Inbox { after: None });
    }

    #[test]
    fn unknown_members_actions_and_recipients_are_refused() {
        assert!(send(|frame| frame["from"] = USER.into()).is_err(), "nobody says who they are");
        assert!(send(|frame| frame["action"] = "shout".into()).is_err());
        assert!(send(|frame| frame["to"] = json!({"userId": USER, "broadcast": true})).is_err());
        assert!(send(|frame| frame["to"] = json!({"broadcast": false})).is_err());
        assert!(send(|frame| frame["to"] = json!({"userId": "01JD"})).is_err());
        assert!(send(|frame| frame["messageId"] = "m1".into()).is_err());
        assert!(ClientFrame::parse(r#"{"action":"ping","x":1}"#).is_err());
        assert!(ClientFrame::parse(r#"{"action":"inbox","after":1}"#).is_err());
        assert!(ClientFrame::parse("").is_err() && ClientFrame::parse("ping").is_err());
    }

    #[test]
    fn a_body_keeps_every_byte_and_no_member_is_there_twice() {
        let body = r#"{ "b":1.50, "a":[1e400,  123456789012345678901234567890] }"#;
        let frame = |body: &str| {
            let text =
                format!(r#"{{"to":{{"userId":"{USER}"}},"body": {body} ,"type":"a","action":"send"}}"#);
            ClientFrame::parse(&text)
        };
        let ClientFrame::Send(request) = frame(body).unwrap() else { panic!("a send is a send") };
        assert_eq!(request.body.as_str(), body);
        assert!(frame(r#"{"a":1,"a":1}"#).unwrap_err().to_string().contains("twice"));
        assert!(ClientFrame::parse(r#"{"action":"ping","action":"ping"}"#).is_err());
        assert!(frame(r#""\ud800""#).is_err(), "half a character is no text");
    }

    #[test]
    fn every_member_but_the_message_id_is_required() {
        for member in ["action", "to", "type", "body"] {
            let without = |frame: &mut Value| {
                frame.as_object_mut().unwrap().remove(member);
            };
            assert!(send(without).is_err(), "{member}");
        }
        assert!(send(|frame| drop(frame.as_object_mut().unwrap().remove("messageId"))).is_ok());
    }

    #[test]
    fn the_services_own_types_are_refused() {
        let refused = send(|frame| frame["type"] = "order.paid".into());
        assert!(matches!(refused, Err(InvalidFrame::Type(InvalidMessageType::Reserved(_)))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,300}") {
            prop_assert!(ClientFrame::parse(&text).is_err());
        }

        #[test]
        fn any_body_travels_unchanged(text in "\\PC{0,100}", number in any::<i64>(), flag in any::<bool>()) {
            let body = json!({"text": text, "list": [number, flag, null]});
            let ClientFrame::Send(request) = send(|frame| frame["body"] = body.clone()).unwrap() else {
                panic!("a send is a send");
            };
            prop_assert_eq!(request.body, body.into());
        }
    }
}
