//! `CopyObject`.
//!
//! 1. The source is opened once, and its conditions are checked on what was opened.
//! 2. Its bytes go to a temporary file while their checksum is computed: the source may be replaced meanwhile.
//! 3. They become an object as those of any `PutObject` do, with an `ETag` and a checksum of their own.

use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::{
    Checksum, ChecksumAlgorithm, ChecksumType, CopyObjectInput, CopyObjectOutput, CopyObjectResult,
    CopySource, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadObjectInput, MetadataDirective,
    PutObjectInput, Timestamp,
};
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::Store;
use super::staged::Staged;

impl Store {
    pub(super) async fn copy(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let CopySource::Bucket { bucket, key, .. } = &request.input.copy_source else {
            return Err(s3_error!(NotImplemented, "copying from an access point is not served here"));
        };
        let source =
            GetObjectInput { bucket: bucket.to_string(), key: key.to_string(), ..Default::default() };
        let mut source = self.files.get_object(like(&request, source)).await?.output;
        check(&request.input, &source)?;
        let body = source.body.take().ok_or_else(|| s3_error!(InternalError))?;
        let hasher = hasher(request.input.checksum_algorithm.as_ref(), &source)?;
        let staged = Staged::write(&self.root, body, hasher).await?;

        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let Checksum {
            checksum_crc32,
            checksum_crc32c,
            checksum_crc64nvme,
            checksum_sha1,
            checksum_sha256,
            ..
        } = staged.checksum.clone();
        let put = PutObjectInput {
            bucket: bucket.clone(),
            key: key.clone(),
            body: Some(staged.into_body()),
            checksum_crc32,
            checksum_crc32c,
            checksum_crc64nvme,
            checksum_sha1,
            checksum_sha256,
            ..described(&request.input, source)
        };
        let stored = self.files.put_object(like(&request, put)).await?.output;
        let head = HeadObjectInput { bucket, key, ..Default::default() };
        let head = self.files.head_object(like(&request, head)).await?.output;
        let result = CopyObjectResult {
            e_tag: stored.e_tag,
            last_modified: head.last_modified,
            checksum_crc32: stored.checksum_crc32,
            checksum_crc32c: stored.checksum_crc32c,
            checksum_crc64nvme: stored.checksum_crc64nvme,
            checksum_sha1: stored.checksum_sha1,
            checksum_sha256: stored.checksum_sha256,
            checksum_type: Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
        };
        Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
    }
}

/// Another request in the place of this one.
fn like<T>(request: &S3Request<CopyObjectInput>, input: T) -> S3Request<T> {
    S3Request {
        input,
        method: request.method.clone(),
        uri: request.uri.clone(),
        headers: http::HeaderMap::new(),
        extensions: http::Extensions::new(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

/// The `x-amz-copy-source-if-*` headers. `If-Match` wins over `If-Unmodified-Since`, `If-None-Match` over
/// `If-Modified-Since`.
fn check(input: &CopyObjectInput, source: &GetObjectOutput) -> S3Result<()> {
    let is = |condition: &ETagCondition| match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => source.e_tag.as_ref().map(ETag::value) == Some(wanted.value()),
    };
    let modified_since =
        |time: &Timestamp| source.last_modified.as_ref().is_some_and(|modified| modified > time);
    let changed = match (&input.copy_source_if_match, &input.copy_source_if_unmodified_since) {
        (Some(condition), _) => !is(condition),
        (None, Some(time)) => modified_since(time),
        (None, None) => false,
    };
    let unchanged = match (&input.copy_source_if_none_match, &input.copy_source_if_modified_since) {
        (Some(condition), _) => is(condition),
        (None, Some(time)) => !modified_since(time),
        (None, None) => false,
    };
    if changed || unchanged {
        return Err(s3_error!(
            PreconditionFailed,
            "At least one of the pre-conditions you specified did not hold"
        ));
    }
    Ok(())
}

/// Computes the checksum that is asked for, or else those that the source has.
fn hasher(algorithm: Option<&ChecksumAlgorithm>, source: &GetObjectOutput) -> S3Result<ChecksumHasher> {
    let mut hasher = ChecksumHasher::default();
    match algorithm.map(ChecksumAlgorithm::as_str) {
        None => {
            hasher.crc32 = source.checksum_crc32.is_some().then(Default::default);
            hasher.crc32c = source.checksum_crc32c.is_some().then(Default::default);
            hasher.crc64nvme = source.checksum_crc64nvme.is_some().then(Default::default);
            hasher.sha1 = source.checksum_sha1.is_some().then(Default::default);
            hasher.sha256 = source.checksum_sha256.is_some().then(Default::default);
        }
        Some(ChecksumAlgorithm::CRC32) => hasher.crc32 = Some(Crc32::default()),
        Some(ChecksumAlgorithm::CRC32C) => hasher.crc32c = Some(Crc32c::default()),
        Some(ChecksumAlgorithm::CRC64NVME) => hasher.crc64nvme = Some(Crc64Nvme::default()),
        Some(ChecksumAlgorithm::SHA1) => hasher.sha1 = Some(Sha1::default()),
        Some(ChecksumAlgorithm::SHA256) => hasher.sha256 = Some(Sha256::default()),
        Some(_) => return Err(s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported.")),
    }
    Ok(hasher)
}

/// An object without content, key and bucket, described as the source is, or anew.
fn described(input: &CopyObjectInput, source: GetObjectOutput) -> PutObjectInput {
    let anew =
        input.metadata_directive.as_ref().map(MetadataDirective::as_str) == Some(MetadataDirective::REPLACE);
    if anew {
        PutObjectInput {
            cache_control: input.cache_control.clone(),
            content_disposition: input.content_disposition.clone(),
            content_encoding: input.content_encoding.clone(),
            content_language: input.content_language.clone(),
            content_type: input.content_type.clone(),
            expires: input.expires.clone(),
            metadata: input.metadata.clone(),
            website_redirect_location: input.website_redirect_location.clone(),
            ..Default::default()
        }
    } else {
        PutObjectInput {
            cache_control: source.cache_control,
            content_disposition: source.content_disposition,
            content_encoding: source.content_encoding,
            content_language: source.content_language,
            content_type: source.content_type,
            expires: source.expires,
            metadata: source.metadata,
            website_redirect_location: input.website_redirect_location.clone(),
            ..Default::default()
        }
    }
}
