//! `@connections`: how a function sends to a client, looks at a connection, or ends it.
//!
//! Errors have the shape of the API Gateway management API (`x-amzn-ErrorType` and a message), so the SDKs turn them
//! into their typed errors. A call passes these checks, in this order: a caller (403 without credentials), its policy
//! (403 `ForbiddenException`), injected faults, the size (413 `PayloadTooLargeException`), the connection
//! (410 `GoneException`), room in the client's buffer (429 `LimitExceededException`).
//!
//! Signatures aren't verified: the access key only says which function calls.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::connections::Posted;
use super::hooks::{Authorization, InjectedFault};
use super::{WebSocketFront, json};
use crate::functions::outcome::Invoke;
use crate::gateway::listener::Cut;
use crate::gateway::{ACCOUNT_ID, REGION, WEBSOCKET_API_ID};

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
        let Some(access_key_id) = access_key_id(request.headers()) else {
            let message = "Missing Authentication Token";
            return Ok(error(StatusCode::FORBIDDEN, "MissingAuthenticationTokenException", message));
        };
        let resource = format!(
            "arn:aws:execute-api:{REGION}:{ACCOUNT_ID}:{WEBSOCKET_API_ID}/{}/{}/@connections/{id}",
            self.api.stage,
            request.method()
        );
        if let Authorization::Denied { reason } =
            self.hooks.authorize.authorize(access_key_id, ACTION, &resource)
        {
            tracing::warn!(access_key_id, resource, reason, "a call to @connections was denied");
            return Ok(error(StatusCode::FORBIDDEN, "ForbiddenException", &reason));
        }
        match self.hooks.intercept.intercept(operation, id) {
            None => Ok(self.carry_out(request, id).await),
            Some(InjectedFault::Gone) => Ok(gone()),
            Some(InjectedFault::LimitExceeded) => Ok(limit_exceeded()),
            Some(InjectedFault::InternalError) => {
                Ok(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal server error"))
            }
            Some(InjectedFault::DropRequest) => Err(Cut),
            Some(InjectedFault::LoseAnswer) => {
                self.carry_out(request, id).await;
                Err(Cut)
            }
        }
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

/// The access key of `AWS4-HMAC-SHA256 Credential=<access key>/<date>/<region>/...`.
fn access_key_id(headers: &HeaderMap) -> Option<&str> {
    let authorization = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (_, credential) = authorization.split_once("Credential=")?;
    let (access_key_id, _) = credential.split_once('/')?;
    (!access_key_id.is_empty()).then_some(access_key_id)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_read_from_the_signature() {
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(text))]);
            access_key_id(&headers).map(str::to_owned)
        };
        let signed =
            "AWS4-HMAC-SHA256 Credential=AKIDWSSEND/20261120/local/execute-api/aws4_request, Signature=0";
        assert_eq!(of(signed).as_deref(), Some("AKIDWSSEND"));
        for other in ["Bearer x", "AWS4-HMAC-SHA256 Credential=/2026", "AWS4-HMAC-SHA256 Credential=AKID"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
