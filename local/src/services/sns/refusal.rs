//! SNS's errors on the wire, and the XML around its answers.

use std::fmt::Write;

use http::{Response, StatusCode};

use crate::services::access::{Denied, Unauthenticated};
use crate::services::faults::{EntryFault, Failure};
use crate::services::json;
use crate::services::server::Body;

const NAMESPACE: &str = "http://sns.amazonaws.com/doc/2010-03-31/";

/// An answer that is an error, or the failure of one entry of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, message: &str) -> Self {
        Self { status, code: code.to_owned(), message: message.to_owned() }
    }

    /// One of the refusals with status 400.
    pub(super) fn bad(code: &str, message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn parameter(reason: &str) -> Self {
        Self::bad("InvalidParameter", &format!("Invalid parameter: {reason}"))
    }

    pub(super) fn no_topic() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "Topic does not exist")
    }

    pub(super) fn unknown_action(action: &str) -> Self {
        let message = format!("{action:?} is not served here; Publish, PublishBatch and ListTopics are");
        Self::bad("InvalidAction", &message)
    }

    /// The failure of an entry that a fault rule asks for.
    pub(super) fn injected(fault: &EntryFault) -> Self {
        let status = if fault.is_fault_of_sender() {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::new(status, fault.code("InternalError"), "a fault rule of the local region has it fail")
    }

    pub(super) fn is_fault_of_sender(&self) -> bool {
        !self.status.is_server_error()
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let fault = if self.is_fault_of_sender() { "Sender" } else { "Receiver" };
        let body = format!(
            "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{fault}</Type>{}{}</Error>{}</ErrorResponse>",
            element("Code", &self.code),
            element("Message", &self.message),
            element("RequestId", &uuid::Uuid::new_v4().to_string()),
        );
        json::answer(self.status, body)
    }
}

impl From<Unauthenticated> for Refusal {
    fn from(stranger: Unauthenticated) -> Self {
        let code = match stranger {
            Unauthenticated::Unsigned => "MissingAuthenticationToken",
            Unauthenticated::UnknownKey => "InvalidClientTokenId",
            Unauthenticated::OtherRegion => "SignatureDoesNotMatch",
        };
        Self::new(StatusCode::FORBIDDEN, code, &stranger.to_string())
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AuthorizationError", &denied.to_string())
    }
}

/// A failure that a fault rule asks for.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::ThrottlingException | Failure::ProvisionedThroughputExceededException => {
                Self::bad("Throttling", "Rate exceeded")
            }
            Failure::Gone => Self::new(StatusCode::GONE, "Gone", "Gone"),
            Failure::LimitExceeded => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "LimitExceeded", "Limit exceeded")
            }
            Failure::TransactionConflict { .. }
            | Failure::TransactionConflictException
            | Failure::InternalServerError => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "Internal Error")
            }
        }
    }
}

/// The answer of an operation around the XML of its result.
pub(super) fn answer(operation: &str, result: &str) -> Response<Body> {
    let id = element("RequestId", &uuid::Uuid::new_v4().to_string());
    let body = format!(
        "<{operation}Response xmlns=\"{NAMESPACE}\"><{operation}Result>{result}</{operation}Result>\
         <ResponseMetadata>{id}</ResponseMetadata></{operation}Response>"
    );
    json::answer(StatusCode::OK, body)
}

/// An element that holds a text.
pub(super) fn element(name: &str, text: &str) -> String {
    let mut xml = format!("<{name}>");
    for character in text.chars() {
        match character {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // XML 1.0 has no way to write the other control characters.
            '\u{0}'..='\u{8}' | '\u{B}' | '\u{C}' | '\u{E}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => {
                xml.push('\u{FFFD}');
            }
            // A reader of XML makes a line feed of it otherwise.
            '\r' => xml.push_str("&#xD;"),
            other => xml.push(other),
        }
    }
    // Writing to a `String` has no failure to report.
    write!(xml, "</{name}>").unwrap_or_default();
    xml
}
