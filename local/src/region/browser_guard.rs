//! Keeps web pages away from Lambda's API and the region's own.
//!
//! Both accept requests without a password, because only the user of this machine reaches its
//! loopback address. A page in that user's browser reaches it, too: a `POST` of text needs no
//! preflight, so any web site could invoke functions. Two things tell a page from a tool:
//! 1. a browser states the `Origin` of every request that a page may not read freely, of each
//!    `POST` among them;
//! 2. a page whose host name was pointed at this machine (DNS rebinding) names that host.
//!
//! Either is refused with 403. DynamoDB and most services need a header that a page can't send
//! without a preflight, which they don't answer. S3 answers preflights for the origins in the
//! template, and serves only signed requests.

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, StatusCode};
use serde_json::json;

/// Lets requests of tools on this machine pass, and no others.
pub(super) async fn refuse_pages(request: Request, next: Next) -> Response {
    if is_of_a_tool(request.headers()) {
        return next.run(request).await;
    }
    let message = "this interface is for tools on this machine, not for web pages";
    (StatusCode::FORBIDDEN, Json(json!({ "message": message }))).into_response()
}

fn is_of_a_tool(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let is_here = host.is_some_and(|host| matches!(host.host(), "127.0.0.1" | "localhost" | "[::1]"));
    is_here && !headers.contains_key(ORIGIN)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::post;
    use axum::{Router, middleware};
    use tower::ServiceExt;

    use super::*;

    async fn status(headers: &[(&str, &str)]) -> u16 {
        let router =
            Router::new().route("/", post(|| async { "done" })).layer(middleware::from_fn(refuse_pages));
        let mut request = Request::post("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn tools_on_this_machine_are_served() {
        for host in ["127.0.0.1:4711", "localhost:4711", "localhost", "[::1]:4711"] {
            assert_eq!(status(&[("host", host)]).await, 200, "{host}");
        }
    }

    #[tokio::test]
    async fn a_web_page_is_refused_wherever_it_is_from() {
        for origin in ["https://evil.example", "http://127.0.0.1:5173", "null"] {
            assert_eq!(status(&[("host", "127.0.0.1:4711"), ("origin", origin)]).await, 403, "{origin}");
        }
    }

    #[tokio::test]
    async fn a_host_name_that_was_pointed_here_is_refused() {
        for host in ["evil.example:4711", "127.0.0.1.evil.example", "localhost.evil.example:4711"] {
            assert_eq!(status(&[("host", host)]).await, 403, "{host}");
        }
        assert_eq!(status(&[]).await, 403);
    }
}
