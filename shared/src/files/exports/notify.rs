//! `export.ready`, to whom it concerns.

use serde_json::json;

use super::{Export, Notice, ResultFile};
use crate::core::deadline::Deadline;
use crate::core::ids::MessageId;
use crate::platform::dynamo::DynamoError;
use crate::sockets::connections::{Audience, Cursor};
use crate::sockets::delivery::{Deliverer, Frame, Message, MessageType};

/// Tells the sockets of this region.
#[derive(Debug)]
pub struct SocketNotice(pub Deliverer);

impl Notice for SocketNotice {
    /// The message depends on the export alone: a repetition is the same message, which receivers show once.
    async fn ready(
        &self,
        export: &Export,
        file: &ResultFile,
        deadline: Deadline,
    ) -> Result<bool, DynamoError> {
        let message = Message {
            kind: MessageType::export_ready(),
            message_id: MessageId::from(&export.export_id),
            from: None,
            sent_at: file.ready_at,
            body: json!({
                "exportId": export.export_id,
                "rows": export.progress.rows,
                "sizeBytes": file.size_bytes,
            })
            .into(),
        };
        let frame = match Frame::of(&message) {
            Ok(frame) => frame,
            Err(error) => {
                // Two numbers and an id: it cannot be, and would be no better the next time.
                tracing::error!(%error, "the notice is too large");
                return Ok(true);
            }
        };
        let audience = Audience::User(export.customer_id.clone());
        let told = self.0.deliver(&frame, &audience, &Cursor::START, deadline).await?;
        tracing::info!(export_id = %export.export_id, report = ?told, "told the customer's sockets");
        Ok(told.rest.is_none())
    }
}
