//! Requests to answers.

use std::sync::Arc;

use serde_json::json;
use sojourn::http::{Incoming, no_such_route};
use sojourn::problem::Problem;
use sojourn::reply::Reply;

use crate::app::App;
use crate::{account, sessions, sign_in};

/// How long the public keys may be kept by clients and caches. A key is published at least this long before it signs.
const KEYS_CACHE_CONTROL: &str = "public, max-age=300";

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: Incoming) -> Result<Reply, Problem> {
    match request.route() {
        "POST /users" => account::sign_up(&app, &request).await,
        "PUT /users/me/password" => account::change_password(&app, &request).await,
        "POST /sessions" => sign_in::sign_in(&app, &request).await,
        "POST /sessions/refresh" => sign_in::refresh(&app, &request).await,
        "GET /sessions" => sessions::list(&app, &request).await,
        "DELETE /sessions" => sessions::revoke_all(&app, &request).await,
        "DELETE /sessions/current" => sessions::sign_out(&app, &request).await,
        "DELETE /sessions/{sessionId}" => sessions::revoke_one(&app, &request).await,
        "GET /.well-known/jwks.json" => Ok(public_keys(&app)),
        _ => Err(no_such_route(&request)),
    }
}

fn public_keys(app: &App) -> Reply {
    Reply::json(200, json!(app.public_keys)).header("cache-control", KEYS_CACHE_CONTROL)
}
