//! The API that controls several regions, for `cargo dev -- region` and for tests: under `/_sojourn/regions`, on a port of its own,
//! which answers whatever is down. Web pages are refused, as by the regions' own APIs.
//!
//! | call | answer |
//! |---|---|
//! | `GET` | 200 `{"regions": [...], "pending": 3}`, each a [`Status`], in the order in which they were named; `pending` counts changes of items that another region has not got |
//! | `POST {name}/down` | 200, a [`Status`], when its processes are gone; 404 |
//! | `POST {name}/up` | 200, a [`Status`], when it serves again; 404; 500 if it can't |
//! | `POST partition`, `{"between": [A, B]}` | 204: from now on they do not reach each other; 404. The witness of the agreement table is known by AWS's name |
//! | `POST heal` | 204: all regions that are up reach each other |
//! | `POST lag`, `{"minMs", "maxMs"}` | 204: what replication takes from now on, drawn anew for each item; 400 |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::members::Members;
use crate::region::{Condition, Region, RegionError};
use crate::services::dynamodb::replication::Lag;

/// The path of the API.
pub const PATH: &str = "/_sojourn/regions";

/// One of the regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// AWS's name of it.
    pub region: String,
    /// Whether it is up.
    pub condition: Condition,
    /// Its HTTP API.
    pub http: String,
    /// Its WebSocket API.
    pub ws: String,
}

impl Status {
    async fn of(region: &Region) -> Self {
        Self {
            name: region.name.clone(),
            region: region.ready.region.clone(),
            condition: region.condition().await,
            http: region.ready.http.clone(),
            ws: region.ready.ws.clone(),
        }
    }
}

/// The API's routes.
pub(super) fn router(members: Arc<Members>) -> Router {
    let routes = Router::new()
        .route("/", get(list))
        .route("/{name}/down", post(down))
        .route("/{name}/up", post(up))
        .route("/partition", post(partition))
        .route("/heal", post(heal))
        .route("/lag", post(lag))
        .with_state(members);
    Router::new().nest(PATH, routes)
}

async fn list(State(members): State<Arc<Members>>) -> Response {
    let mut regions = Vec::new();
    for region in members.all() {
        regions.push(Status::of(region).await);
    }
    let pending = members.replication().map_or(Ok(Vec::new()), |replication| replication.pending());
    match pending {
        Ok(links) => {
            let pending: usize = links.iter().map(|link| link.changes).sum();
            Json(json!({ "regions": regions, "pending": pending })).into_response()
        }
        Err(error) => message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Two regions that are not to reach each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Their names.
    pub between: [String; 2],
}

/// What replication takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LagRequest {
    /// The least, in milliseconds.
    pub min_ms: u64,
    /// The most.
    pub max_ms: u64,
}

async fn partition(
    State(members): State<Arc<Members>>,
    request: Result<Json<Partition>, JsonRejection>,
) -> Response {
    let Json(Partition { between: [a, b] }) = match request {
        Ok(request) => request,
        Err(rejection) => return message(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    let Some(replication) = members.replication() else { return StatusCode::NO_CONTENT.into_response() };
    match replication.partition(members.aws_name(&a), members.aws_name(&b)) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => message(StatusCode::NOT_FOUND, &error.to_string()),
    }
}

async fn heal(State(members): State<Arc<Members>>) -> Response {
    if let Some(replication) = members.replication() {
        replication.heal();
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn lag(
    State(members): State<Arc<Members>>,
    request: Result<Json<LagRequest>, JsonRejection>,
) -> Response {
    let Json(LagRequest { min_ms, max_ms }) = match request {
        Ok(request) => request,
        Err(rejection) => return message(StatusCode::BAD_REQUEST, &rejection.body_text()),
    };
    if min_ms > max_ms {
        return message(StatusCode::BAD_REQUEST, "minMs is more than maxMs");
    }
    if let Some(replication) = members.replication() {
        let [min, max] = [min_ms, max_ms].map(Duration::from_millis);
        replication.set_lag(Lag { min, max });
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn down(State(members): State<Arc<Members>>, Path(name): Path<String>) -> Response {
    match members.find(&name) {
        Some(region) => changed(region, members.down(region).await).await,
        None => unknown(&members, &name),
    }
}

async fn up(State(members): State<Arc<Members>>, Path(name): Path<String>) -> Response {
    match members.find(&name) {
        Some(region) => changed(region, members.up(region).await).await,
        None => unknown(&members, &name),
    }
}

async fn changed(region: &Region, outcome: Result<(), RegionError>) -> Response {
    match outcome {
        Ok(()) => Json(Status::of(region).await).into_response(),
        Err(error) => message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn unknown(members: &Members, name: &str) -> Response {
    let known: Vec<_> = members.all().iter().map(|region| region.name.as_str()).collect();
    message(StatusCode::NOT_FOUND, &format!("there is no region {name}; there are {}", known.join(", ")))
}

fn message(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "message": text }))).into_response()
}
