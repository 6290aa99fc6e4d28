//! One invocation of any kind of event: the loop of every function.
//!
//! All edges use [`serve`]. Each invocation gets a log span with its request id, and a deadline.
//! The first one of a process counts a cold start. A failed invocation is logged and counted once,
//! here.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::core::clock::{Clock, SystemClock};
use crate::core::deadline::{ANSWER_MARGIN, Deadline};
use crate::core::error_type::ErrorType;
use crate::core::problem::Problem;
use crate::edge::boot::BootError;
use crate::platform::telemetry::{self, Metric, chain, count, count_case};

/// Serves events of type `E` with `handler` until Lambda stops the process. `app` is built once.
/// The deadline is the invocation's end less the time for the answer.
pub(super) async fn serve<A, E, R, H, F, X>(
    function: &'static str,
    app: A,
    handler: H,
) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    E: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    H: Fn(Arc<A>, LambdaEvent<E>, Deadline) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, X>> + Send + 'static,
    X: ErrorType + Send + 'static,
{
    let app = Arc::new(app);
    let cold = AtomicBool::new(true);
    // Boxed: the runtime's loop and the handler's largest state would be on every caller's stack
    // frame.
    Box::pin(lambda_runtime::run(service_fn(move |event: LambdaEvent<E>| {
        if cold.swap(false, Ordering::Relaxed) {
            count(Metric::ColdStart, 1);
        }
        let deadline =
            Deadline::of_invocation(event.context.deadline, SystemClock.now()).earlier_by(ANSWER_MARGIN);
        let span = telemetry::invocation(function, &event.context.request_id);
        let work = handler(Arc::clone(&app), event, deadline);
        async move { work.await.map_err(|error| failed(&error)) }.instrument(span)
    })))
    .await
}

/// Logs and counts a failed invocation. The result is the function error for Lambda.
fn failed(error: &impl ErrorType) -> Diagnostic {
    let error_type = error.error_type();
    count_case(Metric::Errors, error_type, 1);
    tracing::error!(error_type, error = chain(error), "the invocation failed");
    Diagnostic { error_type: error_type.to_owned(), error_message: error.to_string() }
}

/// Logs a request or frame that is answered with a problem, once, with its causes. It is counted if
/// the status is 500 or above. The detail is left out: it may repeat what the client sent, for
/// example a password in the wrong place.
pub(super) fn refused(route: &str, problem: &Problem) {
    let (error_type, status) = (problem.kind.slug(), problem.kind.status());
    if status >= 500 {
        count_case(Metric::Errors, error_type, 1);
    }
    match (problem.cause.as_deref(), status) {
        (Some(error), _) => tracing::error!(route, status, error_type, error, "answered with an error"),
        (None, 500..) => tracing::warn!(route, status, error_type, "answered with a server error"),
        (None, _) => tracing::info!(route, status, error_type, "refused"),
    }
}
