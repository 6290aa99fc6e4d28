//! Which regions are healthy, by checks like Route 53's.
//!
//! 1. Each region is asked `GET /health` every [`interval`](Failover::interval), over a new
//!    connection.
//! 2. A status of 2xx or 3xx within [`timeout`](Failover::timeout) passes. Everything else fails.
//! 3. [`threshold`](Failover::threshold) failures in a row make a region unhealthy, as many passes
//!    in a row healthy again. One threshold serves both directions, as `FailureThreshold` does.
//! 4. Each change is logged, and kept in a list of bounded length. The control API returns the
//!    health of each region, and since when.
//!
//! A region is healthy until checks fail, like a new health check in Route 53
//! (<https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html>).
//! Limits: one checker, where Route 53 asks from many places.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{Request, StatusCode};
use http_body_util::Empty;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::failover::Failover;
use super::upstream::{ConnectError, Source, connect};
use crate::clock;

/// The path of a health check.
const PATH: &str = "/health";

/// Changes that are kept; a region that comes and goes each second fills the list in four minutes.
const MAX_CHANGES: usize = 256;

/// Whether a region is healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegionHealth {
    pub region: String,
    /// Whether clients are sent there.
    pub healthy: bool,
    /// When that began: the last change, or the opening of the front door.
    pub since: Timestamp,
}

/// A region that became healthy or unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthChange {
    /// When the check that decided it had ended.
    pub at: Timestamp,
    pub region: String,
    /// What it has become.
    pub healthy: bool,
    /// What the last check found.
    pub reason: String,
}

/// The health of all regions, by their index.
#[derive(Debug)]
pub struct Health {
    regions: Vec<Mutex<RegionHealth>>,
    changes: Mutex<VecDeque<HealthChange>>,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("GET {PATH} was answered {0}")]
    Status(StatusCode),
    #[error("GET {PATH} was not answered in time")]
    TimedOut,
    #[error("no connection: {0}")]
    Refused(#[from] ConnectError),
    #[error("GET {PATH} failed: {0}")]
    Broken(#[from] hyper::Error),
    #[error("GET {PATH} can't be asked: {0}")]
    Request(#[from] http::Error),
}

impl Health {
    pub(super) fn new(regions: impl Iterator<Item = String>) -> Self {
        let since = clock::now();
        let healthy = |region| Mutex::new(RegionHealth { region, healthy: true, since });
        Self { regions: regions.map(healthy).collect(), changes: Mutex::default() }
    }

    pub(super) fn is_healthy(&self, region: usize) -> bool {
        lock(&self.regions[region]).healthy
    }

    /// Of each region, in the order of the list.
    pub fn read(&self) -> Vec<RegionHealth> {
        self.regions.iter().map(|region| lock(region).clone()).collect()
    }

    /// The last changes, the oldest one first.
    pub fn changes(&self) -> Vec<HealthChange> {
        lock(&self.changes).iter().cloned().collect()
    }

    /// Checks a region for ever.
    pub(super) async fn watch(&self, region: usize, address: SocketAddr, settings: Failover) {
        let mut ticks = interval(settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut streak = Streak { healthy: true, against: 0 };
        loop {
            ticks.tick().await;
            let checked = timeout(settings.timeout, check(address)).await;
            let found = checked.unwrap_or(Err(Failure::TimedOut));
            if let Some(healthy) = streak.follow(found.is_ok(), settings.threshold) {
                let reason = match found {
                    Ok(status) => format!("GET {PATH} was answered {status}"),
                    Err(failure) => failure.to_string(),
                };
                self.change(region, healthy, reason);
            }
        }
    }

    /// Makes a region healthy or unhealthy.
    pub(super) fn change(&self, region: usize, healthy: bool, reason: String) {
        let at = clock::now();
        let mut known = lock(&self.regions[region]);
        (known.healthy, known.since) = (healthy, at);
        let region = known.region.clone();
        drop(known);
        tracing::warn!(region, healthy, reason, "a region's health changed");
        let mut changes = lock(&self.changes);
        if changes.len() == MAX_CHANGES {
            changes.pop_front();
        }
        changes.push_back(HealthChange { at, region, healthy, reason });
    }
}

/// Nothing here has a half-done state worth refusing.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn check(region: SocketAddr) -> Result<StatusCode, Failure> {
    let mut sender = connect(region, Source::System).await?;
    let request = Request::get(PATH).header(HOST, region.to_string()).header(CONNECTION, "close");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = answer.status();
    if status.is_success() || status.is_redirection() { Ok(status) } else { Err(Failure::Status(status)) }
}

/// The last checks of one region.
struct Streak {
    healthy: bool,
    /// The number of checks in a row with the opposite result.
    against: u32,
}

impl Streak {
    /// The new health, if this check changes it.
    fn follow(&mut self, passed: bool, threshold: u32) -> Option<bool> {
        self.against = if passed == self.healthy { 0 } else { self.against + 1 };
        if self.against < threshold {
            return None;
        }
        *self = Self { healthy: passed, against: 0 };
        Some(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_changes_after_as_many_checks_in_a_row_as_the_threshold_says() {
        let mut streak = Streak { healthy: true, against: 0 };
        let checks = [false, false, true, false, false, false, false, true, true, false, true, true, true];
        let changes: Vec<_> = checks.iter().map(|passed| streak.follow(*passed, 3)).collect();
        let mut expected = [None; 13];
        expected[5] = Some(false);
        expected[12] = Some(true);
        assert_eq!(changes, expected);
    }

    #[test]
    fn the_list_of_changes_keeps_the_last_ones() {
        let health = Health::new(["tokyo".to_owned()].into_iter());
        for round in 0..=MAX_CHANGES {
            health.change(0, round % 2 == 1, round.to_string());
        }
        let changes = health.changes();
        assert_eq!((changes.len(), changes[0].reason.as_str()), (MAX_CHANGES, "1"));
    }

    #[test]
    fn what_is_believed_of_a_region_is_told_with_the_time_since_when() {
        let health = Health::new(["taiwan", "tokyo"].map(str::to_owned).into_iter());
        let opened = health.read()[1].since;
        health.change(1, false, String::new());
        let [taiwan, tokyo] = &health.read()[..] else { panic!("two regions") };
        assert_eq!((taiwan.healthy, taiwan.since), (true, opened));
        assert_eq!((tokyo.healthy, tokyo.since), (false, health.changes()[0].at));
    }
}
