//! S3 over HTTP: the service of the store, with the decisions of the gate applied to its answer.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use s3s::service::S3Service;

use super::cors::{Cors, Preflight, Wish};
use super::gate::{Content, Slot};
use super::signed::Signed;
use super::store::SetAside;
use crate::services::access::Denied;
use crate::services::call::Hangup;
use crate::services::pipeline::Controls;
use crate::services::server::{Body, Handler};
use crate::template::arn;

pub(super) struct Endpoint {
    pub(super) service: S3Service,
    pub(super) cors: Arc<Cors>,
    pub(super) controls: Controls,
}

impl Handler for Endpoint {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        if request.method() == Method::OPTIONS {
            return self.preflight(&request);
        }
        let wish = Wish::of_request(request.uri(), request.method(), request.headers());
        let mut response = self.serve(request).await?;
        if let Some(wish) = wish {
            response.headers_mut().extend(self.cors.actual(&wish));
        }
        Ok(response)
    }
}

impl Endpoint {
    fn preflight(&self, request: &Request<Incoming>) -> Result<Response<Body>, Hangup> {
        let refuse = |status, code, message| error(request.method(), status, code, message);
        match self.cors.preflight(request.uri(), request.headers()) {
            Preflight::Allowed(headers) => {
                let mut response = Response::new(empty());
                *response.headers_mut() = headers;
                Ok(response)
            }
            Preflight::Forbidden => refuse(
                StatusCode::FORBIDDEN,
                "AccessForbidden",
                "CORSResponse: This CORS request is not allowed.",
            ),
            Preflight::Incomplete => refuse(
                StatusCode::BAD_REQUEST,
                "BadRequest",
                "Insufficient information. Origin and Access-Control-Request-Method are needed.",
            ),
        }
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        let slot = Slot::new();
        let mut request = request.map(s3s::Body::from);
        request.extensions_mut().insert(slot.clone());
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            let signed = Signed::of(request.uri(), request.headers());
            let aside = SetAside::from(request.headers_mut(), signed.as_ref());
            request.extensions_mut().insert(aside);
        }
        let method = request.method().clone();
        let response = self.service.call(request).await.map_err(|error| {
            tracing::error!(?error, "S3 could not answer");
            Hangup
        })?;
        // An answer that says "as you have it" has no body, RFC 9110 15.4.5; `s3s` gives it the one
        // of an error.
        let response = match response.status() {
            StatusCode::NOT_MODIFIED => response.map(|_| empty()),
            _ => response.map(BodyExt::boxed_unsync),
        };
        // Unsigned, or not an S3 request at all: it never reached the gate.
        let Some(content) = slot.take() else { return Ok(response) };
        self.finish(&method, content, response).await
    }

    async fn finish(
        &self,
        method: &Method,
        content: Content,
        response: Response<Body>,
    ) -> Result<Response<Body>, Hangup> {
        let response = match self.hides(&content, &response) {
            Some(denied) => {
                let function = content.passage.call.caller.name();
                tracing::warn!(function, "a missing object is hidden: {denied}");
                error(method, StatusCode::FORBIDDEN, "AccessDenied", &denied.to_string())?
            }
            None => response,
        };
        content.passage.leave(response.status(), Vec::new()).await.map(|()| response)
    }

    /// Whether the caller may not learn that the object is missing.
    fn hides(&self, content: &Content, response: &Response<Body>) -> Option<Denied> {
        let Content { passage, bucket } = content;
        if response.status() != StatusCode::NOT_FOUND
            || !matches!(passage.call.operation.as_str(), "GetObject" | "HeadObject" | "CopyObject")
        {
            return None;
        }
        let bucket = arn::bucket(bucket.as_deref()?);
        self.controls.access.check(&passage.call.caller, "s3:ListBucket", &bucket).err()
    }
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn error(method: &Method, status: StatusCode, code: &str, message: &str) -> Result<Response<Body>, Hangup> {
    let body = if method == Method::HEAD {
        empty()
    } else {
        // Nothing in it needs escaping: ARNs, action names and messages hold no markup.
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Full::from(xml).map_err(|never| match never {}).boxed_unsync()
    };
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/xml")
        .body(body)
        .map_err(|_| Hangup)
}
