//! Coordination between processes and regions: idempotency keys, locks, the processing of backlogs,
//! and which regions serve.

pub mod backlog;
pub mod idempotency;
pub mod lock;
pub mod regions;
