//! Objects in one piece.
//!
//! 1. What is to become an object is complete and checked before its turn comes (see `staged`).
//! 2. In its turn, conditions are checked and the object is replaced: of two conditional writers one wins, and a reader
//!    gets bytes, description and `ETag` of one and the same object.
//! 3. An object whose `ETag` isn't the MD5 of its bytes has it among its metadata, where no client sees it.

use s3s::dto::{
    Checksum, ChecksumMode, ChecksumType, ETag, ETagCondition, GetObjectInput, GetObjectOutput,
    HeadObjectInput, HeadObjectOutput, Metadata, PutObjectInput, PutObjectOutput,
};
use s3s::{S3, S3ErrorCode, S3Request, S3Result, s3_error};

use super::declared::Declared;
use super::staged::Staged;
use super::{Store, internal_request};

/// No header name has a space: this can't be what a client calls its own.
const MULTIPART_E_TAG: &str = "multipart etag";

/// What S3 says of an object of which nobody said it.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// Two output types have the same fields: shows them as S3 does.
macro_rules! shown {
    ($output:ident, $mode:expr) => {{
        if let Some(e_tag) = take_e_tag(&mut $output.metadata) {
            $output.e_tag = Some(e_tag);
        }
        $output.accept_ranges = Some("bytes".to_owned());
        if $mode.as_ref().map(ChecksumMode::as_str) == Some(ChecksumMode::ENABLED) {
            $output.checksum_type = $output
                .checksum_crc32
                .as_ref()
                .or($output.checksum_crc32c.as_ref())
                .or($output.checksum_crc64nvme.as_ref())
                .or($output.checksum_sha1.as_ref())
                .or($output.checksum_sha256.as_ref())
                .map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT));
        } else {
            $output.checksum_crc32 = None;
            $output.checksum_crc32c = None;
            $output.checksum_crc64nvme = None;
            $output.checksum_sha1 = None;
            $output.checksum_sha256 = None;
        }
        $output
    }};
}

impl Store {
    pub(super) async fn put(&self, mut request: S3Request<PutObjectInput>) -> S3Result<PutObjectOutput> {
        self.bucket_exists(&request.input.bucket)?;
        let body = request.input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let declared = Declared::of_object(&request);
        let staged = Staged::write(&self.staging, body, declared.hasher()?).await?;
        declared.check(&staged)?;
        let object = PutObjectInput { content_md5: None, checksum_algorithm: None, ..request.input };
        self.replace(with_bytes(object, &staged).await?).await
    }

    /// Makes `object` what its key stands for, on its conditions.
    pub(super) async fn replace(&self, mut object: PutObjectInput) -> S3Result<PutObjectOutput> {
        let _turn = self.objects.of((&object.bucket, &object.key)).write().await;
        let (wanted, unwanted) = (object.if_match.take(), object.if_none_match.take());
        if wanted.is_some() || unwanted.is_some() {
            let current = self.e_tag(&object).await?;
            match (&wanted, &current) {
                (Some(_), None) => return Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
                (Some(condition), Some(current)) if !is(current, condition) => return Err(refused()),
                _ => {}
            }
            if let (Some(condition), Some(current)) = (&unwanted, &current)
                && is(current, condition)
            {
                return Err(refused());
            }
        }
        object.content_type.get_or_insert_with(|| DEFAULT_CONTENT_TYPE.to_owned());
        let e_tag = object.metadata.as_ref().and_then(|metadata| metadata.get(MULTIPART_E_TAG).cloned());
        let mut output = self.files.put_object(internal_request(object)).await?.output;
        if let Some(e_tag) = e_tag {
            output.e_tag = Some(ETag::Strong(e_tag));
        }
        Ok(output)
    }

    async fn e_tag(&self, object: &PutObjectInput) -> S3Result<Option<ETag>> {
        let head =
            HeadObjectInput { bucket: object.bucket.clone(), key: object.key.clone(), ..Default::default() };
        match self.files.head_object(internal_request(head)).await {
            Ok(mut head) => Ok(take_e_tag(&mut head.output.metadata).or(head.output.e_tag)),
            Err(error) if *error.code() == S3ErrorCode::NoSuchKey => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn get(&self, input: GetObjectInput) -> S3Result<GetObjectOutput> {
        self.bucket_exists(&input.bucket)?;
        self.is_no_folder(&input.bucket, &input.key)?;
        let mode = input.checksum_mode.clone();
        let _turn = self.objects.of((&input.bucket, &input.key)).read().await;
        // What was opened is read to its end, whatever becomes of the key.
        let mut output = self.files.get_object(internal_request(input)).await?.output;
        Ok(shown!(output, mode))
    }

    pub(super) async fn head(&self, input: HeadObjectInput) -> S3Result<HeadObjectOutput> {
        self.is_no_folder(&input.bucket, &input.key)?;
        let mode = input.checksum_mode.clone();
        let _turn = self.objects.of((&input.bucket, &input.key)).read().await;
        let mut output = self.files.head_object(internal_request(input)).await?.output;
        Ok(shown!(output, mode))
    }

    /// The files would show a folder as an object.
    fn is_no_folder(&self, bucket: &str, key: &str) -> S3Result<()> {
        if !key.ends_with('/') && self.root.join(bucket).join(key).is_dir() {
            return Err(s3_error!(NoSuchKey, "The specified key does not exist."));
        }
        Ok(())
    }
}

/// `object` with the bytes and the checksums of `staged`, which must outlive the write.
pub(super) async fn with_bytes(object: PutObjectInput, staged: &Staged) -> S3Result<PutObjectInput> {
    let Checksum {
        checksum_crc32, checksum_crc32c, checksum_crc64nvme, checksum_sha1, checksum_sha256, ..
    } = staged.checksum.clone();
    Ok(PutObjectInput {
        body: Some(staged.body().await?),
        checksum_crc32,
        checksum_crc32c,
        checksum_crc64nvme,
        checksum_sha1,
        checksum_sha256,
        ..object
    })
}

/// `object` with an `ETag` of its own.
pub(super) fn with_e_tag(mut object: PutObjectInput, e_tag: String) -> PutObjectInput {
    object.metadata.get_or_insert_default().insert(MULTIPART_E_TAG.to_owned(), e_tag);
    object
}

fn take_e_tag(metadata: &mut Option<Metadata>) -> Option<ETag> {
    let e_tag = metadata.as_mut()?.remove(MULTIPART_E_TAG).map(ETag::Strong);
    *metadata = metadata.take().filter(|others| !others.is_empty());
    e_tag
}

/// Whether the condition names that `ETag`.
pub(super) fn is(e_tag: &ETag, condition: &ETagCondition) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == e_tag.value(),
    }
}

/// A condition doesn't hold.
pub(super) fn refused() -> s3s::S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}
