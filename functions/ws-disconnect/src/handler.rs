//! An ended connection.

use std::sync::Arc;

use sojourn::core::problem::Problem;
use sojourn::core::reply::Reply;
use sojourn::edge::websocket::SocketEvent;
use sojourn::platform::telemetry::chain;
use sojourn::sockets::connections::{DynamoConnections, Removed};

/// Always 200: nobody reads another answer, and API Gateway does not retry. A row that stays is
/// removed by the next message to it, or expires.
pub(crate) async fn handle(
    connections: Arc<DynamoConnections>,
    incoming: SocketEvent,
) -> Result<Reply, Problem> {
    let code = incoming.close_code();
    let connection_id = incoming.connection().connection_id.as_str();
    match connections.remove(incoming.connection()).await {
        Ok(Removed::Removed) => tracing::info!(connection_id, code, "disconnected"),
        Ok(Removed::NotThere) => {
            tracing::info!(connection_id, code, "disconnected; the row was removed before");
        }
        Err(error) => {
            tracing::error!(
                connection_id,
                code,
                error = chain(&error),
                "disconnected; the row could not be removed now"
            );
        }
    }
    Ok(Reply::empty(200))
}
