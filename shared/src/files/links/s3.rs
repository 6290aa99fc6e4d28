//! Links signed with Signature Version 4 in the query, and basics for all callers of S3.
//!
//! A link signs what its user has to send: length, type and checksum are signed headers, so that S3
//! refuses anything else. The checksum that the SDK adds by itself is switched off here: it would
//! be that of an empty body.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::head_object::{HeadObjectError, HeadObjectOutput};
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::ChecksumMode;
use jiff::Timestamp;

use super::disposition::{Disposition, content_disposition};
use super::expiry::Validity;
use super::{FileError, MultipartId, SignedUrl};
use crate::core::clock::SharedClock;
use crate::core::env::{ConfigError, Env};
use crate::platform::aws;

impl FileError {
    /// Wraps an SDK error.
    pub fn new<E>(operation: &'static str, key: &str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = || error.raw_response().map(|answer| answer.status().as_u16().to_string());
        let code = error.code().map(str::to_owned).or_else(status);
        Self::Store { operation, key: key.to_owned(), code, source: Box::new(error) }
    }

    /// S3's answer lacks a required value. A retry does not help.
    pub fn unreadable(operation: &'static str, key: &str, lacks: &'static str) -> Self {
        let code = Some("UnreadableAnswer".to_owned());
        Self::Store { operation, key: key.to_owned(), code, source: lacks.into() }
    }
}

/// Makes links to the objects of one bucket.
#[derive(Debug, Clone)]
pub struct Presigner {
    config: aws_sdk_s3::Config,
    credentials: Option<SharedCredentialsProvider>,
    bucket: String,
    clock: SharedClock,
}

/// Signs the links of one answer: with the same credentials, and ending at the same instant.
#[derive(Debug)]
pub struct Signer {
    client: Client,
    bucket: String,
    credentials: Credentials,
    validity: Validity,
}

/// The file of a download link.
#[derive(Debug, Clone, Copy)]
pub struct Download<'a> {
    pub key: &'a str,
    /// The name that it is saved under.
    pub file_name: &'a str,
    pub content_type: &'a str,
    /// What the client asked for.
    pub disposition: Disposition,
}

/// The requirements of a link for a whole upload.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    pub key: &'a str,
    /// The exact length.
    pub size_bytes: u64,
    pub content_type: &'a str,
    /// Their SHA-256 in base64.
    pub sha256_base64: &'a str,
}

impl Presigner {
    /// Links to the objects of the bucket that `FILES_BUCKET` names.
    pub fn from_env(sdk: &SdkConfig, env: &Env, clock: SharedClock) -> Result<Self, ConfigError> {
        Ok(Self::new(sdk, env, env.required("FILES_BUCKET")?.to_owned(), clock))
    }

    /// Links to the objects of `bucket`, which is in the region of `sdk`, signed with the
    /// credentials of `sdk`.
    pub fn new(sdk: &SdkConfig, env: &Env, bucket: String, clock: SharedClock) -> Self {
        let config = aws::s3_config(env, sdk)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self { config, credentials: sdk.credentials_provider(), bucket, clock }
    }

    /// A signer for the links of one answer: gets credentials, and computes how long links may
    /// last. `ends` is the end of their target, if it has one.
    pub async fn signer(&self, ends: Option<Timestamp>) -> Result<Signer, FileError> {
        let provider = self
            .credentials
            .as_ref()
            .ok_or_else(|| FileError::NoCredentials("there is no provider".into()))?;
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|error| FileError::NoCredentials(Box::new(error)))?;
        // An expiry beyond the calendar counts as none.
        let expiry = credentials.expiry().and_then(|expiry| Timestamp::try_from(expiry).ok());
        let validity =
            Validity::at(self.clock.now(), expiry.into_iter().chain(ends)).ok_or(FileError::NoTimeLeft)?;
        Ok(self.signer_with(credentials, validity))
    }

    /// Signs links to this bucket with the credentials of `other`, with the same end.
    pub(super) fn signer_like(&self, other: &Signer) -> Signer {
        self.signer_with(other.credentials.clone(), other.validity)
    }

    fn signer_with(&self, credentials: Credentials, validity: Validity) -> Signer {
        let config = self.config.to_builder().credentials_provider(credentials.clone()).build();
        Signer { client: Client::from_conf(config), bucket: self.bucket.clone(), credentials, validity }
    }
}

impl Signer {
    /// When the links end.
    pub fn expires_at(&self) -> Timestamp {
        self.validity.until
    }

    /// A link to download an object.
    pub async fn download(&self, download: Download<'_>) -> Result<SignedUrl, FileError> {
        let Download { key, file_name, content_type, disposition } = download;
        let disposition = content_disposition(disposition.of_type(content_type), file_name);
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .response_content_disposition(disposition)
            .response_content_type(content_type)
            .presigned(self.presigning(key)?);
        link(key, Box::pin(request).await)
    }

    /// A link to upload a whole object. Its user sends the headers `content-type` and
    /// `x-amz-checksum-sha256` as signed, and exactly so many bytes.
    pub async fn put(&self, put: Put<'_>) -> Result<SignedUrl, FileError> {
        let Put { key, size_bytes, content_type, sha256_base64 } = put;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_length(length(key, size_bytes)?)
            .content_type(content_type)
            .checksum_sha256(sha256_base64)
            .presigned(self.presigning(key)?);
        link(key, Box::pin(request).await)
    }

    /// A link to upload one part. Its user sends exactly so many bytes.
    pub async fn part(
        &self,
        key: &str,
        upload: &MultipartId,
        part_number: i32,
        size_bytes: u64,
    ) -> Result<SignedUrl, FileError> {
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload.as_str())
            .part_number(part_number)
            .content_length(length(key, size_bytes)?)
            .presigned(self.presigning(key)?);
        link(key, Box::pin(request).await)
    }

    fn presigning(&self, key: &str) -> Result<PresigningConfig, FileError> {
        let lasts = self.validity.length().unsigned_abs();
        PresigningConfig::builder()
            .start_time(SystemTime::from(self.validity.from))
            .expires_in(lasts)
            .build()
            .map_err(|error| not_signed(key, error))
    }
}

/// The metadata of an object; `None` if there is none.
pub(in crate::files) async fn head(
    client: &Client,
    bucket: &str,
    key: &str,
    mode: Option<ChecksumMode>,
) -> Result<Option<HeadObjectOutput>, FileError> {
    let request = client.head_object().bucket(bucket).key(key).set_checksum_mode(mode);
    match Box::pin(request.send()).await {
        Ok(head) => Ok(Some(head)),
        Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
        Err(error) => Err(FileError::new("HeadObject", key, error)),
    }
}

fn length(key: &str, size_bytes: u64) -> Result<i64, FileError> {
    i64::try_from(size_bytes).map_err(|error| not_signed(key, error))
}

fn link<E>(key: &str, signed: Result<PresignedRequest, E>) -> Result<SignedUrl, FileError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    signed.map(|request| SignedUrl::new(request.uri().to_owned())).map_err(|error| not_signed(key, error))
}

fn not_signed(key: &str, error: impl std::error::Error + Send + Sync + 'static) -> FileError {
    FileError::NotSigned { key: key.to_owned(), source: Box::new(error) }
}
