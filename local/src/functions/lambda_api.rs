//! The Lambda Invoke API: `POST /2015-03-31/functions/{function}/invocations`.
//!
//! The function is named as in AWS: name, partial ARN or ARN, with or without a qualifier; its
//! short name works too. There are neither versions nor aliases, so every qualifier but `$LATEST`
//! is not found. A function that calls needs `lambda:InvokeFunction` in its policy; a request
//! without credentials is the operator's (`curl` at this machine).
//!
//! Fault rules and usage see it as `lambda`: the operation `Invoke` on the function's short name.
//! What the region itself invokes (routes, schedules, queues) does not pass here.
//!
//! Every answer has `x-amzn-requestid`: the request id that the function sees. `ClientContext` is
//! not passed on.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use uuid::Uuid;

use super::Functions;
use super::job::Tail;
use super::limits::EVENT_LIMIT_BYTES;
use super::outcome::{HandedOver, MAX_PAYLOAD_BYTES, Outcome};
use crate::services::access::{Access, Caller, Permission, Unauthenticated};
use crate::services::faults::Failure;
use crate::services::pipeline::{self, Api, Reading, Refusal};
use crate::services::{Call, Controls, Service};
use crate::template::arn::Arns;

type Refused = pipeline::Refused<Body>;

/// The one qualifier that every function has.
const LATEST: &str = "$LATEST";

/// What the API serves, and who may call it.
#[derive(Clone)]
struct Served {
    functions: Arc<Functions>,
    controls: Controls,
}

/// The API's routes. A request whose connection is to be closed is answered with
/// [`Hangup`](crate::services::Hangup) as an extension.
pub fn router(functions: Arc<Functions>, controls: Controls) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{function}/invocations", post(invoke))
        // The limit is checked by hand: the refusal has a form of its own.
        .layer(DefaultBodyLimit::disable())
        .with_state(Served { functions, controls })
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
    State(Served { functions, controls }): State<Served>,
    Path(function): Path<String>,
    Query(Parameters { qualifier }): Query<Parameters>,
    request: Request,
) -> Response {
    let request_id = Uuid::new_v4().to_string();
    let (functions, arns) = (&*functions, &controls.access.arns);
    let api = InvokeApi { functions, arns, function, qualifier, request_id: &request_id };
    match pipeline::run(&api, &controls, request).await {
        Ok(mut response) => {
            if let Ok(value) = HeaderValue::from_str(&request_id) {
                response.headers_mut().insert("x-amzn-requestid", value);
            }
            response
        }
        Err(hangup) => Extension(hangup).into_response(),
    }
}

/// One request of the API.
struct InvokeApi<'a> {
    functions: &'a Functions,
    arns: &'a Arns,
    function: String,
    qualifier: Option<String>,
    request_id: &'a str,
}

/// An invocation of a function that may not exist.
struct Work {
    target: Target,
    headers: HeaderMap,
    body: Body,
}

impl Api for InvokeApi<'_> {
    const SERVICE: Service = Service::Lambda;
    type Body = Body;
    type Answer = Body;
    type Operation = Target;
    type Work = Work;

    fn operation(&self, _: &Parts) -> Result<Target, Refused> {
        Target::of(self.functions, self.arns, &self.function, self.qualifier.as_deref())
    }

    /// A request without credentials is the operator's.
    fn authenticate(&self, access: &Access, headers: &HeaderMap) -> Result<Caller, Unauthenticated> {
        if headers.contains_key(AUTHORIZATION) { access.authenticate(headers) } else { Ok(Caller::Operator) }
    }

    fn read(&self, target: Target, head: Parts, body: Body) -> Result<Reading<Work>, Refused> {
        Ok(Reading {
            operation: "Invoke".to_owned(),
            resources: vec![target.name.clone().unwrap_or_else(|| self.function.clone())],
            permissions: vec![Permission::new("lambda:InvokeFunction", &target.arn)],
            work: Work { target, headers: head.headers, body },
        })
    }

    async fn perform(&self, _: &Call, work: Work) -> Response {
        self.invoke(work).await.unwrap_or_else(|refused| *refused)
    }

    fn refuse(&self, refusal: Refusal, _: Option<&Work>) -> Response {
        let forbidden = |kind, message: &str| error(StatusCode::FORBIDDEN, kind, message);
        match refusal {
            Refusal::Unauthenticated(stranger) => forbidden(stranger.error_type(), &stranger.to_string()),
            Refusal::Denied(denied) => forbidden("AccessDeniedException", &denied.to_string()),
            Refusal::Injected(failure) => injected(&failure),
        }
    }
}

