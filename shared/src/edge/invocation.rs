//! What all functions share that are handed plain events: schedules' and queues'. (`lambda_http` does this for requests.)

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::Value;
use tracing::Instrument;

use crate::core::clock::{Clock, SystemClock};
use crate::core::deadline::{ANSWER_MARGIN, Deadline};
use crate::edge::boot::BootError;
use crate::platform::telemetry::{self, Metric};

/// Serves events with `handler` until Lambda stops the process: each in a span of its own, with the instant by which it must
/// have ended, less the time for the answer. `app` is what the handler works with, built once.
pub(crate) async fn serve<A, H, F, E>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    H: Fn(Arc<A>, Value, Deadline) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, E>> + Send + 'static,
    E: Into<Diagnostic> + Debug + Send + 'static,
{
    let app = Arc::new(app);
    let cold = AtomicBool::new(true);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        if cold.swap(false, Ordering::Relaxed) {
            telemetry::count(Metric::ColdStart, 1);
        }
        let LambdaEvent { payload, context } = event;
        let deadline = Deadline::of_invocation(context.deadline, SystemClock.now()).earlier_by(ANSWER_MARGIN);
        let span = telemetry::invocation(function, &context.request_id);
        handler(Arc::clone(&app), payload, deadline).instrument(span)
    }))
    .await
}
