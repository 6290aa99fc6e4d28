//! Which regions of a deployment serve, and which are evacuated.
//!
//! No region owns a customer, an order or a session: state merges, and the payment provider or the
//! agreement table decides what must be decided once. So an evacuation takes no data away from a
//! region, and an evacuated region that does not know of it yet may go on serving. An evacuation
//! does two things:
//!
//! 1. The region's `GET /health` answers 503, so that DNS leads clients to other regions
//!    (`api-health`).
//! 2. The region's *successor* cancels its unpaid orders when they expire (`job-order-cleanup`).
//!
//! # Who evacuates
//! An operator evacuates a region for planned work or because the region misbehaves
//! (`admin-regions`). Only an operator readmits such a region.
//!
//! The watch evacuates a lost region ([`due`]). Each region records a heartbeat every minute in the
//! agreement table and reads the heartbeats of the others (`job-region-watch`). A region without a
//! heartbeat for [`LOST_AFTER`] is evacuated, and is readmitted after [`RETURNED_AFTER`] of
//! heartbeats. Clients do not wait for this: DNS health checks lead them away from a dead region
//! within a minute. The watch keeps them away from a region that comes and goes.
//!
//! # The items
//! One item of the agreement table per region. A change of the evacuation is conditional on its
//! `fence`, which rises with each change: of two operators, or two watches, one succeeds. An
//! evacuation by the watch is also conditional on the heartbeat that the watch read, so that a
//! newer heartbeat prevents it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::core::date_time::as_rfc3339;
use crate::platform::dynamo::DynamoError;

mod dynamo;

pub use dynamo::Regions;

/// A region is lost after this time without a heartbeat. That is three heartbeats, so a single
/// failed one is harmless.
pub const LOST_AFTER: Duration = Duration::from_mins(3);

/// A region is readmitted after this time of heartbeats without a gap. By then replication has
/// caught up, or the alarm on its latency has fired.
pub const RETURNED_AFTER: Duration = Duration::from_mins(10);

/// A region's item in the agreement table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionState {
    /// The AWS name of the region.
    pub region: String,
    /// The latest heartbeat; `None` if there never was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evacuation: Option<Evacuation>,
    /// Rises with each evacuation and each readmission.
    pub fence: u64,
}

/// A sign that a region works: its scheduler, its functions, and its connection to the agreement
/// table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Heartbeat {
    #[serde(with = "as_rfc3339")]
    pub at: Timestamp,
    /// Since when there has been no gap of [`LOST_AFTER`].
    #[serde(with = "as_rfc3339")]
    pub since: Timestamp,
}

/// The region should get no clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evacuation {
    #[serde(with = "as_rfc3339")]
    pub at: Timestamp,
    pub by: EvacuatedBy,
    /// The region that does the clean-up meanwhile.
    pub successor: String,
}

/// Who has evacuated a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EvacuatedBy {
    /// An operator, who also readmits the region.
    Operator,
    /// The watch, because the region had no heartbeat. The watch readmits it.
    Watch,
}

/// A change that the watch should make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchAction<'a> {
    /// The region is lost.
    Evacuate(&'a RegionState),
    /// The region is back.
    Readmit(&'a RegionState),
}

/// What the watch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchReport {
    pub evacuated: Vec<String>,
    pub readmitted: Vec<String>,
    /// The number of regions that are evacuated now.
    pub number_evacuated: usize,
}

/// Why a region was not evacuated or readmitted.
#[derive(Debug, thiserror::Error)]
pub enum RegionsError {
    #[error("{0} is not a region of this deployment")]
    Unknown(String),
    /// The successor is evacuated, unknown, or the region itself.
    #[error("{0} cannot be the successor: it is the region itself, or it is evacuated")]
    InvalidSuccessor(String),
    /// No region would be left to serve.
    #[error("every other region is evacuated; readmit one of them first")]
    LastOne,
    /// Another caller changed the region first.
    #[error("the region was evacuated or readmitted meanwhile; show the regions again")]
    Changed,
    /// The agreement table did not answer.
    #[error(transparent)]
    Store(#[from] DynamoError),
}

/// What the watch of region `own` has to change at `now`.
///
/// It evacuates regions only if `own` serves and has had heartbeats for [`LOST_AFTER`] without a
/// gap. So the evacuating region remains, and after an outage of the agreement table, when no
/// region had heartbeats, every region has had one before any is evacuated.
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
