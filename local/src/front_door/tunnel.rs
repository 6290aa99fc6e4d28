//! Sockets: after the 101, bytes in both directions, as they come.
//!
//! 1. Nothing is parsed: frames, close frames and their codes are the client's and the region's
//!    own.
//! 2. Each direction holds one buffer. A side that does not read makes the other side wait.
//! 3. The end of one side's stream is passed to the other side at once. The other side may finish
//!    (a close frame) within [`LINGER`].
//! 4. A connection that breaks ends both at once. A client whose region died sees an end without a
//!    close frame: 1006.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::counts::OpenSocket;

/// Sockets at a time. Each costs two file descriptors and some 20 KB.
const MAX_SOCKETS: usize = 4_096;

/// How long one side may send after the other one has ended its stream.
const LINGER: Duration = Duration::from_secs(5);

/// The sockets that are open.
#[derive(Debug)]
pub(super) struct Sockets {
    slots: Arc<Semaphore>,
    tunnels: Mutex<JoinSet<()>>,
}

/// The right to open a socket.
pub(super) struct Slot(OwnedSemaphorePermit);

impl Default for Sockets {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(MAX_SOCKETS)), tunnels: Mutex::default() }
    }
}

impl Sockets {
    /// `None` if as many are open as there may be.
    pub(super) fn slot(&self) -> Option<Slot> {
        Arc::clone(&self.slots).try_acquire_owned().ok().map(Slot)
    }

    /// Connects both sides as soon as the 101 is out.
    pub(super) fn open(&self, slot: Slot, socket: OpenSocket, client: OnUpgrade, region: OnUpgrade) {
        // A set of tasks has no half-done state worth refusing.
        let mut tunnels = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tunnels.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a socket's task failed");
            }
        }
        tunnels.spawn(async move {
            if let Err(error) = upgraded(client, region).await {
                tracing::debug!(%error, "a socket broke");
            }
            drop((slot.0, socket));
        });
    }

    /// Cuts all of them off.
    pub(super) async fn close(&self) {
        let mut tunnels = std::mem::take(&mut *self.tunnels.lock().unwrap_or_else(PoisonError::into_inner));
        tunnels.shutdown().await;
    }
}

async fn upgraded(client: OnUpgrade, region: OnUpgrade) -> io::Result<()> {
    let (client, region) = tokio::try_join!(client, region).map_err(io::Error::other)?;
    join(TokioIo::new(client), TokioIo::new(region)).await
}

/// Copies until both sides have ended, one of them broke, or one was alone for too long.
async fn join(client: impl AsyncRead + AsyncWrite, region: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (from_client, to_client) = split(client);
    let (from_region, to_region) = split(region);
    let mut up = pin!(pump(from_client, to_region));
    let mut down = pin!(pump(from_region, to_client));
    let other = tokio::select! {
        ended = up.as_mut() => {
            ended?;
            timeout(LINGER, down).await
        }
        ended = down.as_mut() => {
            ended?;
            timeout(LINGER, up).await
        }
    };
    other.unwrap_or(Ok(()))
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    copy(&mut from, &mut to).await?;
    to.shutdown().await
}
