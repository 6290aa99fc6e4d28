//! Uploads: files of users, whose bytes go from the client to the bucket and back without passing a function.
//!
//! A client says first what it will send: name, type, size and SHA-256. It gets links ([`crate::files::links`]) to send exactly that, and
//! says when it has. Only then the file is looked at, and only a file that is what it was said to be becomes READY.
//!
//! What a client can write is never what anybody reads. Links to write lead to the *incoming* object, links to read to
//! the *final* one, which is written by step 3 alone:
//!
//! | key | written by | read by |
//! |---|---|---|
//! | `incoming/<userId>/<ULID>/file` | the client, until its links end | step 3 |
//! | `uploads/<userId>/<ULID>/file` | step 3 | whoever has a link |
//!
//! 1. *Create*: a file of up to [`MAX_WHOLE_BYTES`] gets one link, which signs the length, the type and the checksum: S3
//!    refuses anything else. A larger one gets a link for each part, which signs the part's length. One transaction writes
//!    the row (PENDING) and takes the file from its user's quota, on the condition that enough is left. An upload in
//!    parts is begun at S3 before that, and ended again if the transaction refuses. A crash in between leaves one that has no
//!    parts and whose name nobody was told; the bucket's lifecycle removes it.
//! 2. *Send*: the client and S3 alone. A part, or the whole, may be sent again at any time until the links end.
//! 3. *Complete*, which can be cut off anywhere, repeated, and be done twice at once:
//!    1. The row decides first: READY is answered as such, REJECTED with its reason, DELETED is no upload. One that is PENDING
//!       counts the try in the same write, and is REJECTED when there were [`MAX_TRIES`]: what calls of S3 one upload can cause
//!       is bounded.
//!    2. Parts are put together. That S3 no longer knows the upload in parts means that an earlier try did this. A list that does
//!       not fit what S3 has is refused, and another may be tried.
//!    3. If the final object is there with the checksum that was declared, an earlier try came that far: go on with 6. If there
//!       is no incoming object either, the row is read once more: if it is still PENDING, the client has not sent the file; else
//!       a rival has ended the upload and deleted the object, and the row decides as in 1. One of another size is rejected.
//!    4. S3 copies incoming to final, on the condition that incoming still is what was looked at, and computes the SHA-256 of the whole
//!       while it does, also of what came in parts. So no byte passes the function.
//!    5. Another checksum than the declared one: the row says REJECTED first, then both objects are deleted.
//!    6. The row becomes READY, if it is PENDING. If it is DELETED, the final object is deleted once more.
//!    7. The incoming object is deleted.
//! 4. *Delete*: the row becomes DELETED, on the condition of the status that was seen. Then the objects are deleted. The row
//!    stays as a tombstone until nothing can write an object any more ([`Upload::settled_at`]): until no link is good and no
//!    completion of before is still running. Then the objects are deleted again, and after them the row. So a row outlives
//!    its objects, and nothing is left that no row knows. A file whose links ended long ago is gone with the request; a
//!    younger one is left to a job.
//! 5. What nobody may forget is in an index ([`SweepShard`]) with the time at which a job has to look at it: an upload that was
//!    not finished by then is deleted as if by its user; a tombstone is removed; and of a READY one the incoming object is
//!    deleted again, when its links have ended.
//!
//! **The quota** counts every upload from its announcement until its row is gone: announced, READY, REJECTED or DELETED. The
//! row and its share of the quota go in one transaction, and only after the objects, when no link can write them again. So a
//! link that outlives its upload's deletion stores nothing beyond the quota. What a user deletes within [`LINKS_WRITE`] of its
//! announcement therefore counts for up to that long, and until the job's next run. One thing is not counted: to the link of
//! a READY upload its bytes can be sent again. S3 may have them twice until step 5, so a user takes at most twice the quota,
//! for hours. Nobody can read the second copy.
//!
//! Two completions at once cannot put different bytes into the final object, for there is one content that incoming ever has:
//! a whole one by its signed checksum, one in parts since the upload in parts ends when it is put together.
//!
//! Limits: [`limits`]. Creating has no idempotency key: a repeated one is another upload, which nobody finishes and step 5
//! ends. S3 may need longer than a request has (29 s) to put together or copy several gigabytes: the request is answered 503.
//! It is an assumption that S3 goes on after its caller hung up, so that a later try finds what S3 made (step 3.3). What
//! was tried is 100 MB; larger files should be tried at the real S3 before they are allowed. A link cannot be withdrawn: who got one before the file was deleted
//! finds no file, but who is downloading goes on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::ids::{UploadId, UserId};
use crate::files::links::MultipartId;

