//! Requests to answers.

use std::sync::Arc;

use serde_json::json;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::http::{HttpRequest, no_such_route};
use sojourn::identity::tokens::rotation::JWKS_MAX_AGE;

use crate::app::App;
use crate::{account, preferences, sessions, sign_in};

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: HttpRequest) -> Result<Reply, Problem> {
    match request.route() {
        "POST /users" => account::sign_up(&app, &request).await,
        "PUT /users/me/password" => account::change_password(&app, &request).await,
        "POST /sessions" => sign_in::sign_in(&app, &request).await,
        "POST /sessions/refresh" => sign_in::refresh(&app, &request).await,
        "GET /sessions" => sessions::list(&app, &request).await,
        "DELETE /sessions" => sessions::revoke_all(&app, &request).await,
        "DELETE /sessions/current" => sessions::sign_out(&app, &request).await,
        "DELETE /sessions/{sessionId}" => sessions::revoke_one(&app, &request).await,
        "GET /sessions/current/preferences" => preferences::get(&app, &request).await,
        "PATCH /sessions/current/preferences" => preferences::patch(&app, &request).await,
        "GET /.well-known/jwks.json" => Ok(public_keys(&app)),
        _ => Err(no_such_route(&request)),
    }
}

fn public_keys(app: &App) -> Reply {
    let cache_control = format!("public, max-age={}", JWKS_MAX_AGE.as_secs());
    Reply::json(200, json!(app.public_keys)).header("cache-control", cache_control)
}
