//! Domain events, written in the same transaction as what they tell of.
//!
//! 1. Whoever changes an order, a stock row or an export, or revokes sessions, puts an [`Event`] into the same transaction ([`dynamo::put`]): there is
//!    no change without its event, and no event without its change.
//! 2. The table is insert-only and streamed. The relay ([`crate::relay`]) publishes each row at least once, so that receivers
//!    deduplicate by `eventId`. The key is `subject` and `eventId`: the rows of one partition key share a shard of
//!    the stream, so the events of a subject are published in their order.
//! 3. Rows expire after [`RETENTION`]: by then a relay that was down has long been seen to.
//!
//! `version` is the shape of `data`; a receiver ignores members that it does not know, and events of a version that it
//! does not know.

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

/// Present shape of every event's `data`.
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
    /// An export was given up.
    #[serde(rename = "export.failed")]
    ExportFailed,
}

impl EventType {
    /// All of them.
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

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its id, by which receivers dedup.
    pub event_id: EventId,
    #[serde(rename = "type")]
    pub kind: EventType,
    #[serde(with = "as_rfc3339")]
    pub occurred_at: Timestamp,
    /// Where: the region that wrote it, and alone publishes it.
    pub region: String,
    /// To what: an order id, a product id, a user id, an export id.
    pub subject: String,
    /// The rest, in the shape of [`VERSION`].
    #[serde(serialize_with = "json::plain")]
    pub data: Value,
}
