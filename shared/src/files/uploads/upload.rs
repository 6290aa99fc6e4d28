//! An upload, as stored in its row.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cleanup::{COMPLETIONS_WRITE, LINKS_WRITE};
use super::{ContentType, FileDigest, FileName};
use crate::core::date_time::{as_rfc3339, as_rfc3339_if_any, rfc3339};
use crate::core::ids::{UploadId, UserId};
use crate::files::links::MultipartId;

/// The state of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UploadStatus {
    /// Created. The file may have been sent.
    Pending,
    /// The file matches its declaration, and can be read.
    Ready,
    /// The file did not match, and is deleted.
    Rejected,
    /// Its user deleted it, or never finished it. Clients do not see it, but it counts towards the
    /// quota until its row is removed.
    Deleted,
}

impl UploadStatus {
    /// The form in rows and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Ready => "READY",
            Self::Rejected => "REJECTED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Why an upload has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Rejection {
    /// The size was wrong.
    WrongSize,
    /// The checksum was wrong.
    WrongChecksum,
    /// Its completion was tried [`MAX_TRIES`](super::MAX_TRIES) times.
    TooManyTries,
}

impl Rejection {
    /// The form in rows and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrongSize => "WRONG_SIZE",
            Self::WrongChecksum => "WRONG_CHECKSUM",
            Self::TooManyTries => "TOO_MANY_TRIES",
        }
    }
}

/// An upload, as stored in its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    pub owner_id: UserId,
    /// The id, which sorts by creation time.
    pub upload_id: UploadId,
    pub file_name: FileName,
    /// The declared type.
    pub content_type: ContentType,
    /// The declared size.
    pub size_bytes: u64,
    /// The declared checksum.
    pub sha256: FileDigest,
    pub status: UploadStatus,
    /// The home: the region whose bucket has it.
    pub region: String,
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
    #[serde(default, with = "as_rfc3339_if_any", skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// S3's id of the multipart upload, until it is READY.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3_upload_id: Option<MultipartId>,
    /// The size of its parts in bytes, if it is sent in parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_size_bytes: Option<u64>,
}

impl Upload {
    /// The object that the client writes.
    pub fn incoming_key(&self) -> String {
        format!("incoming/{}/{}/file", self.owner_id, self.upload_id.ulid_text())
    }

    /// The object that is read.
    pub fn final_key(&self) -> String {
        format!("uploads/{}/{}/file", self.owner_id, self.upload_id.ulid_text())
    }

    /// When no link can write an object of the upload any more.
    pub fn links_end(&self) -> Timestamp {
        later(self.created_at, LINKS_WRITE)
    }

    /// When nothing can write an object of the upload any more, if it is deleted at `now`: neither
    /// a link nor a completion that started while it was PENDING.
    pub fn settled_at(&self, now: Timestamp) -> Timestamp {
        self.links_end().max(later(self.ready_at.unwrap_or(now), COMPLETIONS_WRITE))
    }

    /// The upload as its owner sees it.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "uploadId": self.upload_id,
            "fileName": self.file_name,
            "contentType": self.content_type,
            "sizeBytes": self.size_bytes,
            "sha256": self.sha256,
            "status": self.status,
            "createdAt": rfc3339(self.created_at),
        });
        if let Some(ready_at) = self.ready_at {
            document["readyAt"] = rfc3339(ready_at).into();
        }
        if let Some(rejection) = self.rejection {
            document["rejection"] = rejection.as_str().into();
        }
        document
    }
}

fn later(at: Timestamp, wait: std::time::Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}
