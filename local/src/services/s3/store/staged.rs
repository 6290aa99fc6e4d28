//! An object's bytes in a temporary file: complete and known by their checksums before anything is replaced by them.

use std::io::{self, SeekFrom};
use std::path::Path;

use futures::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3Result};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

/// What is read from a file at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Gone when dropped.
pub(super) struct Staged {
    file: File,
    /// Of the bytes: those that the hasher was to compute.
    pub(super) checksum: Checksum,
}

impl Staged {
    /// Writes `body` to a file without a name in `folder`.
    pub(super) async fn write(
        folder: &Path,
        mut body: StreamingBlob,
        mut hasher: ChecksumHasher,
    ) -> S3Result<Self> {
        let mut file = File::from_std(tempfile::tempfile_in(folder).map_err(internal)?);
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| internal(io::Error::other(error)))?;
            hasher.update(&bytes);
            file.write_all(&bytes).await.map_err(internal)?;
        }
        file.flush().await.map_err(internal)?;
        file.seek(SeekFrom::Start(0)).await.map_err(internal)?;
        Ok(Self { file, checksum: hasher.finalize() })
    }

    /// The bytes, from the first one on.
    pub(super) fn into_body(self) -> StreamingBlob {
        StreamingBlob::wrap(ReaderStream::with_capacity(self.file, CHUNK_BYTES))
    }
}

/// The disk failed: nothing that the client could do anything about.
fn internal(error: io::Error) -> S3Error {
    S3Error::internal_error(error)
}
