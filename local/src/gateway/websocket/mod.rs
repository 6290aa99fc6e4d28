//! The WebSocket API front, and `@connections` on the same listener.
//!
//! A connection lives like this:
//! 1. The handshake on `/{stage}` waits until the `$connect` function has answered. Not 2xx: the
//!    handshake is refused with that status, and the connection never was. 2xx: it is entered among
//!    the open connections, so a post from now on reaches it, then the client gets its 101 with the
//!    `Sec-WebSocket-Protocol` that the function answered.
//! 2. Each text message selects a route (see `selection`) and is given to its function; up to
//!    [`Limits::concurrent_messages`] at a time, so answers may overtake each other, as in the
//!    cloud. The answer's body goes back only on a route with a route response; a failed function
//!    gives an error frame on every route.
//! 3. At its end, whether by the client, `@connections`, a limit or the region, the connection is
//!    first removed from the open ones, then closed, and `$disconnect` is invoked exactly once,
//!    with the status and reason of the close. Nothing retries a `$disconnect` that fails, and a
//!    region that is killed sends none: best effort, as in the cloud.
//!
//! Limits and close codes: 1001 idle or too old or the region stops, 1003 binary, 1009 too large
//! (see [`Limits`]).

mod connections;
mod event;
mod handshake;
mod limits;
mod management;
mod messages;
mod selection;
mod session;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use self::connections::Connections;
pub use self::limits::Limits;
use self::selection::RouteSelection;
pub use self::selection::SelectionError;
use super::listener;
use super::origin::Origin;
use super::request_size::{MAX_REQUEST_BYTES, request_bytes};
use crate::functions::outcome::Invoke;
use crate::services::{Controls, Hangup};
use crate::template::model::{WebSocketApi, WebSocketRoute};

/// How long `$disconnect` functions may take once the region stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

const CONNECT: &str = "$connect";
const DISCONNECT: &str = "$disconnect";
const DEFAULT: &str = "$default";

/// A WebSocket API, ready to serve.
pub struct WebSocketFront<I> {
    api: WebSocketApi,
    selection: RouteSelection,
    functions: Arc<I>,
    controls: Controls,
    limits: Limits,
    connections: Connections,
}

/// Serves `api` on `listener` with API Gateway's limits until `shutdown` is ready, and returns when
/// every connection is closed and its `$disconnect` done, or after a few seconds of grace.
pub async fn serve<I: Invoke>(
    listener: TcpListener,
    api: WebSocketApi,
    functions: Arc<I>,
    controls: Controls,
    shutdown: impl Future<Output = ()>,
) -> Result<(), SelectionError> {
    WebSocketFront::new(api, functions, controls, Limits::default())?.serve(listener, shutdown).await;
    Ok(())
}

impl<I: Invoke> WebSocketFront<I> {
    /// Checks the API's route selection expression.
    pub fn new(
        api: WebSocketApi,
        functions: Arc<I>,
        controls: Controls,
        limits: Limits,
    ) -> Result<Self, SelectionError> {
        let selection = RouteSelection::parse(&api.route_selection_expression)?;
        Ok(Self { api, selection, functions, controls, limits, connections: Connections::default() })
    }

    /// Serves `listener` until `shutdown` is ready.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let port = listener.local_addr().map_or(0, |address| address.port());
        let (stop, stopping) = watch::channel(());
        let (front_lives, front_died) = watch::channel(());
        let (alive, mut all_ended) = mpsc::channel::<Infallible>(1);
        let max_connections = self.limits.connections;
        let front = Arc::new(self);
        let lifecycle = Lifecycle { stopping, front_died, _alive: alive };
        let service_for = |peer| {
            let (front, lifecycle) = (Arc::clone(&front), lifecycle.clone());
            service_fn(move |request| {
                let (front, lifecycle) = (Arc::clone(&front), lifecycle.clone());
                async move { front.answer(request, peer, port, lifecycle).await }
            })
        };
        listener::serve(listener, max_connections, service_for, shutdown).await;
        stop.send_replace(());
        drop(lifecycle);
        // Nobody sends: the channel closes when the last connection's task has let go of its end.
        if tokio::time::timeout(SHUTDOWN_GRACE, all_ended.recv()).await.is_err() {
            tracing::warn!("some $disconnect functions had not answered when the region stopped");
        }
        drop(front_lives);
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        port: u16,
        lifecycle: Lifecycle,
    ) -> Result<Response<Full<Bytes>>, Hangup> {
        if request_bytes(request.method(), request.uri(), request.headers()) > MAX_REQUEST_BYTES {
            return Ok(message(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Request Header Fields Too Large",
            ));
        }
        let Ok(origin) = Origin::of(peer, request.uri(), request.headers()) else {
            return Ok(message(StatusCode::BAD_REQUEST, "Bad Request"));
        };
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        let (stage, rest) = path.split_once('/').unwrap_or((path, ""));
        if stage != self.api.stage {
            return Ok(message(StatusCode::FORBIDDEN, "Forbidden"));
        }
        if let Some(id) = rest.strip_prefix("@connections/").or_else(|| rest.strip_prefix("%40connections/"))
        {
            let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned();
            return self.manage(request, &id).await;
        }
        if rest.is_empty() {
            return Ok(self.handshake(request, origin, port, lifecycle).await);
        }
        Ok(message(StatusCode::FORBIDDEN, "Forbidden"))
    }

    fn route(&self, key: &str) -> Option<&WebSocketRoute> {
        self.api.routes.get(key)
    }
}

/// What ties a connection's task to the front's life.
#[derive(Clone)]
struct Lifecycle {
    /// Closed when the region stops.
    stopping: watch::Receiver<()>,
    /// Closed when the front is dropped while it serves: its connections die with it, without a
    /// close frame.
    front_died: watch::Receiver<()>,
    /// Held as long as the task lives.
    _alive: mpsc::Sender<Infallible>,
}

fn message(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    json(status, &serde_json::json!({ "message": message }))
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
