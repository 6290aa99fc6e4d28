//! `@connections`: how a function sends to a client, looks at a connection, or ends it.
//!
//! Errors have the shape of the API Gateway management API (`x-amzn-ErrorType` and a message), so the SDKs turn them
//! into their typed errors. A call passes these checks, in this order: a caller (403 without credentials), its policy
//! (403 `ForbiddenException`), injected faults, the size (413 `PayloadTooLargeException`), the connection
//! (410 `GoneException`), room in the client's buffer (429 `LimitExceededException`).
//!
//! Signatures aren't verified: the access key only says which function calls. Every call is counted as usage.

use std::time::Instant;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::connections::Posted;
use super::{WebSocketFront, json};
use crate::functions::outcome::Invoke;
use crate::gateway::listener::Cut;
use crate::gateway::{ACCOUNT_ID, REGION, WEBSOCKET_API_ID};
use crate::services::access::Denied;
use crate::services::faults::{Aftermath, Failure, Verdict};
use crate::services::usage::Ending;
use crate::services::{Call, Hangup, Service};

const ACTION: &str = "execute-api:ManageConnections";
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// How much of a request's body is read before it is refused as too large: more than any message may have, so that
/// the caller has written it all and sees the answer.
const MAX_READ_BYTES: usize = 16 * 1024 * 1024;

impl<I: Invoke> WebSocketFront<I> {
    /// Answers one call of the management API.
    pub(super) async fn manage(
        &self,
        request: Request<Incoming>,
        id: &str,
    ) -> Result<Response<Full<Bytes>>, Cut> {
        let operation = match *request.method() {
            Method::POST => "PostToConnection",
            Method::GET => "GetConnection",
            Method::DELETE => "DeleteConnection",
            _ => return Ok(error(StatusCode::FORBIDDEN, "ForbiddenException", "Unsupported method")),
        };
        let caller = match self.controls.access.authenticate(request.headers()) {
            Ok(caller) => caller,
            Err(stranger) => {
                return Ok(error(StatusCode::FORBIDDEN, stranger.error_type(), &stranger.to_string()));
            }
        };
        let start = Instant::now();
        let resources = [id.to_owned()];
        let call = Call { caller: &caller, service: Service::Connections, operation, resources: &resources };
        let (answer, aftermath) = match self.verdict(call, request.method(), id).await {
            Ok(Verdict::Proceed(aftermath)) => (self.carry_out(request, id).await, aftermath),
            Ok(Verdict::Fail(failure)) => (injected(&failure), Aftermath::default()),
            Ok(Verdict::Hangup) => {
                self.controls.usage.note(call, start, Ending::hangup());
                return Err(Cut);
            }
            Err(denied) => {
                tracing::warn!(function = caller.name(), "{denied}");
                let answer = error(StatusCode::FORBIDDEN, "ForbiddenException", &denied.to_string());
                (answer, Aftermath::default())
            }
        };
        let settled = aftermath.settle().await;
        let status = settled.is_ok().then_some(answer.status().as_u16());
        self.controls.usage.note(call, start, Ending { status, consumed: Vec::new() });
        settled.map(|()| answer).map_err(|Hangup| Cut)
    }

    /// What the caller's policy and the faults in force say to the call.
    async fn verdict(&self, call: Call<'_>, method: &Method, id: &str) -> Result<Verdict, Denied> {
        let stage = &self.api.stage;
        let resource = format!(
            "arn:aws:execute-api:{REGION}:{ACCOUNT_ID}:{WEBSOCKET_API_ID}/{stage}/{method}/@connections/{id}"
        );
        self.controls.access.check(call.caller, ACTION, &resource)?;
        Ok(self.controls.faults.before(call).await)
    }

    async fn carry_out(&self, request: Request<Incoming>, id: &str) -> Response<Full<Bytes>> {
        match *request.method() {
            Method::POST => self.post(request.into_body(), id).await,
            Method::GET => self.get(id),
            _ => self.delete(id),
        }
    }

    async fn post(&self, body: Incoming, id: &str) -> Response<Full<Bytes>> {
        let Ok(body) = Limited::new(body, MAX_READ_BYTES).collect().await else { return too_large() };
        let body = body.to_bytes();
        if body.len() > self.limits.message_bytes {
            return too_large();
        }
        let Ok(message) = Utf8Bytes::try_from(body) else {
            return error(StatusCode::BAD_REQUEST, "BadRequestException", "The message is not UTF-8 text");
        };
        match self.connections.post(id, message) {
            Posted::Queued => Response::new(Full::default()),
            Posted::Gone => gone(),
            Posted::BufferFull => limit_exceeded(),
        }
    }

    fn get(&self, id: &str) -> Response<Full<Bytes>> {
        let Some(connection) = self.connections.get(id) else { return gone() };
        json(
            StatusCode::OK,
            &serde_json::json!({
                "connectedAt": connection.connected_at.to_string(),
                "lastActiveAt": connection.last_active().to_string(),
                "identity": {
                    "sourceIp": connection.origin.source_ip,
                    "userAgent": connection.origin.user_agent,
                },
            }),
        )
    }

    fn delete(&self, id: &str) -> Response<Full<Bytes>> {
        let Some(connection) = self.connections.get(id) else { return gone() };
        // Off the list at once: from the caller's answer on, the connection is gone.
        self.connections.remove(id);
        connection.closing.notify_one();
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    }
}

/// A failure on purpose, in this API's shape.
fn injected(failure: &Failure) -> Response<Full<Bytes>> {
    match failure {
        Failure::Gone => gone(),
        Failure::LimitExceeded | Failure::ThrottlingException => limit_exceeded(),
        _ => error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal server error"),
    }
}

fn gone() -> Response<Full<Bytes>> {
    error(StatusCode::GONE, "GoneException", "The connection is not open")
}

fn limit_exceeded() -> Response<Full<Bytes>> {
    error(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException", "The client's buffer is full")
}

fn too_large() -> Response<Full<Bytes>> {
    error(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException", "Payload is larger than 128 KB")
}

fn error(status: StatusCode, error_type: &'static str, message: &str) -> Response<Full<Bytes>> {
    let mut response = json(status, &serde_json::json!({ "message": message }));
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(error_type));
    response
}
