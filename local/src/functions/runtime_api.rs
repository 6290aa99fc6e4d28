//! The Lambda Runtime API for one process: `/2018-06-01/runtime/…`.
//!
//! 1. `GET invocation/next` is a long poll. It answers the event with its request id, its deadline,
//!    the function's ARN and a trace id in the headers.
//! 2. `POST invocation/{id}/response` or `…/error` ends that invocation; any other id is refused.
//! 3. `POST init/error` is logged; the runtime exits after it, and that exit is what counts.
//!
//! `lambda_runtime`'s graceful shutdown registers an internal extension, so that much of the
//! Extensions API is here: registration, and a `next` that stays open until the process ends.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::dispatch::{Dispatch, Next};
use super::job::Job;
use super::limits::RESPONSE_LIMIT_BYTES;
use super::outcome::Outcome;
use super::process::{Handover, Process};
use crate::clock;

const RUNTIME: &str = "/2018-06-01/runtime/";
const REGISTER: &str = "/2020-01-01/extension/register";
const EXTENSION_NEXT: &str = "/2020-01-01/extension/event/next";

/// Connections of one process at a time. A runtime uses one, with an extension two.
const CONNECTIONS_LIMIT: usize = 8;

/// Serves `process` on `connections` until the future is dropped. Whoever owns the connections ends
/// them.
pub(super) async fn serve(listener: TcpListener, process: Arc<Process>, connections: &mut JoinSet<()>) {
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_LIMIT => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&process)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the Runtime API can't accept a connection");
                    return;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, process: Arc<Process>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY refused");
    }
    let service = service_fn(move |request| {
        let process = Arc::clone(&process);
        async move { Ok::<_, Infallible>(answer(request, &process).await) }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        // Every killed process ends so; its exit is what is reported.
        tracing::debug!(%error, "a Runtime API connection broke");
    }
}

async fn answer(request: Request<Incoming>, process: &Arc<Process>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    match (request.method(), path.strip_prefix(RUNTIME)) {
        (&Method::GET, Some("invocation/next")) => next(process).await,
        (&Method::POST, Some("init/error")) => init_error(request, process).await,
        (&Method::POST, Some(rest)) => {
            match rest.strip_prefix("invocation/").and_then(|rest| rest.split_once('/')) {
                Some((id, "response")) => {
                    let id = id.to_owned();
                    response(&id, request, process).await
                }
                Some((id, "error")) => {
                    let id = id.to_owned();
                    error(&id, request, process).await
                }
                _ => refusal(StatusCode::NOT_FOUND, "NotFound", path),
            }
        }
        (&Method::POST, None) if path == REGISTER => registered(process),
        // The process is about to be signalled; nothing is ever sent here.
        (&Method::GET, None) if path == EXTENSION_NEXT => std::future::pending().await,
        _ => refusal(StatusCode::NOT_FOUND, "NotFound", path),
    }
}

async fn next(process: &Arc<Process>) -> Response<Full<Bytes>> {
    let Some(first) = process.become_idle() else {
        return refusal(StatusCode::FORBIDDEN, "InvalidStateTransition", "an invocation is still open");
    };
    let job = match process.dispatch.next(process.id, first) {
        Next::Job(job) => job,
        Next::Wait(receiver) => Waiter { receiver, dispatch: &process.dispatch }.job().await,
    };
    match process.begin(job) {
        Ok(handover) => event(process, handover),
        Err(job) => {
            process.dispatch.put_back(job);
            refusal(StatusCode::GONE, "Gone", "the process is being stopped")
        }
    }
}

fn event(process: &Process, handover: Handover) -> Response<Full<Bytes>> {
    let spec = &process.function.spec;
    let now = clock::now();
    let deadline_ms =
        now.as_millisecond() + i64::try_from(handover.timeout.as_millis()).unwrap_or(i64::MAX / 2);
    let trace = format!("Root=1-{:08x}-{:024x};Sampled=0", now.as_second(), rand::random::<u128>() >> 32);
    let mut response = Response::new(Full::new(handover.payload));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("lambda-runtime-deadline-ms", HeaderValue::from(deadline_ms));
    for (name, value) in [
        ("lambda-runtime-aws-request-id", handover.request_id),
        ("lambda-runtime-invoked-function-arn", spec.arn.clone()),
        ("lambda-runtime-trace-id", trace),
    ] {
        match HeaderValue::try_from(value) {
            Ok(value) => {
                headers.insert(name, value);
            }
            Err(error) => tracing::error!(name, %error, "not a header value"),
        }
    }
    response
}

async fn response(id: &str, request: Request<Incoming>, process: &Arc<Process>) -> Response<Full<Bytes>> {
    match Limited::new(request.into_body(), RESPONSE_LIMIT_BYTES).collect().await {
        Ok(body) => {
            process.flush_for_tail().await;
            closed(process.complete(id, Outcome::Answered(body.to_bytes())))
        }
        Err(error) if error.is::<LengthLimitError>() => {
            if process.complete(id, Outcome::ResponseTooLarge) {
                let text = format!(
                    "RequestId: {id} Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT_BYTES} bytes)."
                );
                process.function.platform_log(text).await;
            }
            refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                "the response is larger than 6 MB",
            )
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, "BadRequest", &error.to_string()),
    }
}

async fn error(id: &str, request: Request<Incoming>, process: &Arc<Process>) -> Response<Full<Bytes>> {
    match Limited::new(request.into_body(), RESPONSE_LIMIT_BYTES).collect().await {
        Ok(body) => {
            process.flush_for_tail().await;
            closed(process.complete(id, Outcome::FunctionError { payload: body.to_bytes() }))
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, "BadRequest", &error.to_string()),
    }
}

async fn init_error(request: Request<Incoming>, process: &Arc<Process>) -> Response<Full<Bytes>> {
    match Limited::new(request.into_body(), RESPONSE_LIMIT_BYTES).collect().await {
        Ok(body) => {
            let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            process.function.platform_log(format!("Init error: {text}")).await;
            accepted()
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, "BadRequest", &error.to_string()),
    }
}

fn closed(open: bool) -> Response<Full<Bytes>> {
    if open {
        return accepted();
    }
    refusal(StatusCode::BAD_REQUEST, "InvalidRequestID", "this invocation is not open")
}

fn accepted() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(br#"{"status":"OK"}"#)));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn registered(process: &Process) -> Response<Full<Bytes>> {
    let spec = &process.function.spec;
    let body = serde_json::json!({
        "functionName": spec.physical_name,
        "functionVersion": "$LATEST",
        "handler": "bootstrap",
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    response.headers_mut().insert("lambda-extension-identifier", HeaderValue::from(process.id));
    response
}

fn refusal(status: StatusCode, kind: &str, message: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "errorType": kind, "errorMessage": message });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
}

/// A `next` that waits. When its connection breaks (the process was killed) with work already on
/// the way, that work goes back to the queue, because no function has seen it.
struct Waiter<'a> {
    receiver: oneshot::Receiver<Job>,
    dispatch: &'a Dispatch,
}

impl Waiter<'_> {
    async fn job(mut self) -> Job {
        match (&mut self.receiver).await {
            Ok(job) => job,
            // Withdrawn: the process is about to be stopped. An answer now would only make it
            // complain.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(job) = self.receiver.try_recv() {
            self.dispatch.put_back(job);
        }
    }
}
