//! Objects in one piece.
//!
//! 1. What is to become an object is complete and checked before its turn comes (see `staged`).
//! 2. In its turn, conditions are checked and the object is replaced: of two conditional writers
//!    one wins, and a reader gets bytes, description and `ETag` of one and the same object.
//! 3. A reader's conditions and range are checked against the object that it gets (see
//!    `conditions`).
//! 4. In a bucket with versions the object is not replaced: it gets one more version (see
//!    `versions`).
//! 5. An object whose `ETag` isn't the MD5 of its bytes has it among its metadata, where no client
//!    sees it.

use s3s::dto::{
    Checksum, ChecksumMode, ChecksumType, ETag, ETagCondition, GetObjectInput, GetObjectOutput,
    HeadObjectInput, HeadObjectOutput, PutObjectInput, PutObjectOutput,
};
use s3s::{S3, S3ErrorCode, S3Request, S3Result, s3_error};

use super::conditions::{Conditions, Portion, is, refused};
use super::declared::Declared;
use super::description::{check_metadata, own_e_tag, take_e_tag};
use super::staged::Staged;
use super::versions::Place;
use super::{Store, internal_request};

/// AWS's bound on what comes in one piece, an object or a part: 5 GiB.
const MAX_PUT_BYTES: i64 = 5 * 1024 * 1024 * 1024;

/// S3's default content type.
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// Two output types have the same fields: shows them as S3 does.
macro_rules! shown {
    ($output:ident, $place:ident, $mode:expr) => {{
        $output.version_id = $place.version_id();
        $output.replication_status = $place.replication_status();
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
        check_metadata(request.input.metadata.as_ref())?;
        check_length(request.input.content_length)?;
        check_unwanted(request.input.if_none_match.as_ref())?;
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
            let current = self.e_tag(&object.bucket, &object.key).await?;
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
        let e_tag = own_e_tag(&object);
        let mut output = if self.is_versioned(&object.bucket) {
            self.add(object).await?
        } else {
            self.files.put_object(internal_request(object)).await?.output
        };
        if let Some(e_tag) = e_tag {
            output.e_tag = Some(ETag::Strong(e_tag));
        }
        Ok(output)
    }

    pub(super) async fn e_tag(&self, bucket: &str, key: &str) -> S3Result<Option<ETag>> {
        match self.seen(bucket, key, None).await {
            Ok((seen, _)) => Ok(seen.e_tag),
            Err(error) if *error.code() == S3ErrorCode::NoSuchKey => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn get(&self, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
        check_whole(request.input.part_number)?;
        let conditions = Conditions::of(&request.headers, &request.extensions);
        self.read(request.input, &conditions).await
    }

    /// The object, or the portion of it, that the conditions ask for.
    pub(super) async fn read(
        &self,
        input: GetObjectInput,
        conditions: &Conditions,
    ) -> S3Result<GetObjectOutput> {
        self.bucket_exists(&input.bucket)?;
        let mode = input.checksum_mode.clone();
        let _turn = self.objects.of((&input.bucket, &input.key)).read().await;
        let (seen, place) = self.seen(&input.bucket, &input.key, input.version_id.as_deref()).await?;
        let portion = conditions.check(&seen)?;
        let input =
            GetObjectInput { range: portion.range(), key: place.key.clone(), version_id: None, ..input };
        // An opened object is read to its end, also if its key is replaced.
        let mut output = place.files.get_object(internal_request(input)).await?.output;
        Ok(shown!(output, place, mode))
    }

    pub(super) async fn head(&self, request: S3Request<HeadObjectInput>) -> S3Result<HeadObjectOutput> {
        let HeadObjectInput { bucket, key, checksum_mode, part_number, version_id, .. } = request.input;
        check_whole(part_number)?;
        let conditions = Conditions::of(&request.headers, &request.extensions);
        let _turn = self.objects.of((&bucket, &key)).read().await;
        let (mut output, place) = self.seen(&bucket, &key, version_id.as_deref()).await?;
        if let Portion::Part { first, last } = conditions.check(&output)? {
            let size = output.content_length.unwrap_or_default();
            output.content_length = i64::try_from(last - first + 1).ok();
            output.content_range = Some(format!("bytes {first}-{last}/{size}"));
        }
        Ok(shown!(output, place, checksum_mode))
    }

    /// The object or a version of it as it stands, with its own `ETag`, and where it is.
    pub(super) async fn seen(
        &self,
        bucket: &str,
        key: &str,
        version_id: Option<&str>,
    ) -> S3Result<(HeadObjectOutput, Place<'_>)> {
        let place = self.place(bucket, key, version_id)?;
        if self.is_folder(bucket, &place.key) {
            return Err(s3_error!(NoSuchKey, "The specified key does not exist."));
        }
        let head =
            HeadObjectInput { bucket: bucket.to_owned(), key: place.key.clone(), ..Default::default() };
        let mut output = place.files.head_object(internal_request(head)).await?.output;
        if let Some(e_tag) = take_e_tag(&mut output.metadata) {
            output.e_tag = Some(e_tag);
        }
        Ok((output, place))
    }

    /// Whether the key is only the beginning of others. The files would show the folder as an
    /// object.
    pub(super) fn is_folder(&self, bucket: &str, key: &str) -> bool {
        !key.ends_with('/') && self.root.join(bucket).join(key).is_dir()
    }
}

/// What would be passed over otherwise.
fn check_whole(part_number: Option<i32>) -> S3Result<()> {
    if part_number.is_some() {
        return Err(s3_error!(NotImplemented, "parts of objects are not served here"));
    }
    Ok(())
}

pub(super) fn check_length(length: Option<i64>) -> S3Result<()> {
    if length.is_some_and(|length| length > MAX_PUT_BYTES) {
        return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size"));
    }
    Ok(())
}

/// Writes know no other `If-None-Match` than `*`.
pub(super) fn check_unwanted(condition: Option<&ETagCondition>) -> S3Result<()> {
    if matches!(condition, Some(ETagCondition::ETag(_))) {
        return Err(s3_error!(
            NotImplemented,
            "A header you provided implies functionality that is not implemented"
        ));
    }
    Ok(())
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
