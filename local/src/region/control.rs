//! The region's own API, for the commands `ps`, `kill`, `logs`, `events`, `fire`, `queues` and
//! `redeliver`: under `/_local-region/`, beside Lambda's.
//!
//! | call | answer |
//! |---|---|
//! | `GET ps` | 200 `{"processes": [...]}`, each a [`ProcessStatus`](crate::functions::ProcessStatus) |
//! | `POST kill`, `{"function"}` | 200 `{"killed": 2, "pids": [...]}` when they are gone; 404 |
//! | `GET logs?function=…&follow=true` | 200, one [`Line`] as JSON per line; the ring, then (if followed) what comes |
//! | `GET events?follow=true` | 200, one [`Passed`] as JSON per line: what passed the event buses and topics; the ring, then (if followed) what comes |
//! | `POST fire`, `{"schedule", "at"?}` | 200, the function's answer; 400 for a time that is none; 404; 502 if the function failed |
//! | `GET queues` | 200 `[{"name", "visible", "inFlight", "delayed"}]`, each an [`Overview`](crate::services::sqs::Overview) |
//! | `POST queues/{name}/redeliver` | 200 `{"messages": 2}`: what was in flight is visible now, as if its visibility timeout had passed; 404 |
//!
//! Faults, usage and permissions: see [`crate::services::control`]. The caller of the library may
//! add routes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::clock::{self, SystemClock};
use crate::functions::Functions;
use crate::functions::outcome::Outcome;
use crate::logs::{Line, Logs, Source};
use crate::schedules::Schedules;
use crate::services::control::{JsonBody, message};
use crate::services::delivery::Deliveries;
use crate::services::sqs::{QueueError, Queues};
use crate::services::trail::Passed;
use crate::services::{self, Controls};

/// The prefix of every path.
pub const PREFIX: &str = "/_local-region";

/// What the API controls.
#[derive(Clone)]
pub struct Control {
    pub functions: Arc<Functions>,
    /// What fires some of them.
    pub schedules: Arc<Schedules<Functions, SystemClock>>,
    /// What others of them read.
    pub queues: Arc<Queues>,
    /// What passed the event buses and the topics.
    pub deliveries: Arc<Deliveries>,
    pub logs: Logs,
    /// Routes of the caller.
    pub routes: Router,
    /// What they may do, what goes wrong on purpose, what they asked.
    pub services: Controls,
}

/// Which lines are asked for.
#[derive(Debug, Default, Deserialize)]
struct LogQuery {
    function: Option<String>,
    #[serde(default)]
    follow: bool,
}

