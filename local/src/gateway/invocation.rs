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
/// A function that runs into its own timeout counts as failed: Lambda reports that as a function
/// error, and only the gateway's own limit as a timeout.
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Gives(Option<Outcome>);

    impl Invoke for Gives {
        async fn invoke(&self, _function: &str, _payload: Bytes) -> Outcome {
            match &self.0 {
                Some(outcome) => outcome.clone(),
                None => std::future::pending().await,
            }
        }
    }

    async fn ended(outcome: Option<Outcome>, event_bytes: usize) -> Integration {
        invoke(&Gives(outcome), "f", vec![b' '; event_bytes], Duration::from_secs(30)).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_gateway_waits_no_longer_than_its_limit() {
        let begun = tokio::time::Instant::now();
        assert_eq!(ended(None, 2).await, Integration::GatewayTimedOut);
        assert_eq!(begun.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_functions_own_timeout_is_a_failure_of_the_function() {
        assert_eq!(ended(Some(Outcome::TimedOut), 2).await, Integration::Failed);
        assert_eq!(ended(Some(Outcome::ResponseTooLarge), 2).await, Integration::Failed);
        assert_eq!(ended(Some(Outcome::Throttled), 2).await, Integration::Throttled);
        assert_eq!(ended(Some(Outcome::Crashed), 2).await, Integration::Crashed);
    }

    #[tokio::test]
    async fn an_event_beyond_lambdas_limit_invokes_nothing() {
        let answered = Some(Outcome::Answered(Bytes::new()));
        assert_eq!(ended(answered.clone(), MAX_PAYLOAD_BYTES + 1).await, Integration::EventTooLarge);
        assert_eq!(ended(answered, MAX_PAYLOAD_BYTES).await, Integration::Answered(Bytes::new()));
    }
}
