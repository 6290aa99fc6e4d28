//! Requests to answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sojourn::coordination::regions::Regions;
use sojourn::core::deadline::Deadline;
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::reply::Reply;
use sojourn::edge::http::{HttpRequest, no_such_route};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long the state of the evacuation is cached.
const FRESH: Duration = Duration::from_secs(5);

/// Timeout of the agreement table. Health checks wait for a second or two; a new connection to
/// another region takes a fifth of one.
const PATIENCE: Duration = Duration::from_millis(400);

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    region: String,
    /// `None` in a single region, which cannot be evacuated.
    regions: Option<Regions>,
    known: Mutex<EvacuationStatus>,
}

/// The cached state of the region's evacuation.
#[derive(Debug, Default)]
struct EvacuationStatus {
    is_evacuated: bool,
    asked_at: Option<Instant>,
}

impl App {
    pub(crate) fn new(region: String, regions: Option<Regions>) -> Self {
        Self { region, regions, known: Mutex::default() }
    }

    async fn is_evacuated(&self) -> bool {
        let Some(regions) = &self.regions else { return false };
        let mut known = self.known.lock().await;
        if known.asked_at.is_none_or(|asked| asked.elapsed() >= FRESH) {
            let deadline = Deadline::after(PATIENCE);
            match deadline.cut_off(regions.is_own_evacuated(deadline)).await {
                Ok(Ok(is_evacuated)) => known.is_evacuated = is_evacuated,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the agreement table failed: evacuation unknown");
                }
                Err(error) => tracing::warn!(%error, "the agreement table did not answer in time"),
            }
            known.asked_at = Some(Instant::now());
        }
        known.is_evacuated
    }
}

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: HttpRequest) -> Result<Reply, Problem> {
    match request.route() {
        "GET /health" if app.is_evacuated().await => {
            let detail = format!("the region {} is evacuated: other regions serve its clients", app.region);
            Err(Problem::new(ProblemType::Unavailable, detail).retry_after(FRESH))
        }
        "GET /health" => Ok(health(&app)),
        _ => Err(no_such_route(&request)),
    }
}

fn health(app: &App) -> Reply {
    Reply::json(200, json!({ "status": "ok", "region": app.region, "version": env!("CARGO_PKG_VERSION") }))
}
