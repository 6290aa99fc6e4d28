//! Which uploads have to be looked after, and when.
//!
//! An upload is in the index `sweep` from its announcement until nobody can write an object of it any more: whatever becomes of
//! a client, its objects go and its share of the quota comes back. One that is READY then leaves the index; of any other the
//! row is removed.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Upload;
use crate::core::date_time::as_rfc3339;
use crate::core::ids::{UploadId, UserId};
use crate::core::shards::{ShardPage, spread};
use crate::files::links::LINK_LIFETIME;
use crate::platform::dynamo::DynamoError;

/// Shards of a region's uploads that have to be looked after. Part of the data: raising it is safe, lowering it hides rows.
pub const SWEEP_SHARDS: u8 = 8;

/// How long after an upload was announced its links may write: [`LINK_LIFETIME`] until they end, and an hour for what began
/// just before that, and for clocks that differ.
pub const LINKS_WRITE: Duration = LINK_LIFETIME.saturating_add(Duration::from_hours(1));

/// How long after an upload ended a completion may write that began before. The request lasts half a minute, but S3 may go on
/// after its caller hung up.
pub const COMPLETIONS_WRITE: Duration = Duration::from_hours(1);

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

/// An upload in a shard of those that have to be looked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepEntry {
    /// Whose it is.
    pub owner_id: UserId,
    /// The upload.
    pub upload_id: UploadId,
    /// When it has to be looked after.
    #[serde(with = "as_rfc3339")]
    pub sweep_at: Timestamp,
}

/// What became of the end of an upload, or of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It has ended just now, by this call.
    Done,
    /// It stands otherwise than it was seen. Nothing was changed.
    Refused,
    /// Others were at the same rows. Nothing was changed.
    Busy,
    /// The caller's guard refused: it was overtaken, and must stop. Nothing was changed. Only where there is a guard.
    Fenced,
}

/// The rows of uploads, for who looks after them.
pub trait SweepRows: Send + Sync {
    /// A condition of the caller's, checked in the same transaction.
    type Guard: Clone + Send + Sync;

    /// A page of this region's uploads in `shard` that are to be looked after before `due_before`. Eventually consistent:
    /// [`SweepRows::read`] looks again.
    fn page(
        &self,
        shard: SweepShard,
        due_before: Timestamp,
        after: Option<SweepEntry>,
    ) -> impl Future<Output = Result<ShardPage<SweepEntry>, DynamoError>> + Send;

    /// The upload as it stands, if it is still to be looked after before `due_before`. Consistent.
    fn read(
        &self,
        entry: &SweepEntry,
        due_before: Timestamp,
    ) -> impl Future<Output = Result<Option<Upload>, DynamoError>> + Send;

    /// The status that was seen to DELETED.
    fn expire(
        &self,
        seen: &Upload,
        guard: Self::Guard,
    ) -> impl Future<Output = Result<Ending, DynamoError>> + Send;

    /// Deletes the row of an upload that is DELETED and to be looked after before `due_before`, and gives it back to the quota,
    /// both or neither. That condition is enough: who was overtaken does no harm.
    fn forget(
        &self,
        seen: &Upload,
        due_before: Timestamp,
    ) -> impl Future<Output = Result<Ending, DynamoError>> + Send;

    /// Takes an upload that is READY, and to be looked after before `due_before`, out of the index.
    fn settle(
        &self,
        seen: &Upload,
        due_before: Timestamp,
    ) -> impl Future<Output = Result<Ending, DynamoError>> + Send;

    /// Lets an upload be looked after at `later`, if it still is to be when the entry says.
    fn put_behind(
        &self,
        entry: &SweepEntry,
        later: Timestamp,
    ) -> impl Future<Output = Result<(), DynamoError>> + Send;
}
