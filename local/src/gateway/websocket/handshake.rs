//! The handshake: pending until `$connect` has answered, and the life of the connection after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::connections::Connection;
use super::event::{self, Happened, Written};
use super::session::{self, Ending, Session};
use super::{CONNECT, DISCONNECT, Lifecycle, WebSocketFront, json};
use crate::clock;
use crate::functions::outcome::Invoke;
use crate::gateway::ids::short_id;
use crate::gateway::invocation::{self, Integration};
use crate::gateway::origin::{self, Origin};

const VERSION: HeaderValue = HeaderValue::from_static("13");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADED: HeaderValue = HeaderValue::from_static("Upgrade");

/// What `$connect` decided.
enum Decision {
    /// Accepted, with the function's `Sec-WebSocket-Protocol`.
    Accepted {
        protocol: Option<HeaderValue>,
    },
    Refused {
        status: StatusCode,
        message: String,
        request_id: String,
    },
}

/// The part of a proxy response that a handshake looks at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConnectAnswer {
    status_code: u16,
    #[serde(default)]
    headers: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default)]
    multi_value_headers: Option<BTreeMap<String, Vec<String>>>,
}

impl<I: Invoke> WebSocketFront<I> {
    /// Answers a handshake, as soon as `$connect` has.
    pub(super) async fn handshake(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        origin: Origin,
        port: u16,
        lifecycle: Lifecycle,
    ) -> Response<Full<Bytes>> {
        let Some(accept) = accept_key(&request) else {
            let mut response =
                json(StatusCode::UPGRADE_REQUIRED, &serde_json::json!({ "message": "Upgrade Required" }));
            response.headers_mut().extend([(UPGRADE, WEBSOCKET), (SEC_WEBSOCKET_VERSION, VERSION)]);
            return response;
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let (mut parts, _) = request.into_parts();
        let connected_at = clock::now();
        origin::forward(&mut parts.headers, &origin, port, connected_at);
        let (connection, outgoing) =
            Connection::new(short_id(), origin, connected_at, self.limits.outgoing_messages);
        let candidate = Candidate { parts, accept, connection, outgoing, upgrade };
        let (answer, answered) = oneshot::channel();
        // A task of its own: it outlives this request, and a client that leaves while `$connect`
        // runs must not take the bookkeeping with it.
        let mut front_died = lifecycle.front_died.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = self.live(candidate, answer, lifecycle) => {}
                // The sender never sends.
                _ = front_died.changed() => {}
            }
        });
        answered.await.unwrap_or_else(|_| {
            json(
                StatusCode::INTERNAL_SERVER_ERROR,
                &serde_json::json!({ "message": "Internal server error" }),
            )
        })
    }

    /// A connection's whole life, steps 1 to 3 of the module's description.
    async fn live(
        self: Arc<Self>,
        candidate: Candidate,
        answer: oneshot::Sender<Response<Full<Bytes>>>,
        lifecycle: Lifecycle,
    ) {
        let Candidate { parts, accept, connection, outgoing, upgrade } = candidate;
        let protocol = match self.connect(&parts, &connection).await {
            Decision::Accepted { protocol } => protocol,
            Decision::Refused { status, message, request_id } => {
                let body = error_body(&message, &connection.id, &request_id);
                if answer.send(json(status, &body)).is_err() {
                    tracing::debug!(connection = connection.id, "the client left before it was refused");
                }
                return;
            }
        };
        drop(parts);
        self.connections.add(Arc::clone(&connection));
        let ended = match self.establish(accept, protocol, answer, upgrade).await {
            Some(socket) => {
                let session =
                    Session { front: Arc::clone(&self), connection: Arc::clone(&connection), outgoing };
                session::run(session, socket, lifecycle.stopping.clone()).await
            }
            None => session::Ended { ending: Ending::vanished(), socket: None },
        };
        self.connections.remove(&connection.id);
        tokio::join!(
            self.disconnect(&connection, &ended.ending),
            session::close(ended.socket, &ended.ending, self.limits.close_handshake),
        );
        drop(lifecycle);
    }

    async fn connect(&self, parts: &Parts, connection: &Connection) -> Decision {
        let Some(route) = self.route(CONNECT) else { return Decision::Accepted { protocol: None } };
        let happened =
            Happened::Connect { headers: &parts.headers, query: parts.uri.query().unwrap_or_default() };
        let Written { json, request_id } = match event::write(connection, &self.api.stage, CONNECT, &happened)
        {
            Ok(written) => written,
            Err(error) => {
                tracing::error!(%error, "a $connect event could not be written");
                return Decision::failed(StatusCode::INTERNAL_SERVER_ERROR, String::new());
            }
        };
        let ended =
            invocation::invoke(&*self.functions, &route.function, json, self.limits.integration).await;
        match ended {
            Integration::Answered(payload) => decide(&payload, request_id),
            Integration::Failed | Integration::Crashed => {
                Decision::failed(StatusCode::BAD_GATEWAY, request_id)
            }
            Integration::GatewayTimedOut => Decision::failed(StatusCode::GATEWAY_TIMEOUT, request_id),
            Integration::Throttled => Decision::failed(StatusCode::TOO_MANY_REQUESTS, request_id),
            Integration::EventTooLarge => Decision::failed(StatusCode::PAYLOAD_TOO_LARGE, request_id),
        }
    }

    /// Sends the 101 and takes over the TCP connection. `None` if the client left meanwhile.
    async fn establish(
        &self,
        accept: HeaderValue,
        protocol: Option<HeaderValue>,
        answer: oneshot::Sender<Response<Full<Bytes>>>,
        upgrade: OnUpgrade,
    ) -> Option<WebSocketStream<TokioIo<Upgraded>>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().extend(
            [(CONNECTION, UPGRADED), (UPGRADE, WEBSOCKET), (SEC_WEBSOCKET_ACCEPT, accept)]
                .into_iter()
                .chain(protocol.map(|protocol| (SEC_WEBSOCKET_PROTOCOL, protocol))),
        );
        answer.send(response).ok()?;
        let upgraded = upgrade.await.ok()?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(self.limits.message_bytes))
            .max_frame_size(Some(self.limits.frame_bytes));
        Some(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
    }

    async fn disconnect(&self, connection: &Connection, ending: &Ending) {
        let Some(route) = self.route(DISCONNECT) else { return };
        let happened = Happened::Disconnect { status_code: ending.status_code, reason: &ending.reason };
        let event = match event::write(connection, &self.api.stage, DISCONNECT, &happened) {
            Ok(written) => written.json,
            Err(error) => {
                tracing::error!(%error, "a $disconnect event could not be written");
                return;
            }
        };
        let ended =
            invocation::invoke(&*self.functions, &route.function, event, self.limits.integration).await;
        if !matches!(ended, Integration::Answered(_)) {
            tracing::warn!(connection = connection.id, ?ended, "$disconnect failed and is not repeated");
        }
    }
}

