//! An event of a WebSocket connection.

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use jiff::Timestamp;
use serde_json::Value;

use crate::core::deadline::Deadline;
use crate::core::problem::{Problem, ProblemType};
use crate::edge::header;
use crate::sockets::connections::ConnectionKey;

/// An event of one connection. No `Debug`: its headers contain the token.
pub struct SocketEvent {
    event: ApiGatewayWebsocketProxyRequest,
    connection: ConnectionKey,
    deadline: Deadline,
}

impl SocketEvent {
    /// Parses API Gateway's event.
    pub(super) fn read(event: Value, deadline: Deadline) -> Result<Self, Problem> {
        let unreadable = |reason: String| {
            Problem::new(ProblemType::InvalidRequest, format!("not a WebSocket API event: {reason}"))
        };
        let event: ApiGatewayWebsocketProxyRequest =
            serde_json::from_value(event).map_err(|error| unreadable(error.to_string()))?;
        let context = &event.request_context;
        let connection_id = context.connection_id.as_deref().unwrap_or_default();
        let connection = ConnectionKey {
            connection_id: connection_id.parse().map_err(|error| unreadable(format!("{error}")))?,
            connected_at: Timestamp::from_millisecond(context.connected_at)
                .map_err(|error| unreadable(error.to_string()))?,
        };
        Ok(Self { event, connection, deadline })
    }

    /// The connection of the event.
    pub fn connection(&self) -> &ConnectionKey {
        &self.connection
    }

    /// The route that API Gateway chose: `$connect`, `send`, `$default`.
    pub fn route(&self) -> &str {
        self.event.request_context.route_key.as_deref().unwrap_or_default()
    }

    /// The instant by which the answer must be sent.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// A header of the handshake that may occur once. Of two lines, API Gateway's `headers` has
    /// only the last one.
    pub fn header(&self, name: &str) -> Result<Option<&str>, Problem> {
        let all = &self.event.multi_value_headers;
        header::single(if all.contains_key(name) { all } else { &self.event.headers }, name)
    }

    /// All lines of a header of the handshake that may be repeated.
    pub fn header_lines(&self, name: &str) -> Vec<&str> {
        let lines: Vec<&str> = self
            .event
            .multi_value_headers
            .get_all(name)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .collect();
        if !lines.is_empty() {
            return lines;
        }
        self.event.headers.get(name).and_then(|line| line.to_str().ok()).into_iter().collect()
    }

    /// The frame's text.
    pub fn text(&self) -> Result<&str, Problem> {
        if self.event.is_base64_encoded {
            return Err(Problem::new(ProblemType::InvalidRequest, "frames must be text"));
        }
        Ok(self.event.body.as_deref().unwrap_or_default())
    }

    /// The close code of the connection. Its reason may be the client's own text, and is not
    /// logged.
    pub fn close_code(&self) -> Option<i64> {
        self.event.request_context.disconnect_status_code
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn read(event: Value) -> Result<SocketEvent, Problem> {
        SocketEvent::read(event, Deadline::after(Duration::from_secs(1)))
    }

    fn event() -> Value {
        json!({
            "headers": {"Host": "x", "Sec-WebSocket-Protocol": "b"},
            "multiValueHeaders": {"Host": ["x"], "Sec-WebSocket-Protocol": ["a", "b"]},
            "requestContext": {
                "routeKey": "$connect", "eventType": "CONNECT", "connectionId": "L0SM9cOFvHcCIhw=",
                "connectedAt": 1_700_000_000_123_i64, "requestTimeEpoch": 1_700_000_000_124_i64,
            },
            "isBase64Encoded": false,
        })
    }

    #[test]
    fn a_connection_is_named_by_its_id_and_its_start() {
        let Ok(incoming) = read(event()) else { panic!("a plain $connect event is readable") };
        assert_eq!(incoming.connection().connection_id.as_str(), "L0SM9cOFvHcCIhw=");
        assert_eq!(incoming.connection().connected_at.as_millisecond(), 1_700_000_000_123);
        assert_eq!(incoming.header_lines("sec-websocket-protocol"), ["a", "b"]);
    }

    #[test]
    fn a_header_of_one_value_that_comes_twice_is_refused() {
        let Ok(incoming) = read(event()) else { panic!("a plain $connect event is readable") };
        assert_eq!(incoming.header("host").unwrap(), Some("x"));
        assert_eq!(incoming.header("origin").unwrap(), None);
        assert_eq!(incoming.header("sec-websocket-protocol").unwrap_err().kind, ProblemType::InvalidRequest);
    }

    #[test]
    fn anything_else_is_a_400_and_no_crash() {
        let mut nameless = event();
        nameless["requestContext"]["connectionId"] = Value::Null;
        for wrong in [json!(null), json!([]), json!("x"), json!({}), nameless] {
            let problem = read(wrong).err().map(|problem| problem.kind);
            assert_eq!(problem, Some(ProblemType::InvalidRequest));
        }
    }
}
