//! The DynamoDB JSON protocol over HTTP.

use dynoxide::{Database, DynoxideError};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use super::operations::{self, Metering};
use crate::services::server::{Body, Handler, Hangup};

/// DynamoDB's own bound on a request.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// What `X-Amz-Target` starts with, for tables and for their streams.
const TARGETS: [&str; 2] = ["DynamoDB_20120810.", "DynamoDBStreams_20120810."];

pub(super) struct Endpoint {
    pub(super) database: Database,
}

impl Handler for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|_| Hangup)?.to_bytes();
        let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or("");
        let operation = TARGETS.iter().find_map(|prefix| target.strip_prefix(prefix)).unwrap_or("");
        let Ok(body) = std::str::from_utf8(&body) else {
            return respond(&DynoxideError::SerializationException(String::new()));
        };
        match operations::run(&self.database, operation, body, Metering::Off) {
            None => json(
                StatusCode::BAD_REQUEST,
                r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#.to_owned(),
            ),
            Some(Ok(answer)) => json(StatusCode::OK, answer.body),
            Some(Err(error)) => respond(&error),
        }
    }
}

fn respond(error: &DynoxideError) -> Result<Response<Body>, Hangup> {
    let status = StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, error.to_json())
}

fn json(status: StatusCode, body: String) -> Result<Response<Body>, Hangup> {
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0")
        .body(Full::from(body).map_err(|never| match never {}).boxed_unsync())
        .map_err(|_| Hangup)
}
