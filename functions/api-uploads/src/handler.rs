//! Requests to answers.

use std::sync::Arc;

use serde_json::{Value, json};
use sojourn::core::cursor::Page;
use sojourn::core::ids::UploadId;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::http::{HttpRequest, no_such_route};
use sojourn::files::links::disposition::Disposition;
use sojourn::files::uploads::{CompletionRequest, Readable, UploadRequest};

use crate::app::App;

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: HttpRequest) -> Result<Reply, Problem> {
    match request.route() {
        "POST /uploads" => create(&app, &request).await,
        "GET /uploads" => list(&app, &request).await,
        "GET /uploads/{uploadId}" => get(&app, &request).await,
        "DELETE /uploads/{uploadId}" => delete(&app, &request).await,
        "POST /uploads/{uploadId}/complete" => complete(&app, &request).await,
        _ => Err(no_such_route(&request)),
    }
}

async fn create(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let usage = request.caller_beside(&app.authenticator, async |user, _| app.uploads.usage(user).await);
    let (caller, usage) = usage.await?;
    let wish: UploadRequest = request.json()?;
    let offer = app.uploads.create(caller.user_id(), wish, usage, request.deadline());
    let offer = request.in_time(offer).await?;
    let location = format!("/uploads/{}", offer.upload.upload_id);
    Ok(Reply::json(201, offer.document()).header("location", location))
}

async fn complete(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.caller(&app.authenticator).await?;
    let upload_id: UploadId = request.path("uploadId")?;
    let sent: CompletionRequest = request.json_if_any()?.unwrap_or_default();
    let work = async {
        let ready = app.uploads.complete(caller.user_id(), &upload_id, &sent, request.deadline()).await?;
        app.uploads.readable(ready, Disposition::default()).await
    };
    let readable = request.in_time(work).await?;
    Ok(Reply::json(200, readable.document()))
}

async fn delete(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.caller(&app.authenticator).await?;
    let upload_id: UploadId = request.path("uploadId")?;
    request.in_time(app.uploads.delete(caller.user_id(), &upload_id, request.deadline())).await?;
    Ok(Reply::empty(204))
}

async fn get(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let upload_id: UploadId = request.path("uploadId")?;
    let upload = request.caller_with_row(&app.authenticator, |user| app.uploads.upload(user, &upload_id));
    let (_, upload) = upload.await?;
    let readable = app.uploads.get(upload, &upload_id, disposition(request)?);
    Ok(Reply::json(200, request.in_time(readable).await?.document()))
}

async fn list(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let (cursor, limit, disposition) = (request.query("cursor")?, request.limit()?, disposition(request)?);
    let page = request.caller_beside(&app.authenticator, async |user, _| {
        app.uploads.list(user, cursor, limit, disposition).await
    });
    let (_, page) = page.await?;
    Ok(Reply::json(200, page_document(&page)))
}

fn page_document(page: &Page<Readable>) -> Value {
    let items: Vec<Value> = page.items.iter().map(Readable::document).collect();
    match &page.next_cursor {
        Some(cursor) => json!({"items": items, "nextCursor": cursor}),
        None => json!({"items": items}),
    }
}

/// The requested disposition of downloads.
fn disposition(request: &HttpRequest) -> Result<Disposition, Problem> {
    Ok(request.query("disposition")?.map(str::parse).transpose()?.unwrap_or_default())
}
