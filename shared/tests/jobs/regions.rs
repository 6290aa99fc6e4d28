//! Evacuations in the agreement table of three regions, of which two have the table.

use std::sync::Arc;
use std::time::Duration;

use sojourn::coordination::regions::{EvacuatedBy, LOST_AFTER, RETURNED_AFTER, Regions, RegionsError};
use sojourn::core::clock::ManualClock;
use sojourn::core::deadline::Deadline;
use sojourn::platform::dynamo::{Agreement, Replicas};
use sojourn_testing::Regions as Stores;

const TOKYO: &str = "tokyo";
const SINGAPORE: &str = "singapore";
const TAIWAN: &str = "taiwan";
const ALL: [&str; 3] = [TOKYO, SINGAPORE, TAIWAN];
const MINUTE: Duration = Duration::from_mins(1);

struct World {
    stores: Stores,
    clock: Arc<ManualClock>,
}

impl World {
    fn open() -> Self {
        let clock = ManualClock::at("2026-11-20T09:00:00Z".parse().unwrap());
        Self { stores: Stores::start(ALL), clock }
    }

    /// The regions as one of them sees them. Taiwan asks Tokyo, then Singapore.
    fn seen_from(&self, own: &str) -> Regions {
        let client = |region: &str| self.stores.store(region).client.clone();
        let replicas = if own == SINGAPORE {
            Replicas::new(client(SINGAPORE), vec![client(TOKYO)])
        } else {
            Replicas::new(client(TOKYO), vec![client(SINGAPORE)])
        };
        let agreement = Agreement { table: "AgreementTable".to_owned(), replicas };
        let peers = ALL.into_iter().filter(|name| *name != own).map(str::to_owned).collect();
        Regions::new(agreement, own.to_owned(), peers, self.clock.clone())
    }

    /// The watch of a region. Tells what it changed.
    async fn watch(&self, own: &str) -> Vec<String> {
        let watched = self.seen_from(own).watch(soon()).await.unwrap();
        [watched.evacuated, watched.readmitted].concat()
    }

    /// Minutes in which the watches of these regions run.
    async fn pass(&self, time: Duration, watching: &[&str]) -> Vec<String> {
        let mut changed = Vec::new();
        for _ in 0..time.as_secs() / MINUTE.as_secs() {
            self.clock.advance(MINUTE);
            for own in watching {
                changed.extend(self.watch(own).await);
            }
        }
        changed
    }

