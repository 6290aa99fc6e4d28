//! Objects in parts.
//!
//! 1. An upload belongs to its bucket and key, not to a caller: every caller with the permission
//!    may continue it.
//! 2. A part is stored when all of its bytes are there and are what their checksum says.
//! 3. `CompleteMultipartUpload` checks the whole list before it changes anything. Then the parts
//!    become an object in one step, and the upload is over: of several that complete or abort it,
//!    one does, and the others find no upload.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Checksum, ChecksumAlgorithm, ChecksumType,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, CopyPartResult,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Part, PutObjectInput,
    Timestamp, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Result, s3_error};

use super::Store;
use super::checksums::{self, said};
use super::declared::{Declared, fields, hasher};
use super::description::{Description, check_metadata, with_e_tag};
use super::objects::{check_length, check_unwanted};
use super::staged::{Md5Digest, Staged, concatenated};
use super::uploads::{StoredPart, Upload};

/// AWS's bound on part numbers.
const MAX_PART_NUMBER: i32 = 10_000;

/// AWS's bound on every part but the last.
pub(super) const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

/// What AWS lists at once.
const MAX_PARTS_LISTED: i32 = 1_000;

impl Store {
    pub(super) fn create_upload(
        &self,
        input: CreateMultipartUploadInput,
    ) -> S3Result<CreateMultipartUploadOutput> {
        check_metadata(input.metadata.as_ref())?;
        let kind = checksums::kind(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let upload = Upload {
            description: Description::from(&input),
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            algorithm: input.checksum_algorithm.as_ref().map(|algorithm| algorithm.as_str().to_owned()),
            checksum_type: kind.map(str::to_owned),
            initiated: crate::clock::now(),
            parts: BTreeMap::new(),
        };
        Ok(CreateMultipartUploadOutput {
            upload_id: Some(self.uploads.begin(&upload)?),
            bucket: Some(input.bucket),
            key: Some(input.key),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: kind.map(ChecksumType::from_static),
            ..Default::default()
        })
    }

    pub(super) async fn upload(&self, mut request: S3Request<UploadPartInput>) -> S3Result<UploadPartOutput> {
        check_length(request.input.content_length)?;
        let body = request.input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
        let declared = Declared::of_part(&request);
        let UploadPartInput { bucket, key, upload_id, part_number, .. } = request.input;
        in_range(part_number)?;
        // Before the bytes are read, and once more when they are there.
        let upload = self.uploads.find(&upload_id, &bucket, &key)?;
        upload.check_algorithm(declared.algorithm())?;
        let hasher = declared.hasher_or(upload.algorithm.as_deref())?;
        let staged = Staged::write(&self.staging, body, hasher).await?;
        declared.check(&staged)?;

        let (md5, checksum) = (staged.md5, staged.checksum.clone());
        let _turn = self.uploads.turns.of(&upload_id).write().await;
        let upload = self.uploads.find(&upload_id, &bucket, &key)?;
        self.uploads.store(&upload_id, upload, part_number, staged)?;
        Ok(UploadPartOutput {
            e_tag: Some(md5.e_tag()),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            ..Default::default()
        })
    }

    pub(super) async fn upload_copy(&self, input: UploadPartCopyInput) -> S3Result<UploadPartCopyOutput> {
        in_range(input.part_number)?;
        let upload = self.uploads.find(&input.upload_id, &input.bucket, &input.key)?;
        let mut source = self.source_of_part(&input).await?;
        let body = source.body.take().ok_or_else(|| s3_error!(InternalError))?;
        let algorithm = upload.algorithm.map(ChecksumAlgorithm::from);
        let hasher = hasher(&Checksum::default(), algorithm.as_ref())?;
        let staged = Staged::write(&self.staging, body, hasher).await?;

        let (md5, checksum) = (staged.md5, staged.checksum.clone());
        let _turn = self.uploads.turns.of(&input.upload_id).write().await;
        let upload = self.uploads.find(&input.upload_id, &input.bucket, &input.key)?;
        self.uploads.store(&input.upload_id, upload, input.part_number, staged)?;
        let result = CopyPartResult {
            e_tag: Some(md5.e_tag()),
            last_modified: Some(timestamp(crate::clock::now())),
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
        };
        Ok(UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: source.version_id,
            ..Default::default()
        })
    }

