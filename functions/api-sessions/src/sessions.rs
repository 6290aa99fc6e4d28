//! The caller's sessions: the list, and their ends.

use serde_json::{Value, json};
use sojourn::clock::rfc3339;
use sojourn::delivery::Selection;
use sojourn::http::Incoming;
use sojourn::ids::SessionId;
use sojourn::problem::{Problem, ProblemType};
use sojourn::reply::Reply;
use sojourn::sessions::{Revocation, Session, SessionLister, SessionRevoker, Standing, cookie, require_live};
use sojourn::tokens::Principal;

use crate::app::App;

/// `GET /sessions`.
pub(crate) async fn list(app: &App, request: &Incoming) -> Result<Reply, Problem> {
    let caller = request.principal(&app.authenticator)?;
    let found = app.sessions.list(caller.user_id(), caller.session_id(), request.deadline());
    let found = request.with_live_session(&app.sessions, &caller, &app.clock, found).await?;
    let now = app.clock.now();
    let live = found.iter().filter_map(|rows| {
        let session = rows.session.as_ref()?;
        let standing = rows.standing_of(&session.id, caller.user_id(), now);
        matches!(standing, Standing::Live { .. }).then_some(session)
    });
    let items: Vec<Value> = live.map(|session| document(session, caller.session_id())).collect();
    Ok(Reply::json(200, json!({"items": items})))
}

/// `DELETE /sessions/{sessionId}`.
pub(crate) async fn revoke_one(app: &App, request: &Incoming) -> Result<Reply, Problem> {
    let caller = live_caller(app, request).await?;
    let id: SessionId = request.path("sessionId")?;
    revoke(app, request, &caller, &id).await
}

/// `DELETE /sessions/current`.
pub(crate) async fn sign_out(app: &App, request: &Incoming) -> Result<Reply, Problem> {
    let caller = live_caller(app, request).await?;
    revoke(app, request, &caller, caller.session_id()).await
}

/// `DELETE /sessions`.
pub(crate) async fn revoke_all(app: &App, request: &Incoming) -> Result<Reply, Problem> {
    let caller = live_caller(app, request).await?;
    let (now, deadline) = (app.clock.now(), request.deadline());
    request.in_time(app.revocations.revoke_all(caller.user_id(), now, deadline)).await?;
    app.closer.close(caller.user_id(), &Selection::AllBut(None), deadline).await;
    Ok(Reply::empty(204).cookie(cookie::clear()))
}

async fn live_caller(app: &App, request: &Incoming) -> Result<Principal, Problem> {
    let caller = request.principal(&app.authenticator)?;
    request.in_time(require_live(&app.sessions, &caller, &app.clock)).await?;
    Ok(caller)
}

async fn revoke(app: &App, request: &Incoming, caller: &Principal, id: &SessionId) -> Result<Reply, Problem> {
    let (now, deadline) = (app.clock.now(), request.deadline());
    let work = app.revocations.revoke(id, caller.user_id(), now, deadline);
    match request.in_time(work).await? {
        Revocation::NotThere => Err(Problem::new(ProblemType::NotFound, format!("there is no session {id}"))),
        Revocation::Revoked => {
            app.closer.close(caller.user_id(), &Selection::Session(id.clone()), deadline).await;
            let done = Reply::empty(204);
            Ok(if id == caller.session_id() { done.cookie(cookie::clear()) } else { done })
        }
    }
}

fn document(session: &Session, current: &SessionId) -> Value {
    json!({
        "sessionId": session.id,
        "device": session.device,
        "createdAt": rfc3339(session.created_at),
        "lastActivity": rfc3339(session.last_activity),
        "region": session.region,
        "current": session.id == *current,
    })
}
