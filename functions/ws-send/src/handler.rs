//! One frame from a client, or one further turn of a delivery.

use std::sync::Arc;

use serde_json::{Value, json};
use sojourn::core::deadline::Deadline;
use sojourn::core::error_type::ErrorType;
use sojourn::core::ids::MessageId;
use sojourn::core::problem::Problem;
use sojourn::edge::websocket::{ClientFrame, Incoming, error_frame};
use sojourn::identity::sessions::SessionStore;
use sojourn::sockets::connections::{CallbackEndpoint, DynamoConnections};
use sojourn::sockets::delivery::{
    ApiGateway, AwsSocketCloser, Continuation, DynamoOrderOwners, FanOutError, Messenger, SelfInvocation,
    SendError,
};

/// The messenger on AWS.
pub(crate) type AwsMessenger =
    Messenger<DynamoConnections, SessionStore, DynamoOrderOwners, ApiGateway, SelfInvocation>;

/// What a frame needs.
pub(crate) struct App {
    pub(crate) messenger: AwsMessenger,
    pub(crate) closer: AwsSocketCloser,
    pub(crate) endpoint: CallbackEndpoint,
}

/// Answers a frame with a frame. The frame itself says what it is; the route that API Gateway chose by it says no more.
pub(crate) async fn on_message(app: Arc<App>, incoming: Incoming) -> Result<Value, Problem> {
    match ClientFrame::parse(incoming.text()?)? {
        ClientFrame::Ping => match app.messenger.ping(incoming.connection()).await {
            Ok(()) => Ok(json!({"type": "pong"})),
            Err(error) => Err(app.refuse(&incoming, None, error).await),
        },
        ClientFrame::Send(request) => {
            let named = request.message_id.clone();
            match app.messenger.send(incoming.connection(), request, incoming.deadline()).await {
                Ok(ack) => Ok(json!(ack)),
                Err(error) => Err(app.refuse(&incoming, named, error).await),
            }
        }
    }
}

impl App {
    /// A refusal names the message that it is about, if the sender gave it a name. A socket that has no right to be open is
    /// closed. The route's answer would come after that: the refusal is posted before. Should the socket stay
    /// open after all, it gets both.
    async fn refuse(&self, incoming: &Incoming, message_id: Option<MessageId>, error: SendError) -> Problem {
        let is_the_end = error.ends_the_socket();
        let mut problem = Problem::from(error);
        if let Some(id) = message_id {
            problem = problem.with("messageId", id.as_str());
        }
        if is_the_end {
            let last_word = error_frame(&problem);
            self.closer.end(incoming.connection(), &self.endpoint, &last_word, incoming.deadline()).await;
        }
        problem
    }
}

/// A turn of a delivery that failed.
#[derive(Debug, thiserror::Error)]
#[error("the turn {hop} of the message {message_id} failed")]
pub(crate) struct TurnFailed {
    message_id: MessageId,
    hop: u32,
    source: FanOutError,
}

impl ErrorType for TurnFailed {
    fn error_type(&self) -> &'static str {
        "delivery-turn-failed"
    }
}

/// Takes a further turn. A turn that fails is Lambda's to repeat.
pub(crate) async fn on_continuation(
    app: Arc<App>,
    turn: Continuation,
    deadline: Deadline,
) -> Result<(), TurnFailed> {
    let (message_id, hop) = (turn.message.message_id.clone(), turn.hop);
    match app.messenger.fan_out().resume(turn, deadline).await {
        Ok(progress) => {
            tracing::info!(message_id = message_id.as_str(), hop, ?progress, "turn taken");
            Ok(())
        }
        Err(source) => Err(TurnFailed { message_id, hop, source }),
    }
}
