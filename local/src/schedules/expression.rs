//! Schedule expressions of `EventBridge` Scheduler, in UTC.
//!
//! - `cron(minutes hours day-of-month month day-of-week year)`: lists, ranges, steps and names;
//!   Sunday is 1; exactly one of the two day fields is `?`. `L`, `W` and `#` are not supported
//!   here.
//! - `rate(value minutes|hours|days)`: the cloud counts from the schedule's creation. Here the
//!   slots are the multiples since 1970-01-01T00:00Z, so that a restart of the region neither moves
//!   nor repeats them.
//! - `at(yyyy-mm-ddThh:mm:ss)`: once.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

/// When a schedule fires.
#[derive(Debug, Clone)]
pub struct Expression(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Cron(Box<cron::Schedule>),
    Rate { seconds: i64 },
    At(Timestamp),
}

/// Why an expression can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExpressionError {
    /// None of the three kinds.
    #[error("`{0}` is none of cron(...), rate(...) and at(...)")]
    Kind(String),
    #[error("`{0}` needs six fields: minutes, hours, day of month, month, day of week, year")]
    Fields(String),
    /// Both day fields, or neither, are `?`.
    #[error("`{0}` needs `?` in exactly one of day of month and day of week")]
    Days(String),
    /// `L`, `W` or `#`.
    #[error("`{0}` uses L, W or #, which the local region does not support")]
    Unsupported(String),
    /// A field that cron doesn't allow.
    #[error("`{expression}` is not a cron expression: {reason}")]
    Cron {
        expression: String,
        /// What the parser found.
        reason: String,
    },
    /// Not a positive number and a unit.
    #[error("`{0}` needs a positive number and minutes, hours or days")]
    Rate(String),
    /// Not a date and time.
    #[error("`{0}` needs a time such as at(2026-11-20T09:30:00)")]
    At(String),
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        let inner = |kind: &str| text.strip_prefix(kind)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(fields) = inner("cron") {
            cron_of(text, fields)
        } else if let Some(rate) = inner("rate") {
            rate_of(rate).ok_or_else(|| ExpressionError::Rate(text.to_owned()))
        } else if let Some(at) = inner("at") {
            let at = at.parse::<civil::DateTime>().and_then(|at| at.to_zoned(TimeZone::UTC));
            at.map(|at| Self(Kind::At(at.timestamp()))).map_err(|_| ExpressionError::At(text.to_owned()))
        } else {
            Err(ExpressionError::Kind(text.to_owned()))
        }
    }
}

fn cron_of(text: &str, fields: &str) -> Result<Expression, ExpressionError> {
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let [minutes, hours, day_of_month, month, day_of_week, year] = fields[..] else {
        return Err(ExpressionError::Fields(text.to_owned()));
    };
    // Names of months hold an L (JUL), names of days don't.
    if day_of_month.contains(['L', 'W']) || day_of_week.contains(['L', '#']) {
        return Err(ExpressionError::Unsupported(text.to_owned()));
    }
    if (day_of_month == "?") == (day_of_week == "?") {
        return Err(ExpressionError::Days(text.to_owned()));
    }
    // The parser takes `?` for `*` everywhere; AWS only in the day fields.
    if [minutes, hours, month, year].contains(&"?") {
        let reason = "only a day field can be `?`".to_owned();
        return Err(ExpressionError::Cron { expression: text.to_owned(), reason });
    }
    let with_seconds = format!("0 {minutes} {hours} {day_of_month} {month} {day_of_week} {year}");
    match cron::Schedule::from_str(&with_seconds) {
        Ok(schedule) => Ok(Expression(Kind::Cron(Box::new(schedule)))),
        Err(error) => Err(ExpressionError::Cron { expression: text.to_owned(), reason: error.to_string() }),
    }
}

fn rate_of(rate: &str) -> Option<Expression> {
    let (value, unit) = rate.trim().split_once(' ')?;
    let value: i64 = value.parse().ok().filter(|value| *value > 0)?;
    let unit = match unit.trim() {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 60 * 60,
        "day" | "days" => 24 * 60 * 60,
        _ => return None,
    };
    Some(Expression(Kind::Rate { seconds: value.checked_mul(unit)? }))
}

