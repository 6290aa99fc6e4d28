//! Servers that stand where regions are.
//!
//! - [`TestRegion`]: an HTTP and a WebSocket server that tell their name, can be made to fail their
//!   checks, go down and come up again.
//! - [`scripted`]: a server whose every byte is the test's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use local_region::front_door::Region;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server;
use tower::ServiceExt;

use crate::support::region;

/// A request as a region saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a region's tasks share with its test.
#[derive(Debug)]
struct Shared {
    name: &'static str,
    health: AtomicU16,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

/// A region that answers every request with its name, and every frame with the same frame.
pub(crate) struct TestRegion {
    shared: Arc<Shared>,
    http: SocketAddr,
    websocket: SocketAddr,
    tasks: Option<JoinSet<()>>,
}

impl TestRegion {
    pub(crate) async fn start(name: &'static str) -> Self {
        let shared = Shared {
            name,
            health: AtomicU16::new(200),
            seen: Mutex::default(),
            connections: AtomicUsize::default(),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut region = Self { shared: Arc::new(shared), http: any, websocket: any, tasks: None };
        region.up().await;
        region
    }

    /// Where the front door finds it.
    pub(crate) fn address(&self) -> Region {
        region(self.shared.name, self.http, self.websocket)
    }

    /// Requests, without those of checks.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Connections that brought a request, without those of checks.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// What `GET /health` is answered from now on.
    pub(crate) fn answer_checks_with(&self, status: u16) {
        self.shared.health.store(status, Ordering::Relaxed);
    }

    /// Its ports refuse, and its connections end.
    pub(crate) async fn down(&mut self) {
        self.tasks.take().unwrap().shutdown().await;
    }

    /// Answers again, at the same addresses.
    pub(crate) async fn up(&mut self) {
        let http = TcpListener::bind(self.http).await.unwrap();
        let websocket = TcpListener::bind(self.websocket).await.unwrap();
        (self.http, self.websocket) = (http.local_addr().unwrap(), websocket.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(http, Arc::clone(&self.shared), serve_http));
        tasks.spawn(accept(websocket, Arc::clone(&self.shared), serve_websocket));
        self.tasks = Some(tasks);
    }
}

/// Its connections end with it.
async fn accept<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    shared: Arc<Shared>,
    serve: fn(TcpStream, Arc<Shared>) -> F,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve_http(stream: TcpStream, shared: Arc<Shared>) {
    let counted = AtomicUsize::new(0);
    let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        if request.uri().path() != "/health" && counted.fetch_add(1, Ordering::Relaxed) == 0 {
            shared.connections.fetch_add(1, Ordering::Relaxed);
        }
        router.clone().oneshot(request.map(Body::new))
    });
    // A client that goes away ends it early.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let status = shared.health.load(Ordering::Relaxed);
    if request.uri().path() == "/health" {
        return Response::builder().status(status).body(Body::empty()).unwrap();
    }
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    shared.seen.lock().unwrap().push(seen(&head, String::from_utf8_lossy(&body).into_owned()));
    let answer = Response::builder()
        .header("set-cookie", "SESSION=a; HttpOnly")
        .header("set-cookie", "theme=dark")
        .header("x-own", "1");
    match head.uri.path() {
        "/empty" => answer.status(204).body(Body::empty()).unwrap(),
        "/unchanged" => answer.status(304).header("etag", "\"7\"").body(Body::empty()).unwrap(),
        _ => answer.body(Body::from(shared.name)).unwrap(),
    }
}

fn seen(head: &hyper::http::request::Parts, body: String) -> Seen {
    let headers = head.headers.iter();
    let text = |value: &hyper::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: headers.map(|(name, value)| (name.to_string(), text(value))).collect(),
        body,
    }
}

#[expect(clippy::result_large_err, reason = "tungstenite's callback is typed so")]
async fn serve_websocket(stream: TcpStream, shared: Arc<Shared>) {
    let shake = |request: &server::Request, mut response: server::Response| {
        let (head, ()) = request.clone().into_parts();
        shared.seen.lock().unwrap().push(seen(&head, String::new()));
        if head.uri.path() == "/refused" {
            let mut refusal = server::ErrorResponse::new(Some("not you".to_owned()));
            *refusal.status_mut() = hyper::StatusCode::FORBIDDEN;
            refusal.headers_mut().insert("x-own", "1".parse().unwrap());
            refusal.headers_mut().insert("content-length", "7".parse().unwrap());
            return Err(refusal);
        }
        response.headers_mut().insert("x-own", "1".parse().unwrap());
        if let Some(protocol) = head.headers.get("sec-websocket-protocol") {
            response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
        }
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, shake).await else { return };
    // At once: a frame may come in the same packet as the 101.
    socket.send(Message::text(shared.name)).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(text) if text.as_str() == "close" => {
                let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
                    code: 4001.into(),
                    reason: "as you wish".into(),
                };
                drop(socket.send(Message::Close(Some(frame))).await);
            }
            Message::Close(frame) => {
                let code = frame.map_or(0, |frame| u16::from(frame.code));
                let text = format!("closed with {code}");
                let target = String::new();
                shared.seen.lock().unwrap().push(Seen {
                    method: text,
                    target,
                    headers: vec![],
                    body: String::new(),
                });
            }
            Message::Text(_) | Message::Binary(_) => drop(socket.send(message).await),
            _ => {}
        }
    }
}

/// A server whose answers are written by hand: `answer` gets each request's head, in lower case,
/// and its connection. Checks pass.
pub(crate) async fn scripted<F>(
    answer: impl Fn(String, TcpStream) -> F + Clone + Send + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                if head.starts_with("get /health ") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                } else {
                    answer(head, stream).await;
                }
            });
        }
    });
    address
}
