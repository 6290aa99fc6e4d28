//! What uploads stand on: their rows, and the bucket.

use std::fmt;
use std::future::Future;

use jiff::Timestamp;

use super::{CompletionRequest, Ending, Rejection, UnfitParts, UnfitUpload, Upload, UploadLimits};
use crate::core::clock::SharedClock;
use crate::core::cursor::{InvalidCursor, Page};
use crate::core::ids::{SharedIds, UploadId, UserId};
use crate::files::links::disposition::Disposition;
use crate::files::links::{FileError, MultipartId, SignedUrl};
use crate::platform::dynamo::DynamoError;

/// What a user's uploads take together, those included whose rows are not gone yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes, announced or there.
    pub bytes: u64,
    /// Uploads.
    pub files: u64,
}

/// What became of a new row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It is written, and taken from the quota.
    Created,
    /// The quota has no room. This is what its user has. Nothing was written.
    QuotaExceeded(Usage),
    /// Another write of the same user was under way. Nothing was written.
    Busy,
}

/// What became of a change of status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// It happened; the upload as it is now.
    Done(Upload),
    /// The upload stands otherwise, or has no row any more. Nothing was changed.
    Refused(Option<Upload>),
    /// Another write of the row was under way. Nothing was changed.
    Busy,
}

/// Where uploads are recorded.
pub trait UploadRows: Send + Sync {
    /// Writes a new upload and takes it from its user's quota, both or neither.
    fn create(
        &self,
        upload: &Upload,
        limits: &UploadLimits,
    ) -> impl Future<Output = Result<Creation, DynamoError>> + Send;

    /// The owner's upload, whatever its status. Consistent.
    fn read(
        &self,
        owner: &UserId,
        upload_id: &UploadId,
    ) -> impl Future<Output = Result<Option<Upload>, DynamoError>> + Send;

    /// A page of the owner's uploads behind `cursor`, newest first, without those that are DELETED. Consistent.
    fn list(
        &self,
        owner: &UserId,
        cursor: Option<&str>,
        limit: u32,
    ) -> impl Future<Output = Result<Page<Upload>, UploadError>> + Send;

    /// Counts a try to complete an upload that is PENDING and has had fewer than [`MAX_TRIES`](super::MAX_TRIES).
    fn count_try(
        &self,
        owner: &UserId,
        upload_id: &UploadId,
    ) -> impl Future<Output = Result<Transition, DynamoError>> + Send;

    /// PENDING to READY.
    fn finish(
        &self,
        upload: &Upload,
        now: Timestamp,
    ) -> impl Future<Output = Result<Transition, DynamoError>> + Send;

    /// PENDING to REJECTED.
    fn reject(
        &self,
        upload: &Upload,
        rejection: Rejection,
    ) -> impl Future<Output = Result<Transition, DynamoError>> + Send;

    /// The status that was seen to DELETED.
    fn delete(
        &self,
        seen: &Upload,
        now: Timestamp,
    ) -> impl Future<Output = Result<Transition, DynamoError>> + Send;

    /// Deletes the row of an upload that is DELETED, and was settled before `now`, and gives it back to the quota, both or
    /// neither.
    fn forget(
        &self,
        deleted: &Upload,
        now: Timestamp,
    ) -> impl Future<Output = Result<Ending, DynamoError>> + Send;
}

/// What became of an upload in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assembly {
    /// The parts are one object now.
    Assembled,
    /// S3 does not know the upload any more: they were put together before, or given up.
    Over,
    /// The list does not fit what S3 has. Nothing was changed.
    Unfit(UnfitParts),
}

/// The incoming object as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Names its bytes.
    pub etag: String,
}

/// What became of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// The final object is there, and has this checksum in base64.
    Whole(String),
    /// Incoming is not what it was when it was looked at. Nothing was changed.
    Moved,
}

/// The links of one answer. All end at the same time.
pub trait UploadLinks: Send + Sync {
    /// When that is.
    fn expires_at(&self) -> Timestamp;

    /// To send a whole file.
    fn whole(&self, upload: &Upload) -> impl Future<Output = Result<SignedUrl, FileError>> + Send;

