//! Which uploads have to be looked after, and when.
//!
//! An upload that is not READY is in the index `sweep` until its row is gone: whatever becomes of a client, its objects and
//! its share of the quota come back.

use std::time::Duration;

use crate::ids::UploadId;
use crate::shards::spread;

/// Shards of a region's uploads that have to be looked after. Part of the data: raising it is safe, lowering it hides rows.
pub const SWEEP_SHARDS: u8 = 8;

/// How long a deleted upload keeps its row: until its links have ended and no request that began before is still at it. An
/// hour for each would do.
pub const TOMBSTONE: Duration = Duration::from_hours(2);

/// An eighth of a region's uploads that have to be looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SweepShard(u8);

impl SweepShard {
    /// Where an upload belongs.
    pub fn of(upload_id: &UploadId) -> Self {
        Self(spread(upload_id.as_str(), SWEEP_SHARDS))
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SWEEP_SHARDS).map(Self)
    }

    /// The index's key in `region`: `local#3`.
    pub fn key(self, region: &str) -> String {
        format!("{region}#{}", self.0)
    }
}
