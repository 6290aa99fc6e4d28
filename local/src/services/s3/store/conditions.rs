//! Conditional requests and ranges of `GetObject` and `HeadObject`, by RFC 9110, 13 and 14.
//!
//! 1. `If-Match`, or without it `If-Unmodified-Since`, does not hold: 412.
//! 2. `If-None-Match`, or without it `If-Modified-Since`, does not hold: 304.
//! 3. `Range` counts if `If-Range` holds or is absent. A range of another unit, an invalid one and
//!    several ranges count for nothing, so that the whole object is the answer. One that begins
//!    behind the object's end: 416.
//!
//! `s3s` refuses headers of these names that it can't read, and where RFC 9110 has lists it reads
//! one entity tag. So the endpoint sets them aside before `s3s` sees them, except for those that
//! are signed: without them the signature would be wrong.

use http::header::{
    CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{Extensions, StatusCode};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use s3s::dto::{ETag, ETagCondition, HeadObjectOutput, Range, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use crate::services::s3::signed::Signed;

const NAMES: [HeaderName; 6] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];

/// The three forms of a date in HTTP, RFC 9110 5.6.7.
const DATES: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// Headers that `s3s` does not see.
#[derive(Debug, Clone)]
pub(in crate::services::s3) struct SetAside(HeaderMap);

impl SetAside {
    /// Takes the conditions and the range that are not signed out of `headers`.
    pub(in crate::services::s3) fn from(headers: &mut HeaderMap, signed: Option<&Signed>) -> Self {
        let mut aside = HeaderMap::new();
        for name in NAMES.iter().filter(|name| !signed.is_some_and(|signed| signed.covers(name))) {
            let values: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
            headers.remove(name);
            for value in values {
                aside.append(name, value);
            }
        }
        Self(aside)
    }
}

/// What a request asks for besides the object.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    matches: Option<String>,
    matches_none: Option<String>,
    modified_since: Option<i64>,
    unmodified_since: Option<i64>,
    if_range: Option<String>,
    range: Option<Wanted>,
}

/// A range of bytes as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    From { first: u64, last: u64 },
    Last { bytes: u64 },
}

/// What of an object is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Portion {
    Whole,
    /// From `first` to `last`, both included.
    Part {
        first: u64,
        last: u64,
    },
}

impl Portion {
    pub(super) fn range(self) -> Option<Range> {
        match self {
            Self::Whole => None,
            Self::Part { first, last } => Some(Range::Int { first, last: Some(last) }),
        }
    }
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let aside = extensions.get::<SetAside>();
        let text = |name: &HeaderName| {
            let aside = aside.into_iter().flat_map(|SetAside(aside)| aside.get_all(name));
            let lines: Vec<_> =
                headers.get_all(name).iter().chain(aside).filter_map(|value| value.to_str().ok()).collect();
            (!lines.is_empty()).then(|| lines.join(","))
        };
        let date = |name: &HeaderName| text(name).and_then(|date| seconds(&date));
        Self {
            matches: text(&IF_MATCH),
            matches_none: text(&IF_NONE_MATCH),
            modified_since: date(&IF_MODIFIED_SINCE),
            unmodified_since: date(&IF_UNMODIFIED_SINCE),
            if_range: text(&IF_RANGE),
            range: text(&RANGE).and_then(|range| wanted(&range)),
        }
    }

    /// Of a range alone, which must say where it begins and ends.
    pub(super) fn of_range(range: &str) -> Option<Self> {
        match wanted(range)? {
            Wanted::From { last: u64::MAX, .. } | Wanted::Last { .. } => None,
            range @ Wanted::From { .. } => Some(Self { range: Some(range), ..Self::default() }),
        }
    }

    /// What of the object that `seen` describes is to be answered.
    pub(super) fn check(&self, seen: &HeadObjectOutput) -> S3Result<Portion> {
        let e_tag = seen.e_tag.as_ref().map_or("", |e_tag| e_tag.value());
        let modified = http_date(seen).and_then(|date| seconds(&date)).unwrap_or_default();
        let unchanged = match &self.matches {
            Some(list) => names(list, e_tag, Comparison::Strong),
            None => self.unmodified_since.is_none_or(|since| modified <= since),
        };
        if !unchanged {
            return Err(refused());
        }
        let changed = match &self.matches_none {
            Some(list) => !names(list, e_tag, Comparison::Weak),
            None => self.modified_since.is_none_or(|since| modified > since),
        };
        if !changed {
            return Err(not_modified(seen));
        }
        let size = seen.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        let same = self.if_range.as_ref().is_none_or(|validator| match seconds(validator) {
            Some(date) => date == modified,
            None => names(validator, e_tag, Comparison::Strong),
        });
        match self.range.filter(|_| same) {
            Some(range) => range.within(size),
            None => Ok(Portion::Whole),
        }
    }
}

