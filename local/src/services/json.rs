//! Answers of the services that speak AWS's JSON protocol.

use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};

use super::faults::Failure;
use super::server::{Body, Hangup};

/// Which of the two JSON protocols, told by the content type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Protocol {
    /// DynamoDB and SQS.
    Json10,
    /// Secrets Manager.
    Json11,
}

impl Protocol {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json10 => "application/x-amz-json-1.0",
            Self::Json11 => "application/x-amz-json-1.1",
        }
    }
}

/// An answer before it is put on the wire.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn ok(body: String) -> Self {
        Self { status: StatusCode::OK, body }
    }

    /// An error by its type, with the words that AWS uses.
    pub(super) fn error(status: StatusCode, error_type: &str, message: &str) -> Self {
        Self { status, body: json!({"__type": error_type, "message": message}).to_string() }
    }

    /// The caller did something wrong.
    pub(super) fn refused(error_type: &str, message: &str) -> Self {
        Self::error(StatusCode::BAD_REQUEST, error_type, message)
    }

    /// A failure that a fault rule asks for; `entries` is the length of the transaction.
    pub(super) fn failure(failure: &Failure, entries: usize) -> Self {
        let model = |error_type: &str| format!("com.amazonaws.dynamodb.v20120810#{error_type}");
        match failure {
            Failure::TransactionConflict { positions } => transaction_conflict(positions, entries),
            Failure::TransactionConflictException => {
                Self::refused(&model("TransactionConflictException"), "Transaction is ongoing for the item")
            }
            Failure::ProvisionedThroughputExceededException => Self::refused(
                &model("ProvisionedThroughputExceededException"),
                "The level of configured provisioned throughput for the table was exceeded. Consider increasing \
                 your provisioning level with the UpdateTable API.",
            ),
            Failure::ThrottlingException => Self::refused(
                "com.amazon.coral.availability#ThrottlingException",
                "Rate of requests exceeds the allowed throughput.",
            ),
            Failure::InternalServerError => Self::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                &model("InternalServerError"),
                "Internal server error",
            ),
            // The two that only @connections has by nature keep their status everywhere.
            Failure::Gone => Self::error(StatusCode::GONE, "GoneException", "Gone"),
            Failure::LimitExceeded => {
                Self::error(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException", "Limit exceeded")
            }
        }
    }

    pub(super) fn into_response(self, protocol: Protocol) -> Result<Response<Body>, Hangup> {
        Response::builder()
            .status(self.status)
            .header(http::header::CONTENT_TYPE, protocol.content_type())
            .header("x-amzn-requestid", ulid::Ulid::generate().to_string())
            .body(Full::from(self.body).map_err(|never| match never {}).boxed_unsync())
            .map_err(|error| {
                tracing::error!(%error, "an answer could not be built");
                Hangup
            })
    }
}

fn transaction_conflict(positions: &[usize], entries: usize) -> Answer {
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
    Answer { status: StatusCode::BAD_REQUEST, body: body.to_string() }
}