#[derive(Debug, Default, Deserialize)]
struct EventQuery {
    #[serde(default)]
    follow: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KillRequest {
    function: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FireRequest {
    schedule: String,
    /// The slot; the most recent one if absent.
    at: Option<Timestamp>,
}

/// The API's routes.
pub fn router(control: Control) -> Router {
    let services = services::control::routes(control.services.clone());
    let own = control.routes.clone();
    let routes = Router::new()
        .route("/ps", get(processes))
        .route("/kill", post(kill))
        .route("/logs", get(logs))
        .route("/events", get(events))
        .route("/fire", post(fire))
        .route("/queues", get(queues))
        .route("/queues/{name}/redeliver", post(redeliver))
        .with_state(control)
        .merge(services)
        .merge(own);
    Router::new().nest(PREFIX, routes)
}

async fn processes(State(control): State<Control>) -> Response {
    Json(json!({ "processes": control.functions.ps() })).into_response()
}

async fn kill(State(control): State<Control>, JsonBody(request): JsonBody<KillRequest>) -> Response {
    let KillRequest { function } = request;
    match control.functions.kill(&function).await {
        Some(pids) => Json(json!({ "killed": pids.len(), "pids": pids })).into_response(),
        None => no_function(&control.functions, &function),
    }
}

async fn fire(State(control): State<Control>, JsonBody(request): JsonBody<FireRequest>) -> Response {
    let FireRequest { schedule, at } = request;
    match control.schedules.fire(&schedule, at).await {
        Ok(Outcome::Answered(answer)) => {
            ([("content-type", "application/json")], Body::from(answer)).into_response()
        }
        Ok(outcome) => {
            let why = match outcome {
                Outcome::FunctionError { payload } => String::from_utf8_lossy(&payload).into_owned(),
                other => format!("{other:?}"),
            };
            message(StatusCode::BAD_GATEWAY, &format!("the function of {schedule} failed: {why}"))
        }
        Err(unknown) => message(StatusCode::NOT_FOUND, &unknown.to_string()),
    }
}

async fn queues(State(control): State<Control>) -> Response {
    match control.queues.overview() {
        Ok(queues) => Json(queues).into_response(),
        Err(error) => no_queue(&error),
    }
}

async fn redeliver(State(control): State<Control>, Path(name): Path<String>) -> Response {
    match control.queues.redeliver(&name) {
        Ok(messages) => Json(json!({ "messages": messages })).into_response(),
        Err(error) => no_queue(&error),
    }
}

fn no_queue(error: &QueueError) -> Response {
    let status = match error {
        QueueError::Unknown { .. } => StatusCode::NOT_FOUND,
        // The only other error is one of the file.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    message(status, &error.to_string())
}

async fn logs(State(control): State<Control>, Query(query): Query<LogQuery>) -> Response {
    let wanted = match &query.function {
        None => None,
        Some(name) => match control.functions.resolve(name) {
            Some(name) => Some(name.to_owned()),
            None => return no_function(&control.functions, name),
        },
    };
    let (old, live) = control.logs.follow();
    let old = stream::iter(old);
    let lines = if query.follow { old.chain(following(live, gap)).boxed() } else { old.boxed() };
    let lines = lines
        .filter(move |line| {
            // A gap in what was followed concerns every function.
            let shown = wanted.as_ref().is_none_or(|name| *name == line.function || line.function.is_empty());
            std::future::ready(shown)
        })
        .boxed();
    json_lines(lines)
}

async fn events(State(control): State<Control>, Query(query): Query<EventQuery>) -> Response {
    let (old, live) = control.deliveries.trail.follow();
    let old = stream::iter(old);
    json_lines(if query.follow { old.chain(following(live, missed)).boxed() } else { old.boxed() })
}

/// Each item as a line of JSON.
fn json_lines<T: Serialize + Send + Sync + 'static>(items: BoxStream<'static, Arc<T>>) -> Response {
    let lines = items.map(|item| {
        let mut json = serde_json::to_vec(&*item)?;
        json.push(b'\n');
        Ok::<_, serde_json::Error>(Bytes::from(json))
    });
    ([("content-type", "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// What comes; `gap` stands where some was lost.
fn following<T: Send + Sync + 'static>(
    incoming: Receiver<Arc<T>>,
    gap: fn(u64) -> Arc<T>,
) -> impl Stream<Item = Arc<T>> + Send {
    stream::unfold(incoming, move |mut incoming| async move {
        match incoming.recv().await {
            Ok(item) => Some((item, incoming)),
            Err(RecvError::Lagged(lost)) => Some((gap(lost), incoming)),
            Err(RecvError::Closed) => None,
        }
    })
}

fn missed(lost: u64) -> Arc<Passed> {
    let title = format!("{lost} events and messages were not followed: they came faster than they were read");
    let none = String::new();
    Arc::new(Passed {
        at: clock::now(),
        through: none.clone(),
        id: none.clone(),
        title,
        body: none,
        deliveries: Vec::new(),
    })
}

fn gap(lost: u64) -> Arc<Line> {
    let text = format!("{lost} lines were not followed: they came faster than they were read");
    let (region, function) = (String::new(), String::new());
    Arc::new(Line { at: clock::now(), region, function, pid: None, source: Source::Platform, text })
}

fn no_function(functions: &Functions, name: &str) -> Response {
    let known = functions.names().collect::<Vec<_>>().join(", ");
    message(StatusCode::NOT_FOUND, &format!("there is no function {name}; there are {known}"))
}
