//! One invocation of a route's function, within the gateway's own patience.

use std::time::Duration;

use bytes::Bytes;

use crate::functions::outcome::{Invoke, MAX_PAYLOAD_BYTES, Outcome};

/// What a gateway has to tell apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Integration {
    /// The function's response document.
    Answered(Bytes),
    /// The function ran and failed, or gave more than Lambda carries.
    Failed,
    /// Its process ended without an answer.
    Crashed,
    /// The gateway's own limit passed; the function may still be running.
    GatewayTimedOut,
    /// Lambda had no room for it.
    Throttled,
    /// The event exceeds Lambda's payload limit; nothing was invoked.
    EventTooLarge,
}

/// Invokes `function`, waiting at most `patience`.
///
/// A function that runs into its own timeout counts as failed: Lambda reports that as a function error, and only the
/// gateway's own limit as a timeout.
pub(crate) async fn invoke<I: Invoke>(
    functions: &I,
    function: &str,
    event: Vec<u8>,
    patience: Duration,
) -> Integration {
    if event.len() > MAX_PAYLOAD_BYTES {
        return Integration::EventTooLarge;
    }
    let Ok(outcome) = tokio::time::timeout(patience, functions.invoke(function, Bytes::from(event))).await
    else {
        tracing::warn!(
            function,
            patience_ms = patience.as_millis(),
            "the gateway gave up waiting for the function"
        );
        return Integration::GatewayTimedOut;
    };
    match outcome {
        Outcome::Answered(payload) => Integration::Answered(payload),
        Outcome::Throttled => Integration::Throttled,
        Outcome::Crashed => Integration::Crashed,
        Outcome::NotFound => {
            tracing::error!(function, "a route names a function that the stack does not have");
            Integration::Failed
        }
        Outcome::FunctionError { .. } | Outcome::TimedOut | Outcome::ResponseTooLarge => Integration::Failed,
    }
}
