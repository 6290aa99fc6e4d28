//! Date-times by RFC 3339, section 5.6 (`date-time`), and nothing else: the format `date-time` of
//! JSON Schema.
//!
//! - `T` and `Z` may be lower case; a space in place of the `T` is refused.
//! - A leap second (`23:59:60` UTC at the end of a month) becomes the next second: stored times are
//!   POSIX time, which has no leap seconds.
//! - A fraction is cut to nine digits.
//! - The calendar ends with 9999-12-31. [`Timestamp`] cannot hold all of that day; an instant
//!   beyond it reads as [`Timestamp::MAX`].

use jiff::civil::{Date, Time};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

/// Text that is not a date-time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a date-time has the form of RFC 3339, such as 2026-11-20T09:30:00Z")]
pub struct InvalidDateTime;

/// RFC 3339 in UTC with milliseconds and fixed width (`2026-11-20T09:30:00.123Z`), so that text
/// sorts as time. All stored and answered timestamps have this form.
pub fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Serde for timestamps as [`rfc3339`] text.
pub mod as_rfc3339 {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes [`super::rfc3339`].
    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*at))
    }

    /// Reads any date-time of RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        super::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// As [`as_rfc3339`], for an optional instant.
pub mod as_rfc3339_if_any {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

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
        text.map(|text| super::parse(&text).map_err(serde::de::Error::custom)).transpose()
    }
}

/// Reads a date-time.
pub fn parse(text: &str) -> Result<Timestamp, InvalidDateTime> {
    read(Reader(text.as_bytes())).ok_or(InvalidDateTime)
}

fn read(mut text: Reader<'_>) -> Option<Timestamp> {
    let year = text.number(4)?;
    text.one_of(b"-")?;
    let month = text.number(2)?;
    text.one_of(b"-")?;
    let day = text.number(2)?;
    text.one_of(b"Tt")?;
    let hour = text.number(2)?;
    text.one_of(b":")?;
    let minute = text.number(2)?;
    text.one_of(b":")?;
    let second = text.number(2)?;
    let nanoseconds = if text.one_of(b".").is_some() { text.fraction()? } else { 0 };
    let east_of_utc = text.offset()?;
    if !text.0.is_empty() {
        return None;
    }
    let is_leap = second == 60;
    let date = Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()?;
    let second = if is_leap { 59 } else { second.try_into().ok()? };
    let time = Time::new(hour.try_into().ok()?, minute.try_into().ok()?, second, nanoseconds).ok()?;
    // The difference can only pass the end of the calendar: jiff's begins in the year -9999.
    let Ok(utc) = date.to_datetime(time).checked_sub(east_of_utc) else { return Some(Timestamp::MAX) };
    let ends_month = utc.day() == utc.days_in_month() && (utc.hour(), utc.minute()) == (23, 59);
    if is_leap && !ends_month {
        return None;
    }
    let extra = SignedDuration::from_secs(i64::from(is_leap));
    let at = Offset::UTC.to_timestamp(utc).and_then(|at| at.checked_add(extra));
    Some(at.unwrap_or(Timestamp::MAX))
}

/// The text that is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// A number of exactly `digits` digits.
    fn number(&mut self, digits: usize) -> Option<i32> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.iter().try_fold(0, |number, digit| Some(number * 10 + digit_value(*digit)?))
    }

    /// One of these bytes.
    fn one_of(&mut self, allowed: &[u8]) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        allowed.contains(byte).then(|| {
            self.0 = rest;
            *byte
        })
    }

    /// The digits after the point, as nanoseconds.
    fn fraction(&mut self) -> Option<i32> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(length).filter(|(digits, _)| !digits.is_empty())?;
        self.0 = rest;
        let padded = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
        padded.copied().try_fold(0, |number, digit| Some(number * 10 + digit_value(digit)?))
    }

    /// `Z`, or hours and minutes.
    fn offset(&mut self) -> Option<SignedDuration> {
        let sign = match self.one_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(SignedDuration::ZERO),
        };
        let hours = self.number(2)?;
        self.one_of(b":")?;
        let minutes = self.number(2)?;
        let fits = hours < 24 && minutes < 60;
        fits.then(|| SignedDuration::from_mins(i64::from(sign * (hours * 60 + minutes))))
    }
}

fn digit_value(digit: u8) -> Option<i32> {
    digit.is_ascii_digit().then(|| i32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc(text: &str) -> String {
        parse(text).map_or_else(|error| error.to_string(), rfc3339)
    }

    #[test]
    fn timestamps_have_a_fixed_width_so_that_text_sorts_as_time() {
        let whole: Timestamp = "2026-11-20T09:30:00Z".parse().unwrap();
        let fraction: Timestamp = "2026-11-20T09:30:00.0019Z".parse().unwrap();
        assert_eq!(rfc3339(whole), "2026-11-20T09:30:00.000Z");
        assert_eq!(rfc3339(fraction), "2026-11-20T09:30:00.001Z");
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // RFC 3339, section 5.8.
        for (text, read) in [
            ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520Z"),
            ("1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57.000Z"),
            ("1990-12-31T23:59:60Z", "1991-01-01T00:00:00.000Z"),
            ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00.000Z"),
            ("1937-01-01T12:00:27.87+00:20", "1937-01-01T11:40:27.870Z"),
            ("2026-02-28t23:59:59.9999999999z", "2026-02-28T23:59:59.999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("2024-02-29T00:00:00-00:00", "2024-02-29T00:00:00.000Z"),
        ] {
            assert_eq!(utc(text), read, "{text}");
        }
    }

    #[test]
    fn the_end_of_the_calendar_is_a_date() {
        for end in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999999-23:59", "9999-12-31T23:59:60Z"] {
            assert_eq!(parse(end), Ok(Timestamp::MAX), "{end}");
        }
        assert_eq!(utc("9999-12-30T12:00:00Z"), "9999-12-30T12:00:00.000Z");
    }

    #[test]
    fn nothing_looser_is_read() {
        for loose in [
            "",
            "2026-11-20",
            "2026-11-20 09:30:00Z",
            "2026-11-20T09:30Z",
            "2026-11-20T09:30:00",
            "2026-11-20T09:30:00+08",
            "2026-11-20T09:30:00+0800",
            "2026-11-20T09:30:00+08:00[Asia/Taipei]",
            "20261120T093000Z",
            "2026-W47-5T09:30:00Z",
            "+002026-11-20T09:30:00Z",
            "2026-11-20T09:30:00.Z",
            "2026-11-20T09:30:00,5Z",
            " 2026-11-20T09:30:00Z",
            "2026-11-20T09:30:00Z ",
            "2026-11-20_09:30:00Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T09:60:00Z",
            "2026-11-20T09:30:61Z",
            "2026-11-20T09:30:60Z",
            "2026-11-20T23:59:60Z",
            "2026-11-30T22:59:60Z",
            "2026-11-20T09:30:00+24:00",
            "2026-11-20T09:30:00+08:60",
            "２026-11-20T09:30:00Z",
        ] {
            assert_eq!(parse(loose), Err(InvalidDateTime), "{loose}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(milliseconds in -62_167_219_200_000_i64..253_402_200_000_000) {
            let at = Timestamp::from_millisecond(milliseconds).unwrap();
            prop_assert_eq!(parse(&rfc3339(at)), Ok(at));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[-+:.TZ0-9]{0,35}|\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
