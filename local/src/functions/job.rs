//! An invocation on its way to a process, and the end of its log.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::outcome::Outcome;

/// Lambda gives the last 4 KB.
const TAIL_LIMIT_BYTES: usize = 4 * 1024;

/// An invocation on its way to a process.
pub(super) struct Job {
    pub(super) request_id: String,
    pub(super) payload: Bytes,
    pub(super) reply: oneshot::Sender<Outcome>,
    /// Gets the lines that the function writes meanwhile, if the invoker wants them.
    pub(super) tail: Option<Tail>,
}

/// The end of one invocation's log, which `LogType: Tail` asks for. Shared by who asks for it and
/// the process that writes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail(Arc<Mutex<Vec<u8>>>);

impl Tail {
    /// Adds a line.
    pub(super) fn push(&self, line: &str) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
        let surplus = text.len().saturating_sub(TAIL_LIMIT_BYTES);
        text.drain(..surplus);
    }

    /// All of it, as the header `x-amz-log-result` has it.
    pub(super) fn encode(&self) -> String {
        STANDARD.encode(&*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
