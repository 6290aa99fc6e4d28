//! SQS's errors on the wire.
//!
//! A client that speaks JSON reads the type in the body. SDKs show the code of the older query
//! protocol instead, which is in the header `x-amzn-query-error`: both are sent, as SQS does.

use http::{HeaderValue, Response, StatusCode};

use super::message::MessageError;
use super::queues::QueueError;
use crate::services::access::{Denied, Unauthenticated};
use crate::services::faults::{EntryFault, Failure};
use crate::services::json;
use crate::services::server::Body;

/// What the types of SQS's own errors begin with.
const MODEL: &str = "com.amazonaws.sqs#";

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error_type: String,
    /// The code of the query protocol.
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    fn new(status: StatusCode, error_type: &str, code: &str, message: &str) -> Self {
        Self { status, error_type: error_type.to_owned(), code: code.to_owned(), message: message.to_owned() }
    }

    /// Whether another request would have been served.
    pub(super) fn is_fault_of_sender(&self) -> bool {
        !self.status.is_server_error()
    }

    pub(super) fn into_response(self) -> Response<Body> {
        with_code(json::error(self.status, &self.error_type, &self.message), &self.code)
    }

    fn model(name: &str, code: &str, message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, &format!("{MODEL}{name}"), code, message)
    }

    /// One of the errors whose code of old has a prefix.
    pub(super) fn prefixed(name: &str, message: &str) -> Self {
        Self::model(name, &format!("AWS.SimpleQueueService.{name}"), message)
    }

    pub(super) fn no_queue() -> Self {
        let code = "AWS.SimpleQueueService.NonExistentQueue";
        Self::model("QueueDoesNotExist", code, "The specified queue does not exist.")
    }

    pub(super) fn parameter(message: &str) -> Self {
        let error_type = "com.amazon.coral.service#InvalidParameterValueException";
        Self::new(StatusCode::BAD_REQUEST, error_type, "InvalidParameterValue", message)
    }

    pub(super) fn missing(parameter: &str) -> Self {
        let error_type = "com.amazon.coral.service#MissingRequiredParameterException";
        let message = format!("The request must contain the parameter {parameter}.");
        Self::new(StatusCode::BAD_REQUEST, error_type, "MissingParameter", &message)
    }

    pub(super) fn attribute_name(name: &str) -> Self {
        let message = format!("Unknown Attribute {name}.");
        Self::model("InvalidAttributeName", "InvalidAttributeName", &message)
    }

    pub(super) fn malformed(message: &str) -> Self {
        let error_type = "com.amazon.coral.service#SerializationException";
        Self::new(StatusCode::BAD_REQUEST, error_type, "MalformedInput", message)
    }

    pub(super) fn unknown_operation() -> Self {
        let error_type = "com.amazon.coral.service#UnknownOperationException";
        let message = "only SendMessage, ReceiveMessage, DeleteMessage, ChangeMessageVisibility, their batches, \
                       GetQueueUrl, GetQueueAttributes and PurgeQueue are served here";
        Self::new(StatusCode::BAD_REQUEST, error_type, "InvalidAction", message)
    }

    /// The failure of an entry that a fault rule asks for.
    pub(super) fn injected_entry(fault: &EntryFault) -> Self {
        let status = if fault.is_fault_of_sender() {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        let code = fault.code("InternalError");
        Self::new(status, code, code, "a fault rule of the local region has it fail")
    }

    fn internal(message: &str) -> Self {
        let error_type = "com.amazon.coral.service#InternalFailure";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error_type, "InternalFailure", message)
    }
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        let message = error.to_string();
        match error {
            MessageError::Empty => Self::missing("MessageBody"),
            MessageError::Characters => {
                Self::model("InvalidMessageContents", "InvalidMessageContents", &message)
            }
            MessageError::TooLong { .. }
            | MessageError::Attribute { .. }
            | MessageError::Attributes { .. } => Self::parameter(&message),
        }
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        let message = error.to_string();
        match error {
            QueueError::Unknown { .. } => Self::no_queue(),
            QueueError::Stale(_) | QueueError::HiddenTooLong => Self::parameter(&message),
            QueueError::NotInFlight => {
                let message = "The specified message isn't in flight.";
                Self::prefixed("MessageNotInflight", message)
            }
            QueueError::OverLimit => Self::new(
                StatusCode::FORBIDDEN,
                &format!("{MODEL}OverLimit"),
                "OverLimit",
                "Too many messages are in flight.",
            ),
            QueueError::Purging(_) => Self::new(
                StatusCode::FORBIDDEN,
                &format!("{MODEL}PurgeQueueInProgress"),
                "AWS.SimpleQueueService.PurgeQueueInProgress",
                &message,
            ),
            QueueError::Message(error) => error.into(),
            QueueError::Receipt => {
                let error_type = format!("{MODEL}ReceiptHandleIsInvalid");
                let message = "The input receipt handle is invalid.";
                Self::new(StatusCode::NOT_FOUND, &error_type, "ReceiptHandleIsInvalid", message)
            }
            QueueError::Store(error) => {
                tracing::error!(%error, "a queue can't be read or written");
                Self::internal("the region can't read or write its queues; see its log")
            }
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let error_type = "com.amazon.coral.service#AccessDeniedException";
        Self::new(StatusCode::BAD_REQUEST, error_type, "AccessDenied", &denied.to_string())
    }
}

impl From<Unauthenticated> for Refusal {
    fn from(refusal: Unauthenticated) -> Self {
        let code = match refusal {
            Unauthenticated::Unsigned => "MissingAuthenticationToken",
            Unauthenticated::UnknownKey => "InvalidClientTokenId",
            Unauthenticated::OtherRegion => "SignatureDoesNotMatch",
        };
        Self::new(StatusCode::FORBIDDEN, refusal.error_type(), code, &refusal.to_string())
    }
}

/// A failure that a fault rule asks for.
pub(super) fn injected(failure: &Failure) -> Response<Body> {
    match failure {
        Failure::ThrottlingException | Failure::ProvisionedThroughputExceededException => Refusal::new(
            StatusCode::FORBIDDEN,
            &format!("{MODEL}RequestThrottled"),
            "RequestThrottled",
            "The request was denied due to request throttling.",
        )
        .into_response(),
        Failure::InternalServerError => Refusal::internal("Internal server error").into_response(),
        other => with_code(json::failure(other, 0), "InternalFailure"),
    }
}

/// `response` with the code of the query protocol.
fn with_code(mut response: Response<Body>, code: &str) -> Response<Body> {
    let fault = if response.status().is_server_error() { "Receiver" } else { "Sender" };
    if let Ok(value) = HeaderValue::try_from(format!("{code};{fault}")) {
        response.headers_mut().insert("x-amzn-query-error", value);
    }
    response
}
