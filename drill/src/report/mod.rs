//! The report of a drill: a table for the terminal, `report.json`, and `report.html`, a
//! self-contained page.

mod page;
mod replication;
mod time_line;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::check::Promise;
use crate::journal::{Attempt, AttemptOutcome, Entries, HealthChange, millis};
use crate::outage::{self, Downtime};
use crate::run::Settings;
use crate::world::World;
pub use replication::{LinkLag, Point};

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How long the load lasted.
    pub duration_ms: u64,
    pub customers: usize,
    pub regions: Vec<String>,
    /// What happened to a region.
    pub outage: Option<String>,
    pub promises: Vec<Promise>,
    /// How long customers were without service, those near the dead region first.
    pub without_service: Vec<Downtime>,
    /// Replication between each two regions.
    pub replication: Vec<LinkLag>,
    pub seconds: Vec<Second>,
    /// What happened to regions, by milliseconds since the drill began.
    pub events: Vec<(u64, String)>,
    /// Health changes at the front door. Each region is healthy before its first change.
    pub health: Vec<HealthChange>,
}

/// The attempts of one second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Second {
    pub answered: BTreeMap<String, u64>,
    /// 5xx or 429.
    pub refused: u64,
    pub unanswered: u64,
}

impl Report {
    pub(crate) fn new(
        world: &World,
        settings: &Settings,
        entries: Entries,
        promises: Vec<Promise>,
        without_service: Vec<Downtime>,
    ) -> Self {
        Self {
            duration_ms: millis(settings.duration),
            customers: settings.customers,
            regions: world.regions.keys().cloned().collect(),
            outage: settings.outage.as_ref().map(ToString::to_string),
            promises,
            without_service,
            replication: replication::lags(&entries.samples),
            seconds: seconds(&entries.attempts),
            events: entries.events,
            health: entries.health,
        }
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.promises.iter().all(Promise::is_kept)
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let mut table = format!("{:<40}{:>10}{:>10}\n", "promise: none of these", "examined", "broken");
        for promise in &self.promises {
            // Writing to a `String` does not fail.
            writeln!(table, "{:<40}{:>10}{:>10}", promise.name, promise.examined, promise.broken).ok();
            for example in &promise.examples {
                writeln!(table, "    {example}").ok();
            }
        }
        for group in &self.without_service {
            let who =
                format!("without service: {} of {} {}", group.waits.len(), group.number, group.customers);
            writeln!(table, "\n{who:<50}{:>10}{:>10}", "p50", "longest").ok();
            for (what, median, longest) in group.rows() {
                writeln!(table, "    {what:<46}{median:>10}{longest:>10}").ok();
            }
        }
        let lost = self.health.iter().filter(|change| !change.healthy).map(|change| change.region.as_str());
        let lost = lost.collect::<Vec<_>>().join(", ");
        writeln!(table, "\nunhealthy for the front door, in this order: {lost}").ok();
        writeln!(
            table,
            "\n{:<30}{:>10}{:>10}{:>15}{:>10}",
            "replication", "changes:", "", "age of oldest:", ""
        )
        .ok();
        writeln!(table, "{:<30}{:>10}{:>10}{:>15}{:>10}", "", "p50", "most", "p50", "most").ok();
        for lag in &self.replication {
            let link = format!("    {} to {}", lag.from, lag.to);
            let [median, oldest] = [lag.median_oldest_ms, lag.max_oldest_ms].map(outage::seconds);
            let (pending, most) = (lag.median_pending, lag.max_pending);
            writeln!(table, "{link:<30}{pending:>10}{most:>10}{median:>15}{oldest:>10}").ok();
        }
        table
    }

    /// Writes `report.json` and `report.html` into a folder, which is created if necessary.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(folder.join("report.html"), page::of(self))
    }
}

fn seconds(attempts: &[Attempt]) -> Vec<Second> {
    let mut seconds = Vec::new();
    for attempt in attempts {
        let place = usize::try_from(attempt.at_ms / 1_000).unwrap_or(usize::MAX);
        if seconds.len() <= place {
            seconds.resize_with(place + 1, Second::default);
        }
        let second = &mut seconds[place];
        match attempt.outcome {
            AttemptOutcome::Answered => {
                let region = attempt.region.clone().unwrap_or_else(|| "directly".to_owned());
                *second.answered.entry(region).or_default() += 1;
            }
            AttemptOutcome::Refused => second.refused += 1,
            AttemptOutcome::NoAnswer => second.unanswered += 1,
        }
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(at_ms: u64, region: Option<&str>, outcome: AttemptOutcome) -> Attempt {
        Attempt { at_ms, region: region.map(str::to_owned), outcome }
    }

    #[test]
    fn attempts_are_counted_by_second_and_region() {
        let attempts = [
            attempt(10, Some("tokyo"), AttemptOutcome::Answered),
            attempt(999, Some("tokyo"), AttemptOutcome::Answered),
            attempt(2_000, Some("taiwan"), AttemptOutcome::Refused),
            attempt(2_500, None, AttemptOutcome::NoAnswer),
        ];
        let seconds = seconds(&attempts);
        assert_eq!(seconds[0].answered, BTreeMap::from([("tokyo".to_owned(), 2)]));
        assert_eq!(seconds[1], Second::default());
        assert_eq!((seconds[2].refused, seconds[2].unanswered), (1, 1));
    }
}