impl Wanted {
    fn within(self, size: u64) -> S3Result<Portion> {
        let (first, last) = match self {
            Self::From { first, last } => (first, last.min(size.saturating_sub(1))),
            Self::Last { bytes: 0 } => return Err(unsatisfiable(size)),
            Self::Last { bytes } => (size.saturating_sub(bytes), size.saturating_sub(1)),
        };
        if first < size { Ok(Portion::Part { first, last }) } else { Err(unsatisfiable(size)) }
    }
}

/// A `Range` that counts.
fn wanted(range: &str) -> Option<Wanted> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first, last) {
        ("", bytes) => Some(Wanted::Last { bytes: number(bytes)? }),
        (first, "") => Some(Wanted::From { first: number(first)?, last: u64::MAX }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Wanted::From { first, last })
        }
    }
}

/// More than fits is as far away as anything.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags names the object's. S3 takes tags without quotes too.
fn names(list: &str, e_tag: &str, comparison: Comparison) -> bool {
    list.split(',').map(str::trim).any(|tag| match tag.strip_prefix("W/") {
        Some(weak) => comparison == Comparison::Weak && weak.trim_matches('"') == e_tag,
        None => tag == "*" || tag.trim_matches('"') == e_tag,
    })
}

/// Seconds since 1970. A date that can't be read counts for nothing.
fn seconds(date: &str) -> Option<i64> {
    let civil = DATES.iter().find_map(|form| DateTime::strptime(form, date.trim()).ok())?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

/// `Last-Modified`, which has whole seconds.
fn http_date(seen: &HeadObjectOutput) -> Option<String> {
    let mut date = Vec::new();
    seen.last_modified.as_ref()?.format(TimestampFormat::HttpDate, &mut date).ok()?;
    String::from_utf8(date).ok()
}

/// With what a cache needs to know of what it has, RFC 9110 15.4.5.
fn not_modified(seen: &HeadObjectOutput) -> S3Error {
    let mut headers = HeaderMap::new();
    let mut insert = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    insert(ETAG, seen.e_tag.as_ref().and_then(|e_tag| e_tag.to_http_header().ok()));
    insert(LAST_MODIFIED, http_date(seen).and_then(|date| HeaderValue::try_from(date).ok()));
    insert(CACHE_CONTROL, seen.cache_control.as_ref().and_then(|value| HeaderValue::try_from(value).ok()));
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    error.set_status_code(StatusCode::NOT_MODIFIED);
    error.set_headers(headers);
    error
}

fn unsatisfiable(size: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange, "The requested range is not satisfiable");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
        headers.insert(CONTENT_RANGE, value);
    }
    error.set_headers(headers);
    error
}

/// Whether the condition names that `ETag`.
pub(super) fn is(e_tag: &ETag, condition: &ETagCondition) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == e_tag.value(),
    }
}

/// A condition doesn't hold.
pub(super) fn refused() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_cannot_be_read_counts_for_nothing() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=--1",
            "1-2",
        ] {
            assert_eq!(wanted(range), None, "{range}");
        }
        assert_eq!(wanted("Bytes=1-2"), Some(Wanted::From { first: 1, last: 2 }));
        let beyond = Some(Wanted::From { first: u64::MAX, last: u64::MAX });
        assert_eq!(wanted("bytes=99999999999999999999-"), beyond);
    }

    #[test]
    fn a_range_is_held_against_the_size() {
        let part = |first, last| Some(Portion::Part { first, last });
        for (range, size, portion) in [
            ("bytes=0-0", 12, part(0, 0)),
            ("bytes=2-", 12, part(2, 11)),
            ("bytes=11-99", 12, part(11, 11)),
            ("bytes=-5", 12, part(7, 11)),
            ("bytes=-12", 12, part(0, 11)),
            ("bytes=-99", 12, part(0, 11)),
            ("bytes=12-", 12, None),
            ("bytes=-0", 12, None),
            ("bytes=0-", 0, None),
            ("bytes=-1", 0, None),
        ] {
            assert_eq!(wanted(range).unwrap().within(size).ok(), portion, "{range} of {size}");
        }
    }

    #[test]
    fn dates_are_read_in_all_three_forms() {
        for date in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(seconds(date), Some(784_111_777), "{date}");
        }
        assert_eq!(seconds("yesterday"), None);
        assert_eq!(seconds("\"5d41402abc4b2a76b9719d911017c592\""), None);
    }

    #[test]
    fn entity_tags_are_compared_as_the_header_says() {
        assert!(names("\"a\", W/\"b\", \"c\"", "c", Comparison::Strong));
        assert!(names("W/\"b\"", "b", Comparison::Weak) && !names("W/\"b\"", "b", Comparison::Strong));
        assert!(names("*", "b", Comparison::Strong) && names("b", "b", Comparison::Strong));
        assert!(!names("\"b-2\"", "b", Comparison::Weak));
    }
}