impl InvokeApi<'_> {
    async fn invoke(&self, Work { target, headers, body }: Work) -> Result<Response, Refused> {
        let request_id = self.request_id.to_owned();
        let name = target.name.ok_or_else(|| not_found(&target.arn))?;
        let kind = kind(&headers)?;
        let tail = tail(&headers)?;
        let payload = payload(body, kind).await?;
        Ok(match kind {
            Kind::RequestResponse => {
                let invoked = self.functions.invoke_as(request_id, &name, payload, tail.clone()).await;
                let mut response = answer(self.functions, &name, self.request_id, invoked);
                if let Some(tail) = tail
                    && response.status() == StatusCode::OK
                    && let Ok(log) = HeaderValue::from_str(&tail.encode())
                {
                    response.headers_mut().insert("x-amz-log-result", log);
                }
                response
            }
            Kind::Event => match self.functions.hand_over_as(request_id, &name, payload) {
                HandedOver::Accepted => StatusCode::ACCEPTED.into_response(),
                HandedOver::Throttled => throttled(),
                HandedOver::NotFound => not_found(&target.arn),
            },
            Kind::DryRun => StatusCode::NO_CONTENT.into_response(),
        })
    }
}

/// Which function a request names.
struct Target {
    /// Its short name, if there is such a function with such a qualifier.
    name: Option<String>,
    /// With the qualifier, if it has one: what the caller's policy has to cover.
    arn: String,
}

impl Target {
    fn of(
        functions: &Functions,
        arns: &Arns,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<Self, Refused> {
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
            return Err(invalid_parameter(message).into());
        }
        let name = functions.resolve(function);
        let arn = name.map_or_else(|| arns.function(function), |name| functions.arn(name).to_owned());
        let name = name.map(str::to_owned);
        Ok(match derived.or(qualifier) {
            None => Self { name, arn },
            Some(qualifier) => {
                Self { name: name.filter(|_| qualifier == LATEST), arn: format!("{arn}:{qualifier}") }
            }
        })
    }
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
    let limit = if kind == Kind::Event { EVENT_LIMIT_BYTES } else { MAX_PAYLOAD_BYTES };
    let payload = axum::body::to_bytes(body, limit).await.map_err(|_| {
        let message = format!("Request must be smaller than {limit} bytes for the InvokeFunction operation");
        Box::new(error(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message))
    })?;
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match serde_json::from_slice::<IgnoredAny>(&payload) {
        Ok(IgnoredAny) => Ok(payload),
        Err(malformed) => {
            let message = format!("Could not parse request body into json: {malformed}");
            Err(Box::new(error(StatusCode::BAD_REQUEST, "InvalidRequestContentException", &message)))
        }
    }
}

fn answer(functions: &Functions, name: &str, request_id: &str, outcome: Outcome) -> Response {
    let timeout = functions.timeout(name).unwrap_or_default();
    match outcome {
        Outcome::Answered(payload) => ok(payload, None),
        Outcome::Throttled => throttled(),
        failed => match failed.failure_document(request_id, timeout) {
            Some(document) => ok(document, Some("Unhandled")),
            None => not_found(functions.arn(name)),
        },
    }
}

fn not_found(arn: &str) -> Response {
    let message = format!("Function not found: {arn}");
    error(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message)
}

fn invalid_parameter(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
}

/// A failure that a fault rule asks for.
fn injected(failure: &Failure) -> Response {
    match failure {
        Failure::ThrottlingException
        | Failure::ProvisionedThroughputExceededException
        | Failure::LimitExceeded => throttled(),
        _ => error(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", "Internal server error"),
    }
}

fn throttled() -> Response {
    error(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.")
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

fn error(status: StatusCode, kind: &'static str, message: &str) -> Response {
    let body = axum::Json(json!({ "Type": "User", "Message": message, "message": message }));
    (status, [("x-amzn-errortype", kind)], body).into_response()
}
