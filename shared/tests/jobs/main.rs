//! Locks, slots and the scheduled jobs, on the embedded services, by the real SDK.

#![expect(clippy::unwrap_used, reason = "a test stops where its stage breaks")]

mod cleanup;
mod lock;
mod regions;
mod reports;
mod upload_cleanup;
