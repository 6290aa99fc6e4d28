//! From a function's response document to an HTTP response, and the gateway's own answers.
//!
//! A document with `statusCode` is taken by its fields (`headers`, `cookies`, `body`,
//! `isBase64Encoded`). One without is the body itself, as `200 application/json`. Anything else
//! (not JSON, a status out of range, a header that HTTP can't carry, bad base64) is
//! `500 {"message":"Internal Server Error"}`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;

use crate::gateway::hop_by_hop;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Why a function's response can't be passed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResponseError {
    #[error("the response is not JSON, or one of its fields has the wrong type")]
    Json(#[from] serde_json::Error),
    #[error("statusCode {0} is not a status")]
    Status(String),
    #[error("header `{0}` is not a header that HTTP can carry")]
    Header(String),
    #[error("isBase64Encoded is true and the body is not base64")]
    Base64(#[from] base64::DecodeError),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    status_code: Option<Scalar>,
    headers: Option<BTreeMap<String, Scalar>>,
    cookies: Option<Vec<String>>,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
    is_base64_encoded: Option<bool>,
}

/// Functions write numbers and booleans where text is meant; API Gateway takes them.
#[derive(Deserialize)]
#[serde(try_from = "serde_json::Value")]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Boolean(bool),
}

impl TryFrom<serde_json::Value> for Scalar {
    type Error = &'static str;

    fn try_from(value: serde_json::Value) -> Result<Self, Self::Error> {
        match value {
            serde_json::Value::String(text) => Ok(Self::Text(text)),
            serde_json::Value::Number(number) => Ok(Self::Number(number)),
            serde_json::Value::Bool(boolean) => Ok(Self::Boolean(boolean)),
            _ => Err("a header or a status is a text, a number or a boolean"),
        }
    }
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Boolean(boolean) => boolean.fmt(f),
        }
    }
}

/// Reads a function's response document.
pub(super) fn read(payload: &Bytes) -> Result<Response<Full<Bytes>>, ResponseError> {
    match serde_json::from_slice::<Document<'_>>(payload) {
        Ok(Document { status_code: Some(status), headers, cookies, body, is_base64_encoded }) => {
            let body = match (body, is_base64_encoded) {
                (Some(body), Some(true)) => Bytes::from(STANDARD.decode(body.as_bytes())?),
                (Some(body), _) => Bytes::from(body.into_owned()),
                (None, _) => Bytes::new(),
            };
            let mut response = Response::new(Full::new(body));
            *response.status_mut() = read_status(&status)?;
            write_headers(response.headers_mut(), headers.unwrap_or_default(), cookies.unwrap_or_default())?;
            Ok(response)
        }
        // Without a status the fields mean nothing, so neither do their types.
        Ok(_) | Err(_) => inferred(payload),
    }
}

fn inferred(payload: &Bytes) -> Result<Response<Full<Bytes>>, ResponseError> {
    let body = match serde_json::from_slice(payload)? {
        serde_json::Value::Object(fields) if fields.contains_key("statusCode") => {
            return Err(ResponseError::Json(serde::de::Error::custom("a field has the wrong type")));
        }
        serde_json::Value::String(text) => Bytes::from(text),
        _ => payload.clone(),
    };
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

fn read_status(status: &Scalar) -> Result<StatusCode, ResponseError> {
    let text = status.to_string();
    match text.parse::<u16>() {
        // 1xx would leave the client waiting for the real answer.
        Ok(code @ 200..=599) => StatusCode::from_u16(code).map_err(|_| ResponseError::Status(text)),
        _ => Err(ResponseError::Status(text)),
    }
}

fn write_headers(
    target: &mut HeaderMap,
    headers: BTreeMap<String, Scalar>,
    cookies: Vec<String>,
) -> Result<(), ResponseError> {
    for (name, value) in headers {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let (Ok(header), Ok(value)) = (parsed, HeaderValue::from_str(&value.to_string())) else {
            return Err(ResponseError::Header(name));
        };
        target.append(header, value);
    }
    // Both belong to the connection between client and gateway: an integration has no say in them.
    hop_by_hop::remove(target);
    target.remove(CONTENT_LENGTH);
    for cookie in cookies {
        let value =
            HeaderValue::from_str(&cookie).map_err(|_| ResponseError::Header(SET_COOKIE.to_string()))?;
        target.append(SET_COOKIE, value);
    }
    target.entry(CONTENT_TYPE).or_insert(PLAIN);
    Ok(())
}

/// An answer of the gateway itself: `{"message": ...}`.
pub(super) fn message(status: StatusCode, message: &'static str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "message": message }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    async fn parts(document: &str) -> (u16, HeaderMap, String) {
        let (parts, body) = read(&Bytes::from(document.to_owned())).unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_full_document_is_taken_by_its_fields() {
        let (status, headers, body) = parts(
            r#"{"statusCode": "201", "headers": {"Location": "/orders/1", "X-Count": 3, "Content-Length": "9999"},
                "cookies": ["a=1; HttpOnly", "b=2"], "body": "aGk=", "isBase64Encoded": true}"#,
        )
        .await;
        assert_eq!((status, body.as_str()), (201, "hi"));
        assert_eq!(headers["location"], "/orders/1");
        assert_eq!(headers["x-count"], "3");
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1; HttpOnly", "b=2"]);
        assert_eq!(headers.get(CONTENT_LENGTH), None);
        assert_eq!(headers[CONTENT_TYPE], "text/plain; charset=utf-8");
    }

    #[tokio::test]
    async fn a_document_without_a_status_is_the_body() {
        for (document, expected) in [
            (r#"{"message": "Hello from Lambda!"}"#, r#"{"message": "Hello from Lambda!"}"#),
            (r#""Hello from Lambda!""#, "Hello from Lambda!"),
            (r#"{"body": {"not": "text"}}"#, r#"{"body": {"not": "text"}}"#),
        ] {
            let (status, headers, body) = parts(document).await;
            assert_eq!((status, body.as_str()), (200, expected));
            assert_eq!(headers[CONTENT_TYPE], "application/json");
        }
    }

    #[test]
    fn what_http_cannot_carry_is_refused() {
        for document in [
            "",
            "not json",
            r#"{"statusCode": 99}"#,
            r#"{"statusCode": 600}"#,
            r#"{"statusCode": 200.5}"#,
            r#"{"statusCode": 200, "body": {"not": "text"}}"#,
            r#"{"statusCode": 200, "body": "%%", "isBase64Encoded": true}"#,
            r#"{"statusCode": 200, "headers": {"bad name": "x"}}"#,
            r#"{"statusCode": 200, "headers": {"x": "a\r\nb: c"}}"#,
            r#"{"statusCode": 200, "cookies": ["a\nb"]}"#,
        ] {
            assert!(read(&Bytes::from(document)).is_err(), "{document}");
        }
    }

    proptest! {
        #[test]
        fn no_document_gets_a_status_outside_of_http(document in ".{0,200}", status in any::<i64>()) {
            if let Ok(response) = read(&Bytes::from(document)) {
                prop_assert!(response.status() == StatusCode::OK);
            }
            let accepted = read(&Bytes::from(format!(r#"{{"statusCode":{status}}}"#))).is_ok();
            prop_assert_eq!(accepted, (200..600).contains(&status));
        }
    }
}
