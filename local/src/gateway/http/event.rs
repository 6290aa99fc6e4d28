//! The event of an HTTP API, payload format 2.0, written in one pass from the request.
//!
//! - Header names are lower case, repeated headers are joined by commas; `Cookie` headers become
//!   the list `cookies`.
//! - `rawPath`, `requestContext.http.path` and `pathParameters` are percent-decoded (yes, `rawPath`
//!   too); `rawQueryString` is as it came, `queryStringParameters` decoded and repeated ones joined
//!   by commas.
//! - The body is text if its content type is a text type and its bytes are UTF-8, else base64. A
//!   form (`application/x-www-form-urlencoded`) is not a text type to API Gateway.
//! - What a request doesn't have, its event doesn't have: no empty `cookies`, `pathParameters` or
//!   `body`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, COOKIE, HeaderMap};
use http::request::Parts;
use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::routes::PathParameters;
use crate::gateway::HTTP_API_ID;
use crate::gateway::ids::log_time;
use crate::gateway::origin::Origin;
use crate::template::model::ACCOUNT;

/// What an event is made of.
pub(super) struct Source<'a> {
    pub(super) request: &'a Parts,
    pub(super) path: &'a str,
    pub(super) body: &'a [u8],
    pub(super) route_key: &'a str,
    pub(super) path_parameters: PathParameters<'a>,
    pub(super) origin: &'a Origin,
    pub(super) request_id: &'a str,
    pub(super) at: Timestamp,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    version: &'static str,
    route_key: &'a str,
    raw_path: &'a str,
    raw_query_string: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cookies: Vec<Cow<'a, str>>,
    headers: Headers<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    query_string_parameters: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    path_parameters: PathParameters<'a>,
    is_base64_encoded: bool,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    account_id: &'static str,
    api_id: &'static str,
    domain_name: &'a str,
    domain_prefix: &'a str,
    http: Http<'a>,
    request_id: &'a str,
    route_key: &'a str,
    stage: &'static str,
    time: String,
    time_epoch: i64,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    method: &'a str,
    path: &'a str,
    protocol: &'static str,
    source_ip: &'a str,
    user_agent: &'a str,
}

/// Serialises as a map of lower-case names to comma-joined values, cookies left out.
struct Headers<'a>(&'a HeaderMap);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for name in self.0.keys().filter(|name| *name != COOKIE) {
            let mut values =
                self.0.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            if let Some(first) = values.next() {
                map.serialize_entry(
                    name.as_str(),
                    &values.fold(first, |earlier, next| format!("{earlier},{next}").into()),
                )?;
            }
        }
        map.end()
    }
}

/// Writes the event as JSON.
pub(super) fn write(source: Source<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let headers = &source.request.headers;
    let raw_query_string = source.request.uri.query().unwrap_or_default();
    let (body, is_base64_encoded) = body_text(headers, source.body);
    let event = Event {
        version: "2.0",
        route_key: source.route_key,
        raw_path: source.path,
        raw_query_string,
        cookies: cookies(headers),
        headers: Headers(headers),
        query_string_parameters: query_parameters(raw_query_string),
        request_context: RequestContext {
            account_id: ACCOUNT,
            api_id: HTTP_API_ID,
            domain_name: &source.origin.domain_name,
            domain_prefix: source.origin.domain_prefix(),
            http: Http {
                method: source.request.method.as_str(),
                path: source.path,
                protocol: "HTTP/1.1",
                source_ip: &source.origin.source_ip,
                user_agent: &source.origin.user_agent,
            },
            request_id: source.request_id,
            route_key: source.route_key,
            stage: "$default",
            time: log_time(source.at),
            time_epoch: source.at.as_millisecond(),
        },
        body,
        path_parameters: source.path_parameters,
        is_base64_encoded,
    };
    serde_json::to_vec(&event)
}

fn cookies(headers: &HeaderMap) -> Vec<Cow<'_, str>> {
    let mut cookies = Vec::new();
    for header in headers.get_all(COOKIE) {
        match String::from_utf8_lossy(header.as_bytes()) {
            Cow::Borrowed(text) => cookies.extend(text.split(';').map(|cookie| Cow::Borrowed(cookie.trim()))),
            Cow::Owned(text) => {
                cookies.extend(text.split(';').map(|cookie| Cow::Owned(cookie.trim().to_owned())));
            }
        }
    }
    cookies.retain(|cookie| !cookie.is_empty());
    cookies
}

fn query_parameters(raw: &str) -> BTreeMap<Cow<'_, str>, Cow<'_, str>> {
    let mut parameters: BTreeMap<Cow<'_, str>, Cow<'_, str>> = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(raw.as_bytes()) {
        match parameters.entry(name) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(value);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let all = format!("{},{value}", entry.get());
                entry.insert(Cow::Owned(all));
            }
        }
    }
    parameters
}

