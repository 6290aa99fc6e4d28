//! One name of the front door, as DNS would answer for it: latency records with health checks, and
//! the caches of clients.
//!
//! 1. A client that says where it is gets the nearest healthy region; another one gets the healthy
//!    regions in turn.
//! 2. If no region is healthy, all count as healthy
//!    (<https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/health-checks-how-route-53-chooses-records.html>).
//! 3. The answer is cached for the TTL, whatever happens to the region.
//!
//! **Whose cache.** A machine resolves a name, not a connection: a client that connects again after
//! a failure still gets the old answer. So the answer for a place is kept for the client's address
//! and that place, as by the machine's resolver, and a new connection does not get around the TTL.
//! Clients without a place cannot be told apart: every client on a laptop is 127.0.0.1. Their
//! answer is cached per connection, and each connection gets the next region.
//!
//! Limits: clients of the same address and place share a cache, so they change regions in the same
//! moment. A client with an address of its own (127.0.0.2, …) has a cache of its own. A connection
//! that is kept open asks again when the TTL has passed; many real clients stay with their
//! connection for as long as it lives. Sockets always do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::health::Health;
use super::places::{Place, Places};

/// Answers that are kept, for machines and places together. One more is given and not kept.
const MAX_ANSWERS: usize = 16_384;

/// The answers for one name.
#[derive(Debug)]
pub(super) struct Resolver {
    places: Arc<Places>,
    health: Arc<Health>,
    regions: usize,
    ttl: Duration,
    next: AtomicUsize,
    machines: Mutex<HashMap<(IpAddr, Place), Answer>>,
}

/// A region, and until when a client goes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    region: usize,
    until: Instant,
}

impl Resolver {
    pub(super) fn new(places: Arc<Places>, health: Arc<Health>, regions: usize, ttl: Duration) -> Self {
        Self { places, health, regions, ttl, next: AtomicUsize::new(0), machines: Mutex::default() }
    }

    /// Where a client that is at `place` goes.
    pub(super) fn near(&self, client: IpAddr, place: Place) -> usize {
        let now = Instant::now();
        // A map has no half-done state worth refusing.
        let mut machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = machines.get(&(client, place)).filter(|kept| now < kept.until) {
            return kept.region;
        }
        let region = self.first_healthy(self.places.nearest(place).iter().copied());
        if machines.len() >= MAX_ANSWERS {
            machines.retain(|_, kept| now < kept.until);
        }
        if machines.len() < MAX_ANSWERS {
            machines.insert((client, place), Answer { region, until: now + self.ttl });
        }
        region
    }

    /// Where the client of a connection goes that has said nothing. `kept` is the connection's last
    /// answer.
    pub(super) fn anywhere(&self, kept: &mut Option<Answer>) -> usize {
        let now = Instant::now();
        if let Some(kept) = kept.filter(|kept| now < kept.until) {
            return kept.region;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let healthy: Vec<usize> =
            (0..self.regions).filter(|region| self.health.is_healthy(*region)).collect();
        let region = match healthy.as_slice() {
            [] => turn % self.regions,
            healthy => healthy[turn % healthy.len()],
        };
        *kept = Some(Answer { region, until: now + self.ttl });
        region
    }

    fn first_healthy(&self, mut nearest: impl Iterator<Item = usize> + Clone) -> usize {
        let all_count = nearest.clone().next().unwrap_or_default();
        nearest.find(|region| self.health.is_healthy(*region)).unwrap_or(all_count)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const REGIONS: [&str; 3] = ["taiwan", "tokyo", "singapore"];
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const TTL: Duration = Duration::from_secs(1);
    const ALMOST: Duration = Duration::from_millis(999);

    fn resolver() -> Resolver {
        let health = Health::new(REGIONS.iter().map(ToString::to_string));
        Resolver::new(Arc::new(Places::new(&REGIONS)), Arc::new(health), REGIONS.len(), TTL)
    }

    impl Resolver {
        fn set(&self, region: &str, healthy: bool) {
            let region = REGIONS.iter().position(|name| *name == region).unwrap();
            self.health.change(region, healthy, String::new());
        }

        fn ask(&self, place: &str) -> &'static str {
            REGIONS[self.near(HERE, self.places.find(place).unwrap())]
        }

        /// What a new connection gets.
        fn turn(&self) -> &'static str {
            REGIONS[self.anywhere(&mut None)]
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_gets_the_nearest_region_that_is_healthy() {
        let resolver = resolver();
        assert_eq!(resolver.ask("tokyo"), "tokyo");
        resolver.set("tokyo", false);
        tokio::time::advance(TTL).await;
        assert_eq!(resolver.ask("tokyo"), "taiwan");
        resolver.set("taiwan", false);
        tokio::time::advance(TTL).await;
        assert_eq!(resolver.ask("tokyo"), "singapore");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_the_ttl_and_no_longer() {
        let resolver = resolver();
        assert_eq!(resolver.ask("tokyo"), "tokyo");
        resolver.set("tokyo", false);
        tokio::time::advance(ALMOST).await;
        assert_eq!(resolver.ask("tokyo"), "tokyo");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(resolver.ask("tokyo"), "taiwan");
    }

    #[tokio::test(start_paused = true)]
    async fn each_machine_has_its_own_answers() {
        let resolver = resolver();
        let tokyo = resolver.places.find("tokyo").unwrap();
        assert_eq!(resolver.near(HERE, tokyo), 1);
        resolver.set("tokyo", false);
        assert_eq!(resolver.near(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), tokyo), 0);
        assert_eq!(resolver.near(HERE, tokyo), 1);
    }

    #[test]
    fn if_no_region_is_healthy_all_count_as_healthy() {
        let resolver = resolver();
        for region in REGIONS {
            resolver.set(region, false);
        }
        assert_eq!(resolver.ask("singapore"), "singapore");
        assert_eq!([resolver.turn(), resolver.turn(), resolver.turn()], REGIONS);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_name_no_place_get_the_healthy_regions_in_turn() {
        let resolver = resolver();
        assert_eq!([resolver.turn(), resolver.turn(), resolver.turn()], REGIONS);
        resolver.set("taiwan", false);
        let turns = [resolver.turn(), resolver.turn(), resolver.turn()];
        assert!(!turns.contains(&"taiwan") && turns.contains(&"tokyo") && turns.contains(&"singapore"));
        let mut connection = None;
        let first = resolver.anywhere(&mut connection);
        assert_eq!(resolver.anywhere(&mut connection), first);
        tokio::time::advance(TTL).await;
        assert_ne!(resolver.anywhere(&mut connection), first);
    }

    #[test]
    fn the_cache_is_bounded() {
        let resolver = resolver();
        let tokyo = resolver.places.find("tokyo").unwrap();
        for machine in 0..=u32::try_from(MAX_ANSWERS).unwrap() {
            resolver.near(IpAddr::V4(Ipv4Addr::from_bits(machine)), tokyo);
        }
        assert_eq!(resolver.machines.lock().unwrap().len(), MAX_ANSWERS);
    }
}
