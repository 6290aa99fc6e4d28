//! A circuit breaker: after several failures in a row, Redis is not called for a while.
//!
//! 1. *Closed*: every call is allowed. [`CircuitBreaker::THRESHOLD`] failures in a row open the
//!    breaker; a success resets the count.
//! 2. *Open*: no call is allowed until [`CircuitBreaker::COOL_DOWN`] has passed.
//! 3. Then one call is allowed, the probe, and the cool-down starts again at once: a probe that is
//!    cancelled and never reports keeps the breaker open for one more cool-down, not for ever. The
//!    success of a probe closes the breaker.
//!
//! The time is a parameter, so nothing here waits.

use std::time::Duration;

use tokio::time::Instant;

/// Whether to call Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerDecision {
    /// Call it, and report the result.
    Ask,
    /// Do not call it.
    Refuse,
}

/// The state of a process's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CircuitBreaker {
    /// Calls are admitted.
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    /// No call is allowed before this instant.
    Open {
        /// When the next probe may be sent.
        until: Instant,
    },
}

impl CircuitBreaker {
    /// Failures in a row that open the breaker. A process waits in vain for five calls of 10 ms;
    /// fewer would let a short pause of Redis (a fork for a snapshot) send all reads to DynamoDB
    /// for a second.
    pub(super) const THRESHOLD: u32 = 5;
    /// How long no call is allowed: an outage costs one call budget a second.
    pub(super) const COOL_DOWN: Duration = Duration::from_secs(1);

    pub(super) const fn new() -> Self {
        Self::Closed { failures: 0 }
    }

    /// Whether a call is allowed at `now`.
    pub(super) fn admit(&mut self, now: Instant) -> BreakerDecision {
        match *self {
            Self::Closed { .. } => BreakerDecision::Ask,
            Self::Open { until } if now < until => BreakerDecision::Refuse,
            Self::Open { .. } => {
                *self = Self::open_from(now);
                BreakerDecision::Ask
            }
        }
    }

    /// A call was answered.
    pub(super) fn succeeded(&mut self) {
        *self = Self::new();
    }

    /// A call failed, or took too long.
    pub(super) fn failed(&mut self, now: Instant) {
        *self = match *self {
            Self::Closed { failures } if failures + 1 < Self::THRESHOLD => {
                Self::Closed { failures: failures + 1 }
            }
            Self::Closed { .. } | Self::Open { .. } => Self::open_from(now),
        };
    }

    /// Opens the breaker: calls are known to fail for now.
    pub(super) fn trip(&mut self, now: Instant) {
        *self = Self::open_from(now);
    }

    fn open_from(now: Instant) -> Self {
        Self::Open { until: now + Self::COOL_DOWN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failed(times: u32, now: Instant) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::new();
        (0..times).for_each(|_| breaker.failed(now));
        breaker
    }

    #[test]
    fn it_opens_at_the_threshold_and_not_before() {
        let now = Instant::now();
        assert_eq!(failed(CircuitBreaker::THRESHOLD - 1, now).admit(now), BreakerDecision::Ask);
        assert_eq!(failed(CircuitBreaker::THRESHOLD, now).admit(now), BreakerDecision::Refuse);
    }

    #[test]
    fn it_can_be_opened_at_once() {
        let now = Instant::now();
        let mut breaker = CircuitBreaker::new();
        breaker.trip(now);
        assert_eq!(breaker.admit(now), BreakerDecision::Refuse);
    }

    #[test]
    fn a_success_starts_the_count_anew() {
        let now = Instant::now();
        let mut breaker = failed(CircuitBreaker::THRESHOLD - 1, now);
        breaker.succeeded();
        breaker.failed(now);
        assert_eq!(breaker.admit(now), BreakerDecision::Ask);
    }

    #[test]
    fn after_the_cool_down_one_probe_goes_and_its_success_closes() {
        let now = Instant::now();
        let mut breaker = failed(CircuitBreaker::THRESHOLD, now);
        let later = now + CircuitBreaker::COOL_DOWN;
        assert_eq!(
            (breaker.admit(later), breaker.admit(later)),
            (BreakerDecision::Ask, BreakerDecision::Refuse)
        );
        breaker.succeeded();
        assert_eq!(
            (breaker.admit(later), breaker.admit(later)),
            (BreakerDecision::Ask, BreakerDecision::Ask)
        );
    }

    #[test]
    fn a_probe_that_never_reports_costs_one_more_cool_down() {
        let now = Instant::now();
        let mut breaker = failed(CircuitBreaker::THRESHOLD, now);
        let probed = now + CircuitBreaker::COOL_DOWN;
        assert_eq!(breaker.admit(probed), BreakerDecision::Ask);
        assert_eq!(breaker.admit(probed + CircuitBreaker::COOL_DOWN), BreakerDecision::Ask);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A call, and whether it is answered.
        Call(bool),
        /// Time passes.
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![any::<bool>().prop_map(Step::Call), (0..1_500_u64).prop_map(Step::Wait)]
    }

    proptest! {
        #[test]
        fn an_outage_costs_the_threshold_and_one_call_a_cool_down(steps in prop::collection::vec(step(), 0..200)) {
            let mut breaker = CircuitBreaker::new();
            let mut now = Instant::now();
            // Failures since the last success, and when the last admitted call failed.
            let (mut row, mut last_failure) = (0_u32, now);
            for step in steps {
                let answered = match step {
                    Step::Wait(ms) => { now += Duration::from_millis(ms); continue; }
                    Step::Call(answered) => answered,
                };
                let may_ask = row < CircuitBreaker::THRESHOLD || now >= last_failure + CircuitBreaker::COOL_DOWN;
                let admission = breaker.admit(now);
                prop_assert_eq!(admission == BreakerDecision::Ask, may_ask);
                match (admission, answered) {
                    (BreakerDecision::Refuse, _) => {}
                    (BreakerDecision::Ask, true) => { breaker.succeeded(); row = 0; }
                    (BreakerDecision::Ask, false) => { breaker.failed(now); row += 1; last_failure = now; }
                }
            }
        }
    }
}
