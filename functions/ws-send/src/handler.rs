//! A frame from a client, or a further hop of a delivery.

use std::sync::Arc;

use serde_json::json;
use sojourn::core::deadline::Deadline;
use sojourn::core::error_type::ErrorType;
use sojourn::core::ids::MessageId;
use sojourn::core::problem::Problem;
use sojourn::edge::websocket::{ClientFrame, SocketEvent, error_frame};
use sojourn::sockets::connections::CallbackEndpoint;
use sojourn::sockets::delivery::{Continuation, Messenger, SendError, SocketCloser};

/// What a frame needs.
pub(crate) struct App {
    pub(crate) messenger: Messenger,
    pub(crate) closer: SocketCloser,
    pub(crate) endpoint: CallbackEndpoint,
}

/// Answers a frame with a frame. The frame's own action counts, not the route that API Gateway
/// chose. An unreadable frame is counted as any other, and then refused.
pub(crate) async fn on_message(app: Arc<App>, incoming: SocketEvent) -> Result<String, Problem> {
    let frame = match read(&incoming) {
        Ok(frame) => frame,
        Err(unreadable) => {
            return match app.messenger.touch(incoming.connection()).await {
                Ok(_) => Err(unreadable),
                Err(error) => Err(app.refuse(&incoming, None, error).await),
            };
        }
    };
    match frame {
        ClientFrame::Ping => match app.messenger.ping(incoming.connection()).await {
            Ok(()) => Ok(json!({"type": "pong"}).to_string()),
            Err(error) => Err(app.refuse(&incoming, None, error).await),
        },
        ClientFrame::Inbox { after } => {
            match app.messenger.inbox(incoming.connection(), after.as_deref()).await {
                Ok(page) => Ok(page.document("\"type\":\"inbox\",", "next")),
                Err(error) => Err(app.refuse(&incoming, None, error).await),
            }
        }
        ClientFrame::Send(request) => {
            let named = request.message_id.clone();
            match app.messenger.send(incoming.connection(), request, incoming.deadline()).await {
                Ok(ack) => Ok(json!(ack).to_string()),
                Err(error) => Err(app.refuse(&incoming, named, error).await),
            }
        }
    }
}

fn read(incoming: &SocketEvent) -> Result<ClientFrame, Problem> {
    Ok(ClientFrame::parse(incoming.text()?)?)
}

impl App {
    /// A refusal contains the id of its message, if the sender gave one. For a socket that must be
    /// closed, the route's answer would come too late, so the refusal is posted before the close. A
    /// socket that could not be closed gets both.
    async fn refuse(
        &self,
        incoming: &SocketEvent,
        message_id: Option<MessageId>,
        error: SendError,
    ) -> Problem {
        let is_the_end = error.ends_the_socket();
        let mut problem = Problem::from(error);
        if let Some(id) = message_id {
            problem = problem.with("messageId", id.as_str());
        }
        if is_the_end {
            let last_message = error_frame(&problem);
            self.closer.end(incoming.connection(), &self.endpoint, &last_message, incoming.deadline()).await;
        }
        problem
    }
}

/// A failed hop of a delivery.
#[derive(Debug, thiserror::Error)]
#[error("hop {number} of the message {message_id} failed")]
pub(crate) struct HopFailed {
    message_id: MessageId,
    number: u32,
    source: SendError,
}

impl ErrorType for HopFailed {
    fn error_type(&self) -> &'static str {
        "delivery-hop-failed"
    }
}

/// Runs a further hop. Lambda retries a hop that fails.
pub(crate) async fn on_continuation(
    app: Arc<App>,
    hop: Continuation,
    deadline: Deadline,
) -> Result<(), HopFailed> {
    let (message_id, number) = (hop.message.message_id.clone(), hop.hop);
    match app.messenger.fan_out.resume(hop, deadline).await {
        Ok(sent) => {
            tracing::info!(message_id = message_id.as_str(), hop = number, ?sent, "hop completed");
            Ok(())
        }
        Err(source) => Err(HopFailed { message_id, number, source }),
    }
}
