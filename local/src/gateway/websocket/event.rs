//! The events of a WebSocket API.
//!
//! `CONNECT` carries the handshake's headers and query; `MESSAGE` its `body` and a `messageId`;
//! `DISCONNECT` why the connection ended. `connectedAt` is never the same twice ([`JITTER_MS`]).
//! Header names keep the case in which HTTP/1.1 clients write them (`Sec-WebSocket-Protocol`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::HeaderMap;
use serde::Serialize;

use super::connections::Connection;
use crate::clock;
use crate::gateway::WEBSOCKET_API_ID;
use crate::gateway::ids::{log_time, short_id};
use crate::gateway::origin::text_of;

/// How far `connectedAt` of a later event is from the one of `CONNECT`, at most, in milliseconds.
/// AWS does not say that they are equal: here they never are, so that no function relies on it.
const JITTER_MS: i64 = 5;

/// What happened on a connection.
pub(super) enum Happened<'a> {
    Connect { headers: &'a HeaderMap, query: &'a str },
    Message { body: &'a str },
    Disconnect { status_code: u16, reason: &'a str },
}

impl Happened<'_> {
    /// Never zero, but for `CONNECT`.
    fn jitter_ms(&self) -> i64 {
        match self {
            Self::Connect { .. } => 0,
            Self::Message { .. } | Self::Disconnect { .. } => {
                let distance = rand::random_range(1..=JITTER_MS);
                if rand::random() { distance } else { -distance }
            }
        }
    }
}

/// An event on its way to a function.
pub(super) struct Written {
    pub(super) json: Vec<u8>,
    /// `requestContext.requestId`, which error frames repeat.
    pub(super) request_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_headers: Option<Multiple<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_string_parameters: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_value_query_string_parameters: Option<Multiple<'a>>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    is_base64_encoded: bool,
}

type Multiple<'a> = BTreeMap<Cow<'a, str>, Vec<Cow<'a, str>>>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    route_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    event_type: &'static str,
    extended_request_id: &'a str,
    request_time: String,
    message_direction: &'static str,
    stage: &'a str,
    connected_at: i64,
    request_time_epoch: i64,
    identity: Identity<'a>,
    request_id: &'a str,
    domain_name: &'a str,
    connection_id: &'a str,
    api_id: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    source_ip: &'a str,
}

/// Writes the event of what `happened` on `connection`, for the route `route_key`.
pub(super) fn write(
    connection: &Connection,
    stage: &str,
    route_key: &str,
    happened: &Happened<'_>,
) -> Result<Written, serde_json::Error> {
    let request_id = short_id();
    let at = clock::now();
    let context = RequestContext {
        route_key,
        disconnect_status_code: None,
        disconnect_reason: None,
        message_id: None,
        event_type: "",
        extended_request_id: &request_id,
        request_time: log_time(at),
        message_direction: "IN",
        stage,
        connected_at: connection.connected_at.as_millisecond() + happened.jitter_ms(),
        request_time_epoch: at.as_millisecond(),
        identity: Identity {
            user_agent: &connection.origin.user_agent,
            source_ip: &connection.origin.source_ip,
        },
        request_id: &request_id,
        domain_name: &connection.origin.domain_name,
        connection_id: &connection.id,
        api_id: WEBSOCKET_API_ID,
    };
    let mut event = Event {
        headers: None,
        multi_value_headers: None,
        query_string_parameters: None,
        multi_value_query_string_parameters: None,
        request_context: context,
        body: None,
        is_base64_encoded: false,
    };
    match *happened {
        Happened::Connect { headers, query } => {
            event.request_context.event_type = "CONNECT";
            event.set_headers(multiple_headers(headers));
            event.set_query(query);
        }
        Happened::Message { body } => {
            event.request_context.event_type = "MESSAGE";
            event.request_context.message_id = Some(short_id());
            event.body = Some(body);
        }
        Happened::Disconnect { status_code, reason } => {
            event.request_context.event_type = "DISCONNECT";
            event.request_context.disconnect_status_code = Some(status_code);
            event.request_context.disconnect_reason = Some(reason);
            event.set_headers(disconnect_headers(&connection.origin.domain_name));
        }
    }
    let json = serde_json::to_vec(&event)?;
    Ok(Written { json, request_id })
}

impl<'a> Event<'a> {
    /// Of a repeated header the single-value map has the last.
    fn set_headers(&mut self, headers: Multiple<'a>) {
        let last = |(name, values): (&Cow<'a, str>, &Vec<Cow<'a, str>>)| {
            Some((name.to_string(), values.last()?.to_string()))
        };
        self.headers = Some(headers.iter().filter_map(last).collect());
        self.multi_value_headers = Some(headers);
    }

