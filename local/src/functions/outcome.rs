//! The interface between triggers of functions (gateways, schedules, queues) and the processes.
//!
//! A trigger knows a function by its short name and hands over the bytes of an event. The
//! [`Outcome`] is what Lambda's Invoke API would tell API Gateway or `EventBridge` Scheduler. The
//! trigger turns an outcome into a status code, a closed socket or a retry; nothing here depends on
//! HTTP.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::limits::RESPONSE_LIMIT_BYTES;

/// Largest request or response of a synchronous invocation, in bytes (Lambda quota "Invocation
/// payload").
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// Runs functions by name.
pub trait Invoke: Send + Sync + 'static {
    /// Invokes `function` (short name: `api-orders`) synchronously with `payload`, a JSON document.
    ///
    /// It always ends: an implementation bounds the wait by the function's own timeout. Dropping
    /// the future gives up on the answer, not on the invocation, as with Lambda.
    fn invoke(&self, function: &str, payload: Bytes) -> impl Future<Output = Outcome> + Send;
}

pub use crate::services::delivery::HandedOver;

/// Hands events over to functions: Lambda's asynchronous invocation, which ends before the function
/// has run.
pub trait HandOver: Send + Sync + 'static {
    /// Has `function` (short name) invoked with `payload` some time, and retried as its
    /// `EventInvokeConfig` says.
    fn hand_over(&self, function: &str, payload: Bytes) -> HandedOver;
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The function returned; its response document.
    Answered(Bytes),
    /// The function reported an error through the Runtime API.
    FunctionError {
        /// `{"errorType": ..., "errorMessage": ...}`.
        payload: Bytes,
    },
    /// The process ended before it answered.
    Crashed,
    /// The function's `Timeout` passed; its process was stopped.
    TimedOut,
    /// Every process of the function is busy and no more may be started.
    Throttled,
    /// The response exceeded [`MAX_PAYLOAD_BYTES`].
    ResponseTooLarge,
    /// No function of that name.
    NotFound,
}

impl Outcome {
    /// What Lambda answers in the function's place: `{"errorType", "errorMessage"}`. `None` for
    /// what is no failure of a function.
    pub(super) fn failure_document(&self, request_id: &str, timeout: Duration) -> Option<Bytes> {
        let (kind, message) = match self {
            Self::FunctionError { payload } => return Some(payload.clone()),
            Self::Crashed => {
                ("Runtime.ExitError", "Runtime exited before the invocation was answered".to_owned())
            }
            Self::TimedOut => {
                ("Sandbox.Timedout", format!("Task timed out after {:.2} seconds", timeout.as_secs_f64()))
            }
            Self::ResponseTooLarge => (
                "Function.ResponseSizeTooLarge",
                format!(
                    "Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT_BYTES} bytes)."
                ),
            ),
            Self::Answered(_) | Self::Throttled | Self::NotFound => return None,
        };
        let message = format!("RequestId: {request_id} Error: {message}");
        Some(Bytes::from(json!({ "errorType": kind, "errorMessage": message }).to_string()))
    }
}
