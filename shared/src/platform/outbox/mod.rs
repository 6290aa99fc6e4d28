//! Domain events, written in the same transaction as the change they describe: a [transactional
//! outbox](https://microservices.io/patterns/data/transactional-outbox.html).
//!
//! 1. Each change of an order, a stock row or an export, and each revocation of sessions, puts an
//!    [`Event`] into its transaction ([`dynamo::put`]): there is no change without its event, and
//!    no event without its change.
//! 2. The table is insert-only and streamed. The relay ([`crate::relay`]) publishes each row at
//!    least once; receivers deduplicate by `eventId`. The key is `subject` and `eventId`: the rows
//!    of a partition key share a shard of the stream, so the events of a subject are published in
//!    order.
//! 3. Rows expire after [`RETENTION`], which is longer than any outage of the relay.
//!
//! `version` is the format of `data`; a receiver ignores unknown members and events of an unknown
//! version.
//!
//! # Example
//! An application's own table and its event in one transaction. It needs a DynamoDB table, so this
//! example is compiled and not run.
//! ```no_run
//! use jiff::Timestamp;
//! use serde_json::json;
//! use sojourn::core::ids;
//! use sojourn::platform::outbox::{self, Event, EventType};
//!
//! # async fn run(
//! #     client: aws_sdk_dynamodb::Client,
//! #     change: aws_sdk_dynamodb::types::TransactWriteItem,
//! #     now: Timestamp,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let event = Event {
//!     event_id: ids::random().next(),
//!     kind: EventType::StockChanged,
//!     region: "eu-west-1".to_owned(),
//!     subject: "lamp".to_owned(),
//!     occurred_at: now,
//!     data: json!({"productId": "lamp", "delta": 3}),
//! };
//! client
//!     .transact_write_items()
//!     .transact_items(change)
//!     .transact_items(outbox::dynamo::put("outbox", &event)?)
//!     .send()
//!     .await?;
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::date_time::as_rfc3339;
use crate::core::ids::EventId;
use crate::core::json;

pub mod dynamo;

/// How long an event is kept.
pub const RETENTION: Duration = Duration::from_hours(7 * 24);

/// The current format of every event's `data`.
pub const VERSION: u32 = 1;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// An order was placed and its stock taken.
    #[serde(rename = "order.placed")]
    OrderPlaced,
    /// An order's payment was captured.
    #[serde(rename = "order.paid")]
    OrderPaid,
    /// An order was cancelled and its stock given back.
    #[serde(rename = "order.cancelled")]
    OrderCancelled,
    /// An operator changed the units on hand.
    #[serde(rename = "stock.changed")]
    StockChanged,
    /// Sessions of a user were revoked: `sessionId`, or all `exceptSessionId`, or all.
    #[serde(rename = "sessions.revoked")]
    SessionsRevoked,
    /// A customer asked for an export.
    #[serde(rename = "export.requested")]
    ExportRequested,
    /// An export can be downloaded.
    #[serde(rename = "export.ready")]
    ExportReady,
    /// An export failed for good.
    #[serde(rename = "export.failed")]
    ExportFailed,
}

impl EventType {
    /// All values.
    pub const ALL: [Self; 8] = [
        Self::OrderPlaced,
        Self::OrderPaid,
        Self::OrderCancelled,
        Self::StockChanged,
        Self::SessionsRevoked,
        Self::ExportRequested,
        Self::ExportReady,
        Self::ExportFailed,
    ];

    /// The type as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrderPlaced => "order.placed",
            Self::OrderPaid => "order.paid",
            Self::OrderCancelled => "order.cancelled",
            Self::StockChanged => "stock.changed",
            Self::SessionsRevoked => "sessions.revoked",
            Self::ExportRequested => "export.requested",
            Self::ExportReady => "export.ready",
            Self::ExportFailed => "export.failed",
        }
    }
}

/// An activity event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Receivers deduplicate by this id.
    pub event_id: EventId,
    #[serde(rename = "type")]
    pub kind: EventType,
    #[serde(with = "as_rfc3339")]
    pub occurred_at: Timestamp,
    /// The region that wrote the event, and the only one that publishes it.
    pub region: String,
    /// The id of the order, product, user or export.
    pub subject: String,
    /// The rest, in the format of [`VERSION`].
    #[serde(serialize_with = "json::plain")]
    pub data: Value,
}
