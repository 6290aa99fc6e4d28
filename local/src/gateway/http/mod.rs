//! The HTTP API front.
//!
//! A request takes these steps; each may end it:
//! 1. Request line and headers over 10,240 bytes: `431`. Not exactly one valid `Host`: `400`.
//! 2. A CORS preflight: answered here (see `cors`).
//! 3. The route, by API Gateway's precedence (see `routes`): `404 {"message":"Not Found"}` without
//!    one.
//! 4. The body, up to 10 MB, then the event of payload format 2.0, up to Lambda's 6 MB: `413`
//!    beyond.
//! 5. The function, at most 30 s: `503 {"message":"Service Unavailable"}` after that, or if Lambda
//!    throttles; `500 {"message":"Internal Server Error"}` if its process died, if it failed, ran
//!    into its own timeout or answered with something that isn't a response.
//! 6. The response (see `response`), the configured CORS headers, and `apigw-requestid`.
//!
//! One header is the local region's own: [`CRASHED`], so that a test which kills processes can tell
//! a crash from an error that the function reported.

mod cors;
mod event;
mod response;
mod routes;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, InvalidHeaderValue, ORIGIN};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;

use self::cors::Cors;
use self::event::Source;
use self::response::message;
pub use self::routes::{RouteError, Routes};
use super::ids::short_id;
use super::invocation::{self, Integration};
use super::listener;
use super::origin::{self, Origin};
use super::request_size::{MAX_REQUEST_BYTES, request_bytes};
use crate::clock;
use crate::functions::outcome::Invoke;
use crate::services::Hangup;
use crate::template::model::HttpApi;

/// Body, in bytes (quota "Payload size").
const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

/// How much more of a refused body is read and thrown away, so that the client, still writing, gets
/// to see the answer instead of a reset connection.
const MAX_DISCARDED_BYTES: usize = 64 * 1024 * 1024;

/// Quota "Maximum integration timeout".
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Open client connections. Each costs a file descriptor and some 20 KB.
const MAX_CONNECTIONS: usize = 4096;

/// On the `500` for a process that died before it answered.
pub const CRASHED: HeaderName = HeaderName::from_static("x-local-region-crash");

const REQUEST_ID: HeaderName = HeaderName::from_static("apigw-requestid");

/// Why an HTTP API can't be served as the template has it.
#[derive(Debug, thiserror::Error)]
pub enum HttpApiError {
    /// A route is wrong.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// A value of `CorsConfiguration` can't stand in a header.
    #[error("CorsConfiguration has a value that can't stand in a header")]
    Cors(#[source] InvalidHeaderValue),
}

/// An HTTP API, ready to serve.
pub struct HttpFront<I> {
    routes: Routes,
    cors: Option<Cors>,
    functions: Arc<I>,
}

/// Serves `api` on `listener` until `shutdown` is ready, and returns when the requests in flight
/// are answered.
pub async fn serve<I: Invoke>(
    listener: TcpListener,
    api: HttpApi,
    functions: Arc<I>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), HttpApiError> {
    HttpFront::new(&api, functions)?.serve(listener, shutdown).await;
    Ok(())
}

impl<I: Invoke> HttpFront<I> {
    /// Checks the API's routes and CORS configuration.
    pub fn new(api: &HttpApi, functions: Arc<I>) -> Result<Self, HttpApiError> {
        let cors = api.cors.as_ref().map(Cors::new).transpose().map_err(HttpApiError::Cors)?;
        Ok(Self { routes: Routes::new(&api.routes)?, cors, functions })
    }

