//! How often a call to one peer is tried, and for how long.

use std::time::Duration;

use super::gateway::CALL_TIMEOUT;
use crate::core::deadline::Deadline;
use crate::core::retry::Backoff;

/// How long one throttled peer is tried again. A client whose buffer is still full by then does not read; longer would
/// hold up the sender's acknowledgement for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries of a call that fails for another reason than throttling: a broken connection or a server's hiccup deserves a
/// second one, a standing refusal no third.
const MAX_FAILURES: u32 = 2;

/// No call begins later than this before the deadline: patience, and one last try that ends in a timeout.
pub const LAST_START_MARGIN: Duration = PATIENCE.saturating_add(CALL_TIMEOUT);

/// The tries of one call to one peer.
pub(super) struct Tries {
    backoff: Backoff,
    failures: u32,
}

impl Tries {
    /// Tries that begin now, and end before `deadline`.
    pub(super) fn within(deadline: Deadline) -> Self {
        Self { backoff: Backoff::within(Deadline::after(PATIENCE).min(deadline)), failures: 0 }
    }

    /// Waits for another try of what will pass. `false` when patience or time is at its end.
    pub(super) async fn again(&mut self) -> bool {
        self.backoff.wait().await
    }

    /// Waits for another try of what may fail for good. `false` when it has failed often enough, too.
    pub(super) async fn again_after_failure(&mut self) -> bool {
        self.failures += 1;
        self.failures < MAX_FAILURES && self.again().await
    }
}
