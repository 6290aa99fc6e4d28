//! Bytes in a temporary file, complete and with their digests, before they replace an object.
//!
//! A slow client does not block others, and a body that breaks off or does not match its checksum
//! is discarded.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, ETag, StreamingBlob};
use s3s::{S3Error, S3Result};
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempPath};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

/// What is read from a file at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The file is deleted when this is dropped.
pub(super) struct Staged {
    path: TempPath,
    pub(super) size_bytes: u64,
    pub(super) md5: Md5Digest,
    /// Those that the hasher was to compute.
    pub(super) checksum: Checksum,
}

impl Staged {
    /// Writes `body` to a file in `folder`.
    pub(super) async fn write(
        folder: &Path,
        mut body: StreamingBlob,
        mut hasher: ChecksumHasher,
    ) -> S3Result<Self> {
        let (file, path) = NamedTempFile::new_in(folder).map_err(internal)?.into_parts();
        let mut file = File::from_std(file);
        let mut md5 = Md5::new();
        let mut size_bytes = 0;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| internal(io::Error::other(error)))?;
            md5.update(&bytes);
            hasher.update(&bytes);
            size_bytes += bytes.len() as u64;
            file.write_all(&bytes).await.map_err(internal)?;
        }
        file.flush().await.map_err(internal)?;
        Ok(Self { path, size_bytes, md5: Md5Digest(md5.finalize()), checksum: hasher.finalize() })
    }

    /// The bytes. The file keeps them until they are read.
    pub(super) async fn body(&self) -> S3Result<StreamingBlob> {
        let file = File::open(&self.path).await.map_err(internal)?;
        Ok(StreamingBlob::wrap(ReaderStream::with_capacity(file, CHUNK_BYTES)))
    }

    /// Moves the file to `path`, for good.
    pub(super) fn keep(self, path: &Path) -> S3Result<()> {
        self.path.persist(path).map_err(|error| internal(error.error))
    }
}

/// The bytes of several files as one body.
pub(super) fn concatenated(paths: Vec<PathBuf>) -> StreamingBlob {
    let files = futures::stream::iter(paths).then(File::open);
    StreamingBlob::wrap(files.map_ok(|file| ReaderStream::with_capacity(file, CHUNK_BYTES)).try_flatten())
}

/// An MD5: in hexadecimal, the `ETag` of what came in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Md5Digest(pub(super) [u8; 16]);

impl Md5Digest {
    pub(super) fn e_tag(self) -> ETag {
        ETag::Strong(self.to_string())
    }
}

impl fmt::Display for Md5Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The disk failed, or the client's body broke off: nothing that a client which is still there
/// could do better.
pub(super) fn internal(error: io::Error) -> S3Error {
    S3Error::internal_error(error)
}
