//! Lock names, and the tasks that they stand for: slots of scheduled jobs, and tasks that a user
//! asked for.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::core::ids::{ExportId, is_visible};

/// The name of a lock: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockName(String);

/// Text that is not a lock name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a lock's name has 1 to {} visible ASCII characters", LockName::MAX_BYTES)]
pub struct InvalidLockName;

impl LockName {
    /// Longest name, in bytes. DynamoDB allows 2,048; a name should be readable.
    pub const MAX_BYTES: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LockName {
    type Err = InvalidLockName;

    fn from_str(text: &str) -> Result<Self, InvalidLockName> {
        if is_visible(text, Self::MAX_BYTES) { Ok(Self(text.to_owned())) } else { Err(InvalidLockName) }
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A task that is completed once, under its own lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    job: &'static str,
    name: LockName,
}

impl Task {
    /// The task of an export: `export#exp_01JD…`.
    pub fn of_export(id: &ExportId) -> Self {
        // Visible ASCII: an id is a prefix and a ULID.
        Self { job: "export", name: LockName(format!("export#{id}")) }
    }

    /// The name of its lock.
    pub fn lock_name(&self) -> &LockName {
        &self.name
    }

    /// The kind of the task, for metrics: a constant of few values.
    pub fn job(&self) -> &'static str {
        self.job
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// One scheduled run of a job. It is made from the scheduled time, never from the clock or a
/// delivery's id, so that a late or repeated delivery names the same slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSlot {
    task: Task,
    scheduled_at: Timestamp,
}

impl JobSlot {
    /// The slot of a job that runs once a day: `daily-report#2026-11-20`.
    pub fn of_day(job: &'static str, scheduled_at: Timestamp) -> Self {
        Self::named(job, scheduled_at, &utc_date(scheduled_at).to_string())
    }

    /// The slot of a job that runs more often: `order-cleanup#2026-11-20T09:00:00Z`. A `rate(…)`
    /// schedule does not begin on the hour, so the slot is the scheduled second.
    pub fn of_second(job: &'static str, scheduled_at: Timestamp) -> Self {
        Self::named(job, scheduled_at, &format!("{scheduled_at:.0}"))
    }

    fn named(job: &'static str, scheduled_at: Timestamp, turn: &str) -> Self {
        // Visible ASCII: a job's name is a constant; a date or time is digits and signs.
        Self { task: Task { job, name: LockName(format!("{job}#{turn}")) }, scheduled_at }
    }

    /// The slot as a task.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The name of its lock.
    pub fn lock_name(&self) -> &LockName {
        self.task.lock_name()
    }

    /// The time for which it was scheduled.
    pub fn scheduled_at(&self) -> Timestamp {
        self.scheduled_at
    }

    /// The UTC day before the scheduled one: what a nightly report covers.
    pub fn day_before(&self) -> Date {
        // The first day of the calendar has none before it and reports on itself.
        let scheduled = utc_date(self.scheduled_at);
        scheduled.yesterday().unwrap_or(scheduled)
    }
}

impl fmt::Display for JobSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}

fn utc_date(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_slot_is_named_by_its_scheduled_time() {
        let daily = JobSlot::of_day("daily-report", at("2026-11-20T02:00:00Z"));
        assert_eq!(daily.to_string(), "daily-report#2026-11-20");
        assert_eq!(daily.day_before().to_string(), "2026-11-19");
        let hourly = JobSlot::of_second("order-cleanup", at("2026-11-20T09:37:12.6Z"));
        assert_eq!(hourly.to_string(), "order-cleanup#2026-11-20T09:37:12Z");
    }

    #[test]
    fn the_day_is_the_utc_day_wherever_the_schedule_was_written() {
        let slot = JobSlot::of_day("daily-report", at("2026-11-20T02:00:00+08:00"));
        assert_eq!(slot.to_string(), "daily-report#2026-11-19");
    }

    proptest! {
        #[test]
        fn a_lock_name_is_exactly_what_is_documented(text in "\\PC{0,300}") {
            let fits = (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
            prop_assert_eq!(text.parse::<LockName>().is_ok(), fits);
        }

        #[test]
        fn every_export_makes_a_name_that_is_a_lock_name(ulid in proptest::prelude::any::<u128>()) {
            let task = Task::of_export(&ExportId::from(ulid::Ulid(ulid)));
            prop_assert!(task.lock_name().as_str().parse::<LockName>().is_ok());
        }

        #[test]
        fn every_slot_makes_a_name_that_is_a_lock_name(second in -62_135_596_800_i64..=253_402_207_200) {
            let scheduled_at = Timestamp::from_second(second).unwrap();
            for slot in [JobSlot::of_day("daily-report", scheduled_at), JobSlot::of_second("order-cleanup", scheduled_at)] {
                prop_assert!(slot.lock_name().as_str().parse::<LockName>().is_ok());
            }
        }
    }
}
