//! The script that stands where Lambda is, and fronts on free ports.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use local_region::clock::Clock;
use local_region::functions::outcome::{HandOver, HandedOver, Invoke, Outcome};
use local_region::gateway::http::HttpFront;
use local_region::gateway::websocket::{Limits, WebSocketFront};
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::template::model::{
    Cors, EventInvoke, Function, HttpApi, HttpRoute, Queue, Redrive, Stack, Statement, WebSocketApi,
    WebSocketRoute,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// An invocation as the script saw it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) function: String,
    pub(crate) event: Value,
}

type Answers = dyn Fn(&Call) -> Reply + Send + Sync;

/// What the script does with an invocation.
pub(crate) enum Reply {
    Now(Outcome),
    After(Duration, Outcome),
}

/// Records every invocation and answers it as told.
pub(crate) struct Script {
    calls: Mutex<Vec<Call>>,
    answers: Box<Answers>,
}

impl Script {
    pub(crate) fn new(answers: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { calls: Mutex::default(), answers: Box::new(answers) })
    }

    /// Answers every invocation with `document`.
    pub(crate) fn answering(document: Value) -> Arc<Self> {
        Self::new(move |_| answered(&document))
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The events that `function` got.
    pub(crate) fn events(&self, function: &str) -> Vec<Value> {
        self.calls().into_iter().filter(|call| call.function == function).map(|call| call.event).collect()
    }

    /// Waits until `function` got `count` events.
    pub(crate) async fn wait_for(&self, function: &str, count: usize) -> Vec<Value> {
        let got = async {
            loop {
                let events = self.events(function);
                if events.len() >= count {
                    return events;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), got)
            .await
            .expect("the function was not invoked in time")
    }
}

impl Invoke for Script {
    async fn invoke(&self, function: &str, payload: Bytes) -> Outcome {
        let call = Call { function: function.to_owned(), event: serde_json::from_slice(&payload).unwrap() };
        let reply = (self.answers)(&call);
        self.calls.lock().unwrap().push(call);
        match reply {
            Reply::Now(outcome) => outcome,
            Reply::After(pause, outcome) => {
                tokio::time::sleep(pause).await;
                outcome
            }
        }
    }
}

/// Lambda takes an event over, unless it is throttled or does not know the function.
impl HandOver for Script {
    fn hand_over(&self, function: &str, payload: Bytes) -> HandedOver {
        let call = Call { function: function.to_owned(), event: serde_json::from_slice(&payload).unwrap() };
        let reply = (self.answers)(&call);
        self.calls.lock().unwrap().push(call);
        match reply {
            Reply::Now(Outcome::Throttled) => HandedOver::Throttled,
            Reply::Now(Outcome::NotFound) => HandedOver::NotFound,
            Reply::Now(_) | Reply::After(..) => HandedOver::Accepted,
        }
    }
}

pub(crate) fn answered(document: &Value) -> Reply {
    Reply::Now(Outcome::Answered(Bytes::from(document.to_string())))
}

pub(crate) fn ok() -> Reply {
    answered(&json!({"statusCode": 200}))
}

/// A front on a free port; stops when dropped or told to.
pub(crate) struct Running {
    pub(crate) address: String,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(crate) fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn ws(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// Stops the front and waits until it has ended.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.served.await.unwrap();
    }
}

/// Sends `request` as it stands and reads until the server closes.
pub(crate) async fn raw(api: &Running, request: &str) -> String {
    let mut stream = TcpStream::connect(&api.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn listen() -> (TcpListener, String, oneshot::Sender<()>, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    (listener, address, stop, async move { stopped.await.unwrap_or_default() })
}

pub(crate) fn route(method: &str, path: &str, function: &str) -> HttpRoute {
    HttpRoute { method: method.into(), path: path.into(), function: function.into() }
}

pub(crate) async fn http_api(routes: Vec<HttpRoute>, cors: Option<Cors>, functions: Arc<Script>) -> Running {
    let (listener, address, stop, stopped) = listen().await;
    let front = HttpFront::new(&HttpApi { routes, cors }, functions).unwrap();
    Running { address, stop: Some(stop), served: tokio::spawn(front.serve(listener, stopped)) }
}

/// Only the function `allowed` may use `@connections`; the function `other` has a key and no
/// policy.
fn controls() -> Controls {
    let resource = "arn:aws:execute-api:local:000000000000:WebSocketApi/local/*";
    let policy = vec![Statement {
        actions: vec!["execute-api:ManageConnections".into()],
        resources: vec![resource.into()],
        conditions: Vec::new(),
    }];
    let function = |name: &str, policy| Function {
        name: name.into(),
        physical_name: format!("shop-{name}"),
        timeout: Duration::from_secs(3),
        memory_mib: 128,
        code_uri: String::new(),
        handler: "bootstrap".to_owned(),
        environment: BTreeMap::new(),
        policy,
        reserved_concurrency: None,
        event_invoke: EventInvoke::default(),
    };
    let functions = vec![function("allowed", policy), function("other", Vec::new())];
    Controls::new(Access::new(&Stack { functions, ..Stack::default() }))
}

/// The WebSocket API of the tests: `send` and `$default` respond, `quiet` doesn't.
pub(crate) async fn websocket_api(functions: Arc<Script>, limits: Limits) -> (Running, Controls) {
    let route = |function: &str, responds| WebSocketRoute { function: function.into(), responds };
    let routes = [
        ("$connect", route("connect", false)),
        ("$disconnect", route("disconnect", false)),
        ("$default", route("default", true)),
        ("send", route("send", true)),
        ("quiet", route("quiet", false)),
    ];
    websocket_api_with(functions, limits, routes.into_iter()).await
}

pub(crate) async fn websocket_api_with(
    functions: Arc<Script>,
    limits: Limits,
    routes: impl Iterator<Item = (&'static str, WebSocketRoute)>,
) -> (Running, Controls) {
    let (listener, address, stop, stopped) = listen().await;
    let api = WebSocketApi {
        route_selection_expression: "$request.body.action".into(),
        routes: routes.map(|(key, route)| (key.to_owned(), route)).collect(),
        stage: "local".into(),
    };
    let controls = controls();
    let front = WebSocketFront::new(api, functions, controls.clone(), limits).unwrap();
    (Running { address, stop: Some(stop), served: tokio::spawn(front.serve(listener, stopped)) }, controls)
}

/// A clock that goes with tokio's, which a test pauses so that hours pass in no time.
pub(crate) struct PausedClock {
    start: Timestamp,
    begun: tokio::time::Instant,
}

impl PausedClock {
    pub(crate) fn at(time: &str) -> Self {
        Self { start: time.parse().unwrap(), begun: tokio::time::Instant::now() }
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        self.start + SignedDuration::try_from(self.begun.elapsed()).unwrap()
    }
}

pub(crate) const MIB: usize = 1024 * 1024;

/// A queue that hides messages for a minute.
pub(crate) fn queue(name: &str, redrive: Option<Redrive>) -> Queue {
    Queue {
        name: name.to_owned(),
        visibility_timeout: Duration::from_mins(1),
        delay: Duration::ZERO,
        retention: Duration::from_hours(96),
        receive_wait: Duration::ZERO,
        maximum_message_bytes: MIB,
        redrive,
    }
}
