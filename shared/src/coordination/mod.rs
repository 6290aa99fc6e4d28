//! Doing a thing once: idempotency keys, locks, and the loop that works off a backlog.

pub mod backlog;
pub mod idempotency;
pub mod lock;
