//! A delivery of the schedule: a heartbeat, and what is due.
//!
//! Deliveries need no lock. Each region has a watch, and one that runs twice changes nothing the second time.

use std::sync::Arc;

use serde_json::{Value, json};
use sojourn::coordination::regions::{Due, Regions, RegionsError, due};
use sojourn::core::clock::SharedClock;
use sojourn::edge::schedule::{Delivery, JobError};
use sojourn::platform::telemetry::{self, Metric};

/// What the function works with.
pub(crate) struct App {
    /// None in a single region.
    pub(crate) regions: Option<Regions>,
    pub(crate) clock: SharedClock,
}

/// Answers a delivery.
pub(crate) async fn handle(app: Arc<App>, delivery: Delivery) -> Result<Value, JobError> {
    let Some(regions) = &app.regions else { return Ok(json!({"outcome": "single-region"})) };
    let watched = watch(regions, &app.clock, delivery).await;
    watched.map_err(|error| JobError::Work { slot: "region-watch".to_owned(), source: error.into() })
}

async fn watch(regions: &Regions, clock: &SharedClock, delivery: Delivery) -> Result<Value, RegionsError> {
    regions.record_heartbeat().await?;
    let states = regions.all(delivery.deadline).await?;
    let (mut evacuated, mut readmitted) = (Vec::new(), Vec::new());
    for step in due(regions.own(), &states, clock.now()) {
        let (region, changed, list) = match step {
            Due::Evacuate(state) => (&state.region, regions.evacuate_lost(state).await, &mut evacuated),
            Due::Readmit(state) => (&state.region, regions.readmit_seen(state).await, &mut readmitted),
        };
        match changed {
            Ok(_) => {
                tracing::warn!(region, ?step, "the watch has changed a region");
                list.push(region.clone());
            }
            // The region has had a heartbeat, or another watch was faster.
            Err(RegionsError::Changed) => tracing::info!(region, "the region has changed meanwhile"),
            Err(error) => return Err(error),
        }
    }
    let before = states.iter().filter(|state| state.evacuation.is_some()).count();
    let number = before + evacuated.len() - readmitted.len();
    telemetry::measure(Metric::EvacuatedRegions, number.try_into().unwrap_or(u64::MAX));
    Ok(json!({"outcome": "watched", "evacuated": evacuated, "readmitted": readmitted}))
}
