//! Uploads in S3. Calls, on `incoming/`: `CreateMultipartUpload` and `CompleteMultipartUpload`
//! (both need `s3:PutObject`), `AbortMultipartUpload`, `HeadObject` and the source of `CopyObject`
//! (`s3:GetObject`), `DeleteObject`; on `uploads/`: `CopyObject` (`s3:PutObject`), `HeadObject`,
//! `DeleteObject`. Its links to send a file need `s3:PutObject` on `incoming/`. `s3:ListBucket`
//! makes S3 tell an absent object from one that may not be read. The bucket may be another
//! region's: of an upload's home.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::copy_object::CopyObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, MetadataDirective,
};

use super::{CompletionRequest, InvalidParts, Upload};
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::files::links::s3::{Presigner, Put, Signer, head};
use crate::files::links::{FileError, MultipartId, SignedUrl};
use crate::platform::aws;

/// Timeout of the calls that may process gigabytes. The request ends sooner, at its own deadline.
/// So a slow call is not retried, which would make S3 do the work twice. A failed call is retried
/// as usual.
const LONG_CALL: Duration = Duration::from_secs(29);

/// S3's error codes for a list of parts that does not match.
const UNFIT: &[&str] = &["InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML"];

/// The result of putting a multipart upload together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AssembleOutcome {
    /// The parts are one object now.
    Assembled,
    /// S3 does not know the multipart upload any more: it was put together before, or aborted.
    Over,
    /// The list does not match S3's parts. Nothing was changed.
    Invalid(InvalidParts),
}

/// The current incoming object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IncomingObject {
    pub(super) size_bytes: u64,
    etag: String,
}

/// The result of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CopyOutcome {
    /// The final object exists, with this checksum in base64.
    Whole(String),
    /// The incoming object was replaced or deleted since the check. Nothing was changed.
    Replaced,
}

/// The files bucket of one region.
#[derive(Debug, Clone)]
pub struct S3Uploads {
    client: Client,
    /// The same, for calls that take longer.
    long_calls: Client,
    bucket: String,
    presigner: Presigner,
}

impl S3Uploads {
    /// Uploads in the bucket that `FILES_BUCKET` names.
    pub fn from_env(sdk: &SdkConfig, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self::new(sdk, env, env.required("FILES_BUCKET")?.to_owned(), clock))
    }

    /// Uploads in `bucket`, which is in the region of `sdk`.
    pub fn new(sdk: &SdkConfig, env: &Env, bucket: String, clock: SharedClock) -> Self {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(LONG_CALL)
            .operation_timeout(LONG_CALL)
            .build();
        let long_calls = aws::s3_config(env, sdk).timeout_config(timeouts).build();
        Self {
            client: aws::s3_client(env, sdk),
            long_calls: Client::from_conf(long_calls),
            presigner: Presigner::new(sdk, env, bucket.clone(), clock),
            bucket,
        }
    }

    /// A signer for the links of one answer. All of them end at the same time.
    pub(super) async fn signer(&self) -> Result<Signer, FileError> {
        self.presigner.signer(None).await
    }

    /// Starts a multipart upload.
    pub(super) async fn begin(&self, upload: &Upload) -> Result<MultipartId, FileError> {
        let key = upload.incoming_key();
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(&key)
            .content_type(upload.content_type.as_str());
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| FileError::new("CreateMultipartUpload", &key, error))?;
        let unnamed = || FileError::unreadable("CreateMultipartUpload", &key, "the answer names no upload");
        Ok(MultipartId::new(answer.upload_id.ok_or_else(unnamed)?))
    }

    /// Puts the parts together as the incoming object.
    pub(super) async fn assemble(
        &self,
        upload: &Upload,
        s3_upload_id: &MultipartId,
        sent: &CompletionRequest,
    ) -> Result<AssembleOutcome, FileError> {
        let key = upload.incoming_key();
        let parts = sent.parts.iter().map(|part| {
            CompletedPart::builder().part_number(part.part_number).e_tag(part.etag.as_str()).build()
        });
        let request = self
            .long_calls
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&key)
            .upload_id(s3_upload_id.as_str())
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build());
        let Err(error) = Box::pin(request.send()).await else { return Ok(AssembleOutcome::Assembled) };
        match error.code() {
            Some("NoSuchUpload") => Ok(AssembleOutcome::Over),
            Some(code) if UNFIT.contains(&code) => {
                Ok(AssembleOutcome::Invalid(InvalidParts::Unknown(code.to_owned())))
            }
            _ => Err(FileError::new("CompleteMultipartUpload", &key, error)),
        }
    }

    /// The incoming object, if there is one.
    pub(super) async fn incoming(&self, upload: &Upload) -> Result<Option<IncomingObject>, FileError> {
        let key = upload.incoming_key();
        head(&self.client, &self.bucket, &key, None).await?.map(|head| incoming_of(&key, head)).transpose()
    }

    /// The checksum of the final object, in base64. `None`: there is no object, or none with a
    /// checksum of the whole.
    pub(super) async fn finished(&self, upload: &Upload) -> Result<Option<String>, FileError> {
        let key = upload.final_key();
        let head = head(&self.client, &self.bucket, &key, Some(ChecksumMode::Enabled)).await?;
        // A checksum of checksums says nothing about the whole.
        let whole = head.filter(|head| head.checksum_type() != Some(&ChecksumType::Composite));
        Ok(whole.and_then(|head| head.checksum_sha256))
    }

    /// Copies incoming to final, if incoming has not changed.
    pub(super) async fn copy(
        &self,
        upload: &Upload,
        incoming: &IncomingObject,
    ) -> Result<CopyOutcome, FileError> {
        let key = upload.final_key();
        let request = self
            .long_calls
            .copy_object()
            .bucket(&self.bucket)
            .key(&key)
            // The characters of our keys need no encoding in a URL.
            .copy_source(format!("{}/{}", self.bucket, upload.incoming_key()))
            .copy_source_if_match(&incoming.etag)
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
            .metadata_directive(MetadataDirective::Replace)
            .content_type(upload.content_type.as_str());
        match Box::pin(request.send()).await {
            Ok(answer) => checksum_of(&key, answer).map(CopyOutcome::Whole),
            Err(error) if matches!(error.code(), Some("PreconditionFailed" | "NoSuchKey")) => {
                Ok(CopyOutcome::Replaced)
            }
            Err(error) => Err(FileError::new("CopyObject", &key, error)),
        }
    }

    /// Deletes incoming.
    pub(super) async fn delete_incoming(&self, upload: &Upload) -> Result<(), FileError> {
        self.delete(&upload.incoming_key()).await
    }

    /// Aborts the multipart upload, if it is open, and deletes both objects. None of them has to
    /// exist.
    pub(super) async fn delete_all(&self, upload: &Upload) -> Result<(), FileError> {
        let (incoming, finished) = (upload.incoming_key(), upload.final_key());
        // The multipart upload first: if it was put together after the deletion, there would be an
        // object again.
        let aborted = match &upload.s3_upload_id {
            Some(s3_upload_id) => self.abort(&incoming, s3_upload_id).await,
            None => Ok(()),
        };
        // If one call fails, the others are made all the same.
        let (deleted, and_final) = futures::join!(self.delete(&incoming), self.delete(&finished));
        aborted.and(deleted).and(and_final)
    }

    async fn delete(&self, key: &str) -> Result<(), FileError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(FileError::new("DeleteObject", key, error)),
        }
    }

    async fn abort(&self, key: &str, s3_upload_id: &MultipartId) -> Result<(), FileError> {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(s3_upload_id.as_str());
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            // It was put together, or ended before.
            Err(error) if error.code() == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(FileError::new("AbortMultipartUpload", key, error)),
        }
    }
}

