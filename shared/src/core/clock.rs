//! The one source of wall time.
//!
//! Wall time is for what is stored (`createdAt`, `expiresAt`, a lease's end) and is injected, so that a test can
//! pause a process for an hour. Durations inside an invocation are measured with [`tokio::time::Instant`].

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// The present instant, UTC.
    fn now(&self) -> Timestamp;
}

/// A clock that many owners share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock, in whole milliseconds: as precise as what is stored, so that a value in memory and the same
/// value read back are equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

/// The machine's clock, ready to be shared.
pub fn system() -> SharedClock {
    Arc::new(SystemClock)
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self(Mutex::new(start)))
    }

    /// Moves the clock forward by `step`.
    pub fn advance(&self, step: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.checked_add(step).unwrap_or(Timestamp::MAX);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 3339 in UTC with milliseconds and fixed width (`2026-11-20T09:30:00.123Z`), so that the text sorts as the
/// time does. Every stored or answered timestamp looks like this.
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Serde for timestamps as [`rfc3339`] text.
pub mod as_rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::core::date_time;

    /// Writes [`super::rfc3339`].
    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*at))
    }

    /// Reads any date-time of RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        date_time::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// As [`as_rfc3339`], for an instant that may be missing.
pub mod as_rfc3339_if_any {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::core::date_time;

    /// Writes [`super::rfc3339`].
    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::as_rfc3339::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads any date-time of RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| date_time::parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_a_fixed_width_so_that_text_sorts_as_time() {
        let whole: Timestamp = "2026-11-20T09:30:00Z".parse().unwrap();
        let fraction: Timestamp = "2026-11-20T09:30:00.0019Z".parse().unwrap();
        assert_eq!(rfc3339(whole), "2026-11-20T09:30:00.000Z");
        assert_eq!(rfc3339(fraction), "2026-11-20T09:30:00.001Z");
    }

    #[test]
    fn the_present_survives_being_stored() {
        let now = SystemClock.now();
        assert_eq!(rfc3339(now).parse::<Timestamp>().unwrap(), now);
    }
}
