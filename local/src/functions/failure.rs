//! The document that Lambda answers in a function's place when the function did not answer.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::limits::RESPONSE_LIMIT_BYTES;
use super::outcome::Outcome;

/// `{"errorType", "errorMessage"}` of a function that failed; `None` for what is no failure of a function.
pub(super) fn document(outcome: &Outcome, request_id: &str, timeout: Duration) -> Option<Bytes> {
    let (kind, message) = match outcome {
        Outcome::FunctionError { payload } => return Some(payload.clone()),
        Outcome::Crashed => {
            ("Runtime.ExitError", "Runtime exited before the invocation was answered".to_owned())
        }
        Outcome::TimedOut => {
            ("Sandbox.Timedout", format!("Task timed out after {:.2} seconds", timeout.as_secs_f64()))
        }
        Outcome::ResponseTooLarge => (
            "Function.ResponseSizeTooLarge",
            format!(
                "Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT_BYTES} bytes)."
            ),
        ),
        Outcome::Answered(_) | Outcome::Throttled | Outcome::NotFound => return None,
    };
    let message = format!("RequestId: {request_id} Error: {message}");
    Some(Bytes::from(json!({ "errorType": kind, "errorMessage": message }).to_string()))
}
