//! The WebSocket edge: API Gateway's events in, answers out.
//!
//! [`serve_lifecycle`] is for `$connect` and `$disconnect`: the handler's answer is a status and headers, as for HTTP.
//! [`serve_messages`] is for what comes over an open socket: the answer is a frame, sent back by the route's response,
//! and a refusal is an error frame ([`error_frame`]). The HTTP status of such an answer is always 200, since API Gateway
//! would replace the body of any other.
//!
//! Whatever arrives, the function answers: an event that can't be read is a 400, work that reaches the deadline a 503.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::{Value, json};
use tracing::Instrument;

use crate::core::clock::{Clock, SystemClock};
use crate::core::deadline::{ANSWER_MARGIN, Deadline};
use crate::core::problem::{Problem, ProblemType};
use crate::core::reply::Reply;
use crate::edge::boot::BootError;
use crate::platform::telemetry::{self, Metric};
use crate::sockets::delivery::Continuation;

mod client_frame;
mod handshake;
mod incoming;

pub use client_frame::{ClientFrame, InvalidFrame};
pub use handshake::{Credentials, HandshakeError, SUBPROTOCOL};
pub use incoming::Incoming;

/// Serves `$connect` and `$disconnect` with `handler` until Lambda stops the process.
pub async fn serve_lifecycle<A, H, F>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    H: Fn(Arc<A>, Incoming) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let (app, handler) = (Arc::new(app), Arc::new(handler));
    run(function, move |event, deadline| {
        let (app, handler) = (Arc::clone(&app), Arc::clone(&handler));
        async move {
            let (route, outcome) = match Incoming::read(event, deadline) {
                Ok(incoming) => {
                    let route = incoming.route().to_owned();
                    (route, in_time(deadline, handler(app, incoming)).await)
                }
                Err(problem) => (String::new(), Err(problem)),
            };
            Ok(gateway_answer(outcome.unwrap_or_else(|problem| {
                report(&route, &problem);
                problem.into_reply()
            })))
        }
    })
    .await
}

/// Serves what comes over open sockets with `on_message`, and the function's own `{"continuation": …}` events with
/// `on_continuation`, until Lambda stops the process.
///
/// A continuation that fails fails its invocation, so that Lambda tries it again.
pub async fn serve_messages<A, M, MF, C, CF>(
    function: &'static str,
    app: A,
    on_message: M,
    on_continuation: C,
) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    M: Fn(Arc<A>, Incoming) -> MF + Send + Sync + 'static,
    MF: Future<Output = Result<Value, Problem>> + Send + 'static,
    C: Fn(Arc<A>, Continuation, Deadline) -> CF + Send + Sync + 'static,
    CF: Future<Output = Result<(), BootError>> + Send + 'static,
{
    let (app, on_message, on_continuation) = (Arc::new(app), Arc::new(on_message), Arc::new(on_continuation));
    run(function, move |mut event, deadline| {
        let app = Arc::clone(&app);
        let (on_message, on_continuation) = (Arc::clone(&on_message), Arc::clone(&on_continuation));
        async move {
            if let Some(continuation) = event.get_mut("continuation").map(Value::take) {
                return match serde_json::from_value(continuation) {
                    Ok(continuation) => {
                        on_continuation(app, continuation, deadline).await?;
                        Ok(gateway_answer(Reply::empty(200)))
                    }
                    Err(error) => {
                        let detail = format!("this is no continuation: {error}");
                        let problem = Problem::new(ProblemType::InvalidRequest, detail);
                        report("continuation", &problem);
                        Ok(gateway_answer(problem.into_reply()))
                    }
                };
            }
            match Incoming::read(event, deadline) {
                Ok(incoming) => {
                    let route = incoming.route().to_owned();
                    let frame =
                        in_time(deadline, on_message(app, incoming)).await.unwrap_or_else(|problem| {
                            report(&route, &problem);
                            error_frame(&problem)
                        });
                    Ok(gateway_answer(Reply::json(200, frame)))
                }
                Err(problem) => {
                    report("", &problem);
                    Ok(gateway_answer(problem.into_reply()))
                }
            }
        }
    })
    .await
}

/// A refusal as a frame: `{"type": "error", status, title, detail, problem, …}`. `type` says what kind of frame it is,
/// so that the problem's own type is in `problem`.
pub fn error_frame(problem: &Problem) -> Value {
    let mut frame = problem.document();
    frame["problem"] = frame["type"].take();
    frame["type"] = "error".into();
    if let Some(wait) = problem.retry_after {
        frame["retryAfterSeconds"] = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).into();
    }
    frame
}

async fn run<H, F>(function: &'static str, handle: H) -> Result<(), BootError>
where
    H: Fn(Value, Deadline) -> F,
    F: Future<Output = Result<Value, BootError>> + Send,
{
    let cold = AtomicBool::new(true);
    // Boxed: the runtime's loop and the handler's largest state would sit on every caller's stack frame.
    Box::pin(lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| {
        if cold.swap(false, Ordering::Relaxed) {
            telemetry::count(Metric::ColdStart, 1);
        }
        let LambdaEvent { payload, context } = event;
        let deadline = Deadline::of_invocation(context.deadline, SystemClock.now()).earlier_by(ANSWER_MARGIN);
        let span = telemetry::invocation(function, &context.request_id);
        handle(payload, deadline).instrument(span)
    })))
    .await
}

/// Gives `work` up at the deadline. Deliveries end before it by themselves; this is for a store that does not answer.
async fn in_time<T>(
    deadline: Deadline,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    deadline.cut_off(work).await?
}

fn gateway_answer(reply: Reply) -> Value {
    let mut answer = json!({ "statusCode": reply.status, "headers": reply.headers });
    if let Some(body) = reply.body {
        answer["body"] = body.to_string().into();
    }
    answer
}

/// Without the detail, as for HTTP: it may repeat what the client sent.
fn report(route: &str, problem: &Problem) {
    let (error_type, status) = (problem.kind.slug(), problem.kind.status());
    if status >= 500 {
        telemetry::count_case(Metric::Errors, error_type, 1);
        tracing::warn!(route, status, error_type, "answered with a server error");
    } else {
        tracing::info!(route, status, error_type, "refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_error_frame_is_told_from_messages_by_its_type() {
        let problem = Problem::new(ProblemType::NotFound, "no such order")
            .with("messageId", "01JD0000000000000000000000")
            .retry_after(Duration::from_millis(1_200));
        let expected = json!({
            "type": "error",
            "problem": "/problems/not-found",
            "title": "There is no such thing",
            "status": 404,
            "detail": "no such order",
            "messageId": "01JD0000000000000000000000",
            "retryAfterSeconds": 2,
        });
        assert_eq!(error_frame(&problem), expected);
    }

    #[test]
    fn a_frames_answer_carries_it_as_text() {
        let answer = gateway_answer(Reply::json(200, json!({"type": "pong"})));
        assert_eq!(answer, json!({"statusCode": 200, "headers": {}, "body": "{\"type\":\"pong\"}"}));
    }
}
