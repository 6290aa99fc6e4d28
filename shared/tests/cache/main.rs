//! The cache: what every tier promises (memory, Redis, none), races between processes, and what
//! happens when Redis is dead, slow, emptied, restarted, full, or holds wrong bytes.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod conformance;
mod flights;
mod outages;
mod stage;
mod staleness;
