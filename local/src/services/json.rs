//! AWS's JSON protocol: every request is a `POST` that names its operation in `X-Amz-Target`.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};

use super::call::Hangup;
use super::faults::Failure;
use super::pipeline::{self, Api, Controls};
use super::server::{Body, Handler};

/// Which protocol, told by the content type of answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Protocol {
    Json10,
    /// Secrets Manager and `EventBridge`.
    Json11,
    /// SNS: a form is answered with XML.
    Query,
}

/// An API of this protocol on a port of its own.
pub(super) struct Endpoint<A> {
    pub(super) api: A,
    pub(super) protocol: Protocol,
    pub(super) max_body_bytes: usize,
    pub(super) controls: Controls,
}

impl<A: Api<Body = Bytes, Answer = Body> + Send + 'static> Handler for Endpoint<A> {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
        self.answer_with(&self.controls, request).await
    }
}

impl<A: Api<Body = Bytes, Answer = Body> + Send + 'static> Endpoint<A> {
    /// Answers under other controls than its own: those of a caller from elsewhere.
    pub(super) async fn answer_with(
        &self,
        controls: &Controls,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Hangup> {
        let (head, body) = request.into_parts();
        // A client whose body breaks off is not answered.
        let body = Limited::new(body, self.max_body_bytes).collect().await.map_err(|_| Hangup)?.to_bytes();
        let request = Request::from_parts(head, body);
        let mut response = pipeline::run(&self.api, controls, request).await?;
        let content_type = match self.protocol {
            Protocol::Json10 => "application/x-amz-json-1.0",
            Protocol::Json11 => "application/x-amz-json-1.1",
            Protocol::Query => "text/xml",
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Ok(id) = HeaderValue::try_from(ulid::Ulid::generate().to_string()) {
            headers.insert("x-amzn-requestid", id);
        }
        Ok(response)
    }
}

/// The operation in `X-Amz-Target`, if that begins with `prefix`.
pub(super) fn operation<'a>(head: &'a Parts, prefix: &str) -> Option<&'a str> {
    head.headers.get("x-amz-target")?.to_str().ok()?.strip_prefix(prefix)
}

/// An answer.
pub(super) fn answer(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Full::from(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// An error by its type, with the words that AWS uses.
pub(super) fn error(status: StatusCode, error_type: &str, message: &str) -> Response<Body> {
    answer(status, json!({"__type": error_type, "message": message}).to_string())
}

/// The caller did something wrong.
pub(super) fn refused(error_type: &str, message: &str) -> Response<Body> {
    error(StatusCode::BAD_REQUEST, error_type, message)
}

/// A failure that a fault rule asks for; `entries` is the length of the transaction.
pub(super) fn failure(failure: &Failure, entries: usize) -> Response<Body> {
    let model = |error_type: &str| format!("com.amazonaws.dynamodb.v20120810#{error_type}");
    match failure {
        Failure::TransactionConflict { positions } => transaction_conflict(positions, entries),
        Failure::TransactionConflictException => {
            refused(&model("TransactionConflictException"), "Transaction is ongoing for the item")
        }
        Failure::ProvisionedThroughputExceededException => refused(
            &model("ProvisionedThroughputExceededException"),
            "The level of configured provisioned throughput for the table was exceeded. Consider increasing \
             your provisioning level with the UpdateTable API.",
        ),
        Failure::ThrottlingException => refused(
            "com.amazon.coral.availability#ThrottlingException",
            "Rate of requests exceeds the allowed throughput.",
        ),
        Failure::InternalServerError => {
            error(StatusCode::INTERNAL_SERVER_ERROR, &model("InternalServerError"), "Internal server error")
        }
        // The two that only @connections has by nature keep their status everywhere.
        Failure::Gone => error(StatusCode::GONE, "GoneException", "Gone"),
        Failure::LimitExceeded => {
            error(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException", "Limit exceeded")
        }
    }
}

fn transaction_conflict(positions: &[usize], entries: usize) -> Response<Body> {
    let codes: Vec<_> = (0..entries)
        .map(|entry| if positions.contains(&entry) { "TransactionConflict" } else { "None" })
        .collect();
    let reasons: Vec<_> = codes
        .iter()
        .map(|&code| {
            let mut reason = Map::from_iter([("Code".to_owned(), Value::from(code))]);
            if code != "None" {
                reason.insert("Message".to_owned(), Value::from("Transaction is ongoing for the item"));
            }
            Value::Object(reason)
        })
        .collect();
    let message = format!(
        "Transaction cancelled, please refer cancellation reasons for specific reasons [{}]",
        codes.join(", ")
    );
    let body = json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": message,
        "CancellationReasons": reasons,
    });
    answer(StatusCode::BAD_REQUEST, body.to_string())
}
