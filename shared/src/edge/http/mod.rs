//! The HTTP edge: API Gateway events in, [`Reply`]s out.
//!
//! [`serve`] runs a handler for every event of an HTTP API (payload format 2.0). The handler gets
//! an [`HttpRequest`], whose accessors parse and verify or refuse with a [`Problem`], and returns a
//! reply or a problem. The client always gets JSON, and a problem is logged once, here, with its
//! stable `error_type`.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use lambda_http::lambda_runtime::LambdaEvent;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Body, Request, Response, Service, service_fn};

use crate::core::error_type::ErrorType;
use crate::core::problem::{Problem, ProblemType};
use crate::core::reply::Reply;
use crate::edge::boot::BootError;
use crate::edge::invocation;

mod authenticator;
mod conditional;
mod cookies;
mod incoming;
mod media_type;
mod trusted_proxy;

pub use authenticator::Authenticator;
pub use conditional::{Caching, read, read_version};
pub use incoming::{HttpRequest, MAX_BODY_BYTES, invalid};
pub use trusted_proxy::TrustedProxy;

/// Serves HTTP API events with `handler` until Lambda stops the process. `app` has its
/// configuration and adapters, built once.
pub async fn serve<A, H, F>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    H: Fn(Arc<A>, HttpRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let handler = Arc::new(handler);
    invocation::serve(function, app, move |app, mut event: LambdaEvent<LambdaRequest>, deadline| {
        let handler = Arc::clone(&handler);
        async move {
            cookies::keep_readable(&mut event.payload);
            let mut adapter = Adapter::from(service_fn(move |request: Request| {
                let incoming = HttpRequest::new(request, deadline);
                let (route, challenge) = (incoming.route().to_owned(), incoming.challenge());
                let work = handler(Arc::clone(&app), incoming);
                async move { answer(&route, challenge, work.await) }
            }));
            adapter.call(event).await
        }
    })
    .await
}

/// An answer that is not valid HTTP, such as a header with a line break. API Gateway answers 500.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not valid HTTP")]
struct InvalidAnswer(#[from] http::Error);

impl ErrorType for InvalidAnswer {
    fn error_type(&self) -> &'static str {
        "invalid-answer"
    }
}

/// The HTTP answer to a handler's result: its reply, or its problem as `problem+json`, logged once.
fn answer(
    route: &str,
    challenge: &str,
    outcome: Result<Reply, Problem>,
) -> Result<Response<Body>, InvalidAnswer> {
    let reply = outcome.unwrap_or_else(|problem| {
        invocation::refused(route, &problem);
        let is_unauthenticated = problem.kind == ProblemType::Unauthenticated;
        let reply = problem.into_reply();
        if is_unauthenticated { reply.header("www-authenticate", challenge) } else { reply }
    });
    into_response(&reply)
}

/// A route that the template sends here and the handler does not know.
pub fn no_such_route(incoming: &HttpRequest) -> Problem {
    Problem::new(ProblemType::NotFound, format!("there is no {}", incoming.route()))
}

fn into_response(reply: &Reply) -> Result<Response<Body>, InvalidAnswer> {
    let mut response = Response::builder().status(reply.status);
    let text = reply.content().map(Cow::into_owned);
    if text.is_some() && !reply.headers.contains_key("content-type") {
        response = response.header("content-type", "application/json");
    }
    match reply.headers.get("cache-control") {
        // API Gateway adds the CORS headers of the requesting page; a cache must not give them to
        // another one.
        Some(control) if control.starts_with("public") => response = response.header("vary", "Origin"),
        Some(_) => {}
        // Answers are for one caller at one moment, unless a handler says otherwise.
        None => response = response.header("cache-control", "no-store"),
    }
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    for cookie in &reply.cookies {
        response = response.header("set-cookie", cookie);
    }
    Ok(response.body(text.map_or(Body::Empty, Body::Text))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::deadline::Deadline;
    use serde_json::json;
    use std::time::Duration;

    fn header(response: &Response<Body>, name: &str) -> Option<String> {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_401_tells_a_refused_token_from_a_missing_one() {
        let (invalid, bearer) = ("Bearer error=\"invalid_token\"", "Bearer");
        for (kind, authorization, challenge) in [
            (ProblemType::Unauthenticated, Some("bearer a.b.c"), Some(invalid)),
            (ProblemType::Unauthenticated, Some("Basic YTpi"), Some(bearer)),
            (ProblemType::Unauthenticated, None, Some(bearer)),
            (ProblemType::WrongCredentials, Some("Bearer a.b.c"), Some(bearer)),
            (ProblemType::Forbidden, Some("Bearer a.b.c"), None),
        ] {
            let mut request = Request::default();
            if let Some(credentials) = authorization {
                request.headers_mut().insert("authorization", credentials.parse().unwrap());
            }
            let refused = answer(
                "GET /",
                HttpRequest::new(request, Deadline::after(Duration::ZERO)).challenge(),
                Err(Problem::new(kind, "")),
            );
            assert_eq!(header(&refused.unwrap(), "www-authenticate").as_deref(), challenge, "{kind:?}");
        }
    }

    #[test]
    fn what_a_cache_may_keep_varies_with_the_origin() {
        let public = Reply::json(200, json!({})).header("cache-control", "public, max-age=300");
        assert_eq!(header(&into_response(&public).unwrap(), "vary").as_deref(), Some("Origin"));
        let private = into_response(&Reply::json(200, json!({}))).unwrap();
        assert_eq!(
            (header(&private, "cache-control").as_deref(), header(&private, "vary")),
            (Some("no-store"), None)
        );
    }
}
