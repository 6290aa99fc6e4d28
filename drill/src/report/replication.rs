//! The lag of replication, for each link.

use serde::Serialize;

use crate::journal::Sample;
use crate::world::Link;

/// The replication from one region to another, as sampled while the load ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkLag {
    /// Where changes were made.
    pub from: String,
    pub to: String,
    /// Changes that had not arrived, the median of all samples.
    pub median_pending: u64,
    pub max_pending: u64,
    /// The age of the oldest of them, the median; a sample without any counts as zero.
    pub median_oldest_ms: u64,
    pub max_oldest_ms: u64,
    /// The samples, in their order.
    pub series: Vec<Point>,
}

/// A link at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// Milliseconds since the drill began.
    pub at_ms: u64,
    /// Changes that had not arrived.
    pub pending: u64,
    /// The age of the oldest of them; zero if there was none.
    pub oldest_ms: u64,
}

impl LinkLag {
    fn new(link: &Link, series: Vec<Point>) -> Self {
        let sorted = |of: fn(&Point) -> u64| {
            let mut values: Vec<u64> = series.iter().map(of).collect();
            values.sort_unstable();
            values
        };
        let median = |sorted: &[u64]| sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let most = |sorted: &[u64]| sorted.last().copied().unwrap_or_default();
        let (pending, oldest) = (sorted(|point| point.pending), sorted(|point| point.oldest_ms));
        Self {
            from: link.from.clone(),
            to: link.to.clone(),
            median_pending: median(&pending),
            max_pending: most(&pending),
            median_oldest_ms: median(&oldest),
            max_oldest_ms: most(&oldest),
            series,
        }
    }
}

/// Each link of the samples.
pub(super) fn lags(samples: &[Sample]) -> Vec<LinkLag> {
    let links = samples.first().map_or(&[][..], |sample| &sample.links);
    let is_same = |one: &Link, other: &Link| (&one.from, &one.to) == (&other.from, &other.to);
    let lag = |link: &Link| {
        let point = |sample: &Sample| {
            let found = sample.links.iter().find(|other| is_same(link, other))?;
            let oldest_ms = found.oldest_ms.unwrap_or_default();
            Some(Point { at_ms: sample.at_ms, pending: found.pending, oldest_ms })
        };
        LinkLag::new(link, samples.iter().filter_map(point).collect())
    };
    links.iter().map(lag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: &str, to: &str, pending: u64, oldest_ms: Option<u64>) -> Link {
        Link { from: from.to_owned(), to: to.to_owned(), pending, oldest_ms }
    }

    #[test]
    fn each_link_has_its_samples_their_median_and_the_most() {
        let sample = |at_ms, pending, oldest_ms| Sample {
            at_ms,
            links: vec![link("a", "b", pending, oldest_ms), link("b", "a", 0, None)],
        };
        let samples = [sample(250, 0, None), sample(500, 7, Some(21_000)), sample(750, 2, Some(300))];
        let [there, back] = &lags(&samples)[..] else { panic!("two links") };
        assert_eq!((there.median_pending, there.max_pending), (2, 7));
        assert_eq!((there.median_oldest_ms, there.max_oldest_ms), (300, 21_000));
        assert_eq!(there.series[1], Point { at_ms: 500, pending: 7, oldest_ms: 21_000 });
        assert_eq!((back.max_pending, back.series.len()), (0, 3));
        assert_eq!(lags(&[]), []);
    }
}
