//! The connections that are open, as `@connections` sees them.
//!
//! A connection is here from the moment its `$connect` was accepted until it ends; before and
//! after, its id is unknown ("gone"). Posting puts a message into the connection's bounded buffer
//! and never waits for the client.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::clock;
use crate::gateway::origin::Origin;

/// Every open connection by id.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<HashMap<String, Arc<Connection>>>,
}

/// One connection, shared by its task and `@connections`.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: String,
    pub(super) origin: Origin,
    pub(super) connected_at: Timestamp,
    /// Tells the connection's task to close; keeps one pending call, so that none is lost.
    pub(super) closing: Notify,
    last_active_ms: AtomicI64,
    outgoing: mpsc::Sender<Utf8Bytes>,
}

/// What became of a post.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Posted {
    /// It will be written as soon as the client reads.
    Queued,
    /// There is no such connection.
    Gone,
    /// The client is too slow: its buffer is full.
    BufferFull,
}

impl Connection {
    /// A connection and the end of its buffer that the task reads.
    pub(super) fn new(
        id: String,
        origin: Origin,
        connected_at: Timestamp,
        outgoing_messages: usize,
    ) -> (Arc<Self>, mpsc::Receiver<Utf8Bytes>) {
        let (outgoing, waiting) = mpsc::channel(outgoing_messages);
        let last_active_ms = AtomicI64::new(connected_at.as_millisecond());
        (
            Arc::new(Self { id, origin, connected_at, closing: Notify::new(), last_active_ms, outgoing }),
            waiting,
        )
    }

    /// Notes that a frame went in or out.
    pub(super) fn touch(&self) {
        self.last_active_ms.store(clock::now().as_millisecond(), Ordering::Relaxed);
    }

    /// When a frame last went in or out.
    pub(super) fn last_active(&self) -> Timestamp {
        Timestamp::from_millisecond(self.last_active_ms.load(Ordering::Relaxed)).unwrap_or(self.connected_at)
    }
}

impl Connections {
    pub(super) fn add(&self, connection: Arc<Connection>) {
        self.lock().insert(connection.id.clone(), connection);
    }

    pub(super) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Connection>> {
        self.lock().get(id).cloned()
    }

    pub(super) fn post(&self, id: &str, message: Utf8Bytes) -> Posted {
        let Some(connection) = self.get(id) else { return Posted::Gone };
        match connection.outgoing.try_send(message) {
            Ok(()) => Posted::Queued,
            Err(TrySendError::Full(_)) => Posted::BufferFull,
            Err(TrySendError::Closed(_)) => Posted::Gone,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Connection>>> {
        // Nothing panics while holding it, and a map has no half-done state worth refusing.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
