//! Uploads: files of users, which clients send to and read from the bucket directly.
//!
//! A client first creates an upload with the file's name, type, size and SHA-256. It gets links
//! ([`crate::files::links`]) to send exactly that file, and reports when it has sent it. Only then
//! the file is checked, and only a file that matches its declaration becomes READY.
//!
//! # Two objects
//! Nobody reads what a client can write. Links to write lead to the *incoming* object, links to
//! read to the *final* one, which only step 3 writes:
//!
//! | key | written by | read by |
//! |---|---|---|
//! | `incoming/<userId>/<ULID>/file` | the client, until its links end | step 3 |
//! | `uploads/<userId>/<ULID>/file` | step 3 | whoever has a link |
//!
//! # Protocol
//! 1. *Create*: a file of up to [`MAX_WHOLE_BYTES`] gets one link, which signs the length, the type
//!    and the checksum: S3 refuses anything else. A larger file gets a link for each part, which
//!    signs the part's length. One transaction writes the row (PENDING) and reserves the quota, on
//!    the condition that enough is left. A multipart upload is started at S3 before that, and
//!    aborted if the transaction fails. A crash in between leaves a multipart upload without parts;
//!    the bucket's lifecycle removes it.
//! 2. *Send*: only the client and S3. A part, or the whole file, may be sent again at any time
//!    until the links end.
//! 3. *Complete*, which may be interrupted anywhere, repeated, and run twice concurrently:
//!    1. The row decides first: READY is answered as such, REJECTED with its reason, DELETED as not
//!       found. A PENDING row counts the try in the same write, and becomes REJECTED after
//!       [`MAX_TRIES`], which bounds the S3 calls of one upload.
//!    2. The parts are put together. If S3 does not know the multipart upload any more, an earlier
//!       try did this. A list that does not match S3's parts is refused, and the client may send
//!       another one.
//!    3. If the final object has the declared checksum, an earlier try came this far: continue with
//!       step 3.6. If there is no incoming object either, the row is read once more. If it is still
//!       PENDING, the client has not sent the file; otherwise another request has ended the upload
//!       and deleted the object, and the row decides as in 1. An incoming object of another size is
//!       rejected.
//!    4. S3 copies incoming to final, on the condition that incoming has not changed since the
//!       check, and computes the SHA-256 of the whole file meanwhile, also of a multipart file. So
//!       no content passes the function.
//!    5. If the checksum is not the declared one, the row becomes REJECTED first; then both objects
//!       are deleted.
//!    6. The row becomes READY, if it is PENDING. If it is DELETED, the final object is deleted
//!       once more.
//!    7. The incoming object is deleted.
//! 4. *Delete*: the row becomes DELETED, on the condition of the status that was read. Then the
//!    objects are deleted. The row stays as a tombstone until nothing can write an object any more
//!    ([`Upload::settled_at`]): neither a link nor a completion that started before. Then the
//!    objects are deleted again, and the row after them. So a row outlives its objects, and every
//!    object has a row. If the links ended long ago, the request itself does all of this; otherwise
//!    the clean-up does the rest.
//! 5. *Clean up* ([`cleanup`]): the index `sweep` ([`SweepShard`]) has every upload that needs
//!    clean-up, with the time at which it is due. An upload that is unfinished by then is deleted
//!    as if by its user; a tombstone is removed; the incoming object of a READY upload is deleted
//!    again, after its links have ended.
//!
//! # The quota
//! Every upload counts from its creation until its row is removed, with any status. The row and its
//! share of the quota are removed in one transaction, after the objects, when no link can write
//! them again. So a link that outlives the deletion of its upload stores nothing beyond the quota.
//! An upload that is deleted within [`LINKS_WRITE`] of its creation counts for up to that long, and
//! until the next clean-up. One thing does not count: the bytes of a READY upload can be sent again
//! to its links. S3 may have them twice until step 5, so a user takes at most twice the quota, for
//! hours. Nobody can read the second copy.
//!
//! Two concurrent completions cannot put different bytes into the final object, since incoming only
//! ever has one content: a whole file by its signed checksum, a multipart file because the
//! multipart upload ends when it is put together.
//!
//! # Regions
//! An upload has a *home*: the region that created it, whose bucket has its bytes (`region` in its
//! row). The home never changes, and only the home's DynamoDB and S3 are written to. A region that
//! is asked to complete or delete an upload of another region runs steps 3 and 4 with clients of
//! the home's DynamoDB and S3. If the home does not answer, the request is answered 503, and may be
//! repeated. Reads and lists show what has been replicated to this region.
//!
//! S3 replicates final objects to the other regions ([`downloads`](crate::files::links::downloads)
//! chooses which bucket a link leads to), and their deletion. It replicates no incoming object.
//! Each region cleans up its own uploads: the region is part of [`SweepShard`].
//!
//! Usage is counted in a row per region, which only that region writes. A new upload counts all of
//! them: its own by the condition of its transaction, the others as far as they have been
//! replicated. So a user who creates uploads in several regions within the lag of replication can
//! use the quota once in each.
//!
//! # Limits
//! A region that has not received an upload's row answers 404. While a region is lost, its uploads
//! can be read, if their files were replicated, but neither completed nor deleted, and they count.
//! [`UploadLimits`] has the settings. Creation has no idempotency key: a repeated request creates
//! another upload, which step 5 deletes. S3 may need longer than a request has (29 s) to put
//! together or copy several gigabytes: the request is answered 503. S3 is assumed to continue after
//! its caller disconnected, so that a later try finds the result (step 3.3). This was tried with
//! 100 MB; try larger files with the real S3 before you allow them. A link cannot be revoked: after
//! a deletion it finds no file, but a running download continues.

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;

