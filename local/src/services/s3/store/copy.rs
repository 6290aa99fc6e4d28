//! `CopyObject`.
//!
//! 1. The source is opened once, and its conditions are checked on what was opened.
//! 2. Its bytes go to a temporary file while their checksum is computed: the source may be replaced
//!    meanwhile.
//! 3. They become an object as those of any `PutObject` do, with an `ETag` and a checksum of their
//!    own, also if the source came in parts.

use s3s::dto::{
    Checksum, ChecksumMode, ChecksumType, CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource,
    ETagCondition, GetObjectInput, GetObjectOutput, MetadataDirective, Timestamp, UploadPartCopyInput,
};
use s3s::{S3Result, s3_error};

use super::Store;
use super::conditions::{Conditions, is, refused};
use super::declared::hasher;
use super::description::{Description, check_metadata};
use super::objects::with_bytes;
use super::staged::Staged;

impl Store {
    pub(super) async fn copy(&self, input: CopyObjectInput) -> S3Result<CopyObjectOutput> {
        check_metadata(input.metadata.as_ref())?;
        let anew = input.metadata_directive.as_ref().map(MetadataDirective::as_str)
            == Some(MetadataDirective::REPLACE);
        let mut source = self.source(&input.copy_source, &Conditions::default()).await?;
        let copied_version = source.version_id.clone();
        if !anew && names(&input.copy_source, &input.bucket, &input.key) {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing it."
            ));
        }
        SourceConditions::of_object(&input).check(&source)?;
        let description = if anew { Description::from(&input) } else { Description::from(&source) };
        let hasher = match &input.checksum_algorithm {
            Some(algorithm) => hasher(&Checksum::default(), Some(algorithm)),
            None => hasher(&checksums(&source), None),
        }?;
        let body = source.body.take().ok_or_else(|| s3_error!(InternalError))?;
        let staged = Staged::write(&self.staging, body, hasher).await?;

        let object = description.object(input.bucket.clone(), input.key.clone());
        let stored = self.replace(with_bytes(object, &staged).await?).await?;
        let (head, _) = self.seen(&input.bucket, &input.key, stored.version_id.as_deref()).await?;
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
        Ok(CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: copied_version,
            version_id: stored.version_id,
            ..Default::default()
        })
    }

    /// What a part is to be a copy of.
    pub(super) async fn source_of_part(&self, input: &UploadPartCopyInput) -> S3Result<GetObjectOutput> {
        let conditions = match input.copy_source_range.as_deref() {
            None => Conditions::default(),
            Some(range) => Conditions::of_range(range).ok_or_else(|| {
                s3_error!(InvalidArgument, "The x-amz-copy-source-range value is not valid.")
            })?,
        };
        let source = self.source(&input.copy_source, &conditions).await?;
        SourceConditions::of_part(input).check(&source)?;
        Ok(source)
    }

    async fn source(&self, source: &CopySource, conditions: &Conditions) -> S3Result<GetObjectOutput> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "copying from an access point is not served here"));
        };
        let source = GetObjectInput {
            bucket: bucket.to_string(),
            key: key.to_string(),
            version_id: version_id.as_ref().map(ToString::to_string),
            checksum_mode: Some(ChecksumMode::from_static(ChecksumMode::ENABLED)),
            ..Default::default()
        };
        self.read(source, conditions).await
    }
}

fn names(source: &CopySource, bucket: &str, key: &str) -> bool {
    // An older version is another object: so the current one is undone.
    matches!(source, CopySource::Bucket { bucket: own, key: name, version_id: None } if **own == *bucket && **name == *key)
}

fn checksums(object: &GetObjectOutput) -> Checksum {
    Checksum {
        checksum_crc32: object.checksum_crc32.clone(),
        checksum_crc32c: object.checksum_crc32c.clone(),
        checksum_crc64nvme: object.checksum_crc64nvme.clone(),
        checksum_sha1: object.checksum_sha1.clone(),
        checksum_sha256: object.checksum_sha256.clone(),
        checksum_type: None,
    }
}

/// The `x-amz-copy-source-if-*` headers.
struct SourceConditions<'a> {
    matches: Option<&'a ETagCondition>,
    matches_not: Option<&'a ETagCondition>,
    modified: Option<&'a Timestamp>,
    unmodified: Option<&'a Timestamp>,
}

/// Two input types have the same fields.
macro_rules! conditions {
    ($input:ident) => {
        Self {
            matches: $input.copy_source_if_match.as_ref(),
            matches_not: $input.copy_source_if_none_match.as_ref(),
            modified: $input.copy_source_if_modified_since.as_ref(),
            unmodified: $input.copy_source_if_unmodified_since.as_ref(),
        }
    };
}

impl<'a> SourceConditions<'a> {
    fn of_object(input: &'a CopyObjectInput) -> Self {
        conditions!(input)
    }

    fn of_part(input: &'a UploadPartCopyInput) -> Self {
        conditions!(input)
    }

    /// An `ETag` wins over a time.
    fn check(&self, source: &GetObjectOutput) -> S3Result<()> {
        let is = |condition| source.e_tag.as_ref().is_some_and(|e_tag| is(e_tag, condition));
        let since = |time| source.last_modified.as_ref().is_some_and(|modified| modified > time);
        let changed = match (self.matches, self.unmodified) {
            (Some(condition), _) => !is(condition),
            (None, time) => time.is_some_and(since),
        };
        let unchanged = match (self.matches_not, self.modified) {
            (Some(condition), _) => is(condition),
            (None, time) => time.is_some_and(|time| !since(time)),
        };
        if changed || unchanged { Err(refused()) } else { Ok(()) }
    }
}
