//! A loopback HTTP server on a thread and a runtime of its own.
//!
//! 1. The port is bound before [`Server::start`] returns, so a taken port is the caller's error and
//!    not a log line.
//! 2. The handler may block its thread: `SQLite` is called where the request is parsed. That is why
//!    the server never shares the runtime of the region.
//! 3. A handler that answers [`Hangup`] closes the connection without a byte: what a client sees of
//!    a server that died.
//! 4. While its region's [`Switch`] is off, there are no answers: connections are dropped with what
//!    was asked on them, and new ones are reset.
//! 5. Dropping the server stops it and waits for its thread; requests that are still waiting (held
//!    by a fault rule, for example) lose their connection.
//!
//! Limits: HTTP/1.1 only, bodies up to the bound that the handler sets.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::call::Hangup;
use super::switch::{self, Switch};

/// Worker threads of one server. `SQLite` is behind one lock, and on the two cores that region,
/// functions and clients share a second worker waits for that lock more than it gets done: 0.42 ms
/// of processor time an order instead of 0.39.
const WORKERS: usize = 1;

/// Pause after a failed accept: the usual cause, no file descriptors left, doesn't pass at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The body of an answer: whole for the JSON services, streamed for S3.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Why an answer's body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What answers the requests of one server.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Hangup>> + Send;
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be bound.
    #[error("{service} can't listen on {address}")]
    Listen {
        service: &'static str,
        /// The address that was asked for.
        address: SocketAddr,
        source: io::Error,
    },
    /// The thread or its runtime can't be made, or the port can't be served by it.
    #[error("{service} can't start its thread")]
    Thread { service: &'static str, source: io::Error },
}

/// A running server. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `address` (port 0 picks a free one) and serves `handler` until dropped.
    pub(crate) fn start<H: Handler>(
        service: &'static str,
        address: SocketAddr,
        handler: H,
        switch: Switch,
    ) -> Result<Self, StartError> {
        let listen = |source| StartError::Listen { service, address, source };
        Self::on(service, std::net::TcpListener::bind(address).map_err(listen)?, handler, switch)
    }

    /// The same on a port that is bound already.
    pub(crate) fn on<H: Handler>(
        service: &'static str,
        listener: std::net::TcpListener,
        handler: H,
        switch: Switch,
    ) -> Result<Self, StartError> {
        let thread = |source| StartError::Thread { service, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name(service)
            .enable_all()
            .build()
            .map_err(thread)?;
        listener.set_nonblocking(true).map_err(thread)?;
        let bound = listener.local_addr().map_err(thread)?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(thread)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(service.to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    tokio::select! {
                        // The sender is never used, only dropped.
                        _ = stopped => {}
                        () = accept(listener, Arc::new(handler), switch) => {}
                    }
                });
            })
            .map_err(thread)?;
        Ok(Self { address: bound, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(address = %self.address, "a service's thread panicked");
        }
    }
}

async fn accept<H: Handler>(listener: TcpListener, handler: Arc<H>, switch: Switch) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = switch.off() => {
                connections.shutdown().await;
                switch::refuse(&listener, switch.on()).await;
                continue;
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "the task of a connection failed");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, Arc::clone(&handler)));
            }
            // Out of file descriptors, or the peer gave up: neither is a reason to stop serving the
            // others.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve<H: Handler>(stream: TcpStream, handler: Arc<H>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was lost before its first request");
        return;
    }
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { handler.answer(request).await }
    });
    let served = hyper::server::conn::http1::Builder::new()
        // A pooled connection stays open however long its client idles: closing it would race with
        // the next request.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
