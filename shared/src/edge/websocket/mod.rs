//! The WebSocket edge: API Gateway's events in, answers out.
//!
//! [`serve_lifecycle`] is for `$connect` and `$disconnect`: the handler's answer is a status and
//! headers, as for HTTP. [`serve_messages`] is for frames of open sockets: the answer is a frame,
//! sent by the route's response, and a refusal is an error frame ([`error_frame`]). The HTTP status
//! of such an answer is always 200, since API Gateway would replace the body of any other.
//!
//! The function always answers: an unreadable event is a 400, work that reaches the deadline a 503.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use lambda_runtime::LambdaEvent;
use serde_json::{Value, json};

use crate::core::deadline::Deadline;
use crate::core::error_type::ErrorType;
use crate::core::problem::{Problem, ProblemType};
use crate::core::reply::Reply;
use crate::edge::boot::BootError;
use crate::edge::invocation;
use crate::sockets::delivery::Continuation;

mod client_frame;
mod handshake;
mod incoming;

pub use client_frame::{ClientFrame, InvalidFrame};
pub use handshake::{Credentials, HandshakeError, SUBPROTOCOL};
pub use incoming::SocketEvent;

/// Serves `$connect` and `$disconnect` with `handler` until Lambda stops the process.
pub async fn serve_lifecycle<A, H, F>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    H: Fn(Arc<A>, SocketEvent) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Reply, Problem>> + Send + 'static,
{
    let handler = Arc::new(handler);
    invocation::serve(function, app, move |app, event: LambdaEvent<Value>, deadline| {
        let handler = Arc::clone(&handler);
        async move {
            let answered = match read(event.payload, deadline) {
                Ok(incoming) => in_time(incoming, deadline, |incoming| handler(app, incoming)).await,
                Err(problem) => Err(problem),
            };
            Ok::<_, Infallible>(gateway_answer(answered.unwrap_or_else(Problem::into_reply)))
        }
    })
    .await
}

/// Serves frames of open sockets with `on_message`, which returns the text of a frame, and the
/// function's own `{"continuation": …}` events with `on_continuation`, until Lambda stops the
/// process.
///
/// A continuation that fails fails its invocation, so that Lambda retries it.
pub async fn serve_messages<A, M, MF, C, CF, E>(
    function: &'static str,
    app: A,
    on_message: M,
    on_continuation: C,
) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    M: Fn(Arc<A>, SocketEvent) -> MF + Send + Sync + 'static,
    MF: Future<Output = Result<String, Problem>> + Send + 'static,
    C: Fn(Arc<A>, Continuation, Deadline) -> CF + Send + Sync + 'static,
    CF: Future<Output = Result<(), E>> + Send + 'static,
    E: ErrorType + Send + 'static,
{
    let handlers = Arc::new((on_message, on_continuation));
    invocation::serve(function, app, move |app, event: LambdaEvent<Value>, deadline| {
        let handlers = Arc::clone(&handlers);
        async move {
            let (on_message, on_continuation) = &*handlers;
            let mut event = event.payload;
            let Some(continuation) = event.get_mut("continuation").map(Value::take) else {
                return Ok::<_, E>(
                    answer_message(event, deadline, |incoming| on_message(app, incoming)).await,
                );
            };
            match serde_json::from_value(continuation) {
                Ok(continuation) => {
                    on_continuation(app, continuation, deadline).await?;
                    Ok(gateway_answer(Reply::empty(200)))
                }
                Err(error) => {
                    let detail = format!("not a continuation: {error}");
                    let problem = Problem::new(ProblemType::InvalidRequest, detail);
                    invocation::refused("continuation", &problem);
                    Ok(gateway_answer(problem.into_reply()))
                }
            }
        }
    })
    .await
}

/// The answer to a frame: the handler's frame, or an error frame. An unreadable event is not a
/// frame, and is answered with a status.
async fn answer_message<F>(event: Value, deadline: Deadline, work: impl FnOnce(SocketEvent) -> F) -> Value
where
    F: Future<Output = Result<String, Problem>>,
{
    let incoming = match read(event, deadline) {
        Ok(incoming) => incoming,
        Err(problem) => return gateway_answer(problem.into_reply()),
    };
    let frame = in_time(incoming, deadline, work).await;
    let frame = frame.unwrap_or_else(|problem| error_frame(&problem).to_string());
    gateway_answer(Reply::json_text(200, frame))
}

/// A refusal as a frame: `{"type": "error", status, title, detail, problem, …}`. `type` is the kind
/// of the frame, so the problem's own type is in `problem`.
pub fn error_frame(problem: &Problem) -> Value {
    let mut frame = problem.document();
    frame["problem"] = frame["type"].take();
    frame["type"] = "error".into();
    if let Some(wait) = problem.retry_after {
        frame["retryAfterSeconds"] = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).into();
    }
    frame
}

/// Parses an event, and reports an unreadable one.
fn read(event: Value, deadline: Deadline) -> Result<SocketEvent, Problem> {
    SocketEvent::read(event, deadline).inspect_err(|problem| invocation::refused("", problem))
}

/// Runs `work` until the deadline, and reports a refusal. Deliveries end before the deadline by
/// themselves; this is for a store that does not answer.
async fn in_time<T, F>(
    incoming: SocketEvent,
    deadline: Deadline,
    work: impl FnOnce(SocketEvent) -> F,
) -> Result<T, Problem>
where
    F: Future<Output = Result<T, Problem>>,
{
    let route = incoming.route().to_owned();
    let outcome = deadline.cut_off(work(incoming)).await.map_err(Problem::from).flatten();
    outcome.inspect_err(|problem| invocation::refused(&route, problem))
}

fn gateway_answer(reply: Reply) -> Value {
    let mut answer = json!({ "statusCode": reply.status, "headers": reply.headers });
    if let Some(text) = reply.text.or_else(|| reply.body.map(|body| body.to_string())) {
        answer["body"] = text.into();
    }
    answer
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
            "title": "Not found",
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