pub mod cleanup;
mod complete;
pub mod content_type;
mod create;
mod delete;
mod digest;
pub mod dynamo;
mod file_name;
pub mod limits;
mod part_list;
mod parts;
mod read;
pub mod s3;
mod store;
mod sweep;

pub use content_type::ContentType;
pub use create::{Method, Offer};
pub use digest::{FileDigest, InvalidDigest};
pub use file_name::{FileName, InvalidFileName, MAX_FILE_NAME_BYTES};
pub use limits::{MAX_FILES, MAX_TRIES, NewFile, UnfitUpload, UploadLimits, UploadRequest};
pub use part_list::{CompletionRequest, PartTag, SentPart, UnfitParts};
pub use parts::{MAX_PARTS, MAX_WHOLE_BYTES, MIN_PART_BYTES, part_size, parts};
pub use read::Readable;
pub use store::{
    Assembly, Copied, Creation, Incoming, Transition, UploadError, UploadFiles, UploadLinks, UploadRemoval,
    UploadRows, Uploads, Usage,
};
pub use sweep::{COMPLETIONS_WRITE, Ending, LINKS_WRITE, SWEEP_SHARDS, SweepEntry, SweepRows, SweepShard};

/// Where an upload stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UploadStatus {
    /// Announced; perhaps sent.
    Pending,
    /// It is what it was said to be, and can be read.
    Ready,
    /// It was something else, and is gone.
    Rejected,
    /// Its user does not want it any more, or never finished it. To clients it is no upload, but it takes its share of the
    /// quota until its row is gone.
    Deleted,
}

impl UploadStatus {
    /// As it is stored and answered.
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
    /// More or fewer bytes were sent.
    WrongSize,
    /// Other bytes were sent.
    WrongChecksum,
    /// It was tried to complete it [`MAX_TRIES`] times.
    TooManyTries,
}

impl Rejection {
    /// As it is stored and answered.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrongSize => "WRONG_SIZE",
            Self::WrongChecksum => "WRONG_CHECKSUM",
            Self::TooManyTries => "TOO_MANY_TRIES",
        }
    }
}

/// An upload, as its row has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// Whose it is.
    pub owner_id: UserId,
    /// Its id, which sorts by the time that it was made.
    pub upload_id: UploadId,
    /// What the file is called.
    pub file_name: FileName,
    /// What kind of file it is said to be.
    pub content_type: ContentType,
    /// How many bytes it must have.
    pub size_bytes: u64,
    /// Which checksum it must have.
    pub sha256: FileDigest,
    /// Where it stands.
    pub status: UploadStatus,
    /// The region whose bucket it is in.
    pub region: String,
    /// When it was announced.
    #[serde(with = "as_rfc3339")]
    pub created_at: Timestamp,
    /// When it was found to be what it was said to be.
    #[serde(default, with = "as_optional_rfc3339", skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// S3's name of the upload in parts, until it is READY.
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

    /// When nothing can write an object of the upload any more, if it is deleted at `now`: no link, and no completion that
    /// began when it was PENDING.
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

/// Serde for a time that may be absent.
mod as_optional_rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::core::date_time::{as_rfc3339, rfc3339};

    #[expect(clippy::ref_option, reason = "serde hands a field over like this")]
    pub(super) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => serializer.serialize_str(&rfc3339(*at)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        #[derive(Deserialize)]
        struct At(#[serde(with = "as_rfc3339")] Timestamp);
        Ok(Option::<At>::deserialize(deserializer)?.map(|At(at)| at))
    }
}
