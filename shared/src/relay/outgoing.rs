//! An event to be published, and its remaining steps.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::date_time::as_rfc3339;
use crate::core::ids::{EventId, MessageId, UserId};
use crate::identity::sessions::SessionsRevoked;
use crate::platform::outbox::EventType;
use crate::platform::publish::{BusEvent, MAX_BUS_BYTES, MAX_TOPIC_BYTES, TopicEntry};
use crate::platform::stream::{Change, ChangeKind};
use crate::platform::tables::EXPIRES_AT;
use crate::sockets::connections::Audience;
use crate::sockets::delivery::{Message, MessageType, Task, Topic, TopicMessage};

/// The member of an event's data that names its customer.
const CUSTOMER: &str = "customerId";

/// An event that is not published yet.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The position of its row in the stream.
    pub(super) sequence_number: String,
    /// Events of one subject are published in order.
    pub(super) subject: String,
    pub(super) occurred_at: Timestamp,
    /// The remaining steps, in any order.
    pub(super) steps: Vec<Step>,
}

/// A step of publishing an event.
#[derive(Debug)]
pub(super) enum Step {
    /// Publish it to the bus.
    Bus(BusEvent),
    /// Publish it to a topic, for sockets.
    Topic(Topic, TopicEntry),
    /// Send an entry that cannot be published to the dead-letter queue.
    SetAside(String),
}

/// Where a step sends to. Steps with one destination share calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Destination {
    Bus,
    Topic(Topic),
    SetAside,
}

impl Destination {
    /// The metric's dimension.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Topic(_) => "topic",
            Self::SetAside => "set_aside",
        }
    }
}

impl Step {
    pub(super) fn destination(&self) -> Destination {
        match self {
            Self::Bus(_) => Destination::Bus,
            Self::Topic(topic, _) => Destination::Topic(*topic),
            Self::SetAside(_) => Destination::SetAside,
        }
    }

    /// Its size as its destination counts it.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Bus(event) => event.size_bytes(),
            Self::Topic(_, entry) => entry.size_bytes(),
            Self::SetAside(text) => text.len(),
        }
    }

    /// The step that replaces one that cannot succeed.
    pub(super) fn set_aside(self, reason: &str) -> Self {
        let (destination, event) = match self {
            Self::Bus(event) => ("bus".to_owned(), event.detail),
            Self::Topic(topic, entry) => (topic.variable().to_owned(), entry.body),
            Self::SetAside(text) => return Self::SetAside(text),
        };
        Self::SetAside(json!({"reason": reason, "destination": destination, "event": event}).to_string())
    }
}

/// The members of an event's row that the relay reads. `type` is text: an unknown type goes to the
/// bus like any other.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    event_id: EventId,
    #[serde(rename = "type")]
    kind: String,
    #[serde(with = "as_rfc3339")]
    occurred_at: Timestamp,
    region: String,
    subject: String,
    data: Value,
}

impl Outgoing {
    /// The event of a change. `None` if the change is not an insert, or of another region, which
    /// publishes it. An unreadable row goes to the dead-letter queue.
    pub(super) fn of(change: Change, region: &str, now: Timestamp) -> Option<Self> {
        let Change { sequence_number, kind: ChangeKind::Insert, new_image: Some(item), .. } = change else {
            return None;
        };
        let read = || -> Result<(Row, Value), serde_dynamo::Error> {
            Ok((serde_dynamo::from_item(item.clone())?, serde_dynamo::from_item(item.clone())?))
        };
        let (row, document) = match read() {
            Ok(read) => read,
            Err(error) => {
                let reason = format!("the row is not an event: {error}");
                let text = json!({"reason": reason, "destination": "none", "event": item}).to_string();
                let subject = sequence_number.clone();
                return Some(Self {
                    sequence_number,
                    subject,
                    occurred_at: now,
                    steps: vec![Step::SetAside(text)],
                });
            }
        };
        if row.region != region {
            return None;
        }
        let mut steps = vec![fitting(bus_step(&row, document), MAX_BUS_BYTES)];
        match topic_message(&row) {
            Ok(Some((topic, task))) => {
                let message = TopicMessage { region: row.region, task };
                steps.push(fitting(Step::Topic(topic, message.entry()), MAX_TOPIC_BYTES));
            }
            Ok(None) => {}
            Err(error) => {
                let reason = format!("the event's data is not that of its type: {error}");
                let event = json!({"eventId": row.event_id, "subject": row.subject});
                steps.push(Step::SetAside(
                    json!({"reason": reason, "destination": "topic", "event": event}).to_string(),
                ));
            }
        }
        Some(Self { sequence_number, subject: row.subject, occurred_at: row.occurred_at, steps })
    }
}

/// The row without its expiry.
fn bus_step(row: &Row, mut document: Value) -> Step {
    if let Some(members) = document.as_object_mut() {
        members.remove(EXPIRES_AT);
    }
    Step::Bus(BusEvent { detail_type: row.kind.clone(), detail: document.to_string(), time: row.occurred_at })
}

/// `step`, or the dead-letter step if it is larger than `limit`.
fn fitting(step: Step, limit: usize) -> Step {
    let bytes = step.size_bytes();
    if bytes <= limit { step } else { step.set_aside(&format!("it has {bytes} bytes; at most {limit} pass")) }
}

/// The socket message of the event: a message to its customer, or the end of sessions. `None` for
/// other events.
fn topic_message(row: &Row) -> Result<Option<(Topic, Task)>, serde_json::Error> {
    let Ok(kind) = serde_json::from_value(row.kind.as_str().into()) else { return Ok(None) };
    let topic = match kind {
        EventType::OrderPlaced | EventType::OrderPaid | EventType::OrderCancelled => Topic::Orders,
        EventType::ExportReady | EventType::ExportFailed => Topic::Exports,
        EventType::SessionsRevoked => {
            let revoked: SessionsRevoked = serde_json::from_value(row.data.clone())?;
            return Ok(Some((Topic::Sessions, Task::Close { revoked, at: row.occurred_at })));
        }
        EventType::StockChanged | EventType::ExportRequested => return Ok(None),
    };
    let mut body = row.data.clone();
    let customer = body.as_object_mut().and_then(|data| data.remove(CUSTOMER)).unwrap_or_default();
    let message = Message {
        kind: MessageType::of_event(kind),
        message_id: MessageId::from(&row.event_id),
        from: None,
        sent_at: row.occurred_at,
        body: body.into(),
    };
    let customer: UserId = serde_json::from_value(customer)?;
    Ok(Some((topic, Task::Deliver { message, to: Audience::User(customer) })))
}
