//! Exports: a customer's orders as a file, made in the background.
//!
//! # Promise
//! Every acknowledged export ends: `READY`, with a file that has each order of the period exactly
//! once, or `FAILED`, with a reason. Whatever crashes, is sent twice or arrives late, there is one
//! result; the progress never falls; and a file that can be downloaded never changes.
//!
//! # Protocol
//! 1. *Request* ([`dynamo::RequestExport`]): one transaction writes the idempotency record, the row
//!    (`QUEUED`), the slot that the export takes ([`ExportSlot`]) and the event `export.requested`.
//!    Then the export's id is sent to the queue, and only then the client gets its answer
//!    ([`submit`]). A crash in between acknowledges nothing: the client's retry finds the record,
//!    and sends the message unless a worker has started. Duplicate messages are harmless; a missing
//!    one is not.
//! 2. *Run* ([`run`]): a worker takes the export's lock, and continues where the last worker
//!    stopped. Each of its writes to the row is a transaction with the lock's condition. A part's
//!    item is written with the row, so that a worker that was overtaken adds none.
//! 3. *Result*: the file is complete before anybody sees it ([`ResultStore`]). One transaction
//!    writes `READY` and the event `export.ready`, and releases the slot. The event reaches the
//!    customer's sockets.
//! 4. *Give up*: a message that failed too often arrives from the dead-letter queue. Then one
//!    transaction writes `FAILED` and the event `export.failed`, and releases the slot. An export
//!    that has advanced since that message was sent gets another message instead.
//!
//! # The row
//! The status goes `QUEUED -> RUNNING -> FINISHING -> READY`, or to `FAILED` from any of the first
//! three. Its customer sees `FINISHING` as `RUNNING`. The row expires [`RETENTION`] after the
//! request, or after it became ready.
//!
//! # Regions
//! One region works on an export: the one that received the request. Its slot names that region,
//! the message is in that region's queue, and the file is in that region's bucket until S3 has
//! replicated it. Other regions read the row, and link to whichever bucket has the file
//! ([`downloads`](crate::files::links::downloads)). A repetition of the request in another region
//! sends no message, since the lock of a worker there would exclude nobody: it is acknowledged once
//! a worker has started. An export of a lost region waits for that region. Its customer can request
//! another one elsewhere, where all slots may still be free.
//!
//! # Limits
//! The index of orders usually lags by milliseconds: an order of the last seconds before the
//! request may be missing. An order has its status at the moment of reading. A file has at most
//! [`MAX_PARTS`] parts, 50 GB at least. A customer has at most [`MAX_OPEN`] open exports in a
//! region. The concurrency of the queue's event source bounds the load of all exports together.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::core::ids::ExportId;

pub mod dynamo;
mod export;
mod orders;
mod request;
mod results;
pub mod run;
mod submit;
mod worker;

pub use export::{Attempt, Checkpoint, Export, ExportProgress, Kind, Link, Part, ResultFile, Status};
pub use orders::CustomerOrders;
pub use request::{ExportRequest, ExportSlot, InvalidPeriod, MAX_OPEN, Period, SLOT_RETRY, TooManyOpen};
pub use results::{Completion, PartOutcome, ResultStore, S3Results};
pub use submit::{SubmitError, submit};
pub use worker::{WorkError, Worker};

/// How long an export is kept: from its request, and again from the moment it is ready.
pub const RETENTION: Duration = Duration::from_hours(7 * 24);

/// Smallest part but the last, in bytes: S3's limit. A worker holds this much in memory, and one
/// page of orders.
pub const PART_BYTES: usize = 5 * 1024 * 1024;

/// Most parts of a file: S3's limit.
pub const MAX_PARTS: usize = 10_000;

/// The type of the files.
const CONTENT_TYPE: &str = "text/csv; charset=utf-8; header=present";

/// There is no such export, or it belongs to another customer. 404.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no export {0}")]
pub struct NoSuchExport(pub ExportId);

/// The queue message: a worker should run this export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportMessage {
    pub export_id: ExportId,
}

impl ExportMessage {
    /// The message's body.
    pub fn body(&self) -> String {
        json!(self).to_string()
    }
}
