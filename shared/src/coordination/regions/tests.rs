use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["taiwan", "tokyo", "singapore"];

fn now() -> Timestamp {
    "2026-11-20T09:00:00Z".parse().unwrap()
}

fn ago(minutes: i64) -> Timestamp {
    now() - SignedDuration::from_mins(minutes)
}

/// A region whose heartbeats began and ended so many minutes ago.
fn region(name: &str, began: i64, ended: i64) -> RegionState {
    let heartbeat = Heartbeat { at: ago(ended), since: ago(began) };
    RegionState { region: name.to_owned(), heartbeat: Some(heartbeat), evacuation: None, fence: 0 }
}

fn evacuated(state: RegionState, by: EvacuatedBy) -> RegionState {
    let evacuation = Evacuation { at: ago(30), by, successor: "tokyo".to_owned() };
    RegionState { evacuation: Some(evacuation), ..state }
}

#[test]
fn a_region_without_heartbeats_for_three_minutes_is_evacuated() {
    for (minutes, is_lost) in [(2, false), (3, true), (600, true)] {
        let regions = [region("tokyo", 60, 0), region("taiwan", 900, minutes)];
        let found = due("tokyo", &regions, now());
        assert_eq!(
            found,
            if is_lost { vec![WatchAction::Evacuate(&regions[1])] } else { Vec::new() },
            "{minutes}"
        );
    }
}

#[test]
fn a_region_that_never_had_a_heartbeat_is_not_lost() {
    let new = RegionState { heartbeat: None, ..region("taiwan", 0, 0) };
    assert_eq!(due("tokyo", &[region("tokyo", 60, 0), new], now()), []);
}

#[test]
fn who_has_just_begun_or_is_evacuated_evacuates_nobody() {
    let lost = region("taiwan", 900, 5);
    assert_eq!(due("tokyo", &[region("tokyo", 2, 0), lost.clone()], now()), []);
    for by in [EvacuatedBy::Operator, EvacuatedBy::Watch] {
        assert_eq!(due("tokyo", &[evacuated(region("tokyo", 60, 0), by), lost.clone()], now()), []);
    }
}

#[test]
fn the_watch_readmits_what_it_evacuated_after_ten_minutes_of_heartbeats_and_never_what_an_operator_did() {
    for (minutes, is_back) in [(9, false), (10, true)] {
        let regions = [region("tokyo", 60, 0), evacuated(region("taiwan", minutes, 0), EvacuatedBy::Watch)];
        let found = due("tokyo", &regions, now());
        assert_eq!(
            found,
            if is_back { vec![WatchAction::Readmit(&regions[1])] } else { Vec::new() },
            "{minutes}"
        );
    }
    let by_hand = evacuated(region("taiwan", 60, 0), EvacuatedBy::Operator);
    assert_eq!(due("tokyo", &[region("tokyo", 60, 0), by_hand], now()), []);
}

/// Regions, each with heartbeats in some minutes of the last half hour. Some may be evacuated.
fn regions() -> impl Strategy<Value = Vec<RegionState>> {
    let one = (0_i64..30, 0_i64..30, prop::option::of(any::<bool>()));
    prop::collection::vec(one, NAMES.len()).prop_map(|regions| {
        let state = |(name, (one, other, by)): (&str, (i64, i64, Option<bool>))| {
            let state = region(name, one.max(other), one.min(other));
            match by {
                Some(true) => evacuated(state, EvacuatedBy::Operator),
                Some(false) => evacuated(state, EvacuatedBy::Watch),
                None => state,
            }
        };
        NAMES.into_iter().zip(regions).map(state).collect()
    })
}

proptest! {
    #[test]
    fn whatever_the_watches_of_all_regions_do_at_once_a_region_that_serves_remains(regions in regions()) {
        let serves = |state: &RegionState| state.evacuation.is_none();
        let found: Vec<WatchAction<'_>> = NAMES.iter().flat_map(|own| due(own, &regions, now())).collect();
        let is_evacuated = |state: &RegionState| found.contains(&WatchAction::Evacuate(state));
        let remains = regions.iter().any(|state| serves(state) && !is_evacuated(state));
        prop_assert!(remains || !regions.iter().any(serves) || !regions.iter().any(is_evacuated));
    }

    #[test]
    fn a_region_with_a_heartbeat_of_a_moment_ago_is_never_evacuated(regions in regions()) {
        for own in NAMES {
            for step in due(own, &regions, now()) {
                if let WatchAction::Evacuate(state) = step {
                    prop_assert!(state.heartbeat.unwrap().at <= ago(3));
                    prop_assert!(state.region != own);
                }
            }
        }
    }
}
