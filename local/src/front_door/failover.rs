//! How fast a lost region is detected, and how long clients still go there: Route 53's settings and
//! their sum.
//!
//! A client of a lost region waits for two things, one after the other:
//! 1. **Detection**: `threshold` checks in a row fail, one each `interval`. A check of a region
//!    that refuses fails at once; a check of a region that is silent fails after `timeout`.
//! 2. **DNS**: the client's resolver caches the old answer for up to `ttl`.
//!
//! The front door has small values by default, because 96 seconds are long on a laptop. The control
//! API returns both sums, so that a report can replace the local one by that of [`ROUTE_53`].
//!
//! Limits: Route 53 has many checkers, which do not coordinate, and takes a region out when at most
//! 18 percent of them still find it healthy. The time that its name servers need to hear of it is
//! not documented. Neither is counted here.

use std::time::Duration;

/// Settings of health checks and of the records that depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// The pause between two checks of a region.
    pub interval: Duration,
    /// The number of checks in a row that must fail, or pass, before a region's health changes.
    pub threshold: u32,
    /// A check fails if the answer's status has not come by then, counted from the connection
    /// attempt.
    pub timeout: Duration,
    /// How long a client's resolver keeps an answer.
    pub ttl: Duration,
}

/// The fastest that Route 53 offers.
///
/// - interval and threshold: `RequestInterval` is 10 or 30 s, `FailureThreshold` 1 to 10 with a
///   default of 3
///   (<https://docs.aws.amazon.com/Route53/latest/APIReference/API_HealthCheckConfig.html>);
/// - timeout: 4 s to connect, then 2 s for a status of 2xx or 3xx
///   (<https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html>);
/// - TTL: AWS advises 60 s or less for records with health checks, and takes 60 s itself for the
///   aliases whose TTL it names (<https://aws.amazon.com/route53/faqs/>).
pub const ROUTE_53: Failover = Failover {
    interval: Duration::from_secs(10),
    threshold: 3,
    timeout: Duration::from_secs(6),
    ttl: Duration::from_mins(1),
};

/// Thresholds that Route 53 accepts.
const THRESHOLDS: std::ops::RangeInclusive<u32> = 1..=10;

/// For a laptop: a region that refuses is noticed within a second, and forgotten a second later.
/// The timeout is longer than a busy laptop takes for an answer.
impl Default for Failover {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            threshold: 2,
            timeout: Duration::from_secs(1),
            ttl: Duration::from_secs(1),
        }
    }
}

impl Failover {
    /// The longest that a client is sent to a region that refuses connections.
    pub fn of_a_refusal(&self) -> Duration {
        self.interval * self.threshold + self.ttl
    }

    /// The longest that a client is sent to a region that does not answer.
    pub fn of_a_silence(&self) -> Duration {
        self.of_a_refusal() + self.timeout
    }

    /// Whether checks can be made with these settings.
    pub(super) fn is_valid(&self) -> bool {
        !self.interval.is_zero() && !self.timeout.is_zero() && THRESHOLDS.contains(&self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_53_sends_clients_to_a_lost_region_for_a_minute_and_a_half() {
        assert_eq!(ROUTE_53.of_a_refusal(), Duration::from_secs(90));
        assert_eq!(ROUTE_53.of_a_silence(), Duration::from_secs(96));
    }

    #[test]
    fn the_front_door_of_a_laptop_sends_clients_to_a_lost_region_for_seconds() {
        assert_eq!(Failover::default().of_a_silence(), Duration::from_secs(3));
    }

    #[test]
    fn settings_that_no_check_could_follow_are_not_valid() {
        assert!(Failover::default().is_valid() && ROUTE_53.is_valid());
        let never = Failover { interval: Duration::ZERO, ..ROUTE_53 };
        let at_once = Failover { timeout: Duration::ZERO, ..ROUTE_53 };
        for settings in [never, at_once, Failover { threshold: 0, ..ROUTE_53 }] {
            assert!(!settings.is_valid(), "{settings:?}");
        }
    }
}
