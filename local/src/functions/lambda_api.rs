//! The Lambda Invoke API: `POST /2015-03-31/functions/{function}/invocations`.
//!
//! The function is named as in AWS: physical name or ARN; the short name works too. A function that calls needs
//! `lambda:InvokeFunction` in its policy; a request without credentials is the operator's (`curl` at this machine).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::Functions;
use super::limits::{EVENT_LIMIT_BYTES, REQUEST_LIMIT_BYTES, RESPONSE_LIMIT_BYTES};
use super::outcome::{Invoke, Outcome};
use crate::services::access::Access;

/// What the API serves, and who may call it.
#[derive(Clone)]
struct Api {
    functions: Arc<Functions>,
    access: Arc<Access>,
}

/// The API's routes.
pub fn router(functions: Arc<Functions>, access: Arc<Access>) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{function}/invocations", post(invoke))
        // The limit is checked by hand: the refusal has a form of its own.
        .layer(DefaultBodyLimit::disable())
        .with_state(Api { functions, access })
}

async fn invoke(
    State(Api { functions, access }): State<Api>,
    Path(function): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(name) = functions.resolve(&function) else {
        let message = format!("Function not found: {function}");
        return refusal(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message);
    };
    if let Err(refused) = authorise(&access, &headers, functions.arn(name)) {
        return *refused;
    }
    let kind =
        headers.get("x-amz-invocation-type").map_or("RequestResponse", |value| value.to_str().unwrap_or(""));
    let limit = if kind == "Event" { EVENT_LIMIT_BYTES } else { REQUEST_LIMIT_BYTES };
    let Ok(payload) = axum::body::to_bytes(body, limit).await else {
        let message = format!("Request must be smaller than {limit} bytes for the InvokeFunction operation");
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message);
    };
    let payload = if payload.is_empty() { Bytes::from_static(b"{}") } else { payload };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        let message = format!("Could not parse request body into json: {error}");
        return refusal(StatusCode::BAD_REQUEST, "InvalidRequestContentException", &message);
    }
    match kind {
        "RequestResponse" => {
            let outcome = functions.invoke(name, payload).await;
            answer(&functions, name, outcome)
        }
        "Event" => match functions.invoke_event(name, payload) {
            Some(Ok(())) => StatusCode::ACCEPTED.into_response(),
            Some(Err(_)) => throttled(),
            None => refusal(StatusCode::NOT_FOUND, "ResourceNotFoundException", "Function not found"),
        },
        "DryRun" => StatusCode::NO_CONTENT.into_response(),
        other => {
            let message = format!("InvocationType {other} is not RequestResponse, Event or DryRun");
            refusal(StatusCode::BAD_REQUEST, "InvalidParameterValueException", &message)
        }
    }
}

fn authorise(access: &Access, headers: &HeaderMap, arn: &str) -> Result<(), Box<Response>> {
    if !headers.contains_key(AUTHORIZATION) {
        return Ok(());
    }
    let forbidden = |kind, message: &str| Box::new(refusal(StatusCode::FORBIDDEN, kind, message));
    let caller =
        access.authenticate(headers).map_err(|error| forbidden(error.error_type(), &error.to_string()))?;
    access
        .check(&caller, "lambda:InvokeFunction", arn)
        .map_err(|denied| forbidden("AccessDeniedException", &denied.to_string()))
}

fn answer(functions: &Functions, name: &str, outcome: Outcome) -> Response {
    match outcome {
        Outcome::Answered(payload) => ok(payload, None),
        Outcome::FunctionError { payload } => ok(payload, Some("Unhandled")),
        Outcome::Crashed => {
            failed("Runtime.ExitError", "Error: Runtime exited before the invocation was answered")
        }
        Outcome::TimedOut => {
            let seconds = functions.timeout(name).map_or(0.0, |timeout| timeout.as_secs_f64());
            failed("Sandbox.Timedout", &format!("Error: Task timed out after {seconds:.2} seconds"))
        }
        Outcome::ResponseTooLarge => failed(
            "Function.ResponseSizeTooLarge",
            &format!(
                "Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT_BYTES} bytes)."
            ),
        ),
        Outcome::Throttled => throttled(),
        Outcome::NotFound => {
            refusal(StatusCode::NOT_FOUND, "ResourceNotFoundException", "Function not found")
        }
    }
}

fn throttled() -> Response {
    refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.")
}

fn failed(kind: &str, message: &str) -> Response {
    let payload = json!({ "errorType": kind, "errorMessage": message }).to_string();
    ok(Bytes::from(payload), Some("Unhandled"))
}

fn ok(payload: Bytes, function_error: Option<&'static str>) -> Response {
    let mut response = Response::new(Body::from(payload));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("x-amz-executed-version", HeaderValue::from_static("$LATEST"));
    if let Some(error) = function_error {
        headers.insert("x-amz-function-error", HeaderValue::from_static(error));
    }
    response
}

fn refusal(status: StatusCode, kind: &'static str, message: &str) -> Response {
    let body = axum::Json(json!({ "Type": "User", "Message": message, "message": message }));
    (status, [("x-amzn-errortype", kind)], body).into_response()
}