    /// Serves `listener` until `shutdown` is ready.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let port = listener.local_addr().map_or(0, |address| address.port());
        let front = Arc::new(self);
        let service_for = |peer| {
            let front = Arc::clone(&front);
            service_fn(move |request| {
                let front = Arc::clone(&front);
                async move { Ok::<_, Hangup>(front.answer(request, peer, port).await) }
            })
        };
        listener::serve(listener, MAX_CONNECTIONS, service_for, shutdown).await;
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr, port: u16) -> Response<Full<Bytes>> {
        let request_id = short_id();
        let origin_header = request.headers().get(ORIGIN).cloned();
        let (mut response, preflight) = self.respond(request, peer, port, &request_id).await;
        if let Some(cors) = self.cors.as_ref().filter(|_| preflight == Preflight::No) {
            cors.replace(origin_header.as_ref(), response.headers_mut());
        }
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        port: u16,
        request_id: &str,
    ) -> (Response<Full<Bytes>>, Preflight) {
        let (mut request, body) = request.into_parts();
        if request_bytes(&request.method, &request.uri, &request.headers) > MAX_REQUEST_BYTES {
            discard(body).await;
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return (message(status, "Request Header Fields Too Large"), Preflight::No);
        }
        let Ok(origin) = Origin::of(peer, &request.uri, &request.headers) else {
            discard(body).await;
            return (message(StatusCode::BAD_REQUEST, "Bad Request"), Preflight::No);
        };
        if let Some(cors) = &self.cors
            && let Some(answer) = cors.preflight(&request.method, &request.headers)
        {
            return (answer, Preflight::Yes);
        }
        let path = percent_decode_str(request.uri.path()).decode_utf8_lossy().into_owned();
        let Some((route, path_parameters)) = self.routes.find(&request.method, &path) else {
            discard(body).await;
            return (message(StatusCode::NOT_FOUND, "Not Found"), Preflight::No);
        };
        let body = match read(body).await {
            ReadBody::Whole(body) => body,
            ReadBody::TooLarge => {
                return (message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"), Preflight::No);
            }
            ReadBody::Broken => return (message(StatusCode::BAD_REQUEST, "Bad Request"), Preflight::No),
        };

        let at = clock::now();
        origin::forward(&mut request.headers, &origin, port, at);
        request.headers.entry(CONTENT_LENGTH).or_insert_with(|| body.len().into());
        let source = Source {
            request: &request,
            path: &path,
            body: &body,
            route_key: &route.key,
            path_parameters,
            origin: &origin,
            request_id,
            at,
        };
        let event = match event::write(source) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(%error, request_id, "an event could not be written");
                return (internal_server_error(), Preflight::No);
            }
        };
        let ended = invocation::invoke(&*self.functions, &route.function, event, INTEGRATION_TIMEOUT).await;
        (translate(ended, &route.function, request_id), Preflight::No)
    }
}

/// Whether the answer already is the CORS answer.
#[derive(PartialEq, Eq)]
enum Preflight {
    Yes,
    No,
}

fn translate(ended: Integration, function: &str, request_id: &str) -> Response<Full<Bytes>> {
    match ended {
        Integration::Answered(payload) => response::read(&payload).unwrap_or_else(|error| {
            tracing::warn!(function, request_id, %error, "the function's answer is not a response");
            internal_server_error()
        }),
        Integration::Failed => internal_server_error(),
        Integration::Crashed => {
            let mut response = internal_server_error();
            response.headers_mut().insert(CRASHED, HeaderValue::from_static("true"));
            response
        }
        Integration::GatewayTimedOut | Integration::Throttled => {
            message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
        }
        Integration::EventTooLarge => message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"),
    }
}

fn internal_server_error() -> Response<Full<Bytes>> {
    message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}

enum ReadBody {
    Whole(Bytes),
    TooLarge,
    Broken,
}

async fn read(mut body: Incoming) -> ReadBody {
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        discard(body).await;
        return ReadBody::TooLarge;
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return ReadBody::Broken };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > MAX_BODY_BYTES {
            discard(body).await;
            return ReadBody::TooLarge;
        }
        // Most bodies come in one piece: no copy then.
        if whole.is_empty() && body.is_end_stream() {
            return ReadBody::Whole(data);
        }
        whole.extend_from_slice(&data);
    }
    ReadBody::Whole(whole.freeze())
}

async fn discard(mut body: Incoming) {
    let mut discarded = 0;
    while discarded < MAX_DISCARDED_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        discarded += frame.data_ref().map_or(0, Bytes::len);
    }
}