    pub(super) async fn complete(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        check_unwanted(input.if_none_match.as_ref())?;
        let CompleteMultipartUploadInput { bucket, key, upload_id, .. } = input;
        let declared = Checksum {
            checksum_crc32: input.checksum_crc32,
            checksum_crc32c: input.checksum_crc32c,
            checksum_crc64nvme: input.checksum_crc64nvme,
            checksum_sha1: input.checksum_sha1,
            checksum_sha256: input.checksum_sha256,
            checksum_type: input.checksum_type,
        };
        let _turn = self.uploads.turns.of(&upload_id).write().await;
        let upload = self.uploads.find(&upload_id, &bucket, &key)?;
        let listed = input.multipart_upload.and_then(|list| list.parts).unwrap_or_default();
        let parts = chosen(&upload, &listed, self.min_part_bytes.load(Ordering::Relaxed))?;
        upload.check_list(&listed)?;
        let size_bytes: u64 = parts.iter().map(|part| part.size_bytes).sum();
        if input.mpu_object_size.is_some_and(|size| u64::try_from(size) != Ok(size_bytes)) {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header does not match what was computed."
            ));
        }
        let files: Vec<_> = parts.iter().map(|part| self.uploads.path(&upload_id, part)).collect();
        upload.check_whole(&declared, &parts, concatenated(files.clone())).await?;
        let e_tag = e_tag(&parts);
        let object = PutObjectInput {
            body: Some(concatenated(files)),
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            ..upload.description.object(bucket.clone(), key.clone())
        };
        let stored = self.replace(with_e_tag(object, e_tag.clone())).await?;
        self.uploads.end(&upload_id)?;
        Ok(CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{key}")),
            bucket: Some(bucket),
            key: Some(key),
            e_tag: Some(ETag::Strong(e_tag)),
            version_id: stored.version_id,
            ..Default::default()
        })
    }

    pub(super) async fn abort(
        &self,
        input: AbortMultipartUploadInput,
    ) -> S3Result<AbortMultipartUploadOutput> {
        let _turn = self.uploads.turns.of(&input.upload_id).write().await;
        self.uploads.find(&input.upload_id, &input.bucket, &input.key)?;
        self.uploads.end(&input.upload_id)?;
        Ok(AbortMultipartUploadOutput::default())
    }

    pub(super) fn parts(&self, input: ListPartsInput) -> S3Result<ListPartsOutput> {
        let upload = self.uploads.find(&input.upload_id, &input.bucket, &input.key)?;
        let after = input.part_number_marker.unwrap_or_default();
        let most = input.max_parts.unwrap_or(MAX_PARTS_LISTED).clamp(0, MAX_PARTS_LISTED);
        let mut rest = upload.parts.iter().filter(|(number, _)| **number > after).peekable();
        let mut parts = Vec::new();
        while parts.len() < usize::try_from(most).unwrap_or_default()
            && let Some((number, part)) = rest.next()
        {
            parts.push(listed_part(*number, part));
        }
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            checksum_algorithm: upload.algorithm.clone().map(ChecksumAlgorithm::from),
            part_number_marker: Some(after),
            next_part_number_marker: parts.last().and_then(|part| part.part_number),
            max_parts: Some(most),
            is_truncated: Some(rest.peek().is_some()),
            parts: Some(parts),
            ..Default::default()
        })
    }

    pub(super) fn uploads_under_way(
        &self,
        input: ListMultipartUploadsInput,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let found = self.uploads.under_way(&input.bucket, input.prefix.as_deref().unwrap_or_default())?;
        let uploads = found.into_iter().map(|(id, upload)| MultipartUpload {
            upload_id: Some(id),
            key: Some(upload.key),
            initiated: Some(timestamp(upload.initiated)),
            checksum_algorithm: upload.algorithm.map(ChecksumAlgorithm::from),
            ..Default::default()
        });
        Ok(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            bucket: Some(input.bucket),
            prefix: input.prefix,
            is_truncated: Some(false),
            ..Default::default()
        })
    }
}

fn in_range(number: i32) -> S3Result<()> {
    if (1..=MAX_PART_NUMBER).contains(&number) {
        return Ok(());
    }
    Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"))
}

/// The parts that the client lists, if it may.
fn chosen<'a>(
    upload: &'a Upload,
    listed: &[CompletedPart],
    min_part_bytes: u64,
) -> S3Result<Vec<&'a StoredPart>> {
    let Some((_, all_but_last)) = listed.split_last() else {
        return Err(s3_error!(MalformedXML, "You must specify at least one part"));
    };
    if !listed.is_sorted_by(|part, next| part.part_number < next.part_number) {
        return Err(s3_error!(
            InvalidPartOrder,
            "The list of parts was not in ascending order. Parts must be ordered by part number."
        ));
    }
    let parts = listed.iter().map(|part| stored(upload, part)).collect::<S3Result<Vec<_>>>()?;
    if parts[..all_but_last.len()].iter().any(|part| part.size_bytes < min_part_bytes) {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size"
        ));
    }
    Ok(parts)
}

/// What a part in the client's list is: with that number, `ETag` and, if the client says it,
/// checksum.
fn stored<'a>(upload: &'a Upload, listed: &CompletedPart) -> S3Result<&'a StoredPart> {
    let said = said(listed);
    let part = listed.part_number.and_then(|number| upload.parts.get(&number)).filter(|part| {
        listed.e_tag.as_ref().map(ETag::value) == Some(part.md5.to_string().as_str())
            && fields(&said)
                .iter()
                .zip(fields(&part.checksum))
                .all(|((_, said), (_, own))| said.is_none() || *said == own)
    });
    part.ok_or_else(|| {
        s3_error!(
            InvalidPart,
            "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified \
             entity tag may not match the part's entity tag."
        )
    })
}

/// What AWS gives an object of several parts: the MD5 of their MD5s, and how many they are.
fn e_tag(parts: &[&StoredPart]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(&part.md5.0);
    }
    format!("{}-{}", Md5Digest(md5.finalize()), parts.len())
}

fn listed_part(number: i32, part: &StoredPart) -> Part {
    let checksum = part.checksum.clone();
    Part {
        part_number: Some(number),
        e_tag: Some(part.md5.e_tag()),
        size: i64::try_from(part.size_bytes).ok(),
        last_modified: Some(timestamp(part.stored)),
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha1: checksum.checksum_sha1,
        checksum_sha256: checksum.checksum_sha256,
    }
}

fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from(SystemTime::from(at))
}
