//! The HTTP edge: API Gateway events in, [`Reply`]s out.
//!
//! [`serve`] runs a handler for every event of an HTTP API (payload format 2.0). The handler gets an [`Incoming`]
//! request, whose accessors parse and verify or refuse with a [`Problem`], and returns a reply or a problem. Whatever
//! it does, the client gets JSON, and a problem is logged once, here, with its stable `error_type`.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lambda_http::{Body, Request, RequestExt, Response, service_fn};
use tracing::Instrument;

use crate::boot::BootError;
use crate::problem::{Problem, ProblemType};
use crate::reply::Reply;
use crate::telemetry::{self, Metric};

mod authenticator;
mod incoming;
mod mapping;
mod trusted_proxy;

pub use authenticator::Authenticator;
pub use incoming::{Incoming, MAX_BODY_BYTES, invalid};
pub use trusted_proxy::TrustedProxy;

/// Serves HTTP API events with `handler` until Lambda stops the process. `app` is what the handler works with: its
/// configuration and adapters, built once.
pub async fn serve<A, H, F>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    H: Fn(Arc<A>, Incoming) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let app = Arc::new(app);
    let cold = AtomicBool::new(true);
    lambda_http::run(service_fn(move |request: Request| {
        if cold.swap(false, Ordering::Relaxed) {
            telemetry::count(Metric::ColdStart, 1);
        }
        let request_id =
            request.lambda_context_ref().map(|context| context.request_id.clone()).unwrap_or_default();
        let span = telemetry::invocation(function, &request_id);
        let incoming = Incoming::new(request);
        let route = incoming.route().to_owned();
        let work = handler(Arc::clone(&app), incoming);
        async move { answer(&route, work.await).map_err(BootError::from) }.instrument(span)
    }))
    .await
}

/// The HTTP answer to what a handler came to: its reply, or its problem as `problem+json`, logged once.
pub fn answer(route: &str, outcome: Result<Reply, Problem>) -> Result<Response<Body>, http::Error> {
    into_response(outcome.unwrap_or_else(|problem| {
        report(route, &problem);
        problem.into_reply()
    }))
}

/// The detail is left out: it is for the client and may repeat what the client sent, which may be a password in the wrong
/// place.
fn report(route: &str, problem: &Problem) {
    let (error_type, status) = (problem.kind.slug(), problem.kind.status());
    if status >= 500 {
        telemetry::count_case(Metric::Errors, error_type, 1);
        // The cause was logged by the mapping that made the problem; this line ties it to the route.
        tracing::warn!(route, status, error_type, "answered with a server error");
    } else {
        tracing::info!(route, status, error_type, "refused");
    }
}

/// A route that the template sends here and the handler does not know.
pub fn no_such_route(incoming: &Incoming) -> Problem {
    Problem::new(ProblemType::NotFound, format!("there is no {}", incoming.route()))
}

fn into_response(reply: Reply) -> Result<Response<Body>, http::Error> {
    let mut response = Response::builder().status(reply.status);
    if reply.body.is_some() && !reply.headers.contains_key("content-type") {
        response = response.header("content-type", "application/json");
    }
    if !reply.headers.contains_key("cache-control") {
        // Answers are about one caller at one moment, unless a handler says otherwise.
        response = response.header("cache-control", "no-store");
    }
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    for cookie in &reply.cookies {
        response = response.header("set-cookie", cookie);
    }
    response.body(reply.body.map_or(Body::Empty, |body| Body::Text(body.to_string())))
}
