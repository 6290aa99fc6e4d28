//! Requests to answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sojourn::commerce::catalog::dynamo::{AdjustStock, Stored};
use sojourn::commerce::catalog::{ProductDraft, StockChange, StockRefusal};
use sojourn::coordination::idempotency::KeyedRequest;
use sojourn::core::ids::ProductId;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::answers;
use sojourn::edge::http::{Caching, HttpRequest, no_such_route, read};
use sojourn::identity::principal::Role;

use crate::app::App;

/// How long anybody may cache the catalogue. Prices and units may be seconds old here; an order
/// reads current ones.
const CATALOGUE: Caching =
    Caching::Public { max_age: Duration::from_secs(5), stale_while_revalidate: Duration::from_secs(30) };

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: HttpRequest) -> Result<Reply, Problem> {
    match request.route() {
        "GET /products" => list(&app, &request).await,
        "GET /products/{productId}" => get(&app, &request).await,
        "PUT /products/{productId}" => put(&app, &request).await,
        "POST /products/{productId}/stock" => adjust_stock(&app, &request).await,
        _ => Err(no_such_route(&request)),
    }
}

async fn list(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let (cursor, limit) = (request.query("cursor")?, request.limit()?);
    let page = request.in_time(app.catalog.list(cursor, limit, request.deadline())).await?;
    let items: Vec<Value> = page.items.iter().map(|(product, units)| product.document(*units)).collect();
    let document = match page.next_cursor {
        Some(cursor) => json!({"items": items, "nextCursor": cursor}),
        None => json!({"items": items}),
    };
    read(request, CATALOGUE, Reply::json(200, document))
}

async fn get(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let product_id: ProductId = request.path("productId")?;
    match request.in_time(app.catalog.get(&product_id)).await? {
        Some((product, available)) => read(request, CATALOGUE, Reply::json(200, product.document(available))),
        None => Err(StockRefusal::UnknownProduct(product_id).into()),
    }
}

async fn put(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let product_id: ProductId = request.path("productId")?;
    let available =
        request.caller_beside(&app.authenticator, async |_, _| app.catalog.available(&product_id).await);
    let (caller, available) = available.await?;
    caller.require_role(Role::Operator)?;
    let draft: ProductDraft = request.json()?;
    let write = async {
        let (stored, product) = app.catalog.put(&product_id, &draft, app.clock.now()).await?;
        let status = match stored {
            Stored::Created => 201,
            Stored::Replaced => 200,
        };
        Ok::<_, Problem>(Reply::json(status, product.document(available)))
    };
    request.in_time(write).await
}

async fn adjust_stock(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.operator(&app.authenticator).await?;
    let key = request.idempotency_key()?;
    let product_id: ProductId = request.path("productId")?;
    let StockChange { delta } = request.json()?;
    let payload = json!({"productId": product_id, "body": request.json_value()?});
    let keyed = KeyedRequest::new("adjust-stock", &caller, key, &payload);
    let effect = AdjustStock { tables: &app.stock, product_id: &product_id, delta, event_id: app.ids.next() };
    let answer = answers::to(answers::adjusted);
    request.in_time(app.requests.run(&caller, &keyed, &effect, answer, request.deadline())).await
}
