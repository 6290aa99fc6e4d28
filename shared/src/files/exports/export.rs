//! An export, as stored in its row.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{CONTENT_TYPE, ExportSlot, Period, RETENTION};
use crate::commerce::orders::OrderCursor;
use crate::core::date_time::{as_rfc3339, as_rfc3339_if_any, rfc3339};
use crate::core::ids::{AttemptId, ExportId, UserId};
use crate::files::links::disposition::Disposition;
use crate::files::links::downloads::Downloads;
use crate::files::links::s3::Download;
use crate::files::links::{FileError, MultipartId, SignedUrl};

/// The state of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// No worker has started.
    Queued,
    /// Orders are being read.
    Running,
    /// The list of parts is final: every worker completes the file with that list.
    Finishing,
    /// The file is complete and never changes.
    Ready,
    Failed,
}

impl Status {
    /// The stored form.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Finishing => "FINISHING",
            Self::Ready => "READY",
            Self::Failed => "FAILED",
        }
    }

    /// The form in answers: clients see FINISHING as RUNNING.
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
    Orders,
}

/// The progress of an export. Neither member falls while a worker runs; at the end, `rows` becomes
/// the number in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExportProgress {
    /// How much of the period was read, 0 to 100. 100 means ready.
    #[serde(rename = "progress")]
    pub percent: u8,
    pub rows: u64,
}

impl ExportProgress {
    /// The larger of each: a worker that starts over reads orders again that were counted before.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self { percent: self.percent.max(other.percent), rows: self.rows.max(other.rows) }
    }
}

/// A stored part of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// S3's entity tag of its content.
    pub etag: String,
    /// S3's CRC-32 of it, in base64.
    pub crc32: String,
    pub size_bytes: u64,
}

/// A multipart upload of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// S3's id of the upload.
    #[serde(rename = "s3UploadId")]
    pub upload_id: MultipartId,
    /// Unique part of the object's key.
    pub mark: AttemptId,
}

/// Where a worker continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    #[serde(flatten)]
    pub attempt: Attempt,
    /// The number of parts, each stored as an item.
    pub parts: usize,
    pub size_bytes: u64,
    /// The last order in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<OrderCursor>,
    /// The number of orders in them.
    pub rows: u64,
    /// When a part was last stored, of this upload or of an aborted one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "as_rfc3339_if_any")]
    pub advanced_at: Option<Timestamp>,
}

impl Checkpoint {
    /// The checkpoint of an upload without parts.
    pub fn of(attempt: Attempt) -> Self {
        Self { attempt, parts: 0, size_bytes: 0, after: None, rows: 0, advanced_at: None }
    }
}

/// A file that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultFile {
    pub result_key: String,
    pub size_bytes: u64,
    #[serde(with = "as_rfc3339")]
    pub ready_at: Timestamp,
}

/// An export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    pub export_id: ExportId,
    pub customer_id: UserId,
    pub kind: Kind,
    #[serde(flatten)]
    pub period: Period,
    pub status: Status,
    #[serde(flatten)]
    pub progress: ExportProgress,
    #[serde(with = "as_rfc3339")]
    pub requested_at: Timestamp,
    /// The slot that it holds until it ends.
    pub slot: ExportSlot,
    /// Why it failed, for the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The result; there when [`Status::Ready`].
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultFile>,
    /// Where to continue, after a worker has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// The expiry, in seconds since the epoch.
    pub expires_at: i64,
}

impl Export {
    /// A new export.
    pub fn requested(
        export_id: ExportId,
        customer_id: UserId,
        period: Period,
        slot: ExportSlot,
        now: Timestamp,
    ) -> Self {
        Self {
            export_id,
            customer_id,
            kind: Kind::Orders,
            period,
            status: Status::Queued,
            progress: ExportProgress::default(),
            requested_at: now,
            slot,
            failure: None,
            result: None,
            checkpoint: None,
            expires_at: expires_at(now),
        }
    }

    /// The region that works on it: its queue has the message, and its bucket gets the file.
    pub fn region(&self) -> &str {
        self.slot.region()
    }

    /// The export as its customer sees it, without the link to the file.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "exportId": self.export_id,
            "kind": self.kind,
            "from": rfc3339(self.period.from()),
            "to": rfc3339(self.period.to()),
            "status": self.status.answered(),
            "region": self.region(),
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

    /// The export's data in events.
    pub fn summary(&self) -> Value {
        json!({
            "exportId": self.export_id,
            "customerId": self.customer_id,
            "kind": self.kind,
            "from": rfc3339(self.period.from()),
            "to": rfc3339(self.period.to()),
        })
    }

    /// When it expires.
    pub fn expiry(&self) -> Timestamp {
        Timestamp::from_second(self.expires_at).unwrap_or(Timestamp::MAX)
    }

    /// The key of the file that the upload with this mark writes. Only its workers write there.
    pub fn result_key(&self, mark: &AttemptId) -> String {
        format!("exports/{}/{}/{mark}.csv", self.customer_id, self.export_id)
    }

    /// The link to the file, for its customer, if there is a file. It does not outlast the export.
    pub async fn link(&self, downloads: &Downloads) -> Result<Option<Link>, FileError> {
        let Some(file) = &self.result else { return Ok(None) };
        let signer = downloads.signer(Some(self.expiry())).await?;
        let download = Download {
            key: &file.result_key,
            file_name: &self.file_name(),
            content_type: CONTENT_TYPE,
            disposition: Disposition::Attachment,
        };
        let url = downloads.link(&signer, self.region(), download).await?;
        Ok(Some(Link { url, expires_at: signer.expires_at() }))
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

    /// The name of the saved file: `orders-2026-01-01-2026-04-01.csv`.
    pub fn file_name(&self) -> String {
        format!("orders-{}-{}.csv", day(self.period.from()), day(self.period.to()))
    }
}

fn day(at: Timestamp) -> jiff::civil::Date {
    at.to_zoned(jiff::tz::TimeZone::UTC).date()
}

pub(super) fn expires_at(now: Timestamp) -> i64 {
    now.as_second().saturating_add_unsigned(RETENTION.as_secs())
}

/// A link to an export's file.
#[derive(Debug)]
pub struct Link {
    /// The URL. Possession of it grants access to the file.
    pub url: SignedUrl,
    pub expires_at: Timestamp,
}