impl Expression {
    /// The first slot after `time`; `None` if there is none any more.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Cron(schedule) => schedule.after(&to_chrono(time)?).next().and_then(of_chrono),
            Kind::Rate { seconds } => {
                let slot = time.as_second().div_euclid(*seconds).checked_add(1)?.checked_mul(*seconds)?;
                Timestamp::from_second(slot).ok()
            }
            Kind::At(at) => Some(*at).filter(|at| *at > time),
        }
    }

    /// The last slot at or before `time`; `None` if there was none yet.
    pub fn last_before(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Cron(schedule) => {
                // Backwards the iterator starts strictly before its time, so begin a second later.
                let after = Timestamp::from_second(time.as_second().checked_add(1)?).ok()?;
                schedule.after(&to_chrono(after)?).next_back().and_then(of_chrono)
            }
            Kind::Rate { seconds } => {
                Timestamp::from_second(time.as_second().div_euclid(*seconds).checked_mul(*seconds)?).ok()
            }
            Kind::At(at) => Some(*at).filter(|at| *at <= time),
        }
    }
}

fn to_chrono(time: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.as_second(), u32::try_from(time.subsec_nanosecond()).ok()?)
}

fn of_chrono(time: DateTime<Utc>) -> Option<Timestamp> {
    Timestamp::from_second(time.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn next(expression: &str, after: &str) -> String {
        expression.parse::<Expression>().unwrap().next_after(time(after)).unwrap().to_string()
    }

    /// Expressions from the `EventBridge` Scheduler user guide. 2026-11-20 is a Friday.
    #[test]
    fn cron_slots_are_awss() {
        let after = "2026-11-20T09:30:00Z";
        assert_eq!(next("cron(0 10 * * ? *)", after), "2026-11-20T10:00:00Z");
        assert_eq!(next("cron(15 12 * * ? *)", after), "2026-11-20T12:15:00Z");
        assert_eq!(next("cron(0 18 ? * MON-FRI *)", after), "2026-11-20T18:00:00Z");
        assert_eq!(next("cron(0 8 1 * ? *)", after), "2026-12-01T08:00:00Z");
        assert_eq!(next("cron(0/10 * ? * MON-FRI *)", after), "2026-11-20T09:40:00Z");
        assert_eq!(next("cron(0/5 8-17 ? * MON-FRI *)", after), "2026-11-20T09:35:00Z");
        assert_eq!(next("cron(*/15 * * JAN,JUL ? 2027)", after), "2027-01-01T00:00:00Z");
        assert_eq!(next("cron(30 9 * * ? *)", after), "2026-11-21T09:30:00Z");
    }

    #[test]
    fn sunday_is_day_one() {
        assert_eq!(next("cron(0 0 ? * 1 *)", "2026-11-20T09:30:00Z"), "2026-11-22T00:00:00Z");
        assert_eq!(next("cron(0 0 ? * SUN *)", "2026-11-20T09:30:00Z"), "2026-11-22T00:00:00Z");
        assert_eq!(next("cron(0 0 ? * 7 *)", "2026-11-20T09:30:00Z"), "2026-11-21T00:00:00Z");
    }

    #[test]
    fn rates_are_multiples_and_at_is_once() {
        assert_eq!(next("rate(5 minutes)", "2026-11-20T09:30:00Z"), "2026-11-20T09:35:00Z");
        assert_eq!(next("rate(1 hour)", "2026-11-20T09:30:00Z"), "2026-11-20T10:00:00Z");
        assert_eq!(next("rate(1 day)", "2026-11-20T09:30:00Z"), "2026-11-21T00:00:00Z");
        let at: Expression = "at(2026-11-20T09:30:00)".parse().unwrap();
        assert_eq!(at.next_after(time("2026-11-20T09:29:59Z")), Some(time("2026-11-20T09:30:00Z")));
        assert_eq!(at.next_after(time("2026-11-20T09:30:00Z")), None);
        assert_eq!(at.last_before(time("2026-11-20T09:29:59Z")), None);
    }

    #[test]
    fn a_year_that_has_passed_never_comes_again() {
        let past: Expression = "cron(0 0 1 1 ? 2020)".parse().unwrap();
        assert_eq!(past.next_after(time("2026-11-20T09:30:00Z")), None);
        assert_eq!(past.last_before(time("2026-11-20T09:30:00Z")), Some(time("2020-01-01T00:00:00Z")));
    }

    #[test]
    fn what_cannot_be_used_is_said_in_one_sentence() {
        let error = |text: &str| text.parse::<Expression>().unwrap_err();
        assert!(matches!(error("every day"), ExpressionError::Kind(_)));
        assert!(matches!(error("cron(0 10 * * ?)"), ExpressionError::Fields(_)));
        for days in ["cron(0 10 * * * *)", "cron(0 10 ? * ? *)", "cron(0 10 1 * MON *)"] {
            assert!(matches!(error(days), ExpressionError::Days(_)), "{days}");
        }
        for letters in
            ["cron(0 10 L * ? *)", "cron(0 10 15W * ? *)", "cron(0 10 ? * 6L *)", "cron(0 10 ? * 2#1 *)"]
        {
            assert!(matches!(error(letters), ExpressionError::Unsupported(_)), "{letters}");
        }
        for wrong in ["cron(60 10 * * ? *)", "cron(0 24 * * ? *)", "cron(? 1 * * ? *)", "cron(0 0 ? * 8 *)"] {
            assert!(matches!(error(wrong), ExpressionError::Cron { .. }), "{wrong}");
        }
        for wrong in [
            "rate(0 minutes)",
            "rate(-1 hours)",
            "rate(5)",
            "rate(5 seconds)",
            "rate(9223372036854775807 days)",
        ] {
            assert!(matches!(error(wrong), ExpressionError::Rate(_)), "{wrong}");
        }
        assert!(matches!(error("at(tomorrow)"), ExpressionError::At(_)));
        assert_eq!(
            error("cron(0 10 L * ? *)").to_string(),
            "`cron(0 10 L * ? *)` uses L, W or #, which the local region does not support"
        );
    }

    fn expressions() -> impl Strategy<Value = String> {
        let cron = (0..60_u8, 0..24_u8, prop_oneof!["\\*", "[1-9]", "1-5", "\\*/3"], 1..=7_u8, any::<bool>())
            .prop_map(|(minute, hour, month, day, weekly)| {
                if weekly {
                    format!("cron({minute} {hour} ? {month} {day} *)")
                } else {
                    format!("cron({minute}/7 {hour} {day} {month} ? *)")
                }
            });
        let rate = (1..500_u16, prop_oneof!["minutes", "hours", "days"])
            .prop_map(|(n, unit)| format!("rate({n} {unit})"));
        prop_oneof![cron, rate]
    }

    proptest! {
        #[test]
        fn slots_rise_and_none_lies_between_two(expression in expressions(), second in 0..3_000_000_000_i64) {
            let expression: Expression = expression.parse().unwrap();
            let start = Timestamp::from_second(second).unwrap();
            let first = expression.next_after(start).unwrap();
            let second = expression.next_after(first).unwrap();
            prop_assert!(start < first && first < second);
            prop_assert_eq!(expression.last_before(first), Some(first));
            let between = Timestamp::from_second(second.as_second() - 1).unwrap();
            prop_assert_eq!(expression.last_before(between), Some(first));
            prop_assert_eq!(expression.next_after(between), Some(second));
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise_than_by_its_error(text in "(cron|rate|at)\\(.{0,40}\\)") {
            if let Ok(expression) = text.parse::<Expression>()
                && let Some(next) = expression.next_after(Timestamp::UNIX_EPOCH)
            {
                prop_assert!(next > Timestamp::UNIX_EPOCH);
            }
        }
    }
}