    fn set_query(&mut self, query: &'a str) {
        let mut multiple = Multiple::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            multiple.entry(name).or_default().push(value);
        }
        if !multiple.is_empty() {
            let last = |(name, values): (&Cow<'a, str>, &Vec<Cow<'a, str>>)| {
                Some((name.clone(), values.last()?.clone()))
            };
            self.query_string_parameters = Some(multiple.iter().filter_map(last).collect());
            self.multi_value_query_string_parameters = Some(multiple);
        }
    }
}

fn multiple_headers(headers: &HeaderMap) -> Multiple<'static> {
    let mut multiple = Multiple::new();
    for (name, value) in headers {
        multiple.entry(Cow::Owned(canonical(name.as_str()))).or_default().push(Cow::Owned(text_of(value)));
    }
    multiple
}

/// A `DISCONNECT` has no request: API Gateway still sends these, all but `Host` empty.
fn disconnect_headers(domain_name: &str) -> Multiple<'static> {
    let value = |text: &str| vec![Cow::Owned(text.to_owned())];
    [("Host", domain_name), ("x-api-key", ""), ("X-Forwarded-For", ""), ("x-restapi", "")]
        .into_iter()
        .map(|(name, text)| (Cow::Borrowed(name), value(text)))
        .collect()
}

/// `sec-websocket-key` to `Sec-WebSocket-Key`.
fn canonical(name: &str) -> String {
    let word = |word: &str| {
        if word == "websocket" {
            "WebSocket".to_owned()
        } else {
            let mut letters = word.chars();
            letters
                .next()
                .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
        }
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::origin::Origin;

    fn connection() -> std::sync::Arc<Connection> {
        let origin = Origin {
            source_ip: "192.0.2.1".into(),
            user_agent: String::new(),
            domain_name: "abcd123.execute-api.us-east-1.amazonaws.com".into(),
        };
        Connection::new("fc3rCf1DvHcCEPg=".into(), origin, "2023-01-19T21:13:26.344Z".parse().unwrap(), 1).0
    }

    fn event(route_key: &str, happened: &Happened<'_>) -> Value {
        serde_json::from_slice(&write(&connection(), "production", route_key, happened).unwrap().json)
            .unwrap()
    }

    #[test]
    fn a_connect_event_carries_headers_and_query_single_and_multiple() {
        let mut headers = HeaderMap::new();
        headers.append("sec-websocket-protocol", "shop.v1, token".parse().unwrap());
        headers.append("x-tag", "1".parse().unwrap());
        headers.append("x-tag", "2".parse().unwrap());
        let event = event("$connect", &Happened::Connect { headers: &headers, query: "a=1&a=2&b=%20" });
        assert_eq!(event["headers"], json!({"Sec-WebSocket-Protocol": "shop.v1, token", "X-Tag": "2"}));
        assert_eq!(event["multiValueHeaders"]["X-Tag"], json!(["1", "2"]));
        assert_eq!(event["queryStringParameters"], json!({"a": "2", "b": " "}));
        assert_eq!(event["multiValueQueryStringParameters"], json!({"a": ["1", "2"], "b": [" "]}));
        let context = &event["requestContext"];
        assert_eq!(context["eventType"], "CONNECT");
        assert_eq!(context["routeKey"], "$connect");
        assert_eq!(context["connectionId"], "fc3rCf1DvHcCEPg=");
        assert_eq!(context["connectedAt"], 1_674_162_806_344_i64);
        assert_eq!(context["identity"], json!({"sourceIp": "192.0.2.1"}));
        assert_eq!(context["requestId"], context["extendedRequestId"]);
        assert_eq!(context["stage"], "production");
        assert_eq!(event.get("body"), None);
    }

    #[test]
    fn a_message_event_has_a_body_and_a_message_id_but_no_headers() {
        let event = event("send", &Happened::Message { body: "{\"action\":\"send\"}" });
        assert_eq!(event["body"], "{\"action\":\"send\"}");
        assert_eq!(event["isBase64Encoded"], false);
        assert_eq!(event["requestContext"]["eventType"], "MESSAGE");
        assert!(event["requestContext"]["messageId"].as_str().unwrap().ends_with('='));
        assert_eq!(event.get("headers"), None);
    }

    #[test]
    fn a_disconnect_event_says_why() {
        let event = event("$disconnect", &Happened::Disconnect { status_code: 1001, reason: "Going away" });
        assert_eq!(event["requestContext"]["eventType"], "DISCONNECT");
        assert_eq!(event["requestContext"]["disconnectStatusCode"], 1001);
        assert_eq!(event["requestContext"]["disconnectReason"], "Going away");
        assert_eq!(event["headers"]["Host"], "abcd123.execute-api.us-east-1.amazonaws.com");
    }
}