    /// To send a part.
    fn part(
        &self,
        upload: &Upload,
        s3_upload_id: &MultipartId,
        number: i32,
        size_bytes: u64,
    ) -> impl Future<Output = Result<SignedUrl, FileError>> + Send;

    /// To read the final object.
    fn download(
        &self,
        upload: &Upload,
        disposition: Disposition,
    ) -> impl Future<Output = Result<SignedUrl, FileError>> + Send;
}

/// The bucket, for who takes everything of an upload away.
pub trait UploadRemoval: Send + Sync {
    /// Ends the upload in parts, if it runs, and deletes both objects. None of them has to be there.
    fn remove(&self, upload: &Upload) -> impl Future<Output = Result<(), FileError>> + Send;

    /// Deletes incoming.
    fn clear(&self, upload: &Upload) -> impl Future<Output = Result<(), FileError>> + Send;
}

/// The bucket.
pub trait UploadFiles: UploadRemoval {
    /// Signs.
    type Links: UploadLinks;

    /// Begins an answer with links.
    fn links(&self) -> impl Future<Output = Result<Self::Links, FileError>> + Send;

    /// Begins an upload in parts.
    fn begin(&self, upload: &Upload) -> impl Future<Output = Result<MultipartId, FileError>> + Send;

    /// Puts the parts together at incoming.
    fn assemble(
        &self,
        upload: &Upload,
        s3_upload_id: &MultipartId,
        sent: &CompletionRequest,
    ) -> impl Future<Output = Result<Assembly, FileError>> + Send;

    /// What is at incoming.
    fn incoming(&self, upload: &Upload) -> impl Future<Output = Result<Option<Incoming>, FileError>> + Send;

    /// The checksum of the final object, in base64. `None`: there is no object, or none with a checksum of the whole.
    fn finished(&self, upload: &Upload) -> impl Future<Output = Result<Option<String>, FileError>> + Send;

    /// Copies incoming to final, if it still is this.
    fn copy(
        &self,
        upload: &Upload,
        incoming: &Incoming,
    ) -> impl Future<Output = Result<Copied, FileError>> + Send;
}

/// Why an upload is not what its user wants it to be.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file may not be uploaded. 422.
    #[error(transparent)]
    Unfit(#[from] UnfitUpload),
    /// The quota has no room. 409.
    #[error("the quota of {quota_bytes} bytes has no room for this file")]
    QuotaExceeded {
        /// What the user has; `None` if it was not looked at, since the file alone is larger than the quota.
        used: Option<Usage>,
        /// What a user may have.
        quota_bytes: u64,
    },
    /// No such upload, or somebody else's. 404.
    #[error("there is no upload {0}")]
    NotFound(UploadId),
    /// The file has not been sent. 409.
    #[error("the file has not been sent yet")]
    Incomplete,
    /// The list of parts does not fit. 422, and the upload stays as it is.
    #[error(transparent)]
    UnfitParts(#[from] UnfitParts),
    /// Something else was sent than what was announced, or it was tried too often. 422, for good.
    #[error("the upload has failed for good ({})", .0.as_str())]
    Rejected(Rejection),
    /// Others were at the same rows until the deadline. 503.
    #[error("others were at the same upload until the deadline")]
    Contended,
    /// The cursor is of no page of this list. 400.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The table failed. 503 when it will pass, else 500.
    #[error(transparent)]
    Rows(#[from] DynamoError),
    /// The bucket failed. 503 when it will pass, else 500.
    #[error(transparent)]
    Files(#[from] FileError),
}

/// Uploads, for their users.
pub struct Uploads<R, F> {
    pub(super) rows: R,
    pub(super) files: F,
    pub(super) limits: UploadLimits,
    pub(super) region: String,
    pub(super) clock: SharedClock,
    pub(super) ids: SharedIds,
}

impl<R: UploadRows, F: UploadFiles> Uploads<R, F> {
    /// Uploads recorded in `rows`, in the bucket `files` of `region`.
    pub fn new(
        rows: R,
        files: F,
        limits: UploadLimits,
        region: String,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Self {
        Self { rows, files, limits, region, clock, ids }
    }
}

impl<R: fmt::Debug, F: fmt::Debug> fmt::Debug for Uploads<R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads")
            .field("rows", &self.rows)
            .field("files", &self.files)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
