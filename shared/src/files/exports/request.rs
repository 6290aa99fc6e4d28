//! The request for an export, the period it covers, and the slot it takes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, TimestampRound, Unit};
use serde::{Deserialize, Serialize};

use super::Kind;
use crate::core::date_time::as_rfc3339;

/// Most open exports of a customer in a region. Each may read all of the customer's orders.
pub const MAX_OPEN: u8 = 5;

/// `Retry-After` when all slots are taken. Most exports take seconds.
pub const SLOT_RETRY: Duration = Duration::from_secs(10);

/// The precision of orders' times.
const TICK: SignedDuration = SignedDuration::from_millis(1);

/// The body of a request for an export.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportRequest {
    pub kind: Kind,
    /// From this instant on.
    #[serde(with = "as_rfc3339")]
    pub from: Timestamp,
    /// Up to this instant, exclusive.
    #[serde(with = "as_rfc3339")]
    pub to: Timestamp,
}

/// A period with an exclusive end, in whole milliseconds, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    #[serde(with = "as_rfc3339")]
    from: Timestamp,
    #[serde(with = "as_rfc3339")]
    to: Timestamp,
}

/// A period that cannot be exported. 422.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeriod {
    /// It can contain no order.
    #[error("the period is empty: `from` must be before `to`, and before now")]
    Empty,
    /// No order is that old. (Times are also compared as text, which needs years of four digits.)
    #[error("`from` must not be before 1970")]
    BeforeEpoch,
}

impl Period {
    /// The period of a request, as far as it has passed at `now`.
    pub fn of(request: &ExportRequest, now: Timestamp) -> Result<Self, InvalidPeriod> {
        // Orders have whole milliseconds, so rounding up excludes none.
        let (from, to) = (ceiling(request.from), ceiling(request.to).min(now));
        if from < Timestamp::UNIX_EPOCH {
            return Err(InvalidPeriod::BeforeEpoch);
        }
        if from < to { Ok(Self { from, to }) } else { Err(InvalidPeriod::Empty) }
    }

    /// The first instant.
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// The exclusive end.
    pub fn to(&self) -> Timestamp {
        self.to
    }

    /// Its last millisecond.
    pub fn last(&self) -> Timestamp {
        self.to.checked_sub(TICK).unwrap_or(self.to)
    }

    /// How much of it is before `at`, in whole percent, 99 at most: after the end of the period
    /// there is work left.
    pub fn percent_before(&self, at: Timestamp) -> u8 {
        let whole = self.to.duration_since(self.from).as_millis().max(1);
        let passed = at.duration_since(self.from).as_millis().clamp(0, whole);
        u8::try_from(passed * 100 / whole).unwrap_or(99).min(99)
    }
}

fn ceiling(at: Timestamp) -> Timestamp {
    let rounding = TimestampRound::new().smallest(Unit::Millisecond).mode(jiff::RoundMode::Ceil);
    at.round(rounding).unwrap_or(at)
}

/// A slot of a customer. A customer has [`MAX_OPEN`] slots in each region, a row each, so that the
/// exports of a lost region do not block requests in another one. An export takes a free slot in
/// the transaction that writes it, and releases it in the transaction that ends it. A slot expires
/// with its export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExportSlot(String);

impl ExportSlot {
    /// A customer's slots in `region`.
    pub fn all(region: &str) -> impl Iterator<Item = Self> {
        let prefix = Self::prefix(region);
        (0..MAX_OPEN).map(move |number| Self(format!("{prefix}{number}")))
    }

    /// The prefix of all slots of `region`.
    pub fn prefix(region: &str) -> String {
        format!("slot#{region}#")
    }

    /// The slot's region, which works on the export.
    pub fn region(&self) -> &str {
        self.0.split('#').nth(1).unwrap_or_default()
    }

    /// The sort key of its row.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// All of a customer's slots are taken. 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_OPEN} exports are open already; retry when one of them has ended")]
pub struct TooManyOpen;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: &str = "2026-11-20T09:30:00.123Z";

    fn of(from: &str, to: &str) -> Result<Period, InvalidPeriod> {
        let request =
            ExportRequest { kind: Kind::Orders, from: from.parse().unwrap(), to: to.parse().unwrap() };
        Period::of(&request, NOW.parse().unwrap())
    }

    #[test]
    fn what_has_not_happened_yet_is_cut_off() {
        let period = of("2026-11-01T00:00:00Z", "2027-01-01T00:00:00Z").unwrap();
        assert_eq!(period.to(), NOW.parse().unwrap());
        assert_eq!(of("2026-11-20T09:30:00.123Z", "2027-01-01T00:00:00Z"), Err(InvalidPeriod::Empty));
    }

    #[test]
    fn an_empty_period_is_none() {
        for (from, to) in [
            ("2026-11-02T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            // Nothing is placed between two milliseconds.
            ("2026-11-01T00:00:00.0001Z", "2026-11-01T00:00:00.0002Z"),
        ] {
            assert_eq!(of(from, to), Err(InvalidPeriod::Empty), "{from} to {to}");
        }
    }

    #[test]
    fn it_begins_in_1970_or_later() {
        for from in ["1969-12-31T23:59:59.999Z", "-000001-06-01T00:00:00Z"] {
            assert_eq!(of(from, "2026-11-01T00:00:00Z"), Err(InvalidPeriod::BeforeEpoch), "{from}");
        }
        assert!(of("1970-01-01T00:00:00Z", "2026-11-01T00:00:00Z").is_ok());
    }

    #[test]
    fn the_end_is_not_part_of_it_and_a_fraction_of_a_millisecond_belongs_to_the_next_one() {
        let period = of("2026-11-01T00:00:00.0001Z", "2026-11-02T00:00:00Z").unwrap();
        assert_eq!(period.from(), "2026-11-01T00:00:00.001Z".parse().unwrap());
        assert_eq!(period.last(), "2026-11-01T23:59:59.999Z".parse().unwrap());
    }

    proptest! {
        #[test]
        fn progress_rises_with_time_and_stays_below_a_hundred(a in -10_i64..1_010, b in -10_i64..1_010) {
            let period = of("2026-11-01T00:00:00Z", "2026-11-01T00:00:01Z").unwrap();
            let at = |ms| period.from() + SignedDuration::from_millis(ms);
            let (first, second) = (period.percent_before(at(a.min(b))), period.percent_before(at(a.max(b))));
            prop_assert!(first <= second && second <= 99);
        }
    }
}
