//! The files of exports, written to S3 as multipart uploads.
//!
//! 1. Each upload has its own key, so that a late request of an aborted upload affects no other
//!    file.
//! 2. The latest part that was stored under a number counts. Two workers may write the same number:
//!    one that was paused before it sent its request, and its successor.
//! 3. *Complete* lists the parts by number and `ETag`; S3 accepts only the exact list. A refused
//!    list (400, usually `InvalidPart`) stays wrong: another worker has overwritten a part.
//! 4. An upload that is gone (`NoSuchUpload`) was completed or aborted. Whether there is a file at
//!    the key tells which.
//! 5. *Abort* ends an upload for good, and its parts are no longer billed.

use std::future::Future;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::http::Response;
use bytes::Bytes;

use super::{Attempt, CONTENT_TYPE, Part};
use crate::core::env::{ConfigError, Env};
use crate::core::ids::AttemptId;
use crate::files::links::{FileError, MultipartId};
use crate::platform::aws;

/// The result of storing a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartOutcome {
    Taken(Part),
    /// The upload does not exist any more.
    Gone,
}

/// The result of completing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The file exists and consists of exactly the listed parts: by this call or by an earlier one.
    Done,
    /// The file cannot be made of these parts: a part was replaced or lost, or the upload is gone
    /// and left no file.
    Impossible,
}

/// Writes files in parts. Nobody sees a file before it is complete. Tests have an implementation
/// with small parts.
pub trait ResultStore: Send + Sync {
    /// Starts a file at `key`, which is unique to `mark`.
    fn begin(&self, key: &str, mark: AttemptId) -> impl Future<Output = Result<Attempt, FileError>> + Send;

    /// Stores part `number` (from 1); replaces an earlier one with that number.
    fn put_part(
        &self,
        key: &str,
        attempt: &Attempt,
        number: usize,
        bytes: Bytes,
    ) -> impl Future<Output = Result<PartOutcome, FileError>> + Send;

    /// Makes the file of `parts`. May be repeated with the same list.
    fn complete(
        &self,
        key: &str,
        attempt: &Attempt,
        parts: &[Part],
    ) -> impl Future<Output = Result<Completion, FileError>> + Send;

    /// Aborts an upload. After that no file can be made of it.
    fn abort(&self, key: &str, attempt: &Attempt) -> impl Future<Output = Result<(), FileError>> + Send;
}

/// S3's code for an upload that does not exist any more.
const NO_SUCH_UPLOAD: &str = "NoSuchUpload";

/// Timeout of a call, all tries together: 5 MiB on a slow connection. A call that times out is not
/// retried.
const CALL: Duration = Duration::from_secs(10);
/// Timeout for putting the parts together, which takes S3 minutes at worst. The run ends first, and
/// the next one asks again; asking twice concurrently would not make S3 faster.
const COMPLETION: Duration = Duration::from_mins(5);

/// [`ResultStore`] in a bucket.
#[derive(Debug, Clone)]
pub struct S3Results {
    client: Client,
    bucket: String,
}

impl S3Results {
    /// The S3 client, with longer timeouts than those of functions that answer customers.
    pub fn client(env: &Env, sdk: &SdkConfig) -> Client {
        Client::from_conf(aws::s3_config(env, sdk).timeout_config(timeouts(CALL)).build())
    }

    /// Files in the bucket that `FILES_BUCKET` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, bucket: env.required("FILES_BUCKET")?.to_owned() })
    }

    /// Whether there is a file at `key`.
    async fn is_there(&self, key: &str) -> Result<bool, FileError> {
        let head = Box::pin(self.client.head_object().bucket(&self.bucket).key(key).send()).await;
        match head {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(404) => Ok(false),
            // A caller without the permission to list the bucket gets 403 for an absent object.
            Err(error) if status(&error) == Some(403) => {
                tracing::warn!(key, "S3 answered 403 for the file; treated as absent");
                Ok(false)
            }
            Err(error) => Err(FileError::new("HeadObject", key, error)),
        }
    }
}

impl ResultStore for S3Results {
    async fn begin(&self, key: &str, mark: AttemptId) -> Result<Attempt, FileError> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .content_type(CONTENT_TYPE)
            // The SDK sends this with every part, and S3 has to know it beforehand.
            .checksum_algorithm(ChecksumAlgorithm::Crc32);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| FileError::new("CreateMultipartUpload", key, error))?;
        match answer.upload_id {
            Some(upload_id) => Ok(Attempt { upload_id: MultipartId::new(upload_id), mark }),
            None => Err(FileError::unreadable("CreateMultipartUpload", key, "the answer names no upload")),
        }
    }

    async fn put_part(
        &self,
        key: &str,
        attempt: &Attempt,
        number: usize,
        bytes: Bytes,
    ) -> Result<PartOutcome, FileError> {
        let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(attempt.upload_id.as_str())
            .part_number(s3_number(number))
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .body(ByteStream::from(bytes));
        match Box::pin(request.send()).await {
            Ok(answer) => match (answer.e_tag, answer.checksum_crc32) {
                (Some(etag), Some(crc32)) => Ok(PartOutcome::Taken(Part { etag, crc32, size_bytes })),
                // An upload that was started with checksums is completed with the checksums of all
                // its parts.
                _ => Err(FileError::unreadable("UploadPart", key, "the answer has no ETag or no checksum")),
            },
            Err(error) if error.code() == Some(NO_SUCH_UPLOAD) => Ok(PartOutcome::Gone),
            Err(error) => Err(FileError::new("UploadPart", key, error)),
        }
    }

    async fn complete(&self, key: &str, attempt: &Attempt, parts: &[Part]) -> Result<Completion, FileError> {
        let listed = parts.iter().enumerate().map(|(place, part)| {
            CompletedPart::builder()
                .part_number(s3_number(place + 1))
                .e_tag(&part.etag)
                .checksum_crc32(&part.crc32)
                .build()
        });
        let list = CompletedMultipartUpload::builder().set_parts(Some(listed.collect())).build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(attempt.upload_id.as_str())
            .multipart_upload(list)
            .customize()
            .config_override(Config::builder().timeout_config(timeouts(COMPLETION)));
        match Box::pin(request.send()).await {
            Ok(_) => Ok(Completion::Done),
            Err(error) if error.code() == Some(NO_SUCH_UPLOAD) => {
                Ok(if self.is_there(key).await? { Completion::Done } else { Completion::Impossible })
            }
            // Usually `InvalidPart`. The same list would be refused again.
            Err(error) if status(&error) == Some(400) => {
                tracing::warn!(key, code = error.code(), "S3 refused the list of parts");
                Ok(Completion::Impossible)
            }
            Err(error) => Err(FileError::new("CompleteMultipartUpload", key, error)),
        }
    }

    async fn abort(&self, key: &str, attempt: &Attempt) -> Result<(), FileError> {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(attempt.upload_id.as_str());
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(NO_SUCH_UPLOAD) => Ok(()),
            Err(error) => Err(FileError::new("AbortMultipartUpload", key, error)),
        }
    }
}

fn timeouts(all: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(aws::CONNECT_TIMEOUT)
        .operation_attempt_timeout(all)
        .operation_timeout(all)
        .build()
}

/// [`MAX_PARTS`](super::MAX_PARTS) keeps it far below the limit of its type.
fn s3_number(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn status<E>(error: &SdkError<E, Response>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