    async fn evacuated(&self) -> Vec<String> {
        let states = self.seen_from(TOKYO).all(soon()).await.unwrap().into_iter();
        states.filter(|state| state.evacuation.is_some()).map(|state| state.region).collect()
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[tokio::test]
async fn a_region_whose_heartbeats_end_is_evacuated_once_and_readmitted_when_they_are_back() {
    let world = World::open();
    assert_eq!(world.pass(LOST_AFTER, &ALL).await, Vec::<String>::new());
    let others = [TOKYO, SINGAPORE];
    assert_eq!(world.pass(MINUTE * 2, &others).await, Vec::<String>::new());
    assert_eq!(world.pass(MINUTE, &others).await, [TAIWAN], "one of the two watches succeeds");
    assert!(world.seen_from(TAIWAN).is_own_evacuated(soon()).await.unwrap());
    assert!(!world.seen_from(TOKYO).is_own_evacuated(soon()).await.unwrap());
    assert_eq!(world.seen_from(TOKYO).cleaned_up_here(soon()).await.unwrap(), [TOKYO, TAIWAN]);
    assert_eq!(world.seen_from(SINGAPORE).cleaned_up_here(soon()).await.unwrap(), [SINGAPORE]);

    assert_eq!(world.pass(RETURNED_AFTER, &ALL).await, Vec::<String>::new());
    assert_eq!(world.pass(MINUTE, &ALL).await, [TAIWAN]);
    assert_eq!(world.evacuated().await, Vec::<String>::new());
    assert_eq!(world.seen_from(TOKYO).cleaned_up_here(soon()).await.unwrap(), [TOKYO]);
}

#[tokio::test]
async fn what_an_operator_has_evacuated_only_an_operator_readmits() {
    let world = World::open();
    world.pass(LOST_AFTER, &ALL).await;
    let tokyo = world.seen_from(TOKYO);
    let state = world.seen_from(SINGAPORE).evacuate(TOKYO, Some(TAIWAN), soon()).await.unwrap();
    let evacuation = state.evacuation.unwrap();
    assert_eq!(
        (evacuation.by, evacuation.successor.as_str(), state.fence),
        (EvacuatedBy::Operator, TAIWAN, 1)
    );
    assert_eq!(world.pass(RETURNED_AFTER * 2, &ALL).await, Vec::<String>::new());
    assert_eq!(world.seen_from(TAIWAN).cleaned_up_here(soon()).await.unwrap(), [TAIWAN, TOKYO]);
    assert_eq!(tokyo.readmit(TOKYO, soon()).await.unwrap().fence, 2);
    assert_eq!(tokyo.readmit(TOKYO, soon()).await.unwrap().fence, 2, "it is readmitted already");
    assert_eq!(world.evacuated().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_region_remains_and_a_successor_serves() {
    let world = World::open();
    let regions = world.seen_from(TOKYO);
    let unknown = regions.evacuate("mars", None, soon()).await;
    assert!(matches!(unknown, Err(RegionsError::Unknown(name)) if name == "mars"));
    for successor in [TAIWAN, "mars"] {
        let unfit = regions.evacuate(TAIWAN, Some(successor), soon()).await;
        assert!(
            matches!(unfit, Err(RegionsError::InvalidSuccessor(_) | RegionsError::Unknown(_))),
            "{unfit:?}"
        );
    }
    regions.evacuate(TAIWAN, None, soon()).await.unwrap();
    let evacuated = regions.evacuate(SINGAPORE, Some(TAIWAN), soon()).await;
    assert!(matches!(evacuated, Err(RegionsError::InvalidSuccessor(_))), "{evacuated:?}");
    regions.evacuate(SINGAPORE, None, soon()).await.unwrap();
    assert!(matches!(regions.evacuate(TOKYO, None, soon()).await, Err(RegionsError::LastOne)));
    assert_eq!(world.evacuated().await, [SINGAPORE, TAIWAN]);
}

#[tokio::test]
async fn a_heartbeat_after_the_look_keeps_a_region_from_being_evacuated() {
    let world = World::open();
    world.pass(LOST_AFTER, &ALL).await;
    world.clock.advance(LOST_AFTER);
    let tokyo = world.seen_from(TOKYO);
    let states = tokyo.all(soon()).await.unwrap();
    let lost = states.iter().find(|state| state.region == TAIWAN).unwrap();
    world.seen_from(TAIWAN).record_heartbeat().await.unwrap();
    assert!(matches!(tokyo.evacuate_lost(lost).await, Err(RegionsError::Changed)));
    assert_eq!(world.evacuated().await, Vec::<String>::new());
}

#[tokio::test]
async fn of_two_operators_at_once_one_succeeds() {
    let world = World::open();
    let (one, other) = (world.seen_from(TOKYO), world.seen_from(SINGAPORE));
    let results = tokio::join!(one.evacuate(TAIWAN, None, soon()), other.evacuate(TAIWAN, None, soon()));
    let fences = [&results.0, &results.1].map(|result| result.as_ref().ok().map(|state| state.fence));
    assert!(fences.contains(&Some(1)), "{results:?}");
    assert!(fences != [Some(1), Some(1)], "{results:?}");
}

#[tokio::test]
async fn regions_that_were_all_silent_evacuate_nobody_when_they_are_back() {
    let world = World::open();
    world.pass(LOST_AFTER * 2, &ALL).await;
    world.clock.advance(LOST_AFTER * 10);
    assert_eq!(world.pass(LOST_AFTER * 2, &ALL).await, Vec::<String>::new());
}
