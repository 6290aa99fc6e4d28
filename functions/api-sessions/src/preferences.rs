//! The preferences of the caller's session.

use serde_json::{Map, Value, json};
use sojourn::core::precondition::EntityTag;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::http::{HttpRequest, read_version};
use sojourn::identity::sessions::{PreferencesPatch, VersionedPreferences};

use crate::app::App;

/// `GET /sessions/current/preferences`.
pub(crate) async fn get(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.credential(&app.authenticator).await?;
    let read = request.in_time(app.preferences.read(&caller)).await?;
    read_version(request, read.current(), document(&read))
}

/// `PATCH /sessions/current/preferences`.
pub(crate) async fn patch(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.credential(&app.authenticator).await?;
    let preconditions = request.preconditions()?;
    let patch = PreferencesPatch::new(request.json::<Map<String, Value>>()?)?;
    let change = app.preferences.patch(&caller, &patch, &preconditions, request.deadline());
    let changed = request.in_time(change).await?;
    Ok(document(&changed))
}

fn document(VersionedPreferences { preferences, version }: &VersionedPreferences) -> Reply {
    Reply::json(200, json!(preferences.expose())).header("etag", EntityTag::Version(*version).to_string())
}
