//! Which regions reach each other, and the delay between them.
//!
//! Two regions reach each other if both run and the pair is not partitioned. The witness of
//! strongly consistent tables counts as a region here.
//!
//! Work between regions is done in [`Network::holding`], which a cut or a stop does not interrupt:
//! when [`Network::cut`] has returned, no message of that pair is in flight.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

/// How long a change takes from one region to another: anything between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    pub min: Duration,
    pub max: Duration,
}

impl Lag {
    /// Every change takes this long.
    pub const fn always(lag: Duration) -> Self {
        Self { min: lag, max: lag }
    }

    /// The lag at `luck`, which is from 0 to 1.
    fn at(self, luck: f64) -> Duration {
        self.min + self.max.saturating_sub(self.min).mul_f64(luck)
    }

    /// When a change with that luck arrives, in microseconds since 1970.
    pub(in crate::services) fn due_us(self, written_us: i64, luck: f64) -> i64 {
        written_us.saturating_add(i64::try_from(self.at(luck).as_micros()).unwrap_or(i64::MAX))
    }
}

impl Default for Lag {
    /// Mostly within a second, as AWS says of tables (DynamoDB developer guide, "Global tables core
    /// concepts").
    fn default() -> Self {
        Self { min: Duration::from_millis(200), max: Duration::from_secs(1) }
    }
}

/// Between the regions of this process.
#[derive(Debug, Default)]
pub struct Network(RwLock<Map>);

/// The state of the network at one moment.
#[derive(Debug, Default)]
pub struct Map {
    /// Pairs, the lesser name first.
    cuts: BTreeSet<(String, String)>,
    stopped: BTreeSet<String>,
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.min(b).to_owned(), a.max(b).to_owned())
}

impl Map {
    /// Whether `a` and `b` reach each other. A region that runs reaches itself.
    pub fn reach(&self, a: &str, b: &str) -> bool {
        let run = !self.stopped.contains(a) && !self.stopped.contains(b);
        run && (a == b || !self.cuts.contains(&pair(a, b)))
    }

    /// Whether `region` reaches more than half of `members`.
    pub(in crate::services) fn has_majority(&self, region: &str, members: &[String]) -> bool {
        2 * members.iter().filter(|member| self.reach(region, member)).count() > members.len()
    }
}

impl Network {
    /// Does `work` on the map as it is. Nothing changes it meanwhile.
    pub fn holding<T>(&self, work: impl FnOnce(&Map) -> T) -> T {
        work(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Cuts a pair.
    pub fn cut(&self, a: &str, b: &str) {
        self.change(|map| map.cuts.insert(pair(a, b)));
    }

    /// Takes back every cut.
    pub fn heal(&self) {
        self.change(|map| map.cuts.clear());
    }

    /// Stops a region.
    pub fn stop(&self, region: &str) {
        self.change(|map| map.stopped.insert(region.to_owned()));
    }

    /// Starts a region again.
    pub fn start(&self, region: &str) {
        self.change(|map| map.stopped.remove(region));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Map) -> T) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<String> {
        ["tokyo", "singapore", "witness"].map(str::to_owned).into()
    }

    #[test]
    fn a_cut_is_symmetric_and_leaves_other_pairs_alone() {
        let network = Network::default();
        network.cut("tokyo", "singapore");
        network.holding(|map| {
            assert!(!map.reach("singapore", "tokyo"));
            assert!(map.reach("tokyo", "witness"));
        });
        network.heal();
        assert!(network.holding(|map| map.reach("singapore", "tokyo")));
    }

    #[test]
    fn a_region_that_is_stopped_reaches_nobody_until_it_starts() {
        let network = Network::default();
        network.stop("tokyo");
        network.heal();
        assert!(!network.holding(|map| map.reach("tokyo", "tokyo") || map.reach("tokyo", "witness")));
        network.start("tokyo");
        assert!(network.holding(|map| map.reach("tokyo", "witness")));
    }

    #[test]
    fn a_majority_is_two_of_three_with_the_region_itself() {
        let network = Network::default();
        network.cut("tokyo", "singapore");
        assert!(network.holding(|map| map.has_majority("tokyo", &members())));
        network.cut("tokyo", "witness");
        assert!(!network.holding(|map| map.has_majority("tokyo", &members())));
        assert!(network.holding(|map| map.has_majority("singapore", &members())));
    }
}
