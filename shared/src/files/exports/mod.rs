//! Exports: a customer's orders as a file, made behind the request's back.
//!
//! **Promise.** An export that was acknowledged ends: `READY`, with a file that holds each order of the period exactly once,
//! or `FAILED`, with a reason. Whatever crashes, is sent twice or comes late on the way, there is one result; its progress
//! never falls; and a file that somebody may download never changes.
//!
//! **Protocol.**
//! 1. *Request* ([`dynamo::RequestExport`]): one transaction writes the idempotency record, the row (`QUEUED`), the slot that
//!    the export takes ([`Slot`]) and the event `export.requested`. Then the export's id goes to the queue, and only then the
//!    client gets its answer ([`submit`]). Who crashes in between has acknowledged nothing; the client's repetition finds the
//!    record, and sends the message unless a worker has begun. A message too many does no harm, none at all would.
//! 2. *Run* ([`run`]): a worker takes the export's lock, and goes on where the last one stopped. Each of its writes to the row
//!    is a transaction with the lock's condition. A part's item is written with the row, so that a worker that was overtaken
//!    adds none.
//! 3. *Result*: a file that nobody is told of before it is whole ([`ResultStore`]), the row `READY` and the event
//!    `export.ready` in one transaction, which gives the slot back, and then a message to the customer's sockets.
//! 4. *Give up*: a message that failed too often comes back from the dead-letter queue. The export is `FAILED` then, and the
//!    event `export.failed` tells it, and the slot is given back; unless it has come further since that message was sent: then
//!    it gets another one.
//!
//! **The row** goes `QUEUED -> RUNNING -> FINISHING -> READY`, or to `FAILED` from any of the first three. To its customer
//! `FINISHING` is `RUNNING`. It expires [`RETENTION`] after it was asked for, and again after it became ready.
//!
//! **Limits.** The index that orders are read from follows the table by milliseconds, mostly: an order of the last seconds
//! before the request may be missing. An order's status is that of the moment it was read. A file has at most
//! [`MAX_PARTS`] parts, 50 GB at least. A customer has at most [`MAX_OPEN`] exports open. What all customers' exports take
//! from everybody else is bounded by how many workers the queue's event source runs at a time.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::date_time::{as_rfc3339, as_rfc3339_if_any, rfc3339};
use crate::core::ids::{AttemptId, ExportId, UserId};
use crate::files::links::disposition::Disposition;
use crate::files::links::s3::{Download, Presigner};
use crate::files::links::{FileError, SignedUrl};

mod csv;
pub mod dynamo;
mod notify;
mod period;
mod ports;
pub mod run;
mod s3;
mod slot;
mod submit;
mod worker;

pub use csv::ExportedOrder;
pub use notify::SocketNotice;
pub use period::{InvalidPeriod, Period};
pub use ports::{
    Attempt, Completion, CustomerOrders, Guarded, Notice, OrderCursor, OrdersPage, PartOutcome, ResultStore,
    Rows, StoreError, Unreadable,
};
pub use s3::S3Results;
pub use slot::{MAX_OPEN, SLOT_RETRY, Slot, TooManyOpen};
pub use submit::{SubmitError, submit};
pub use worker::{WorkError, Worker};

/// How long an export is kept: from its request, and anew from when it is ready.
pub const RETENTION: Duration = Duration::from_hours(7 * 24);

/// Smallest part but for the last, in bytes: S3 takes no smaller one. It is also what a worker holds in memory, beside one
/// page of orders.
pub const PART_BYTES: usize = 5 * 1024 * 1024;

/// Most parts of a file: S3 takes no more.
pub const MAX_PARTS: usize = 10_000;

/// What the files are.
const CONTENT_TYPE: &str = "text/csv; charset=utf-8; header=present";

/// Where an export stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Nobody has begun.
    Queued,
    /// Orders are being read.
    Running,
    /// The list of parts is final. Whoever completes the file completes it with that list.
    Finishing,
    /// The file is there, for good.
    Ready,
    /// Given up.
    Failed,
}

impl Status {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Finishing => "FINISHING",
            Self::Ready => "READY",
            Self::Failed => "FAILED",
        }
    }

    /// As it is answered: that the end is near is nothing to a client.
    pub const fn answered(self) -> &'static str {
        match self {
            Self::Finishing => Self::Running.as_str(),
            other => other.as_str(),
        }
    }
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The customer's orders.
    Orders,
}

/// How far an export has come. Neither member falls while it is worked on; with the result, `rows` becomes what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// How much of the period has been read, 0 to 100. 100 means ready.
    #[serde(rename = "progress")]
    pub percent: u8,
    /// How many orders were read.
    pub rows: u64,
}

impl Progress {
    /// The larger of each: a worker that begins anew reads again what was counted before.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self { percent: self.percent.max(other.percent), rows: self.rows.max(other.rows) }
    }
}

/// A part of the file that S3 has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// What S3 calls its content.
    pub etag: String,
    /// S3's CRC-32 of it, in base64.
    pub crc32: String,
    /// Its size.
    pub size_bytes: u64,
}

/// Where a worker goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    /// The upload that the parts belong to.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// How many parts there are, from number 1 on. Each is an item of its own ([`Rows::parts`]).
    pub parts: usize,
    /// Their size together.
    pub size_bytes: u64,
    /// The last order in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<OrderCursor>,
    /// How many orders are in them.
    pub rows: u64,
    /// When a part was last stored, of this upload or of one that was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "as_rfc3339_if_any")]
    pub advanced_at: Option<Timestamp>,
}

