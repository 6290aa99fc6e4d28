//! A delivery of the schedule: records a heartbeat, and evacuates or readmits regions if necessary.
//!
//! Deliveries need no lock. Each region has a watch, and a second run changes nothing.

use std::sync::Arc;

use serde_json::{Value, json};
use sojourn::coordination::regions::{Regions, WatchReport};
use sojourn::edge::schedule::{Delivery, JobError};
use sojourn::platform::telemetry::{self, Metric};

/// What the function works with.
pub(crate) struct App {
    /// `None` in a single region.
    pub(crate) regions: Option<Regions>,
}

/// Answers a delivery.
pub(crate) async fn handle(app: Arc<App>, delivery: Delivery) -> Result<Value, JobError> {
    let Some(regions) = &app.regions else { return Ok(json!({"outcome": "single-region"})) };
    let watched = regions.watch(delivery.deadline).await;
    let WatchReport { evacuated, readmitted, number_evacuated } =
        watched.map_err(|error| JobError::Work { slot: "region-watch".to_owned(), source: error.into() })?;
    telemetry::measure(Metric::EvacuatedRegions, number_evacuated.try_into().unwrap_or(u64::MAX));
    Ok(json!({"outcome": "watched", "evacuated": evacuated, "readmitted": readmitted}))
}
