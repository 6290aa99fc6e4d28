//! Round trips by happens-before: which requests of functions are under way at the same time, and
//! which wait for others.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::TestRegion;

/// Longest wait for the requests of a round.
const ROUND_LIMIT: Duration = Duration::from_mins(1);

impl TestRegion {
    /// Makes `request`, whose answer waits for exactly these rounds of requests of API functions.
    /// Each round is the number of requests that are under way at the same time.
    ///
    /// 1. A fault rule holds every request until as many are held as the round has. A function that
    ///    sends them one after the other never sends the second one, and the test fails.
    /// 2. The rule of the next round is added, and this round is released.
    /// 3. After the last round the answer must arrive. No other request may have been made.
    pub async fn in_rounds<T>(&self, rounds: &[u64], request: impl Future<Output = T>) -> T {
        self.in_rounds_and(rounds, 0, request).await
    }

    /// The same with `others` requests after the rounds, which are counted and not held: requests
    /// that a function does not wait for long.
    pub async fn in_rounds_and<T>(&self, rounds: &[u64], others: u64, request: impl Future<Output = T>) -> T {
        self.until_api_functions_are_idle().await;
        let mut rule = if rounds.is_empty() { None } else { Some(self.hold_api_functions().await) };
        self.record().await;
        let is_answered = Cell::new(false);
        let answer = async {
            let answer = request.await;
            is_answered.set(true);
            answer
        };
        let release = async {
            for (place, requests) in rounds.iter().enumerate() {
                let Some(round) = rule.take() else { return };
                self.until_round_is_held(round, place, rounds, &is_answered).await;
                if place + 1 < rounds.len() {
                    rule = Some(self.hold_api_functions().await);
                }
                let held = self.held_by(round).await;
                assert_eq!(held, *requests, "round {} of {rounds:?} holds more", place + 1);
                self.lift(round).await;
            }
        };
        let (answer, ()) = futures::join!(answer, release);
        let usage = self.usage_of("api-*").await;
        let made = usage["log"].as_array().map_or(0, Vec::len) as u64;
        assert_eq!(
            made,
            rounds.iter().sum::<u64>() + others,
            "rounds {rounds:?}, requests {:#}",
            usage["log"]
        );
        answer
    }

    /// A process that was started for an earlier request may still read its secrets, which would
    /// count.
    async fn until_api_functions_are_idle(&self) {
        let began = Instant::now();
        loop {
            let processes = self.processes().await;
            let is_of_api =
                |process: &&Value| process["function"].as_str().is_some_and(|name| name.starts_with("api-"));
            if processes.iter().filter(is_of_api).all(|process| process["state"] == "idle") {
                return;
            }
            assert!(began.elapsed() < ROUND_LIMIT, "not idle: {processes:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn hold_api_functions(&self) -> u64 {
        self.fault(&json!({"match": {"caller": "api-*"}, "effect": {"kind": "hold", "when": "before"}})).await
    }

    /// How many requests a rule holds now.
    pub async fn held_by(&self, rule: u64) -> u64 {
        let status = self.control("GET", &format!("/faults/{rule}")).send().await.expect(200);
        status.body["held"].as_u64().expect("a rule has a number of held requests")
    }

    async fn until_round_is_held(&self, rule: u64, place: usize, rounds: &[u64], is_answered: &Cell<bool>) {
        let began = Instant::now();
        loop {
            let held = self.held_by(rule).await;
            if held >= rounds[place] {
                return;
            }
            let is_over = is_answered.get() || began.elapsed() > ROUND_LIMIT;
            assert!(
                !is_over,
                "round {} of {rounds:?} holds {held}; answered: {}; ended before: {}",
                place + 1,
                is_answered.get(),
                self.ended().await
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What API functions have asked for since the recording began, for a message.
    async fn ended(&self) -> String {
        let usage = self.usage_of("api-*").await;
        let name = |entry: &Value| format!("{} {}", entry["operation"], entry["resources"]);
        let entries = usage["log"].as_array().into_iter().flatten();
        entries.map(name).collect::<Vec<_>>().join(", ")
    }
}
