//! The region's wall clock: the one place that asks the system for the time of day.

use jiff::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the clock that the others are to ask")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
