//! Doing a thing once: idempotency keys, locks, and the loop that works off a backlog. And which regions serve.

pub mod backlog;
pub mod idempotency;
pub mod lock;
pub mod regions;
