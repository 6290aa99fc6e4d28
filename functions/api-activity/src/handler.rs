//! Requests to answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sojourn::commerce::activity::{Days, Submission};
use sojourn::core::ids::ProductId;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::answers;
use sojourn::edge::http::{Caching, HttpRequest, no_such_route, read};
use sojourn::platform::buffer::{Entry, Offered};

use crate::app::App;

/// How long anybody may cache the counts, which lag anyway while events wait in the buffer.
const COUNTS: Caching =
    Caching::Public { max_age: Duration::from_mins(1), stale_while_revalidate: Duration::from_mins(5) };

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: HttpRequest) -> Result<Reply, Problem> {
    match request.route() {
        "POST /activity" => take(&app, &request).await,
        "GET /products/{productId}/activity" => tell(&app, &request).await,
        _ => Err(no_such_route(&request)),
    }
}

/// No idempotency key: each event has an id, and is counted once however often it is sent.
async fn take(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    request.caller(&app.authenticator).await?;
    let now = app.clock.now();
    let events = request.json::<Submission>()?.events(now)?;
    let entries: Vec<Entry> = events.iter().map(|event| event.entry(now)).collect();
    match request.in_time(app.buffer.offer(&entries, request.deadline())).await? {
        Offered::Backpressure { retry_after } => return Err(answers::backpressure(retry_after)),
        Offered::Accepted => {}
    }
    if let Some(writer) = &app.writer {
        request.in_time(writer.drain(&app.buffer, request.deadline())).await?;
    }
    Ok(Reply::json(202, json!({"accepted": entries.len()})))
}

async fn tell(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let product_id: ProductId = request.path("productId")?;
    let days = Days::from_query(request.query("days")?)?;
    let activity = request.in_time(app.activity.of_product(&product_id, days)).await?;
    read(request, COUNTS, Reply::json(200, activity.document()))
}
