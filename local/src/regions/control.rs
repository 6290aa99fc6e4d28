//! The API that controls several regions, for the command `region` and for tests: under
//! `/_local-region/regions`, on a port of its own, which answers whatever is down. Web pages are
//! refused, as by the regions' own APIs.
//!
//! | call | answer |
//! |---|---|
//! | `GET` | 200, an [`Overview`] |
//! | `POST {name}/down` | 200, a [`Status`], when its processes are gone; 404 |
//! | `POST {name}/up` | 200, a [`Status`], when it serves again; 404; 500 if it can't |
//! | `POST partition`, `{"between": [A, B]}` | 204: from now on they do not reach each other; 404. The witness of the agreement table is known by AWS's name |
//! | `POST heal` | 204: all regions that are up reach each other |
//! | `POST lag`, `{"minMs", "maxMs"}` | 204: what replication takes from now on, drawn anew for each item and object; 400 |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::members::Members;
use crate::front_door::{Failover, Health, ROUTE_53, RegionHealth};
use crate::region::{Condition, Region, RegionError};
use crate::services::control::{JsonBody, message};
use crate::services::network::Lag;

/// What the API controls.
#[derive(Clone)]
pub(super) struct Control {
    pub(super) members: Arc<Members>,
    /// As the front door sees it.
    pub(super) health: Arc<Health>,
    /// The front door's settings.
    pub(super) failover: Failover,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// In the order in which they were named.
    pub regions: Vec<Status>,
    /// Replication of tables from each region to each other one.
    pub links: Vec<LinkStatus>,
    /// Versions of objects that another region has not got.
    pub copies: usize,
    /// How long health checks and DNS may lead clients to a lost region.
    pub failover: FailoverShare,
}

/// The path of the API.
pub const PATH: &str = "/_local-region/regions";

/// One of the regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    /// AWS's name of it.
    pub region: String,
    /// Whether it is up.
    pub condition: Condition,
    pub http: String,
    pub ws: String,
    /// Whether the front door sends clients there: what its health checks found last.
    pub healthy: bool,
    /// Since when it does, or does not.
    pub since: Timestamp,
}

/// The way of changes from one region to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// Where they were made, by name.
    pub from: String,
    pub to: String,
    /// Changes of items that have not arrived.
    pub pending: usize,
    /// The age of the oldest of them; null if there is none.
    pub oldest_ms: Option<u64>,
}

/// The longest that a client of a lost region is sent there: until checks have failed and the
/// cached DNS answer has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailoverShare {
    /// By the front door.
    pub here_ms: u64,
    /// By Route 53's fastest settings.
    pub in_the_cloud_ms: u64,
}

impl Control {
    async fn statuses(&self) -> Vec<Status> {
        let mut statuses = Vec::new();
        for (region, health) in self.members.all().iter().zip(self.health.read()) {
            let RegionHealth { healthy, since, .. } = health;
            statuses.push(Status {
                name: region.name.clone(),
                region: region.ready.region.clone(),
                condition: region.condition().await,
                http: region.ready.http.clone(),
                ws: region.ready.ws.clone(),
                healthy,
                since,
            });
        }
        statuses
    }

    fn links(&self) -> Result<Vec<LinkStatus>, RegionError> {
        let Some(replication) = self.members.replication() else { return Ok(Vec::new()) };
        let links = replication.tables.pending()?.into_iter().map(|link| LinkStatus {
            from: self.members.name(&link.from).to_owned(),
            to: self.members.name(&link.to).to_owned(),
            pending: link.changes,
            oldest_ms: link.oldest.map(millis),
        });
        Ok(links.collect())
    }

    fn copies(&self) -> Result<usize, RegionError> {
        let replication = self.members.replication();
        Ok(replication.map_or(Ok(0), |replication| replication.buckets.pending())?)
    }
}

/// The API's routes.
pub(super) fn router(control: Control) -> Router {
    let routes = Router::new()
        .route("/", get(list))
        .route("/{name}/down", post(down))
        .route("/{name}/up", post(up))
        .route("/partition", post(partition))
        .route("/heal", post(heal))
        .route("/lag", post(lag))
        .with_state(control);
    Router::new().nest(PATH, routes)
}

async fn list(State(control): State<Control>) -> Response {
    let longest = |failover: Failover| millis(failover.of_a_silence());
    let failover = FailoverShare { here_ms: longest(control.failover), in_the_cloud_ms: longest(ROUTE_53) };
    let links = control.links().and_then(|links| Ok((links, control.copies()?)));
    match links {
        Ok((links, copies)) => {
            Json(Overview { regions: control.statuses().await, links, copies, failover }).into_response()
        }
        Err(error) => message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Two regions that are not to reach each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    pub between: [String; 2],
}

/// What replication takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LagRequest {
    /// The least, in milliseconds.
    pub min_ms: u64,
    pub max_ms: u64,
}

async fn partition(State(control): State<Control>, JsonBody(request): JsonBody<Partition>) -> Response {
    let (members, Partition { between: [a, b] }) = (&control.members, request);
    let Some(replication) = members.replication() else { return StatusCode::NO_CONTENT.into_response() };
    match replication.tables.partition(members.aws_name(&a), members.aws_name(&b)) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => message(StatusCode::NOT_FOUND, &error.to_string()),
    }
}

async fn heal(State(control): State<Control>) -> Response {
    if let Some(replication) = control.members.replication() {
        replication.tables.heal();
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn lag(State(control): State<Control>, JsonBody(request): JsonBody<LagRequest>) -> Response {
    let LagRequest { min_ms, max_ms } = request;
    if min_ms > max_ms {
        return message(StatusCode::BAD_REQUEST, "minMs is more than maxMs");
    }
    if let Some(replication) = control.members.replication() {
        let [min, max] = [min_ms, max_ms].map(Duration::from_millis);
        replication.set_lag(Lag { min, max });
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn down(State(control): State<Control>, Path(name): Path<String>) -> Response {
    match control.members.find(&name) {
        Some(region) => changed(&control, region, control.members.down(region).await).await,
        None => unknown(&control.members, &name),
    }
}

async fn up(State(control): State<Control>, Path(name): Path<String>) -> Response {
    match control.members.find(&name) {
        Some(region) => changed(&control, region, control.members.up(region).await).await,
        None => unknown(&control.members, &name),
    }
}

async fn changed(control: &Control, region: &Region, outcome: Result<(), RegionError>) -> Response {
    match outcome {
        Ok(()) => {
            let mut statuses = control.statuses().await.into_iter();
            Json(statuses.find(|status| status.name == region.name)).into_response()
        }
        Err(error) => message(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn unknown(members: &Members, name: &str) -> Response {
    let known: Vec<_> = members.all().iter().map(|region| region.name.as_str()).collect();
    message(StatusCode::NOT_FOUND, &format!("there is no region {name}; there are {}", known.join(", ")))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
