//! Requests to answers.

use std::sync::Arc;

use sojourn::commerce::carts::{Cart, CartDraft, Lines, Replacement};
use sojourn::core::precondition::etag;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::http::{Incoming, answer_read, no_such_route};
use sojourn::identity::principal::Credential;

use crate::app::App;

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: Incoming) -> Result<Reply, Problem> {
    match request.route() {
        "GET /cart" => get(&app, &request).await,
        "PUT /cart" => put(&app, &request).await,
        "DELETE /cart" => delete(&app, &request).await,
        _ => Err(no_such_route(&request)),
    }
}

async fn get(app: &App, request: &Incoming) -> Result<Reply, Problem> {
    let caller = request.credential(&app.authenticator).await?;
    let preconditions = request.preconditions()?;
    let cart = read(app, request, &caller).await?;
    answer_read(&preconditions, cart.current(), document(&cart))
}

async fn put(app: &App, request: &Incoming) -> Result<Reply, Problem> {
    let caller = request.credential(&app.authenticator).await?;
    let CartDraft { lines } = request.json()?;
    let cart = replace(app, request, &caller, lines).await?;
    Ok(document(&cart))
}

async fn delete(app: &App, request: &Incoming) -> Result<Reply, Problem> {
    let caller = request.credential(&app.authenticator).await?;
    replace(app, request, &caller, Lines::default()).await?;
    Ok(Reply::empty(204))
}

/// Writes after the caller's session was found to stand, on the cart that was read with it.
async fn replace(app: &App, request: &Incoming, caller: &Credential, lines: Lines) -> Result<Cart, Problem> {
    let replacement = Replacement { lines, preconditions: request.preconditions()? };
    let seen = read(app, request, caller).await?;
    let write = app.carts.replace(caller.user_id(), seen, replacement, request.deadline());
    request.in_time(write).await
}

/// Reads, and checks the caller's session in the same call.
async fn read(app: &App, request: &Incoming, caller: &Credential) -> Result<Cart, Problem> {
    let cart = app.carts.cart(caller.user_id());
    request.row_with_live_session(&app.sessions, caller, &app.clock, cart).await
}

fn document(cart: &Cart) -> Reply {
    Reply::json(200, cart.document()).header("etag", etag(cart.version))
}
