//! An HTTP endpoint that answers as API Gateway's `@connections` and Lambda's `Invoke` do, by a
//! script.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::task::JoinHandle;

/// The endpoint. Stops when dropped.
pub(crate) struct Gateway {
    url: String,
    sdk: SdkConfig,
    script: Arc<Mutex<Script>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Script {
    takes: Duration,
    always: HashMap<String, u16>,
    next: HashMap<String, VecDeque<u16>>,
    posts: HashMap<String, Vec<(u16, Bytes)>>,
    next_closes: HashMap<String, VecDeque<u16>>,
    closes: HashMap<String, Vec<u16>>,
    order: Vec<String>,
    in_flight: usize,
    most_in_flight: usize,
    events: VecDeque<(String, Value)>,
    refuse_events: bool,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Gateway {
    /// Starts one that takes every post and closes every connection.
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let routes = Router::new()
            .route("/stage/@connections/{id}", post(take_post).delete(take_close))
            .route("/stage/2015-03-31/functions/{name}/invocations", post(take_event))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&script));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/stage", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let credentials = Credentials::new("test", "test", None, None, "test");
        let sdk = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("local"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .load()
            .await;
        Self { url, sdk, script, server }
    }

    /// Its address, a stage included.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Configuration for clients of it.
    pub(crate) fn sdk_config(&self) -> SdkConfig {
        self.sdk.clone()
    }

    /// Every call takes this long.
    pub(crate) fn take(&self, time: Duration) {
        self.script().takes = time;
    }

    /// Posts to `id` are answered with `status`.
    pub(crate) fn always(&self, id: &str, status: u16) {
        self.script().always.insert(id.to_owned(), status);
    }

    /// The next posts to `id` are answered with these.
    pub(crate) fn answers(&self, id: &str, statuses: impl IntoIterator<Item = u16>) {
        self.script().next.insert(id.to_owned(), statuses.into_iter().collect());
    }

    /// The next calls to close `id` are answered with these.
    pub(crate) fn closes_with(&self, id: &str, statuses: impl IntoIterator<Item = u16>) {
        self.script().next_closes.insert(id.to_owned(), statuses.into_iter().collect());
    }

    /// How the calls to close `id` were answered so far.
    pub(crate) fn closes(&self, id: &str) -> Vec<u16> {
        self.script().closes.get(id).cloned().unwrap_or_default()
    }

    /// Posts to `id` so far, whatever they were answered.
    pub(crate) fn posts(&self, id: &str) -> usize {
        self.script().posts.get(id).map_or(0, Vec::len)
    }

    /// Posts to `id` that were taken.
    pub(crate) fn delivered(&self, id: &str) -> usize {
        let script = self.script();
        script.posts.get(id).map_or(0, |posts| posts.iter().filter(|(status, _)| *status == 200).count())
    }

    /// What was last posted to `id`.
    pub(crate) fn last_body(&self, id: &str) -> Bytes {
        self.script().posts[id].last().unwrap().1.clone()
    }

    /// The peers in the order in which their calls were answered.
    pub(crate) fn order(&self) -> Vec<String> {
        self.script().order.clone()
    }

    /// The most calls that were under way at once.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.script().most_in_flight
    }

    /// Whether asynchronous invocations fail.
    pub(crate) fn refuse_events(&self, refuse: bool) {
        self.script().refuse_events = refuse;
    }

    /// The oldest asynchronous invocation that was asked for: the function and its event.
    pub(crate) fn next_event(&self) -> Option<(String, Value)> {
        self.script().events.pop_front()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }
}

type Shared = State<Arc<Mutex<Script>>>;

async fn take_post(State(script): Shared, Path(id): Path<String>, body: Bytes) -> Response {
    under_way(&script).await;
    let mut script = script.lock().unwrap();
    let scripted = script.next.get_mut(&id).and_then(VecDeque::pop_front);
    let status = scripted.or_else(|| script.always.get(&id).copied()).unwrap_or(200);
    script.order.push(id.clone());
    script.posts.entry(id).or_default().push((status, body));
    answer(status)
}

async fn take_close(State(script): Shared, Path(id): Path<String>) -> Response {
    under_way(&script).await;
    let mut script = script.lock().unwrap();
    let status = script.next_closes.get_mut(&id).and_then(VecDeque::pop_front).unwrap_or(204);
    script.order.push(id.clone());
    script.closes.entry(id).or_default().push(status);
    answer(status)
}

/// Takes the time that a call takes.
async fn under_way(script: &Mutex<Script>) {
    let time = {
        let mut script = script.lock().unwrap();
        script.in_flight += 1;
        script.most_in_flight = script.most_in_flight.max(script.in_flight);
        script.takes
    };
    tokio::time::sleep(time).await;
    script.lock().unwrap().in_flight -= 1;
}

fn answer(status: u16) -> Response {
    let error = match status {
        200 | 204 => return StatusCode::from_u16(status).unwrap().into_response(),
        403 => "ForbiddenException",
        410 => "GoneException",
        413 => "PayloadTooLargeException",
        429 => "LimitExceededException",
        _ => "InternalServerError",
    };
    (StatusCode::from_u16(status).unwrap(), [("x-amzn-errortype", error)], "{}").into_response()
}

async fn take_event(
    State(script): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let mut script = script.lock().unwrap();
    assert_eq!(headers["x-amz-invocation-type"], "Event");
    if script.refuse_events {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    script.events.push_back((name, serde_json::from_slice(&body).unwrap()));
    StatusCode::ACCEPTED
}
