//! What a client may send: `{"action": "send", …}` and `{"action": "ping"}`.

use serde::Deserialize;
use serde_json::Value;

use crate::delivery::{InvalidMessageType, MessageType, Recipient, SendRequest};
use crate::ids::MessageId;

/// A frame from a client.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    /// Send a message.
    Send(SendRequest),
    /// Say that the connection is in use, and see whether it still stands.
    Ping,
}

/// Why a frame can't be acted upon. All are 400.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFrame {
    /// Not JSON, an unknown action or member, a value of another form.
    #[error("a frame is {{\"action\": \"send\" or \"ping\", …}}: {0}")]
    Malformed(#[source] serde_json::Error),
    /// The message's type is none, or not the user's to send.
    #[error(transparent)]
    Type(#[from] InvalidMessageType),
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "camelCase", deny_unknown_fields)]
enum Wire {
    #[serde(rename_all = "camelCase")]
    Send {
        message_id: Option<MessageId>,
        to: Recipient,
        #[serde(rename = "type")]
        kind: String,
        body: Value,
    },
    Ping {},
}

impl ClientFrame {
    /// Reads a frame's text.
    pub fn parse(text: &str) -> Result<Self, InvalidFrame> {
        match serde_json::from_str(text).map_err(InvalidFrame::Malformed)? {
            Wire::Ping {} => Ok(Self::Ping),
            Wire::Send { message_id, to, kind, body } => {
                Ok(Self::Send(SendRequest { message_id, to, kind: MessageType::of_user(&kind)?, body }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

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
            body: json!({"text": "hi"}),
        };
        assert_eq!(send(|_| ()).unwrap(), ClientFrame::Send(expected));
        assert_eq!(ClientFrame::parse(r#"{"action":"ping"}"#).unwrap(), ClientFrame::Ping);
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
        assert!(ClientFrame::parse("").is_err() && ClientFrame::parse("ping").is_err());
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
            prop_assert_eq!(request.body, body);
        }
    }
}
