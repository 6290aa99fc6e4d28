//! The wall clock: the only module that asks the system for the time of day.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

/// The clock is looked at again after this long, since a wait doesn't notice that the machine slept
/// or the wall clock was set.
const CLOCK_CHECK: Duration = Duration::from_secs(20);

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the clock that the others are to ask")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The wall clock, of the machine or of a test.
pub trait Clock: Send + Sync + 'static {
    /// The present time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        now()
    }
}

/// Waits until `clock` shows `at`.
pub async fn until(clock: &dyn Clock, at: Timestamp) {
    while let Ok(left) = Duration::try_from(at.duration_since(clock.now()))
        && !left.is_zero()
    {
        sleep(left.min(CLOCK_CHECK)).await;
    }
}
