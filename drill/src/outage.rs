//! How long customers were without service, and how long they would be on AWS.
//!
//! 1. *Measured*: the longest time that a customer waited for the answer to a request that was not
//!    answered at once.
//! 2. A customer near the dead region is sent there until health checks have noticed, and the old
//!    DNS answer has expired. The longest time for this here is the *local share*, from the front
//!    door's settings.
//! 3. The rest of the measured time is the *software's share*: retries, and the time that the other
//!    regions need. It is zero if the measured time is shorter than the local share.
//! 4. On AWS the same customer waits for Route 53 instead: the *computed share*, the worst case of
//!    its fastest settings. The *sum* is the software's share and the computed share.
//! 5. Other customers are near regions that work. Their measured time is the software's alone.
//!
//! Limits: a customer may have waited for less than the whole local share. The sum is too small by
//! the difference, which is less than the local share. If health checks of a working region fail,
//! as on a machine that is too slow for the load, its customers may be sent to the dead one. The
//! time line shows it; the sum does not count it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::Promise;
use crate::world::FailoverShare;

/// The longest that customers may be without service, in milliseconds: five minutes.
pub const LIMIT_MS: u64 = 300_000;

/// A customer's wait, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// As measured here.
    pub measured_ms: u64,
    /// The software's share of it.
    pub software_ms: u64,
    /// The share of health checks and DNS on AWS, computed.
    pub computed_ms: u64,
    /// The software's share and the computed share.
    pub sum_ms: u64,
}

impl Wait {
    /// For a customer whom the front door sends to the dead region.
    fn for_failover(measured_ms: u64, share: FailoverShare) -> Self {
        let software_ms = measured_ms.saturating_sub(share.here_ms);
        let computed_ms = share.in_the_cloud_ms;
        Self { measured_ms, software_ms, computed_ms, sum_ms: software_ms + computed_ms }
    }

    /// For a customer who is sent to working regions.
    fn for_software(measured_ms: u64) -> Self {
        Self { measured_ms, software_ms: measured_ms, computed_ms: 0, sum_ms: measured_ms }
    }
}

/// The waits of a group of customers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Downtime {
    /// The group: `near taiwan, which died`.
    pub customers: String,
    /// The number of customers. Those who always had an answer at once have no wait.
    pub number: usize,
    pub median: Wait,
    pub longest: Wait,
    /// Each customer's longest wait, sorted.
    pub waits: Vec<Wait>,
}

impl Downtime {
    fn new(customers: String, number: usize, mut waits: Vec<Wait>) -> Self {
        waits.sort_unstable_by_key(|wait| wait.measured_ms);
        let median = waits.get(waits.len() / 2).copied().unwrap_or_default();
        let longest = waits.last().copied().unwrap_or_default();
        Self { customers, number, median, longest, waits }
    }

    /// The rows of the median and of the longest wait.
    pub fn rows(&self) -> [(&'static str, String, String); 5] {
        let row = |what, of: fn(&Wait) -> u64| (what, seconds(of(&self.median)), seconds(of(&self.longest)));
        [
            row("measured", |wait| wait.measured_ms),
            row("the local health checks and DNS, at most", |wait| wait.measured_ms - wait.software_ms),
            row("the software's share", |wait| wait.software_ms),
            row("health checks and DNS on AWS, computed", |wait| wait.computed_ms),
            row("on AWS in all; 300 s are allowed", |wait| wait.sum_ms),
        ]
    }
}

/// The waits of customers near the dead region, and of the others. `near` has each customer's
/// region.
pub fn without_service(
    longest_waits_ms: &BTreeMap<usize, u64>,
    near: &[&str],
    killed: Option<&str>,
    share: FailoverShare,
) -> Vec<Downtime> {
    let (mut number, mut sent_there, mut elsewhere) = (0, Vec::new(), Vec::new());
    for (customer, region) in near.iter().enumerate() {
        let waited = longest_waits_ms.get(&customer).copied();
        if killed == Some(*region) {
            number += 1;
            sent_there.extend(waited.map(|ms| Wait::for_failover(ms, share)));
        } else {
            elsewhere.extend(waited.map(Wait::for_software));
        }
    }
    match killed {
        Some(killed) => vec![
            Downtime::new(format!("near {killed}, which died"), number, sent_there),
            Downtime::new("near other regions".to_owned(), near.len() - number, elsewhere),
        ],
        None => vec![Downtime::new("everywhere".to_owned(), near.len(), elsewhere)],
    }
}

/// Checks that everybody would have been served again within [`LIMIT_MS`].
pub fn promise(groups: &[Downtime]) -> Promise {
    let too_long = groups.iter().flat_map(|group| &group.waits).filter(|wait| wait.sum_ms > LIMIT_MS);
    let too_long =
        too_long.map(|wait| format!("{} on AWS, {} here", seconds(wait.sum_ms), seconds(wait.measured_ms)));
    let examined = groups.iter().map(|group| group.number).sum();
    Promise::new("customers without service over 5 min", examined, too_long)
}

/// `5.4 s`.
pub fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: FailoverShare = FailoverShare { here_ms: 2_300, in_the_cloud_ms: 96_000 };

    fn groups(waits: &[(usize, u64)], killed: Option<&str>) -> Vec<Downtime> {
        let waits = waits.iter().copied().collect();
        without_service(&waits, &["taiwan", "tokyo", "taiwan", "tokyo", "taiwan"], killed, SHARE)
    }

    #[test]
    fn the_local_share_is_replaced_by_the_computed_one() {
        let [lost, _] = &groups(&[(0, 5_400)], Some("taiwan"))[..] else { panic!("two groups") };
        let expected = Wait { measured_ms: 5_400, software_ms: 3_100, computed_ms: 96_000, sum_ms: 99_100 };
        assert_eq!(lost.longest, expected);
        let [lost, _] = &groups(&[(0, 1_000)], Some("taiwan"))[..] else { panic!("two groups") };
        assert_eq!((lost.longest.software_ms, lost.longest.sum_ms), (0, 96_000));
    }

    #[test]
    fn only_customers_near_the_region_that_died_wait_for_dns() {
        let [lost, others] = &groups(&[(0, 5_000), (1, 700)], Some("taiwan"))[..] else {
            panic!("two groups")
        };
        assert_eq!((lost.number, lost.waits.len()), (3, 1));
        assert_eq!((others.number, others.longest), (2, Wait::for_software(700)));
        let [all] = &groups(&[(0, 5_000), (1, 700)], None)[..] else { panic!("one group") };
        assert_eq!((all.number, all.longest.sum_ms), (5, 5_000));
    }

    #[test]
    fn the_median_is_of_those_who_waited() {
        let [lost, others] = &groups(&[(0, 300), (2, 100), (4, 200)], Some("taiwan"))[..] else {
            panic!("two groups")
        };
        assert_eq!((lost.median.measured_ms, lost.longest.measured_ms), (200, 300));
        assert_eq!((others.median, others.waits.len()), (Wait::default(), 0));
    }

    #[test]
    fn a_sum_over_five_minutes_breaks_the_promise() {
        assert!(promise(&groups(&[(0, 206_300)], Some("taiwan"))).is_kept());
        let broken = promise(&groups(&[(0, 206_301), (1, 299_000)], Some("taiwan")));
        assert_eq!((broken.examined, broken.broken), (5, 1));
        assert_eq!(broken.examples, ["300.0 s on AWS, 206.3 s here"]);
    }
}