/// The incoming object of S3's answer. An object of unknown size must not be taken for an empty
/// one, which is rejected.
fn incoming_of(key: &str, head: HeadObjectOutput) -> Result<IncomingObject, FileError> {
    let size_bytes = head.content_length.and_then(|length| u64::try_from(length).ok());
    match (size_bytes, head.e_tag) {
        (Some(size_bytes), Some(etag)) => Ok(IncomingObject { size_bytes, etag }),
        _ => Err(FileError::unreadable("HeadObject", key, "the answer has no length or no ETag")),
    }
}

/// The checksum of the whole copy. A checksum of checksums would say nothing about the file.
fn checksum_of(key: &str, copied: CopyObjectOutput) -> Result<String, FileError> {
    copied
        .copy_object_result
        .filter(|result| result.checksum_type() != Some(&ChecksumType::Composite))
        .and_then(|result| result.checksum_sha256)
        .ok_or_else(|| FileError::unreadable("CopyObject", key, "the answer has no checksum of the whole"))
}

impl Upload {
    /// A link to send the whole file.
    pub(super) async fn link_to_send(&self, signer: &Signer) -> Result<SignedUrl, FileError> {
        let put = Put {
            key: &self.incoming_key(),
            size_bytes: self.size_bytes,
            content_type: self.content_type.as_str(),
            sha256_base64: &self.sha256.base64(),
        };
        signer.put(put).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::types::CopyObjectResult;

    #[test]
    fn an_answer_that_does_not_tell_the_size_is_not_of_an_empty_file() {
        let head = || HeadObjectOutput::builder().e_tag("\"a\"");
        let incoming = incoming_of("incoming/a", head().content_length(0).build()).unwrap();
        assert_eq!(incoming, IncomingObject { size_bytes: 0, etag: "\"a\"".to_owned() });
        for unreadable in [head(), head().content_length(-1)] {
            let error = incoming_of("incoming/a", unreadable.build()).unwrap_err();
            assert!(matches!(error, FileError::Store { code: Some(_), .. }), "{error:?}");
        }
    }

    #[test]
    fn a_checksum_of_checksums_is_none_of_the_file() {
        let copied = |kind: Option<ChecksumType>| {
            let result = CopyObjectResult::builder().checksum_sha256("abc=").set_checksum_type(kind);
            checksum_of("uploads/a", CopyObjectOutput::builder().copy_object_result(result.build()).build())
        };
        for whole in [None, Some(ChecksumType::FullObject)] {
            assert_eq!(copied(whole).unwrap(), "abc=");
        }
        assert!(copied(Some(ChecksumType::Composite)).is_err());
        assert!(checksum_of("uploads/a", CopyObjectOutput::builder().build()).is_err());
    }
}
