//! What a client declares about the bytes that it sends: in headers, in a presigned URL, or in
//! trailers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::{Checksum, ChecksumAlgorithm, PutObjectInput, UploadPartInput};
use s3s::{S3Request, S3Result, TrailingHeaders, s3_error};

use super::staged::Staged;

pub(super) struct Declared {
    md5: Option<String>,
    checksum: Checksum,
    algorithm: Option<ChecksumAlgorithm>,
    trailers: Option<TrailingHeaders>,
}

/// Two input types have the same fields.
macro_rules! declared {
    ($request:ident) => {
        Self {
            md5: $request.input.content_md5.clone(),
            checksum: Checksum {
                checksum_crc32: $request.input.checksum_crc32.clone(),
                checksum_crc32c: $request.input.checksum_crc32c.clone(),
                checksum_crc64nvme: $request.input.checksum_crc64nvme.clone(),
                checksum_sha1: $request.input.checksum_sha1.clone(),
                checksum_sha256: $request.input.checksum_sha256.clone(),
                checksum_type: None,
            },
            algorithm: $request.input.checksum_algorithm.clone(),
            trailers: $request.trailing_headers.clone(),
        }
    };
}

impl Declared {
    pub(super) fn of_object(request: &S3Request<PutObjectInput>) -> Self {
        declared!(request)
    }

    pub(super) fn of_part(request: &S3Request<UploadPartInput>) -> Self {
        declared!(request)
    }

    /// The algorithm of the checksum that is declared, if one is.
    pub(super) fn algorithm(&self) -> Option<&str> {
        let named = fields(&self.checksum).into_iter().find(|(_, value)| value.is_some());
        let of_field = named.and_then(|(name, _)| algorithm_of(name));
        of_field.or(self.algorithm.as_ref().map(ChecksumAlgorithm::as_str))
    }

    /// Computes `algorithm` if nothing is declared.
    pub(super) fn hasher_or(&self, algorithm: Option<&str>) -> S3Result<ChecksumHasher> {
        let algorithm = algorithm.filter(|_| self.algorithm().is_none());
        match algorithm {
            Some(algorithm) => hasher(&self.checksum, Some(&ChecksumAlgorithm::from(algorithm.to_owned()))),
            None => self.hasher(),
        }
    }

    /// Computes what was declared, or will be in a trailer.
    pub(super) fn hasher(&self) -> S3Result<ChecksumHasher> {
        hasher(&self.checksum, self.algorithm.as_ref())
    }

    /// Whether the bytes are those that were declared. Not before they have been read: trailers
    /// come last.
    pub(super) fn check(self, staged: &Staged) -> S3Result<()> {
        if self.md5.is_some_and(|md5| md5 != STANDARD.encode(staged.md5.0)) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        let trailers = self.trailers.and_then(|trailers| trailers.take()).unwrap_or_default();
        for ((name, declared), (_, computed)) in
            fields(&self.checksum).into_iter().zip(fields(&staged.checksum))
        {
            let declared =
                trailers.get(name).map_or(declared.map(str::as_bytes), |value| Some(value.as_bytes()));
            if declared.is_some_and(|declared| computed.map(str::as_bytes) != Some(declared)) {
                return Err(s3_error!(BadDigest, "The {name} you specified did not match what we received."));
            }
        }
        Ok(())
    }
}

/// Computes the checksums that are in `like`, and that of `algorithm`.
pub(super) fn hasher(like: &Checksum, algorithm: Option<&ChecksumAlgorithm>) -> S3Result<ChecksumHasher> {
    let mut hasher = ChecksumHasher {
        crc32: like.checksum_crc32.as_ref().map(|_| Crc32::default()),
        crc32c: like.checksum_crc32c.as_ref().map(|_| Crc32c::default()),
        crc64nvme: like.checksum_crc64nvme.as_ref().map(|_| Crc64Nvme::default()),
        sha1: like.checksum_sha1.as_ref().map(|_| Sha1::default()),
        sha256: like.checksum_sha256.as_ref().map(|_| Sha256::default()),
    };
    match algorithm.map(ChecksumAlgorithm::as_str) {
        None => {}
        Some(ChecksumAlgorithm::CRC32) => hasher.crc32 = Some(Crc32::default()),
        Some(ChecksumAlgorithm::CRC32C) => hasher.crc32c = Some(Crc32c::default()),
        Some(ChecksumAlgorithm::CRC64NVME) => hasher.crc64nvme = Some(Crc64Nvme::default()),
        Some(ChecksumAlgorithm::SHA1) => hasher.sha1 = Some(Sha1::default()),
        Some(ChecksumAlgorithm::SHA256) => hasher.sha256 = Some(Sha256::default()),
        Some(_) => return Err(s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported.")),
    }
    Ok(hasher)
}

/// The algorithm of the header `x-amz-checksum-…`.
fn algorithm_of(header: &str) -> Option<&'static str> {
    let all = [
        ChecksumAlgorithm::CRC32,
        ChecksumAlgorithm::CRC32C,
        ChecksumAlgorithm::CRC64NVME,
        ChecksumAlgorithm::SHA1,
        ChecksumAlgorithm::SHA256,
    ];
    let name = header.strip_prefix("x-amz-checksum-")?;
    all.into_iter().find(|algorithm| algorithm.eq_ignore_ascii_case(name))
}

/// The checksum of that algorithm.
pub(super) fn field<'a>(checksum: &'a Checksum, algorithm: &str) -> Option<&'a str> {
    let is = |name: &str| algorithm_of(name).is_some_and(|own| own == algorithm);
    fields(checksum).into_iter().find(|(name, _)| is(name)).and_then(|(_, value)| value)
}

/// Each checksum under the name of its header.
pub(super) fn fields(checksum: &Checksum) -> [(&'static str, Option<&str>); 5] {
    [
        ("x-amz-checksum-crc32", checksum.checksum_crc32.as_deref()),
        ("x-amz-checksum-crc32c", checksum.checksum_crc32c.as_deref()),
        ("x-amz-checksum-crc64nvme", checksum.checksum_crc64nvme.as_deref()),
        ("x-amz-checksum-sha1", checksum.checksum_sha1.as_deref()),
        ("x-amz-checksum-sha256", checksum.checksum_sha256.as_deref()),
    ]
}
