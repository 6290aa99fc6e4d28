//! Waiting between tries: exponential, with full jitter, inside a deadline.

use std::time::Duration;

use rand::RngExt;

use crate::deadline::Deadline;

/// Shortest ceiling of a wait. One DynamoDB write takes about this long, so the rival is done by then.
const FIRST_CEILING: Duration = Duration::from_millis(10);
/// Longest ceiling of a wait. More would only add latency: a conflict is over in milliseconds.
const LAST_CEILING: Duration = Duration::from_millis(320);

/// Waits of random length under a ceiling that doubles ("full jitter").
#[derive(Debug, Clone)]
pub struct Backoff {
    ceiling: Duration,
    deadline: Deadline,
}

impl Backoff {
    /// Waits that end before `deadline`.
    pub fn within(deadline: Deadline) -> Self {
        Self { ceiling: FIRST_CEILING, deadline }
    }

    /// Waits once. `false`, at once, when the deadline leaves no room for the wait.
    pub async fn wait(&mut self) -> bool {
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
}
