//! Requests to answers.

use std::sync::Arc;

use sojourn::commerce::carts::{Cart, CartDraft, Lines, Replacement};
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::http::{HttpRequest, no_such_route, read_version};
use sojourn::identity::principal::Principal;

use crate::app::App;

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: HttpRequest) -> Result<Reply, Problem> {
    match request.route() {
        "GET /cart" => get(&app, &request).await,
        "PUT /cart" => put(&app, &request).await,
        "DELETE /cart" => delete(&app, &request).await,
        _ => Err(no_such_route(&request)),
    }
}

async fn get(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let (_, cart) = read(app, request).await?;
    read_version(request, cart.current(), document(&cart))
}

async fn put(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let (caller, seen) = read(app, request).await?;
    let CartDraft { lines } = request.json()?;
    let cart = replace(app, request, &caller, seen, lines).await?;
    Ok(document(&cart))
}

async fn delete(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let (caller, seen) = read(app, request).await?;
    replace(app, request, &caller, seen, Lines::default()).await?;
    Ok(Reply::empty(204))
}

/// The checked caller and the cart, in one call.
async fn read(app: &App, request: &HttpRequest) -> Result<(Principal, Cart), Problem> {
    request.caller_with_row(&app.authenticator, |user| app.carts.cart(user)).await
}

/// Replaces the cart that was read with the check of the session.
async fn replace(
    app: &App,
    request: &HttpRequest,
    caller: &Principal,
    seen: Cart,
    lines: Lines,
) -> Result<Cart, Problem> {
    let replacement = Replacement { lines, preconditions: request.preconditions()? };
    let write = app.carts.replace(caller.user_id(), seen, replacement, request.deadline());
    request.in_time(write).await
}

fn document(cart: &Cart) -> Reply {
    Reply::json(200, cart.document()).header("etag", cart.tag().to_string())
}
