//! `@connections`: how a function sends to a client, looks at a connection, or ends it.
//!
//! Errors have the shape of the API Gateway management API (`x-amzn-ErrorType` and a message), so
//! the SDKs turn them into their typed errors. A call passes these checks, in this order: a caller
//! (403 without credentials), its policy (403 `ForbiddenException`), injected faults, the size (413
//! `PayloadTooLargeException`), the connection (410 `GoneException`), room in the client's buffer
//! (429 `LimitExceededException`).
//!
//! Signatures aren't verified: the access key only says which function calls. Every call is counted
//! as usage.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::connections::Posted;
use super::{WebSocketFront, json};
use crate::functions::outcome::Invoke;
use crate::gateway::WEBSOCKET_API_ID;
use crate::services::access::Permission;
use crate::services::faults::Failure;
use crate::services::pipeline::{self, Api, Reading, Refusal, Refused};
use crate::services::{Call, Hangup, Service};

const ACTION: &str = "execute-api:ManageConnections";
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// How much of a request's body is read before it is refused as too large: more than any message
/// may have, so that the caller has written it all and sees the answer.
const MAX_READ_BYTES: usize = 16 * 1024 * 1024;

/// The calls about one connection.
struct ConnectionsApi<'a, I> {
    front: &'a WebSocketFront<I>,
    id: &'a str,
}

impl<I: Invoke> Api for ConnectionsApi<'_, I> {
    const SERVICE: Service = Service::Connections;
    type Body = Incoming;
    type Answer = Full<Bytes>;
    type Operation = &'static str;
    type Work = Incoming;

    fn operation(&self, head: &Parts) -> Result<&'static str, Refused<Full<Bytes>>> {
        match head.method {
            Method::POST => Ok("PostToConnection"),
            Method::GET => Ok("GetConnection"),
            Method::DELETE => Ok("DeleteConnection"),
            _ => Err(Box::new(forbidden("Unsupported method"))),
        }
    }

    fn read(
        &self,
        operation: &'static str,
        head: Parts,
        work: Incoming,
    ) -> Result<Reading<Incoming>, Refused<Full<Bytes>>> {
        let stage = &self.front.api.stage;
        let resource = self.front.controls.access.arns.connection(
            WEBSOCKET_API_ID,
            stage,
            head.method.as_str(),
            self.id,
        );
        Ok(Reading {
            operation: operation.to_owned(),
            resources: vec![self.id.to_owned()],
            permissions: vec![Permission::new(ACTION, resource)],
            work,
        })
    }

    async fn perform(&self, call: &Call, body: Incoming) -> Response<Full<Bytes>> {
        match call.operation.as_str() {
            "PostToConnection" => self.front.post(body, self.id).await,
            "GetConnection" => self.front.get(self.id),
            _ => self.front.delete(self.id),
        }
    }

    fn refuse(&self, refusal: Refusal, _: Option<&Incoming>) -> Response<Full<Bytes>> {
        match refusal {
            Refusal::Unauthenticated(stranger) => {
                error(StatusCode::FORBIDDEN, stranger.error_type(), &stranger.to_string())
            }
            Refusal::Denied(denied) => forbidden(&denied.to_string()),
            Refusal::Injected(failure) => injected(&failure),
        }
    }
}

impl<I: Invoke> WebSocketFront<I> {
    /// Answers one call of the management API.
    pub(super) async fn manage(
        &self,
        request: Request<Incoming>,
        id: &str,
    ) -> Result<Response<Full<Bytes>>, Hangup> {
        pipeline::run(&ConnectionsApi { front: self, id }, &self.controls, request).await
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
        // Removed at once: after the caller's answer the connection is gone.
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

fn forbidden(message: &str) -> Response<Full<Bytes>> {
    error(StatusCode::FORBIDDEN, "ForbiddenException", message)
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
