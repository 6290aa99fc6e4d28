//! One frame from a client, or one further turn of a delivery.

use std::sync::Arc;

use serde_json::{Value, json};
use sojourn::boot::BootError;
use sojourn::connections::DynamoConnections;
use sojourn::deadline::Deadline;
use sojourn::delivery::{ApiGateway, Continuation, DynamoOrderOwners, Messenger, SelfInvocation};
use sojourn::idempotency::dynamo::DynamoClaims;
use sojourn::ids::MessageId;
use sojourn::problem::Problem;
use sojourn::telemetry::chain;
use sojourn::websocket::{ClientFrame, Incoming};

/// The messenger on AWS.
pub(crate) type App =
    Messenger<DynamoConnections, DynamoOrderOwners, DynamoClaims, ApiGateway, SelfInvocation>;

/// Answers a frame with a frame. The frame itself says what it is; the route that API Gateway chose by it says no more.
pub(crate) async fn on_message(app: Arc<App>, incoming: Incoming) -> Result<Value, Problem> {
    match ClientFrame::parse(incoming.text()?)? {
        ClientFrame::Ping => {
            app.touch(incoming.connection()).await?;
            Ok(json!({"type": "pong"}))
        }
        ClientFrame::Send(request) => {
            let named = request.message_id.clone();
            let sent = app.send(incoming.connection(), request, incoming.deadline()).await;
            sent.map(|ack| json!(ack)).map_err(|error| about(named, error.into()))
        }
    }
}

/// A refusal names the message that it is about, if the sender gave it a name.
fn about(message_id: Option<MessageId>, problem: Problem) -> Problem {
    match message_id {
        Some(id) => problem.with("messageId", id.as_str()),
        None => problem,
    }
}

/// Takes a further turn. A turn that fails is Lambda's to repeat.
pub(crate) async fn on_continuation(
    app: Arc<App>,
    turn: Continuation,
    deadline: Deadline,
) -> Result<(), BootError> {
    let (message_id, hop) = (turn.message.message_id.clone(), turn.hop);
    match app.fan_out().resume(turn, deadline).await {
        Ok(progress) => {
            tracing::info!(message_id = message_id.as_str(), hop, ?progress, "turn taken");
            Ok(())
        }
        Err(error) => {
            tracing::error!(message_id = message_id.as_str(), hop, error = chain(&error), "the turn failed");
            Err(error.into())
        }
    }
}
