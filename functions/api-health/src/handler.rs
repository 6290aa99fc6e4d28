//! Requests to answers.

use std::sync::Arc;

use serde_json::json;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::http::{Incoming, no_such_route};

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) region: String,
}

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: Incoming) -> Result<Reply, Problem> {
    match request.route() {
        "GET /health" => Ok(health(&app)),
        _ => Err(no_such_route(&request)),
    }
}

fn health(app: &App) -> Reply {
    Reply::json(200, json!({ "status": "ok", "region": app.region, "version": env!("CARGO_PKG_VERSION") }))
}
