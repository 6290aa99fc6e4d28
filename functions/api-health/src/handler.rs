//! Requests to answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sojourn::coordination::regions::Regions;
use sojourn::core::deadline::Deadline;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::http::{Incoming, no_such_route};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long what is known of an evacuation holds.
const FRESH: Duration = Duration::from_secs(5);

/// How long the agreement table may take. Route 53 waits two seconds for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    region: String,
    /// None in a single region, which nobody can evacuate.
    regions: Option<Regions>,
    known: Mutex<Known>,
}

/// What is known of the region's evacuation.
#[derive(Debug, Default)]
struct Known {
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
                    tracing::warn!(%error, "the agreement table did not tell whether the region is evacuated");
                }
                Err(error) => tracing::warn!(%error, "the agreement table did not answer in time"),
            }
            known.asked_at = Some(Instant::now());
        }
        known.is_evacuated
    }
}

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: Incoming) -> Result<Reply, Problem> {
    match request.route() {
        "GET /health" => Ok(health(&app).await),
        _ => Err(no_such_route(&request)),
    }
}

async fn health(app: &App) -> Reply {
    let (code, status) = if app.is_evacuated().await { (503, "evacuated") } else { (200, "ok") };
    Reply::json(code, json!({ "status": status, "region": app.region, "version": env!("CARGO_PKG_VERSION") }))
}
