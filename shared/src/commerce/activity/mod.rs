//! Activity: what customers looked at and put into their carts, counted per product and day.
//!
//! Events are many and small, and may be stored a little later. They go through the write-behind
//! buffer (`platform::buffer`):
//!
//! 1. A client sends a batch ([`Submission`]). Each event has an id from the client. One bad event
//!    refuses the batch.
//! 2. The batch is offered to the buffer. Once the buffer has accepted it, it is stored sooner or
//!    later.
//! 3. A writer takes batches out of the buffer and stores them ([`dynamo`]): the event and its
//!    count, in one transaction, on the condition that the event is new. So an event that is
//!    delivered twice is counted once.
//! 4. [`dynamo::DynamoActivity::of_product`] reads the counts of a product.
//!
//! Privacy: an event does not contain its user. The caller has to be signed in, so that strangers
//! cannot fill the table, but the user's id is not stored.
//!
//! Limits:
//! - Days are UTC days.
//! - An event id is global. The first event with an id is stored; a later one counts as a
//!   repetition.
//! - Products are not looked up: an event may name a product that does not exist.
//! - Counts are per region. An event that is sent to two regions is counted in both.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::date_time::{as_rfc3339, rfc3339};
use crate::core::ids::{ActivityId, ProductId};
use crate::platform::buffer::Entry;

pub mod dynamo;
pub mod writer;

/// Most events of a request. 500 of the largest take under 150 KB, and the body may have 256 KB.
pub const MAX_EVENTS: usize = 500;

/// How far a client's clock may be ahead.
pub const MAX_AHEAD: Duration = Duration::from_mins(5);

/// The oldest event that is accepted: a phone may be without a network for a weekend.
pub const MAX_AGE: Duration = Duration::from_hours(7 * 24);

/// How long events are kept, for deduplication.
pub const EVENT_RETENTION: Duration = Duration::from_hours(90 * 24);

/// How long counts are kept.
pub const COUNT_RETENTION: Duration = Duration::from_hours(400 * 24);

/// Longest that an accepted event waits in a buffer: the retention of the queue.
const LONGEST_WAIT: Duration = Duration::from_hours(14 * 24);

/// An event must be kept for as long as a repetition may arrive.
const _: () = assert!(EVENT_RETENTION.as_secs() > MAX_AGE.as_secs() + LONGEST_WAIT.as_secs());

/// What a customer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ActivityKind {
    /// Looked at the product.
    View,
    /// Put the product into the cart.
    AddToCart,
    /// Shared the product.
    Share,
}

/// An activity event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActivityEvent {
    /// The client's id of the event.
    pub event_id: ActivityId,
    pub kind: ActivityKind,
    pub product_id: ProductId,
    /// When it happened, by the client's clock.
    #[serde(with = "as_rfc3339")]
    pub at: Timestamp,
}

impl ActivityEvent {
    /// The event as a buffer entry, offered at `now`.
    pub fn entry(&self, now: Timestamp) -> Entry {
        let at = rfc3339(self.at);
        let Self { event_id, kind, product_id, .. } = self;
        let payload = json!({"eventId": event_id, "kind": kind, "productId": product_id, "at": at});
        Entry { id: event_id.to_string(), offered_at: now, payload: payload.to_string() }
    }

    /// The day that it is counted for.
    pub fn day(&self) -> Date {
        day_of(self.at)
    }
}

/// The UTC day of an instant.
pub fn day_of(at: Timestamp) -> Date {
    Offset::UTC.to_datetime(at).date()
}

/// The body of `POST /activity`. Events are parsed one by one, so that an error names the bad one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    events: Vec<Value>,
}

/// Why a batch of events is refused. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvents {
    /// Too few or too many. 400.
    #[error("a request has 1 to {MAX_EVENTS} events, not {0}")]
    Number(usize),
    /// One is not an event. 400.
    #[error("events[{index}] is not valid: {reason}")]
    Form {
        /// Its index, from 0.
        index: usize,
        reason: String,
    },
    /// One is too old, or in the future. 422.
    #[error("events[{index}] is from {}; an event may be 7 days old and 5 minutes in the future", rfc3339(*at))]
    Time {
        /// Its index, from 0.
        index: usize,
        at: Timestamp,
    },
}

impl Submission {
    /// The events of a request that arrived at `now`, or the error of the first bad one.
    pub fn events(self, now: Timestamp) -> Result<Vec<ActivityEvent>, InvalidEvents> {
        let number = self.events.len();
        if !(1..=MAX_EVENTS).contains(&number) {
            return Err(InvalidEvents::Number(number));
        }
        let read = |(index, value): (usize, Value)| {
            // serde accepts an array for an object.
            if !value.is_object() {
                return Err(InvalidEvents::Form { index, reason: "it is not an object".to_owned() });
            }
            let event: ActivityEvent = serde_json::from_value(value)
                .map_err(|error| InvalidEvents::Form { index, reason: error.to_string() })?;
            if is_timely(event.at, now) {
                Ok(event)
            } else {
                Err(InvalidEvents::Time { index, at: event.at })
            }
        };
        self.events.into_iter().enumerate().map(read).collect()
    }
}

fn is_timely(at: Timestamp, now: Timestamp) -> bool {
    let age = now.duration_since(at);
    let (oldest, ahead) = (seconds(MAX_AGE), seconds(MAX_AHEAD));
    (-ahead..=oldest).contains(&age)
}

fn seconds(duration: Duration) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

/// Number of days of `GET /products/{productId}/activity`: 1 to 30, today included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

