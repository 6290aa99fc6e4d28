//! Which regions of a deployment serve, and which are evacuated.
//!
//! No region owns a customer, an order or a session: state merges, and what must be decided once is decided by the payment
//! provider or in the agreement table. So an evacuation takes nothing away from a region, and it does no harm if a region
//! that is evacuated goes on serving because it has not heard of it. An evacuation does two things:
//!
//! 1. The region's `GET /health` answers 503, so that DNS leads clients to other regions (`api-health`).
//! 2. Its *successor* cancels the unpaid orders of the region when they expire (`job-order-cleanup`).
//!
//! # Who evacuates
//! An operator does, for planned work or because a region misbehaves (`admin-regions`). Only an operator readmits such a region.
//!
//! The watch does, when a region is lost ([`due`]). Each region records a heartbeat every minute in the agreement table, and
//! looks at the heartbeats of the others (`job-region-watch`). A region that has no heartbeat for [`LOST_AFTER`] is evacuated,
//! and is readmitted when it has had heartbeats again for [`RETURNED_AFTER`]. Clients do not wait for this: DNS health checks lead them away from
//! a dead region within a minute. The watch keeps them away from a region that comes and goes.
//!
//! # The items
//! One item of the agreement table per region. A change of the evacuation is conditional on its `fence`, which rises with each
//! change: of two operators, or two watches, one succeeds. The watch's evacuation is also conditional on the heartbeat that it
//! saw, so a heartbeat in between refuses it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::core::date_time::as_rfc3339;
use crate::platform::dynamo::DynamoError;

mod dynamo;

pub use dynamo::Regions;

/// How long a region may be without a heartbeat until the watch evacuates it. Three heartbeats, so one that fails is no loss.
pub const LOST_AFTER: Duration = Duration::from_mins(3);

/// How long a region must have had heartbeats without a gap until the watch readmits it. Replication has caught up by then, or the
/// alarm on its latency says that it has not.
pub const RETURNED_AFTER: Duration = Duration::from_mins(10);

/// A region, as the agreement table has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionState {
    /// AWS's name of the region.
    pub region: String,
    /// Its latest heartbeat; none if it never had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// Its evacuation, if it is evacuated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evacuation: Option<Evacuation>,
    /// Rises with each evacuation and each readmission.
    pub fence: u64,
}

/// A sign that a region can do its work: its scheduler, its functions, and the way to the agreement table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Heartbeat {
    #[serde(with = "as_rfc3339")]
    pub at: Timestamp,
    /// Since when there has been no gap of [`LOST_AFTER`].
    #[serde(with = "as_rfc3339")]
    pub since: Timestamp,
}

/// That a region is to get no clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evacuation {
    #[serde(with = "as_rfc3339")]
    pub at: Timestamp,
    /// Who has evacuated it.
    pub by: EvacuatedBy,
    /// The region that does its clean-up meanwhile.
    pub successor: String,
}

/// Who has evacuated a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvacuatedBy {
    /// A person, who also readmits it.
    Operator,
    /// The watch, because it had no heartbeat. The watch readmits it.
    Watch,
}

/// What the watch of a region has to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchAction<'a> {
    /// The region is lost.
    Evacuate(&'a RegionState),
    /// The region is back.
    Readmit(&'a RegionState),
}

/// What a watch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchReport {
    /// The regions that it evacuated.
    pub evacuated: Vec<String>,
    /// The regions that it readmitted.
    pub readmitted: Vec<String>,
    /// How many are evacuated now.
    pub number_evacuated: usize,
}

/// Why a region was not evacuated or readmitted.
#[derive(Debug, thiserror::Error)]
pub enum RegionsError {
    #[error("{0} is no region of this deployment")]
    Unknown(String),
    /// A successor that cannot be one.
    #[error("{0} cannot be the successor: it is the region itself, or it is evacuated")]
    InvalidSuccessor(String),
    /// Nobody would be left.
    #[error("every other region is evacuated; readmit one of them first")]
    LastOne,
    /// Somebody else was faster.
    #[error("the region was evacuated or readmitted meanwhile; look at it again")]
    Changed,
    /// The agreement table did not answer.
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// What the watch of region `own` has to change at `now`.
///
/// It evacuates regions only if `own` serves and has had heartbeats for [`LOST_AFTER`] without a gap. So the region that
/// evacuates remains, and when the agreement table was away and nobody had a heartbeat, everybody has had one by then.
pub fn due<'a>(own: &str, regions: &'a [RegionState], now: Timestamp) -> Vec<WatchAction<'a>> {
    let Some(watching) = regions.iter().find(|state| state.region == own) else { return Vec::new() };
    let is_steady =
        |beat: Heartbeat| is_past(beat.since, LOST_AFTER, now) && !is_past(beat.at, LOST_AFTER, now);
    let may_evacuate = watching.evacuation.is_none() && watching.heartbeat.is_some_and(is_steady);
    let due = regions.iter().filter(|state| state.region != own).filter_map(|state| {
        let heartbeat = state.heartbeat?;
        let is_lost = is_past(heartbeat.at, LOST_AFTER, now);
        match &state.evacuation {
            None => (is_lost && may_evacuate).then_some(WatchAction::Evacuate(state)),
            Some(evacuation) => {
                let is_back = !is_lost && is_past(heartbeat.since, RETURNED_AFTER, now);
                (is_back && evacuation.by == EvacuatedBy::Watch).then_some(WatchAction::Readmit(state))
            }
        }
    });
    due.collect()
}

fn is_past(instant: Timestamp, time: Duration, now: Timestamp) -> bool {
    now.duration_since(instant) >= SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
