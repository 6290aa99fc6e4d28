//! Waits between retries: exponential backoff with full jitter, within a deadline.

use std::time::Duration;

use rand::RngExt;

use crate::core::deadline::Deadline;

/// Shortest ceiling of a wait. A DynamoDB write takes about this long, so the conflicting one is
/// done by then.
const FIRST_CEILING: Duration = Duration::from_millis(10);
/// Longest ceiling of a wait: a conflict lasts milliseconds.
const LAST_CEILING: Duration = Duration::from_millis(320);

/// Most tries of a transaction that conflicts. The waits between them grow to 160 ms. After this
/// many conflicts, a row has more transactions than DynamoDB can run one after another: more
/// retries by every caller would lengthen the queue, and a client that retries later shortens it.
pub const CONFLICT_TRIES: u32 = 6;

/// Longest time for those tries, from the first conflict: a customer waits for them.
pub const CONFLICT_PATIENCE: Duration = Duration::from_secs(2);

/// Random waits under a ceiling that doubles ("full jitter").
#[derive(Debug, Clone)]
pub struct Backoff {
    ceiling: Duration,
    deadline: Deadline,
    bounds: Option<Bounds>,
}

/// The waits that are left, and the time for all of them.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    waits: u32,
    patience: Option<Duration>,
}

impl Backoff {
    /// Waits that end before `deadline`.
    pub fn within(deadline: Deadline) -> Self {
        Self { ceiling: FIRST_CEILING, deadline, bounds: None }
    }

    /// Waits between at most [`CONFLICT_TRIES`] tries, within [`CONFLICT_PATIENCE`] of the first
    /// wait and before `deadline`. For requests that a client waits for.
    pub fn of_conflicts(deadline: Deadline) -> Self {
        let bounds = Bounds { waits: CONFLICT_TRIES.saturating_sub(1), patience: Some(CONFLICT_PATIENCE) };
        Self { ceiling: FIRST_CEILING, deadline, bounds: Some(bounds) }
    }

    /// Waits once. Returns `false` at once if there is no time or try left.
    pub async fn wait(&mut self) -> bool {
        if let Some(bounds) = &mut self.bounds {
            if let Some(patience) = bounds.patience.take() {
                self.deadline = self.deadline.min(Deadline::after(patience));
            }
            let Some(waits) = bounds.waits.checked_sub(1) else { return false };
            bounds.waits = waits;
        }
        let ceiling_us = u64::try_from(self.ceiling.as_micros()).unwrap_or(u64::MAX);
        let wait = Duration::from_micros(rand::rng().random_range(0..=ceiling_us));
        self.ceiling = (self.ceiling * 2).min(LAST_CEILING);
        if self.deadline.remaining() <= wait {
            return false;
        }
        tokio::time::sleep(wait).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_that_would_pass_the_deadline_is_not_begun() {
        let mut backoff = Backoff::within(Deadline::after(Duration::ZERO));
        assert!(!backoff.wait().await);
    }

    #[tokio::test]
    async fn waits_go_on_while_there_is_time() {
        let mut backoff = Backoff::within(Deadline::after(Duration::from_mins(1)));
        assert!(backoff.wait().await && backoff.wait().await);
    }

    #[tokio::test]
    async fn conflicts_are_waited_out_a_few_times_only() {
        let mut backoff = Backoff::of_conflicts(Deadline::after(Duration::from_mins(1)));
        let mut tries = 1;
        while backoff.wait().await {
            tries += 1;
        }
        assert_eq!(tries, CONFLICT_TRIES);
    }
}
