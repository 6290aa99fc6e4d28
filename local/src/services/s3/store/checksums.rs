//! Checksums of uploads in parts, by the user guide, "Checking object integrity for data uploads in
//! Amazon S3".
//!
//! 1. An upload has the algorithm that it was begun with, or none. Every part must come with a
//!    checksum of that algorithm, and with no other. (A part of an upload of type `FULL_OBJECT` may
//!    come without one.)
//! 2. The list that completes a composite upload must name the checksum of each part.
//! 3. A checksum of the object that the completion declares must be right.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use s3s::dto::{Checksum, ChecksumAlgorithm, ChecksumType, CompletedPart, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::declared::{field, hasher};
use super::staged::internal;
use super::uploads::{StoredPart, Upload};

/// The type of the checksum that the object will have, if the algorithm has it.
pub(super) fn kind(
    algorithm: Option<&ChecksumAlgorithm>,
    wanted: Option<&ChecksumType>,
) -> S3Result<Option<&'static str>> {
    let (composite, full) = (ChecksumType::COMPOSITE, ChecksumType::FULL_OBJECT);
    let wanted = wanted.map(ChecksumType::as_str);
    let Some(algorithm) = algorithm.map(ChecksumAlgorithm::as_str) else {
        return match wanted {
            None => Ok(None),
            Some(_) => Err(invalid(
                "The x-amz-checksum-type header can only be used with the \
                                    x-amz-checksum-algorithm header.",
            )),
        };
    };
    let possible: &[&'static str] = match algorithm {
        ChecksumAlgorithm::CRC64NVME => &[full],
        ChecksumAlgorithm::CRC32 | ChecksumAlgorithm::CRC32C => &[composite, full],
        ChecksumAlgorithm::SHA1 | ChecksumAlgorithm::SHA256 => &[composite],
        _ => return Err(invalid("Checksum algorithm provided is unsupported.")),
    };
    let kind = possible.iter().find(|kind| wanted.is_none_or(|wanted| wanted == **kind));
    let name = wanted.unwrap_or_default();
    let refused = || {
        let algorithm = algorithm.to_ascii_lowercase();
        invalid(&format!("The {name} checksum type cannot be used with the {algorithm} checksum algorithm."))
    };
    kind.map(|kind| Some(*kind)).ok_or_else(refused)
}

impl Upload {
    fn is_composite(&self) -> bool {
        self.checksum_type.as_deref() == Some(ChecksumType::COMPOSITE)
    }

    /// Whether a part may come with a checksum of that algorithm, or without one.
    pub(super) fn check_algorithm(&self, declared: Option<&str>) -> S3Result<()> {
        let expected = self.algorithm.as_deref();
        let is_optional = declared.is_none() && !self.is_composite();
        if expected == declared || is_optional {
            return Ok(());
        }
        let name = |algorithm: Option<&str>| algorithm.unwrap_or("null").to_ascii_lowercase();
        Err(invalid(&format!(
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            name(expected),
            name(declared)
        )))
    }

    /// Whether the list names the checksum of each part, where it must.
    pub(super) fn check_list(&self, listed: &[CompletedPart]) -> S3Result<()> {
        let Some(algorithm) = self.algorithm.as_deref().filter(|_| self.is_composite()) else {
            return Ok(());
        };
        let Some(part) = listed.iter().find(|part| field(&said(part), algorithm).is_none()) else {
            return Ok(());
        };
        Err(invalid(&format!(
            "The upload was created using a {} checksum. The complete request must include the checksum for each part. \
             It was missing for part {} in the request.",
            algorithm.to_ascii_lowercase(),
            part.part_number.unwrap_or_default()
        )))
    }

    /// Whether the object's checksum is the declared one. `bytes` are all of its bytes.
    pub(super) async fn check_whole(
        &self,
        declared: &Checksum,
        parts: &[&StoredPart],
        bytes: StreamingBlob,
    ) -> S3Result<()> {
        let kind = declared.checksum_type.as_ref().map(ChecksumType::as_str);
        if kind.is_some() && kind != self.checksum_type.as_deref() {
            return Err(invalid("The x-amz-checksum-type is not that of the upload."));
        }
        let Some(algorithm) = self.algorithm.as_deref() else {
            return Ok(());
        };
        let Some(declared) = field(declared, algorithm) else { return Ok(()) };
        let computed =
            if self.is_composite() { composite(algorithm, parts)? } else { of_all(algorithm, bytes).await? };
        if computed.as_deref() != Some(declared) {
            let name = algorithm.to_ascii_lowercase();
            return Err(S3Error::with_message(
                S3ErrorCode::BadDigest,
                format!("The {name} you specified did not match the calculated checksum."),
            ));
        }
        Ok(())
    }
}

/// The checksum of the parts' checksums, and how many they are.
fn composite(algorithm: &str, parts: &[&StoredPart]) -> S3Result<Option<String>> {
    let mut hasher = hasher(&Checksum::default(), Some(&ChecksumAlgorithm::from(algorithm.to_owned())))?;
    for part in parts {
        let checksum = field(&part.checksum, algorithm).unwrap_or_default();
        hasher.update(&STANDARD.decode(checksum).map_err(|_| s3_error!(InternalError))?);
    }
    let digest = hasher.finalize();
    Ok(field(&digest, algorithm).map(|digest| format!("{digest}-{}", parts.len())))
}

async fn of_all(algorithm: &str, mut bytes: StreamingBlob) -> S3Result<Option<String>> {
    let mut hasher = hasher(&Checksum::default(), Some(&ChecksumAlgorithm::from(algorithm.to_owned())))?;
    while let Some(chunk) = bytes.next().await {
        hasher.update(&chunk.map_err(|error| internal(std::io::Error::other(error)))?);
    }
    Ok(field(&hasher.finalize(), algorithm).map(str::to_owned))
}

/// What a client's list says of a part.
pub(super) fn said(listed: &CompletedPart) -> Checksum {
    Checksum {
        checksum_crc32: listed.checksum_crc32.clone(),
        checksum_crc32c: listed.checksum_crc32c.clone(),
        checksum_crc64nvme: listed.checksum_crc64nvme.clone(),
        checksum_sha1: listed.checksum_sha1.clone(),
        checksum_sha256: listed.checksum_sha256.clone(),
        checksum_type: None,
    }
}

fn invalid(message: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidRequest, message.to_owned())
}
