//! Requests to answers.

use std::sync::Arc;

use sojourn::coordination::idempotency::KeyedRequest;
use sojourn::core::ids::ExportId;
use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::answers;
use sojourn::edge::http::{HttpRequest, no_such_route};
use sojourn::files::exports::dynamo::RequestExport;
use sojourn::files::exports::{self, ExportRequest, NoSuchExport};

use crate::app::App;

/// Answers one request.
pub(crate) async fn handle(app: Arc<App>, request: HttpRequest) -> Result<Reply, Problem> {
    match request.route() {
        "POST /exports" => ask(&app, &request).await,
        "GET /exports/{exportId}" => get(&app, &request).await,
        _ => Err(no_such_route(&request)),
    }
}

async fn ask(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let caller = request.credential(&app.authenticator).await?;
    let key = request.idempotency_key()?;
    let wanted: ExportRequest = request.json()?;
    let keyed = KeyedRequest::new("request-export", &caller, key, &request.json_value()?);
    let effect = RequestExport { tables: &app.tables, export_id: app.ids.next(), request: &wanted };
    let answer = answers::to(answers::accepted);
    let work = async {
        let reply = app.requests.run(&caller, &keyed, &effect, answer, request.deadline()).await?;
        Ok::<_, Problem>(exports::submit(reply, &app.queue, &app.sends).await?)
    };
    request.in_time(work).await
}

async fn get(app: &App, request: &HttpRequest) -> Result<Reply, Problem> {
    let export_id: ExportId = request.path("exportId")?;
    let export =
        request.caller_with_row(&app.authenticator, |user| app.exports.of_customer(user, &export_id));
    let (_, export) = export.await?;
    let export = export.ok_or(NoSuchExport(export_id))?;
    let link = request.in_time(export.link(&app.downloads)).await?;
    Ok(Reply::json(200, export.document_with(link.as_ref())))
}
