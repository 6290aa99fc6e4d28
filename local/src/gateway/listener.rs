//! The accept loop of both fronts and of Lambda's API: HTTP/1.1 with keep-alive on one listener,
//! until told to stop.
//!
//! 1. A connection takes a slot before it is accepted, so that the process never holds more than
//!    the limit; callers beyond it wait in the kernel's queue.
//! 2. On shutdown nothing more is accepted, requests that have begun are answered, idle connections
//!    are closed.
//! 3. What has not ended after [`SHUTDOWN_GRACE`] is cut off.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::services::Hangup;

/// How long requests in flight may take to finish once the region stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// An idle keep-alive connection is closed after this long; also bounds a client that trickles its
/// headers.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// Pause after a failed accept: the usual cause, no file descriptors left, doesn't pass at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves `listener` with one service per connection until `shutdown` is ready.
pub(crate) async fn serve<S, B, F>(
    listener: TcpListener,
    max_connections: usize,
    service_for: F,
    shutdown: impl Future<Output = ()>,
) where
    F: Fn(SocketAddr) -> S,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Hangup> + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let (stop, stopping) = watch::channel(());
    let slots = Arc::new(Semaphore::new(max_connections));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
                continue;
            }
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, peer, slot)) => {
                let service = service_for(peer);
                connections.spawn(connection(stream, service, stopping.clone(), slot));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, ended).await.is_err() {
        tracing::warn!(open = connections.len(), "connections were cut off at shutdown");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are small and go out in one write: waiting for more to send would only add latency.
    stream.set_nodelay(true)?;
    Ok((stream, peer, slot))
}

async fn connection<S, B>(
    stream: TcpStream,
    service: S,
    mut stopping: watch::Receiver<()>,
    slot: OwnedSemaphorePermit,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Hangup> + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        // The sender never sends: it is dropped when the region stops.
        _ = stopping.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        // A client that went away or spoke something else than HTTP: its own affair.
        tracing::debug!(%error, "a connection ended early");
    }
    drop(slot);
}
