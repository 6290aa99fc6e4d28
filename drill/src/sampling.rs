//! Samples the regions during the load: the state of replication, and each region's health at the
//! front door.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use sojourn::core::clock::{Clock, SystemClock};
use tokio::time::{MissedTickBehavior, interval};

use crate::journal::Journal;
use crate::world::{RegionHealth, World};

/// The sampling interval.
const SAMPLE: Duration = Duration::from_millis(250);

/// Records a sample four times a second, and each change of health at the time at which the front
/// door noticed it. Ends when it is dropped.
pub async fn sample(world: &World, journal: &Journal) -> Infallible {
    // A region is healthy until checks say otherwise.
    let mut healthy: BTreeMap<String, bool> = world.regions.keys().map(|name| (name.clone(), true)).collect();
    let mut ticks = interval(SAMPLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Without an answer the line has a gap.
        let Ok(overview) = world.overview().await else { continue };
        for region in &overview.regions {
            if healthy.insert(region.name.clone(), region.healthy) != Some(region.healthy) {
                journal.health_changed(ago(region), &region.name, region.healthy);
            }
        }
        journal.sample(overview.links);
    }
}

/// How long ago the region's health changed.
fn ago(region: &RegionHealth) -> Duration {
    // Negative if the clock was set back.
    Duration::try_from(SystemClock.now().duration_since(region.since)).unwrap_or_default()
}
