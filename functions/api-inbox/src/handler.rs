//! Requests to answers.

use std::sync::Arc;

use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::http::{Authenticator, HttpRequest, invalid, no_such_route};
use sojourn::sockets::inbox::{Inbox, ReadBounds};

/// Most bytes of messages in one answer. Lambda's limit is 6 MB, and JSON within JSON may take
/// twice the space.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;

/// What the handler works with.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Authenticator,
    pub(crate) inbox: Inbox,
}

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: HttpRequest) -> Result<Reply, Problem> {
    match request.route() {
        "GET /inbox" => read(&app, &request).await,
        "DELETE /inbox" => delete(&app, &request).await,
        _ => Err(no_such_route(&request)),
    }
}

async fn read(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let after = request.query("after")?;
    let bounds = ReadBounds { messages: request.limit()?, bytes: MAX_ANSWER_BYTES };
    let page = request
        .caller_beside(&app.authenticator, async |user, _| app.inbox.read(user, after, bounds).await)
        .await;
    let (_, page) = page?;
    Ok(Reply::json_text(200, page.document("", "nextCursor")))
}

async fn delete(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.caller(&app.authenticator).await?;
    let through = request.query("through")?.ok_or_else(|| invalid("the parameter through is missing"))?;
    request.in_time(app.inbox.delete(caller.user_id(), through, request.deadline())).await?;
    Ok(Reply::empty(204))
}
