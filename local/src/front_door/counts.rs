//! Counts of requests and sockets of each region.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What went to one region since the front door opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionCounts {
    pub region: String,
    /// Requests and handshakes whose clients were sent there.
    pub requests: u64,
    /// Of these: the region took no connection.
    pub refused: u64,
    /// Of these: the region's connection broke before the whole answer had come.
    pub lost: u64,
    /// Sockets that were opened.
    pub sockets: u64,
    /// Sockets that are open now.
    pub open_sockets: u64,
}

/// The running counts of one region.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: Count,
    pub(super) refused: Count,
    pub(super) lost: Count,
    sockets: Count,
    closed_sockets: Count,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A socket is open for as long as this is held.
pub(super) struct OpenSocket(Arc<Counts>);

impl OpenSocket {
    pub(super) fn count(counts: Arc<Counts>) -> Self {
        counts.sockets.add();
        Self(counts)
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.closed_sockets.add();
    }
}

impl Counts {
    pub(super) fn read(&self, region: &str) -> RegionCounts {
        // Closed before opened: the other order could find more closed than opened.
        let closed = self.closed_sockets.get();
        let sockets = self.sockets.get();
        RegionCounts {
            region: region.to_owned(),
            requests: self.requests.get(),
            refused: self.refused.get(),
            lost: self.lost.get(),
            sockets,
            open_sockets: sockets.saturating_sub(closed),
        }
    }
}
