//! The Lambda Invoke API: `POST /2015-03-31/functions/{function}/invocations`.
//!
//! The function is named as in AWS: name, partial ARN or ARN, with or without a qualifier; its short name works too. There
//! are neither versions nor aliases, so every qualifier but `$LATEST` is not found. A function that calls needs
//! `lambda:InvokeFunction` in its policy; a request without credentials is the operator's (`curl` at this machine).
//!
//! Every answer has `x-amzn-requestid`: the request id that the function sees. `ClientContext` is not passed on.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::limits::{EVENT_LIMIT_BYTES, REQUEST_LIMIT_BYTES};
use super::outcome::{HandedOver, Outcome};
use super::tail::Tail;
use super::{Functions, failure};
use crate::services::access::{Access, arn};
use crate::uuid;

/// The one qualifier that every function has.
const LATEST: &str = "$LATEST";

/// An answer that ends a request before its function is asked.
type Refused = Box<Response>;

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

/// `?Qualifier=`.
#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "Qualifier")]
    qualifier: Option<String>,
}

/// `X-Amz-Invocation-Type`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

async fn invoke(
    State(api): State<Api>,
    Path(function): Path<String>,
    Query(Parameters { qualifier }): Query<Parameters>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let request_id = uuid::v4();
    let asked = api.carry_out(&request_id, &function, qualifier.as_deref(), &headers, body).await;
    let mut response = asked.unwrap_or_else(|refused| *refused);
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-amzn-requestid", value);
    }
    response
}

impl Api {
    async fn carry_out(
        &self,
        request_id: &str,
        function: &str,
        qualifier: Option<&str>,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refused> {
        let target = Target::of(&self.functions, function, qualifier)?;
        authorise(&self.access, headers, &target.arn)?;
        let name = target.name.ok_or_else(|| Box::new(not_found(&target.arn)))?;
        let kind = kind(headers)?;
        let tail = tail(headers)?;
        let payload = payload(body, kind).await?;
        match kind {
            Kind::RequestResponse => {
                let invoked =
                    self.functions.invoke_as(request_id.to_owned(), name, payload, tail.clone()).await;
                let mut response = answer(&self.functions, name, request_id, invoked);
                if let Some(tail) = tail
                    && response.status() == StatusCode::OK
                    && let Ok(log) = HeaderValue::from_str(&tail.encode())
                {
                    response.headers_mut().insert("x-amz-log-result", log);
                }
                Ok(response)
            }
            Kind::Event => match self.functions.hand_over_as(request_id.to_owned(), name, payload) {
                HandedOver::Accepted => Ok(StatusCode::ACCEPTED.into_response()),
                HandedOver::Throttled => Ok(throttled()),
                HandedOver::NotFound => Err(Box::new(not_found(&target.arn))),
            },
            Kind::DryRun => Ok(StatusCode::NO_CONTENT.into_response()),
        }
    }
}

/// Which function a request names.
struct Target<'a> {
    /// Its short name, if there is such a function with such a qualifier.
    name: Option<&'a str>,
    /// With the qualifier, if it has one: what the caller's policy has to cover.
    arn: String,
}

impl<'a> Target<'a> {
    fn of(functions: &'a Functions, function: &str, qualifier: Option<&str>) -> Result<Self, Refused> {
        let (function, derived) = match function.rsplit_once(':') {
            Some((unqualified, derived)) if functions.resolve(function).is_none() => {
                (unqualified, Some(derived))
            }
            _ => (function, None),
        };
        if let (Some(derived), Some(qualifier)) = (derived, qualifier)
            && derived != qualifier
        {
            let message =
                "The derived qualifier from the function name does not match the specified qualifier.";
            return Err(Box::new(invalid_parameter(message)));
        }
        let name = functions.resolve(function);
        let arn = name.map_or_else(|| arn::function(function), |name| functions.arn(name).to_owned());
        Ok(match derived.or(qualifier) {
            None => Self { name, arn },
            Some(qualifier) => {
                Self { name: name.filter(|_| qualifier == LATEST), arn: format!("{arn}:{qualifier}") }
            }
        })
    }
}

fn authorise(access: &Access, headers: &HeaderMap, arn: &str) -> Result<(), Refused> {
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

fn kind(headers: &HeaderMap) -> Result<Kind, Refused> {
    match headers.get("x-amz-invocation-type").map(HeaderValue::as_bytes) {
        None | Some(b"RequestResponse") => Ok(Kind::RequestResponse),
        Some(b"Event") => Ok(Kind::Event),
        Some(b"DryRun") => Ok(Kind::DryRun),
        Some(_) => Err(Box::new(invalid_parameter("InvocationType is not RequestResponse, Event or DryRun"))),
    }
}

/// `X-Amz-Log-Type`. It counts for synchronous invocations only.
fn tail(headers: &HeaderMap) -> Result<Option<Tail>, Refused> {
    match headers.get("x-amz-log-type").map(HeaderValue::as_bytes) {
        None | Some(b"None") => Ok(None),
        Some(b"Tail") => Ok(Some(Tail::default())),
        Some(_) => Err(Box::new(invalid_parameter("LogType is not None or Tail"))),
    }
}

async fn payload(body: Body, kind: Kind) -> Result<Bytes, Refused> {
    let limit = if kind == Kind::Event { EVENT_LIMIT_BYTES } else { REQUEST_LIMIT_BYTES };
    let payload = axum::body::to_bytes(body, limit).await.map_err(|_| {
        let message = format!("Request must be smaller than {limit} bytes for the InvokeFunction operation");
        Box::new(refusal(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message))
    })?;
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match serde_json::from_slice::<IgnoredAny>(&payload) {
        Ok(IgnoredAny) => Ok(payload),
        Err(error) => {
            let message = format!("Could not parse request body into json: {error}");
            Err(Box::new(refusal(StatusCode::BAD_REQUEST, "InvalidRequestContentException", &message)))
        }
    }
}

fn answer(functions: &Functions, name: &str, request_id: &str, outcome: Outcome) -> Response {
    let timeout = functions.timeout(name).unwrap_or_default();
    match outcome {
        Outcome::Answered(payload) => ok(payload, None),
        Outcome::Throttled => throttled(),
        failed => match failure::document(&failed, request_id, timeout) {
            Some(document) => ok(document, Some("Unhandled")),
            None => not_found(functions.arn(name)),
        },
    }
}

fn not_found(arn: &str) -> Response {
    let message = format!("Function not found: {arn}");
    refusal(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message)
}

fn invalid_parameter(message: &str) -> Response {
    refusal(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
}

fn throttled() -> Response {
    refusal(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.")
}

fn ok(payload: Bytes, function_error: Option<&'static str>) -> Response {
    let mut response = Response::new(Body::from(payload));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("x-amz-executed-version", HeaderValue::from_static(LATEST));
    if let Some(error) = function_error {
        headers.insert("x-amz-function-error", HeaderValue::from_static(error));
    }
    response
}

fn refusal(status: StatusCode, kind: &'static str, message: &str) -> Response {
    let body = axum::Json(json!({ "Type": "User", "Message": message, "message": message }));
    (status, [("x-amzn-errortype", kind)], body).into_response()
}
