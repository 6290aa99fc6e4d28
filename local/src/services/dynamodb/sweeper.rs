//! Deletes expired items by the clock, as DynamoDB's TTL does some time after they expired.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::engine::Engine;

/// A running sweep. Stops when dropped.
#[derive(Debug)]
pub(super) struct Sweeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    pub(super) fn start(engine: Arc<Engine>, every: Duration) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("DynamoDB TTL".to_owned()).spawn(move || {
            // Nothing is ever sent: the wait ends early when the sender is dropped.
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                match engine.sweep_ttl() {
                    Ok(0) => {}
                    Ok(items) => tracing::debug!(items, "expired items deleted"),
                    Err(error) => tracing::warn!(%error, "expired items could not be deleted"),
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the TTL thread panicked");
        }
    }
}
