//! The end of one invocation's log: what `LogType: Tail` asks for.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Lambda gives the last 4 KB.
const TAIL_LIMIT_BYTES: usize = 4 * 1024;

/// Shared by who asks for it and the process that writes it.
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
