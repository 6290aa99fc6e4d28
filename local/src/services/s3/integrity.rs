//! Holds an upload's bytes against the checksum in its headers while they stream into the store.
//!
//! The store itself compares after the object is in place, and parts of a multipart upload not at all. Here the stream
//! ends in an error instead, so that the store throws its temporary file away and nothing is replaced.
//!
//! Limits: checksums in headers, as presigned URLs have them. `Content-MD5` and checksums in trailers are compared by the
//! store.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use s3s::checksum::ChecksumHasher;
use s3s::dto::{Checksum, StreamingBlob};
use s3s::stream::{ByteStream, RemainingLength};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// `body`, ending in an error and with `tampered` set if it doesn't have the checksums that are `declared`.
pub(super) fn verified(body: StreamingBlob, declared: Checksum, tampered: Arc<AtomicBool>) -> StreamingBlob {
    let hasher = ChecksumHasher {
        crc32: declared.checksum_crc32.is_some().then(Default::default),
        crc32c: declared.checksum_crc32c.is_some().then(Default::default),
        sha1: declared.checksum_sha1.is_some().then(Default::default),
        sha256: declared.checksum_sha256.is_some().then(Default::default),
        crc64nvme: declared.checksum_crc64nvme.is_some().then(Default::default),
    };
    StreamingBlob::new(Verified { body, hasher, declared, tampered })
}

struct Verified {
    body: StreamingBlob,
    hasher: ChecksumHasher,
    declared: Checksum,
    tampered: Arc<AtomicBool>,
}

impl Verified {
    /// Called once, at the end of the stream.
    fn matches(&mut self) -> bool {
        let computed = std::mem::take(&mut self.hasher).finalize();
        let declared = std::mem::take(&mut self.declared);
        computed.checksum_crc32 == declared.checksum_crc32
            && computed.checksum_crc32c == declared.checksum_crc32c
            && computed.checksum_sha1 == declared.checksum_sha1
            && computed.checksum_sha256 == declared.checksum_sha256
            && computed.checksum_crc64nvme == declared.checksum_crc64nvme
    }
}

impl Stream for Verified {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Pin::new(&mut self.body).poll_next(context) {
            Poll::Ready(Some(Ok(bytes))) => {
                self.hasher.update(&bytes);
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(None) if !self.matches() => {
                self.tampered.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(io::Error::other("the body is not what its checksum says").into())))
            }
            other => other,
        }
    }
}

impl ByteStream for Verified {
    fn remaining_length(&self) -> RemainingLength {
        self.body.remaining_length()
    }
}