use crate::core::clock::SharedClock;
use crate::core::cursor::InvalidCursor;
use crate::core::env::{ConfigError, Env};
use crate::core::ids::{SharedIds, UploadId};
use crate::files::links::FileError;
use crate::files::links::downloads::Downloads;
use crate::platform::aws;
use crate::platform::dynamo::DynamoError;

pub mod cleanup;
mod complete;
mod create;
mod delete;
pub mod dynamo;
mod file;
mod limits;
mod parts;
mod read;
pub mod s3;
mod upload;

pub use cleanup::{COMPLETIONS_WRITE, LINKS_WRITE, SWEEP_SHARDS, SweepEntry, SweepShard};
pub use create::{Method, Offer};
pub use dynamo::{Creation, DynamoUploads, EndOutcome, Transition, Usage, UsageByRegion};
pub use file::{
    AllowedTypes, ContentType, FileDigest, FileName, InvalidContentType, InvalidDigest, InvalidFileName,
    InvalidTypes, MAX_FILE_NAME_BYTES,
};
pub use limits::{InvalidUpload, MAX_FILES, MAX_TRIES, MOST_MEGABYTES, NewFile, UploadLimits, UploadRequest};
pub use parts::{
    CompletionRequest, InvalidParts, MAX_PARTS, MAX_WHOLE_BYTES, MIN_PART_BYTES, PartTag, SentPart,
    part_size, parts,
};
pub use read::Readable;
pub use s3::S3Uploads;
pub use upload::{Rejection, Upload, UploadStatus};

/// A region as the home of uploads: its table and its bucket.
#[derive(Debug)]
pub struct Home {
    pub rows: DynamoUploads,
    pub files: S3Uploads,
    pub clock: SharedClock,
}

/// Uploads, for their users.
#[derive(Debug)]
pub struct Uploads {
    own: Home,
    /// The other regions that the table and the bucket replicate to.
    peers: Vec<Home>,
    downloads: Downloads,
    limits: UploadLimits,
    ids: SharedIds,
}

impl Uploads {
    /// New uploads have the home `own`. Uploads of `peers` are changed there.
    pub fn new(
        own: Home,
        peers: Vec<Home>,
        downloads: Downloads,
        limits: UploadLimits,
        ids: SharedIds,
    ) -> Self {
        Self { own, peers, downloads, limits, ids }
    }

    /// Uploads of the region `AWS_REGION`, whose rows `dynamodb` has, and of the regions of
    /// `PEER_BUCKETS`.
    pub fn from_env(
        dynamodb: Client,
        sdk: &SdkConfig,
        env: &Env,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Result<Self, ConfigError> {
        let own = Home {
            rows: DynamoUploads::from_env(dynamodb, env)?,
            files: S3Uploads::from_env(sdk, env, clock.clone())?,
            clock: clock.clone(),
        };
        let peer = |(region, bucket): (String, String)| {
            let files = S3Uploads::new(&aws::sdk_in(sdk, &region), env, bucket, clock.clone());
            let rows = DynamoUploads::in_region(aws::dynamodb_in(sdk, &region), env, region)?;
            Ok(Home { rows, files, clock: clock.clone() })
        };
        let peers = aws::peer_buckets(env)?.into_iter().map(peer).collect::<Result<_, _>>()?;
        let downloads = Downloads::from_env(sdk, env, clock)?;
        Ok(Self::new(own, peers, downloads, UploadLimits::from_env(env)?, ids))
    }

    /// The home of uploads of another region.
    fn peer(&self, region: &str) -> Result<&Home, UploadError> {
        let unknown =
            || UploadError::HomeSilent { region: region.to_owned(), source: "it is not a peer".into() };
        self.peers.iter().find(|home| home.rows.region() == region).ok_or_else(unknown)
    }
}

/// Why a request about an upload was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file may not be uploaded. 422.
    #[error(transparent)]
    Invalid(#[from] InvalidUpload),
    /// The quota has no room. 409.
    #[error("the quota of {quota_bytes} bytes has no room for this file")]
    QuotaExceeded {
        /// The usage; `None` if it was not read because the file alone is larger than the quota.
        used: Option<Usage>,
        quota_bytes: u64,
    },
    /// There is no such upload, or it belongs to another user. 404.
    #[error("there is no upload {0}")]
    NotFound(UploadId),
    /// The file has not been sent. 409.
    #[error("the file has not been sent yet")]
    Incomplete,
    /// The list of parts does not match. 422; the upload is unchanged.
    #[error(transparent)]
    InvalidParts(#[from] InvalidParts),
    /// The file did not match its declaration, or the completion was tried too often. 422, for
    /// good.
    #[error("the upload has failed permanently ({})", .0.as_str())]
    Rejected(Rejection),
    /// Conflicts with other writes of the same rows lasted until the deadline. 503.
    #[error("conflicts with other writes of the upload lasted until the deadline")]
    Contended,
    /// The home of the upload does not answer. 503. A call without an answer may have been
    /// executed; repeating the request is safe.
    #[error("the region {region}, which has the file, does not answer")]
    HomeSilent {
        region: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cursor is not of this list. 400.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    /// The table failed. 503 if a retry may succeed, else 500.
    #[error(transparent)]
    Rows(#[from] DynamoError),
    /// The bucket failed. 503 if a retry may succeed, else 500.
    #[error(transparent)]
    Files(#[from] FileError),
}

impl UploadError {
    /// The same error for a call to another region: no answer means that the region does not
    /// answer.
    fn at_home(self, region: &str) -> Self {
        let region = region.to_owned();
        match self {
            Self::Rows(error) if error.code.is_none() => Self::HomeSilent { region, source: Box::new(error) },
            Self::Files(error @ FileError::Store { code: None, .. }) => {
                Self::HomeSilent { region, source: Box::new(error) }
            }
            other => other,
        }
    }
}