/// Text that is not a number of [`Days`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("days must be a number from 1 to {}", Days::MAX)]
pub struct InvalidDays;

impl Days {
    /// The maximum. All rows of so many days are one page of a query: see [`dynamo`].
    pub const MAX: u8 = 30;

    /// The parameter `days`; default seven.
    pub fn from_query(text: Option<&str>) -> Result<Self, InvalidDays> {
        let Some(text) = text else { return Ok(Self(7)) };
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(days) if is_number && (1..=Self::MAX).contains(&days) => Ok(Self(days)),
            _ => Err(InvalidDays),
        }
    }

    /// The days up to that of `now`, newest first.
    fn until(self, now: Timestamp) -> impl Iterator<Item = Date> {
        let today = day_of(now);
        (0..self.0).map(move |back| today.saturating_sub(i64::from(back).days()))
    }
}

/// The counts of a product on a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub views: u64,
    pub cart_additions: u64,
    pub shares: u64,
}

impl Counts {
    fn add(&mut self, kind: ActivityKind, number: u64) {
        let count = match kind {
            ActivityKind::View => &mut self.views,
            ActivityKind::AddToCart => &mut self.cart_additions,
            ActivityKind::Share => &mut self.shares,
        };
        *count = count.saturating_add(number);
    }
}

/// The counts of a product, day by day, newest first, including days without events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductActivity {
    pub product_id: ProductId,
    pub days: Vec<(Date, Counts)>,
}

impl ProductActivity {
    /// The answer for clients.
    pub fn document(&self) -> Value {
        let day = |(day, counts): &(Date, Counts)| {
            json!({
                "day": day.to_string(),
                "views": counts.views,
                "cartAdditions": counts.cart_additions,
                "shares": counts.shares,
            })
        };
        json!({"productId": self.product_id, "days": self.days.iter().map(day).collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-20T12:00:00Z";
    const ID: &str = "01JD3V6Q2ZJ4M8N0P5R7T9W1XY";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn event(at: &str) -> Value {
        json!({"eventId": ID, "kind": "view", "productId": "tea", "at": at})
    }

    fn read(events: &Value) -> Result<Vec<ActivityEvent>, InvalidEvents> {
        serde_json::from_value::<Submission>(json!({"events": events})).unwrap().events(now())
    }

    #[test]
    fn a_bad_event_refuses_the_batch_and_is_named_by_its_place() {
        let bad = [
            json!({"eventId": ID, "kind": "view", "productId": "tea"}),
            json!({"eventId": "1", "kind": "view", "productId": "tea", "at": NOW}),
            json!({"eventId": ID, "kind": "look", "productId": "tea", "at": NOW}),
            json!({"eventId": ID, "kind": "view", "productId": "Tea!", "at": NOW}),
            json!({"eventId": ID, "kind": "view", "productId": "tea", "at": "2026-11-20 12:00"}),
            json!({"eventId": ID, "kind": "view", "productId": "tea", "at": NOW, "userId": "usr_1"}),
            json!([ID, "view", "tea", NOW]),
            json!(7),
        ];
        for bad in bad {
            let refusal = read(&json!([event(NOW), bad])).unwrap_err();
            assert!(matches!(refusal, InvalidEvents::Form { index: 1, .. }), "{refusal}");
            assert!(refusal.to_string().starts_with("events[1] "), "{refusal}");
        }
        assert_eq!(read(&json!([event(NOW)])).unwrap().len(), 1);
    }

    #[test]
    fn a_batch_has_1_to_500_events() {
        assert_eq!(read(&json!([])).unwrap_err(), InvalidEvents::Number(0));
        let events = |number: usize| Value::from(vec![event(NOW); number]);
        assert_eq!(read(&events(MAX_EVENTS)).unwrap().len(), MAX_EVENTS);
        assert_eq!(read(&events(MAX_EVENTS + 1)).unwrap_err(), InvalidEvents::Number(501));
    }

    #[test]
    fn events_of_the_last_week_are_taken_and_clocks_may_be_five_minutes_ahead() {
        for at in ["2026-11-20T12:05:00Z", "2026-11-13T12:00:00Z", "2026-11-20T20:00:00+08:00"] {
            assert!(read(&json!([event(at)])).is_ok(), "{at}");
        }
        for at in
            ["2026-11-20T12:05:01Z", "2026-11-13T11:59:59Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z"]
        {
            assert!(matches!(read(&json!([event(at)])), Err(InvalidEvents::Time { index: 0, .. })), "{at}");
        }
    }

    #[test]
    fn what_is_buffered_reads_back() {
        let events = read(&json!([event("2026-11-20T11:59:59.123Z")])).unwrap();
        let entry = events[0].entry(now());
        assert_eq!((entry.id.as_str(), entry.offered_at), (ID, now()));
        assert_eq!(serde_json::from_str::<ActivityEvent>(&entry.payload).unwrap(), events[0]);
    }

    #[test]
    fn days_are_1_to_30() {
        assert_eq!(Days::from_query(None), Ok(Days(7)));
        assert_eq!(Days::from_query(Some("30")), Ok(Days(30)));
        for text in ["0", "31", "", "-1", "+7", "7.0", "256", "week"] {
            assert_eq!(Days::from_query(Some(text)), Err(InvalidDays), "{text}");
        }
        let days: Vec<_> = Days(2).until("2026-03-01T00:30:00+01:00".parse().unwrap()).collect();
        assert_eq!(days, ["2026-02-28", "2026-02-27"].map(|day| day.parse::<Date>().unwrap()));
    }
}
