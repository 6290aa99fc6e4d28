//! The region's own API, for `cargo dev -- ps`, `kill`, `logs` and `fire`: under `/_sojourn/`, beside Lambda's.
//!
//! | call | answer |
//! |---|---|
//! | `GET processes` | 200, a list of [`ProcessStatus`](crate::functions::ProcessStatus) |
//! | `POST functions/{function}/kill` | 200 `{"killed": [pid]}`; 404 |
//! | `GET logs?function=…&follow=true` | 200, one [`Line`] as JSON per line; the ring, then (if followed) what comes |
//! | `POST schedules/{name}/fire?at=…` | 200, the function's answer; 400 for a time that is none; 404; 502 if the function failed |

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::clock;
use crate::functions::Functions;
use crate::functions::outcome::Outcome;
use crate::logs::{Line, Logs, Source};
use crate::schedules::{Schedules, SystemClock};

/// The prefix of every path.
pub const PREFIX: &str = "/_sojourn";

/// What the API controls.
#[derive(Clone)]
pub struct Control {
    /// Their processes.
    pub functions: Arc<Functions>,
    /// What fires some of them.
    pub schedules: Arc<Schedules<Functions, SystemClock>>,
    /// Their lines.
    pub logs: Logs,
}

/// Which lines are asked for.
#[derive(Debug, Default, Deserialize)]
struct LogQuery {
    function: Option<String>,
    #[serde(default)]
    follow: bool,
}

/// Which slot is fired.
#[derive(Debug, Default, Deserialize)]
struct FireQuery {
    at: Option<String>,
}

/// The API's routes.
pub fn router(control: Control) -> Router {
    let routes = Router::new()
        .route("/processes", get(processes))
        .route("/functions/{function}/kill", post(kill))
        .route("/logs", get(logs))
        .route("/schedules/{name}/fire", post(fire))
        .with_state(control);
    Router::new().nest(PREFIX, routes)
}

async fn processes(State(control): State<Control>) -> Response {
    Json(control.functions.ps()).into_response()
}

async fn kill(State(control): State<Control>, Path(function): Path<String>) -> Response {
    match control.functions.kill(&function) {
        Some(killed) => Json(json!({ "killed": killed })).into_response(),
        None => no_function(&control.functions, &function),
    }
}

async fn fire(
    State(control): State<Control>,
    Path(name): Path<String>,
    Query(query): Query<FireQuery>,
) -> Response {
    let at = match query.at.as_deref().map(str::parse::<Timestamp>).transpose() {
        Ok(at) => at,
        Err(error) => {
            let message = format!("the time is not RFC 3339: {error}");
            return (StatusCode::BAD_REQUEST, Json(json!({ "message": message }))).into_response();
        }
    };
    match control.schedules.fire(&name, at).await {
        Ok(Outcome::Answered(answer)) => {
            ([("content-type", "application/json")], Body::from(answer)).into_response()
        }
        Ok(outcome) => {
            let why = match outcome {
                Outcome::FunctionError { payload } => String::from_utf8_lossy(&payload).into_owned(),
                other => format!("{other:?}"),
            };
            let message = format!("the function of {name} failed: {why}");
            (StatusCode::BAD_GATEWAY, Json(json!({ "message": message }))).into_response()
        }
        Err(unknown) => {
            (StatusCode::NOT_FOUND, Json(json!({ "message": unknown.to_string() }))).into_response()
        }
    }
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
    let lines = if query.follow { old.chain(following(live)).boxed() } else { old.boxed() };
    let lines = lines
        .filter(move |line| {
            // A gap in what was followed concerns every function.
            let shown = wanted.as_ref().is_none_or(|name| *name == line.function || line.function.is_empty());
            std::future::ready(shown)
        })
        .map(|line| {
            let mut json = serde_json::to_vec(&*line)?;
            json.push(b'\n');
            Ok::<_, serde_json::Error>(Bytes::from(json))
        });
    ([("content-type", "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn following(live: Receiver<Arc<Line>>) -> impl Stream<Item = Arc<Line>> {
    stream::unfold(live, |mut live| async move {
        match live.recv().await {
            Ok(line) => Some((line, live)),
            Err(RecvError::Lagged(lost)) => Some((gap(lost), live)),
            Err(RecvError::Closed) => None,
        }
    })
}

fn gap(lost: u64) -> Arc<Line> {
    let text = format!("{lost} lines were not followed: they came faster than they were read");
    Arc::new(Line { at: clock::now(), function: String::new(), pid: None, source: Source::Platform, text })
}

fn no_function(functions: &Functions, name: &str) -> Response {
    let known = functions.names().collect::<Vec<_>>().join(", ");
    (
        StatusCode::NOT_FOUND,
        Json(json!({ "message": format!("there is no function {name}; there are {known}") })),
    )
        .into_response()
}
