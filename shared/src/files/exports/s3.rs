//! Files in S3, written in parts.
//!
//! 1. Each upload has a key of its own: whatever of one that was dropped comes late, it touches no other file.
//! 2. A part is the latest that was stored under its number. Two workers may write the same number: one that was paused
//!    before its request left, and its successor.
//! 3. *Complete* names the parts by number and `ETag`; S3 takes a list only if it has exactly those. A list that it does not
//!    take (400, mostly `InvalidPart`) can't come true any more: somebody has written over a part.
//! 4. An upload that is gone (`NoSuchUpload`) was completed or dropped. The key tells which: there is a
//!    file, or there is none.
//! 5. *Abort* ends an upload for good, and its parts are no longer billed.

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

use super::{Attempt, CONTENT_TYPE, Completion, Part, PartOutcome, ResultStore, StoreError};
use crate::core::env::{ConfigError, Env};
use crate::core::ids::AttemptId;
use crate::files::links::MultipartId;
use crate::platform::aws;

/// S3's code for an upload that is not there any more.
const NO_SUCH_UPLOAD: &str = "NoSuchUpload";

/// How long a call may take, all tries together: 5 MiB on a slow connection. What times out is not tried again.
const CALL: Duration = Duration::from_secs(10);
/// How long S3 may take to put the parts together: minutes, at worst. The end of the slice comes first, and the next one asks
/// again. It would be no faster for being asked twice at a time.
const COMPLETION: Duration = Duration::from_mins(5);

/// [`ResultStore`] in a bucket.
#[derive(Debug, Clone)]
pub struct S3Results {
    client: Client,
    bucket: String,
}

impl S3Results {
    /// The client for it, which has more patience than those that answer customers.
    pub fn client(env: &Env, sdk: &SdkConfig) -> Client {
        Client::from_conf(aws::s3_config(env, sdk).timeout_config(timeouts(CALL)).build())
    }

    /// Files in the bucket that `FILES_BUCKET` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, bucket: env.required("FILES_BUCKET")?.to_owned() })
    }

    /// Whether there is a file at `key`.
    async fn is_there(&self, key: &str) -> Result<bool, StoreError> {
        let head = Box::pin(self.client.head_object().bucket(&self.bucket).key(key).send()).await;
        match head {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(404) => Ok(false),
            // Who may not list the bucket is not told that there is nothing, only that it is not allowed to know.
            Err(error) if status(&error) == Some(403) => {
                tracing::warn!(key, "taken for absent: S3 does not say whether the file is there");
                Ok(false)
            }
            Err(error) => Err(failed("HeadObject", key, error)),
        }
    }
}

impl ResultStore for S3Results {
    async fn begin(&self, key: &str, mark: AttemptId) -> Result<Attempt, StoreError> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .content_type(CONTENT_TYPE)
            // What the SDK sends with every part; S3 wants to know it beforehand.
            .checksum_algorithm(ChecksumAlgorithm::Crc32);
        let answer =
            Box::pin(request.send()).await.map_err(|error| failed("CreateMultipartUpload", key, error))?;
        match answer.upload_id {
            Some(upload_id) => Ok(Attempt { upload_id: MultipartId::new(upload_id), mark }),
            None => Err(incomplete("CreateMultipartUpload", key)),
        }
    }

    async fn put_part(
        &self,
        key: &str,
        attempt: &Attempt,
        number: usize,
        bytes: Bytes,
    ) -> Result<PartOutcome, StoreError> {
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
                // An upload that was begun with checksums is completed with those of all its parts.
                _ => Err(incomplete("UploadPart", key)),
            },
            Err(error) if error.code() == Some(NO_SUCH_UPLOAD) => Ok(PartOutcome::Gone),
            Err(error) => Err(failed("UploadPart", key, error)),
        }
    }

    async fn complete(&self, key: &str, attempt: &Attempt, parts: &[Part]) -> Result<Completion, StoreError> {
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
            // `InvalidPart` above all. Whatever S3 calls bad in the list, it is no better the next time.
            Err(error) if status(&error) == Some(400) => {
                tracing::warn!(key, code = error.code(), "S3 does not take the list of parts");
                Ok(Completion::Impossible)
            }
            Err(error) => Err(failed("CompleteMultipartUpload", key, error)),
        }
    }

    async fn abort(&self, key: &str, attempt: &Attempt) -> Result<(), StoreError> {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(attempt.upload_id.as_str());
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(NO_SUCH_UPLOAD) => Ok(()),
            Err(error) => Err(failed("AbortMultipartUpload", key, error)),
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

fn failed<E>(operation: &'static str, key: &str, error: SdkError<E, Response>) -> StoreError
where
    E: std::error::Error + Send + Sync + 'static,
{
    StoreError { operation, key: key.to_owned(), source: Box::new(error) }
}

fn incomplete(operation: &'static str, key: &str) -> StoreError {
    StoreError { operation, key: key.to_owned(), source: "the answer lacks what it is for".into() }
}