impl Checkpoint {
    /// Of an upload without a part.
    pub fn of(attempt: Attempt) -> Self {
        Self { attempt, parts: 0, size_bytes: 0, after: None, rows: 0, advanced_at: None }
    }
}

/// A file that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultFile {
    /// Its key in the bucket.
    pub result_key: String,
    /// Its size.
    pub size_bytes: u64,
    /// Since when it is there.
    #[serde(with = "as_rfc3339")]
    pub ready_at: Timestamp,
}

/// An export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// Its id.
    pub export_id: ExportId,
    /// Who asked for it.
    pub customer_id: UserId,
    /// What it has.
    pub kind: Kind,
    /// Of when.
    #[serde(flatten)]
    pub period: Period,
    /// Where it stands.
    pub status: Status,
    /// How far it has come.
    #[serde(flatten)]
    pub progress: Progress,
    /// When it was asked for.
    #[serde(with = "as_rfc3339")]
    pub requested_at: Timestamp,
    /// Which of its customer's slots it takes until it ends.
    pub slot: Slot,
    /// Why there is no result, for the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The result; there when [`Status::Ready`].
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultFile>,
    /// Where to go on, once somebody has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// When it counts for nothing any more, in seconds since the epoch.
    pub expires_at: i64,
}

impl Export {
    /// An export that is asked for now.
    pub fn requested(
        export_id: ExportId,
        customer_id: UserId,
        period: Period,
        slot: Slot,
        now: Timestamp,
    ) -> Self {
        Self {
            export_id,
            customer_id,
            kind: Kind::Orders,
            period,
            status: Status::Queued,
            progress: Progress::default(),
            requested_at: now,
            slot,
            failure: None,
            result: None,
            checkpoint: None,
            expires_at: expires_at(now),
        }
    }

    /// The export as its customer sees it, without the link to the file.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "exportId": self.export_id,
            "kind": self.kind,
            "from": rfc3339(self.period.from()),
            "to": rfc3339(self.period.to()),
            "status": self.status.answered(),
            "progress": self.progress.percent,
            "rows": self.progress.rows,
            "requestedAt": rfc3339(self.requested_at),
            "expiresAt": rfc3339(self.expiry()),
        });
        if let Some(file) = &self.result {
            document["readyAt"] = rfc3339(file.ready_at).into();
            document["sizeBytes"] = file.size_bytes.into();
        }
        if let Some(failure) = &self.failure {
            document["failure"] = failure.as_str().into();
        }
        document
    }

    /// What events tell of the export.
    pub fn summary(&self) -> Value {
        json!({
            "exportId": self.export_id,
            "customerId": self.customer_id,
            "kind": self.kind,
            "from": rfc3339(self.period.from()),
            "to": rfc3339(self.period.to()),
        })
    }

    /// When it counts for nothing any more.
    pub fn expiry(&self) -> Timestamp {
        Timestamp::from_second(self.expires_at).unwrap_or(Timestamp::MAX)
    }

    /// Where the upload of that mark puts its file. Nobody but its workers writes there.
    pub fn result_key(&self, mark: &AttemptId) -> String {
        format!("exports/{}/{}/{mark}.csv", self.customer_id, self.export_id)
    }

    /// The link to the file, for its customer, if there is a file. It does not outlast the export.
    pub async fn link(&self, presigner: &Presigner) -> Result<Option<Link>, FileError> {
        let Some(file) = &self.result else { return Ok(None) };
        let signer = presigner.signer(Some(self.expiry())).await?;
        let download = Download {
            key: &file.result_key,
            file_name: &self.file_name(),
            content_type: CONTENT_TYPE,
            disposition: Disposition::Attachment,
        };
        Ok(Some(Link { url: signer.download(download).await?, expires_at: signer.expires_at() }))
    }

    /// The export as its customer sees it, with the link.
    pub fn document_with(&self, link: Option<&Link>) -> Value {
        let mut document = self.document();
        if let Some(link) = link {
            document["downloadUrl"] = link.url.expose().into();
            document["downloadExpiresAt"] = rfc3339(link.expires_at).into();
        }
        document
    }

    /// What the file is called when it is saved: `orders-2026-01-01-2026-04-01.csv`.
    pub fn file_name(&self) -> String {
        format!("orders-{}-{}.csv", day(self.period.from()), day(self.period.to()))
    }
}

fn day(at: Timestamp) -> jiff::civil::Date {
    at.to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn expires_at(now: Timestamp) -> i64 {
    now.as_second().saturating_add_unsigned(RETENTION.as_secs())
}

/// A link to an export's file.
#[derive(Debug)]
pub struct Link {
    /// The URL. Whoever has it has the file.
    pub url: SignedUrl,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// There is no such export, or it is somebody else's. 404.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no export {0}")]
pub struct NoSuchExport(pub ExportId);

/// What a client sends to ask for an export.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportRequest {
    /// What.
    pub kind: Kind,
    /// From this instant on.
    #[serde(with = "as_rfc3339")]
    pub from: Timestamp,
    /// Up to this instant, which is not part of it.
    #[serde(with = "as_rfc3339")]
    pub to: Timestamp,
}

/// What the queue carries: that somebody should look after an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportMessage {
    /// Which one.
    pub export_id: ExportId,
}

impl ExportMessage {
    /// The message's body.
    pub fn body(&self) -> String {
        json!(self).to_string()
    }
}