fn body_text<'a>(headers: &HeaderMap, body: &'a [u8]) -> (Option<Cow<'a, str>>, bool) {
    if body.is_empty() {
        return (None, false);
    }
    match std::str::from_utf8(body) {
        Ok(text) if is_text(headers) => (Some(Cow::Borrowed(text)), false),
        _ => (Some(Cow::Owned(STANDARD.encode(body))), true),
    }
}

/// A body without a content type counts as text.
fn is_text(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return true };
    let Ok(content_type) = content_type.to_str() else { return false };
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.starts_with("text/")
        || matches!(media_type.as_str(), "application/json" | "application/javascript" | "application/xml")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::origin::text_of;

    fn event(request: Request<&[u8]>, path: &str, path_parameters: PathParameters<'_>) -> Value {
        let (request, body) = request.into_parts();
        let text = |name| request.headers.get(name).map(text_of).unwrap_or_default();
        let origin = Origin {
            source_ip: "192.0.2.1".to_owned(),
            user_agent: text("user-agent"),
            domain_name: text("host"),
        };
        let at = "2020-03-12T19:03:58.390Z".parse().unwrap();
        let route_key = "POST /path/{parameter1}";
        let source = Source {
            request: &request,
            path,
            body,
            route_key,
            path_parameters,
            origin: &origin,
            request_id: "id",
            at,
        };
        serde_json::from_slice(&write(source).unwrap()).unwrap()
    }

    /// The developer guide's sample of payload format 2.0, with this region's account and API id.
    #[test]
    fn the_event_equals_the_documented_sample() {
        let request = Request::post("/path/value1?parameter1=value1&parameter1=value2&parameter2=value")
            .header("Host", "id.execute-api.us-east-1.amazonaws.com")
            .header("User-Agent", "agent")
            .header("Header1", "value1")
            .header("Header2", "value1")
            .header("header2", "value2")
            .header("Cookie", "cookie1")
            .header("Cookie", "cookie2=a; cookie3")
            .body(b"Hello from client!".as_slice())
            .unwrap();
        assert_eq!(
            event(request, "/path/value1", PathParameters::from([("parameter1", "value1".into())])),
            json!({
                "version": "2.0",
                "routeKey": "POST /path/{parameter1}",
                "rawPath": "/path/value1",
                "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
                "cookies": ["cookie1", "cookie2=a", "cookie3"],
                "headers": {
                    "host": "id.execute-api.us-east-1.amazonaws.com",
                    "user-agent": "agent",
                    "header1": "value1",
                    "header2": "value1,value2",
                },
                "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
                "requestContext": {
                    "accountId": "000000000000",
                    "apiId": "HttpApi",
                    "domainName": "id.execute-api.us-east-1.amazonaws.com",
                    "domainPrefix": "id",
                    "http": {
                        "method": "POST",
                        "path": "/path/value1",
                        "protocol": "HTTP/1.1",
                        "sourceIp": "192.0.2.1",
                        "userAgent": "agent",
                    },
                    "requestId": "id",
                    "routeKey": "POST /path/{parameter1}",
                    "stage": "$default",
                    "time": "12/Mar/2020:19:03:58 +0000",
                    "timeEpoch": 1_584_039_838_390_i64,
                },
                "body": "Hello from client!",
                "pathParameters": {"parameter1": "value1"},
                "isBase64Encoded": false,
            })
        );
    }

    #[test]
    fn what_a_request_does_not_have_its_event_does_not_have() {
        let request = Request::get("/").body([].as_slice()).unwrap();
        let event = event(request, "/", PathParameters::new());
        for absent in ["cookies", "queryStringParameters", "pathParameters", "body"] {
            assert_eq!(event.get(absent), None, "{absent}");
        }
        assert_eq!(event["rawQueryString"], "");
    }

    #[test]
    fn the_query_is_raw_once_and_decoded_once() {
        let request = Request::get("/?q=a%20b%2Bc+d&empty").body([].as_slice()).unwrap();
        let event = event(request, "/", PathParameters::new());
        assert_eq!(event["rawQueryString"], "q=a%20b%2Bc+d&empty");
        assert_eq!(event["queryStringParameters"], json!({"q": "a b+c d", "empty": ""}));
    }

    #[test]
    fn only_text_types_in_utf8_are_sent_as_text() {
        let body_of = |content_type: &str, body: &'static [u8]| {
            let request = Request::post("/").header("content-type", content_type).body(body).unwrap();
            let event = event(request, "/", PathParameters::new());
            (event["body"].as_str().unwrap().to_owned(), event["isBase64Encoded"].as_bool().unwrap())
        };
        for text in
            ["application/json", "text/csv; charset=utf-8", "Application/Problem+JSON", "image/svg+xml"]
        {
            assert_eq!(body_of(text, b"{}"), ("{}".into(), false), "{text}");
        }
        for binary in ["application/octet-stream", "image/png", "application/x-www-form-urlencoded"] {
            assert_eq!(body_of(binary, b"{}"), ("e30=".into(), true), "{binary}");
        }
        assert_eq!(body_of("application/json", b"\xff"), ("/w==".into(), true));
    }
}
