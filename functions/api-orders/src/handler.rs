//! Requests to answers.

use std::sync::Arc;

use serde_json::{Value, json};
use sojourn::commerce::cancellation::CancelOrder;
use sojourn::commerce::orders::dynamo::PlaceOrder;
use sojourn::commerce::orders::{ListedOrder, OrderRefusal, OrderRequest, order_id_of};
use sojourn::commerce::payments::PaymentRequest;
use sojourn::coordination::idempotency::KeyedRequest;
use sojourn::core::cursor::Page;
use sojourn::core::ids::OrderId;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::answers;
use sojourn::edge::http::{Caching, HttpRequest, no_such_route, read};
use sojourn::identity::principal::Credential;

use crate::app::App;

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: HttpRequest) -> Result<Reply, Problem> {
    match request.route() {
        "POST /orders" => write(&app, &request, place).await,
        "GET /orders" => list(&app, &request).await,
        "GET /orders/summary" => summary(&app, &request).await,
        "GET /orders/{orderId}" => get(&app, &request).await,
        "POST /orders/{orderId}/payments" => write(&app, &request, pay).await,
        "POST /orders/{orderId}/cancel" => write(&app, &request, cancel).await,
        _ => Err(no_such_route(&request)),
    }
}

/// Answers a write. The caller's cached summary is always deleted: the write may have happened, now
/// or at an earlier try.
async fn write(
    app: &App,
    request: &HttpRequest,
    write: impl AsyncFnOnce(&App, &HttpRequest, &Credential) -> Result<Reply, Problem>,
) -> Result<Reply, Problem> {
    let caller = request.credential(&app.authenticator).await?;
    let answer = write(app, request, &caller).await;
    app.summaries.forget(&caller).await;
    answer
}

async fn place(app: &App, request: &HttpRequest, caller: &Credential) -> Result<Reply, Problem> {
    let key = request.idempotency_key()?;
    let wanted: OrderRequest = request.json()?;
    let keyed = KeyedRequest::new("place-order", caller, key, &request.json_value()?);
    let effect = PlaceOrder {
        checkout: &app.checkout,
        order_id: order_id_of(&keyed),
        request: &wanted,
        deadline: request.deadline(),
    };
    let answer = answers::to(answers::placed);
    request.in_time(app.requests.run(caller, &keyed, &effect, answer, request.deadline())).await
}

async fn pay(app: &App, request: &HttpRequest, caller: &Credential) -> Result<Reply, Problem> {
    let key = request.idempotency_key()?;
    let order_id: OrderId = request.path("orderId")?;
    let PaymentRequest { payment_token } = request.json()?;
    let payload = json!({"orderId": order_id, "body": request.json_value()?});
    let keyed = KeyedRequest::new("pay-order", caller, key, &payload);
    let (answer, deadline) = (answers::to(answers::captured), request.deadline());
    request.in_time(app.payments.pay(caller, &keyed, &order_id, &payment_token, answer, deadline)).await
}

async fn cancel(app: &App, request: &HttpRequest, caller: &Credential) -> Result<Reply, Problem> {
    let key = request.idempotency_key()?;
    let order_id: OrderId = request.path("orderId")?;
    let keyed = KeyedRequest::new("cancel-order", caller, key, &json!({"orderId": order_id}));
    let (answer, deadline) = (answers::to(answers::cancelled), request.deadline());
    let effect = CancelOrder::new(&app.cancellations, &order_id, deadline);
    request.in_time(app.requests.run(caller, &keyed, &effect, answer, deadline)).await
}

async fn get(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let order_id: OrderId = request.path("orderId")?;
    let order = request.caller_with_row(&app.authenticator, |user| app.orders.order(user, &order_id));
    match order.await?.1 {
        Some(order) => read(request, Caching::Private, Reply::json(200, order.document())),
        None => Err(OrderRefusal::NotFound(order_id).into()),
    }
}

async fn list(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let (cursor, limit) = (request.query("cursor")?, request.limit()?);
    let page =
        request.caller_beside(&app.authenticator, async |user, _| app.orders.list(user, cursor, limit).await);
    let (_, page) = page.await?;
    read(request, Caching::Private, Reply::json(200, document(&page)))
}

async fn summary(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let summary = request.caller_beside(&app.authenticator, async |user, _| app.summaries.of(user).await);
    let (_, summary) = summary.await?;
    read(request, Caching::Private, Reply::json(200, summary.document()))
}

fn document(page: &Page<ListedOrder>) -> Value {
    let items = &page.items;
    match &page.next_cursor {
        Some(cursor) => json!({"items": items, "nextCursor": cursor}),
        None => json!({"items": items}),
    }
}