/// A connection that waits for `$connect`.
struct Candidate {
    parts: Parts,
    accept: HeaderValue,
    connection: Arc<Connection>,
    outgoing: mpsc::Receiver<Utf8Bytes>,
    upgrade: OnUpgrade,
}

impl Decision {
    fn failed(status: StatusCode, request_id: String) -> Self {
        Self::Refused { status, message: "Internal server error".to_owned(), request_id }
    }
}

fn decide(payload: &[u8], request_id: String) -> Decision {
    let answer: ConnectAnswer = match serde_json::from_slice(payload) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(%error, "the answer of $connect is not a response");
            return Decision::failed(StatusCode::BAD_GATEWAY, request_id);
        }
    };
    match StatusCode::from_u16(answer.status_code) {
        Ok(status) if status.is_success() => match answer.protocol() {
            Ok(protocol) => Decision::Accepted { protocol },
            Err(_) => Decision::failed(StatusCode::BAD_GATEWAY, request_id),
        },
        // A refusal is a client or server error; anything else can't be sent in place of a
        // handshake.
        Ok(status) if status.is_client_error() || status.is_server_error() => {
            let message = status.canonical_reason().unwrap_or("Forbidden").to_owned();
            Decision::Refused { status, message, request_id }
        }
        _ => Decision::failed(StatusCode::BAD_GATEWAY, request_id),
    }
}

impl ConnectAnswer {
    /// `Sec-WebSocket-Protocol` of the function's answer, exactly as answered.
    fn protocol(&self) -> Result<Option<HeaderValue>, http::header::InvalidHeaderValue> {
        let is_protocol = |name: &String| name.eq_ignore_ascii_case(SEC_WEBSOCKET_PROTOCOL.as_str());
        let single = self
            .headers
            .iter()
            .flatten()
            .find(|(name, _)| is_protocol(name))
            .and_then(|(_, value)| value.as_str());
        let multiple = self.multi_value_headers.iter().flatten().find(|(name, _)| is_protocol(name));
        let last = multiple.and_then(|(_, values)| values.last()).map(String::as_str);
        single.or(last).map(HeaderValue::from_str).transpose()
    }
}

/// The `Sec-WebSocket-Accept` for a request that is a handshake by RFC 6455, section 4.2.1.
fn accept_key<B>(request: &Request<B>) -> Option<HeaderValue> {
    let headers = request.headers();
    let is_handshake = request.method() == Method::GET
        && names(headers, &CONNECTION, "upgrade")
        && names(headers, &UPGRADE, "websocket")
        && headers.get(SEC_WEBSOCKET_VERSION) == Some(&VERSION);
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_handshake)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

fn names(headers: &HeaderMap, header: &HeaderName, token: &str) -> bool {
    let lists = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|name| name.trim().eq_ignore_ascii_case(token))
}

/// The body of an error, in a refused handshake or in a frame.
pub(super) fn error_body(message: &str, connection_id: &str, request_id: &str) -> serde_json::Value {
    serde_json::json!({ "message": message, "connectionId": connection_id, "requestId": request_id })
}
