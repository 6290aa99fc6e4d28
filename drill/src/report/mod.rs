//! What came of a drill: a table for the terminal, `report.json`, and `report.html`, one page that needs nothing else.

mod page;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::check::Promise;
use crate::journal::{Attempt, Journal, Outcome, millis};
use crate::run::Settings;
use crate::world::World;

/// The report.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How long the load lasted.
    pub duration_ms: u64,
    /// How many customers there were.
    pub customers: usize,
    /// The regions.
    pub regions: Vec<String>,
    /// The one that died.
    pub killed: Option<String>,
    /// Each promise.
    pub promises: Vec<Promise>,
    /// How long customers were without service.
    pub without_service: WithoutService,
    /// Requests by second.
    pub seconds: Vec<Second>,
    /// What happened to regions, by milliseconds since the drill began.
    pub events: Vec<(u64, String)>,
}

/// How long customers waited for the answer to a request that was not answered at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WithoutService {
    /// Customers who waited at all.
    pub customers: usize,
    /// Of each customer's longest wait, the median.
    pub median_ms: u64,
    /// The longest of all.
    pub longest_ms: u64,
}

/// The attempts of one second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Second {
    /// Answered, by region.
    pub answered: BTreeMap<String, u64>,
    /// 5xx or 429.
    pub refused: u64,
    /// No answer.
    pub unanswered: u64,
}

impl Report {
    pub(crate) fn new(world: &World, settings: &Settings, journal: &Journal, promises: Vec<Promise>) -> Self {
        let entries = journal.entries();
        let longest = entries.waits_ms.values().filter_map(|waits| waits.iter().max().copied());
        Self {
            duration_ms: millis(settings.duration),
            customers: settings.customers,
            regions: world.regions.keys().cloned().collect(),
            killed: settings.kill.clone(),
            promises,
            without_service: without_service(longest.collect()),
            seconds: seconds(&entries.attempts),
            events: entries.events.clone(),
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
            // A `String` takes whatever is written.
            writeln!(table, "{:<40}{:>10}{:>10}", promise.name, promise.examined, promise.broken).ok();
            for example in &promise.examples {
                writeln!(table, "    {example}").ok();
            }
        }
        let WithoutService { customers, median_ms, longest_ms } = self.without_service;
        writeln!(
            table,
            "without service: {customers} of {} customers, median {median_ms} ms, longest {longest_ms} ms",
            self.customers
        )
        .ok();
        table
    }

    /// Writes `report.json` and `report.html` into a folder, which is made if it isn't there.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(folder.join("report.html"), page::of(self))
    }
}

fn without_service(mut longest: Vec<u64>) -> WithoutService {
    longest.sort_unstable();
    WithoutService {
        customers: longest.len(),
        median_ms: longest.get(longest.len() / 2).copied().unwrap_or_default(),
        longest_ms: longest.last().copied().unwrap_or_default(),
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
            Outcome::Answered => {
                let region = attempt.region.clone().unwrap_or_else(|| "directly".to_owned());
                *second.answered.entry(region).or_default() += 1;
            }
            Outcome::Refused => second.refused += 1,
            Outcome::NoAnswer => second.unanswered += 1,
        }
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(at_ms: u64, region: Option<&str>, outcome: Outcome) -> Attempt {
        Attempt { at_ms, region: region.map(str::to_owned), outcome }
    }

    #[test]
    fn attempts_are_counted_by_second_and_region() {
        let attempts = [
            attempt(10, Some("tokyo"), Outcome::Answered),
            attempt(999, Some("tokyo"), Outcome::Answered),
            attempt(2_000, Some("taiwan"), Outcome::Refused),
            attempt(2_500, None, Outcome::NoAnswer),
        ];
        let seconds = seconds(&attempts);
        assert_eq!(seconds[0].answered, BTreeMap::from([("tokyo".to_owned(), 2)]));
        assert_eq!(seconds[1], Second::default());
        assert_eq!((seconds[2].refused, seconds[2].unanswered), (1, 1));
    }

    #[test]
    fn the_median_is_of_each_customers_longest_wait() {
        assert_eq!(without_service(vec![]), WithoutService::default());
        let waited = without_service(vec![300, 100, 200]);
        assert_eq!(waited, WithoutService { customers: 3, median_ms: 200, longest_ms: 300 });
    }
}
