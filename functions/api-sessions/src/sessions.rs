//! The caller's sessions: list and revoke.

use serde_json::{Value, json};
use sojourn::core::date_time::rfc3339;
use sojourn::core::ids::SessionId;
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::reply::Reply;
use sojourn::edge::http::HttpRequest;
use sojourn::identity::principal::Principal;
use sojourn::identity::sessions::{Device, Revocation, Session, SessionError};

use crate::app::App;

/// `GET /sessions`.
pub(crate) async fn list(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let (cursor, limit) = (request.query("cursor")?, request.limit()?);
    let page = request.caller_beside(&app.authenticator, async |user, current| {
        let sessions = app.authenticator.sessions().rows();
        sessions.list(user, current, cursor, limit, request.deadline()).await
    });
    let (caller, page) = page.await?;
    let now = app.clock.now();
    let mut items: Vec<Value> = Vec::new();
    for listed in &page.items {
        let Some(session) = listed.live(caller.user_id(), now) else { continue };
        let device = listed.device(&app.sealing_keys).await;
        items.push(document(session, device.as_ref(), caller.session_id()));
    }
    Ok(Reply::json(
        200,
        match page.next_cursor {
            Some(cursor) => json!({"items": items, "nextCursor": cursor}),
            None => json!({"items": items}),
        },
    ))
}

/// `DELETE /sessions/{sessionId}`.
pub(crate) async fn revoke_one(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.caller(&app.authenticator).await?;
    let id: SessionId = request.path("sessionId")?;
    revoke(app, request, &caller, &id).await
}

/// `DELETE /sessions/current`.
pub(crate) async fn sign_out(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.caller(&app.authenticator).await?;
    revoke(app, request, &caller, caller.session_id()).await
}

/// `DELETE /sessions`.
pub(crate) async fn revoke_all(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.caller(&app.authenticator).await?;
    request.in_time(app.revoker.revoke_all(caller.user_id(), request.deadline())).await?;
    Ok(Reply::empty(204).cookie(app.authenticator.cookie().clear()))
}

async fn revoke(
    app: &App,
    request: &HttpRequest,
    caller: &Principal,
    id: &SessionId,
) -> Result<Reply, Problem> {
    let (user, deadline) = (caller.user_id(), request.deadline());
    let revocation = if id == caller.session_id() {
        request.in_time(app.revoker.revoke_proven(id, user, deadline)).await?
    } else {
        request.in_time(app.revoker.revoke(id, user, deadline)).await?
    };
    match revocation {
        // Two concurrent requests of the caller revoked it, and the other one was faster.
        Revocation::NotThere if id == caller.session_id() => Err(SessionError::Ended.into()),
        Revocation::NotThere => Err(Problem::new(ProblemType::NotFound, format!("there is no session {id}"))),
        Revocation::Revoked if id == caller.session_id() => {
            Ok(Reply::empty(204).cookie(app.authenticator.cookie().clear()))
        }
        Revocation::Revoked => Ok(Reply::empty(204)),
    }
}

fn document(session: &Session, device: Option<&Device>, current: &SessionId) -> Value {
    json!({
        "sessionId": session.id,
        "device": device,
        "createdAt": rfc3339(session.created_at),
        "lastActivity": rfc3339(session.last_activity),
        "region": session.region,
        "current": session.id == *current,
    })
}
