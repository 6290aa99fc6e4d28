//! The EventBridge bus of the region's events.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::ProvideErrorMetadata;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, PutEventsResultEntry};
use jiff::Timestamp;

use super::{CallFailed, EntryOutcome, send, unanswered};
use crate::core::env::{ConfigError, Env};

/// `Source` of every event.
const SOURCE: &str = "sojourn";

/// Most bytes of the entries of one call, and so of one entry.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html>
pub const MAX_BUS_BYTES: usize = 1024 * 1024;

/// Bytes that EventBridge counts for the time of an entry.
const TIME_BYTES: usize = 14;

/// Error codes of an invalid entry. A missing permission is not one: it can be granted later.
const REFUSED_ENTRIES: [&str; 2] = ["MalformedDetail", "InvalidArgument"];

/// Error codes of a call with an invalid entry.
const REFUSED_CALLS: [&str; 1] = ["ValidationException"];

/// An event for the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusEvent {
    /// The event's type: `order.placed`.
    pub detail_type: String,
    /// The event, as JSON text.
    pub detail: String,
    pub time: Timestamp,
}

impl BusEvent {
    /// Its size as EventBridge counts it.
    pub fn size_bytes(&self) -> usize {
        TIME_BYTES + SOURCE.len() + self.detail_type.len() + self.detail.len()
    }
}

/// The bus. Calls `PutEvents`.
#[derive(Debug, Clone)]
pub struct EventBus {
    client: Client,
    name: String,
}

impl EventBus {
    /// The bus that `EVENT_BUS_NAME` names.
    pub fn from_env(client: Client, env: &Env) -> Result<Self, ConfigError> {
        Ok(Self { client, name: env.required("EVENT_BUS_NAME")?.to_owned() })
    }

    /// Publishes at most [`MAX_ENTRIES`](super::MAX_ENTRIES) events of at most [`MAX_BUS_BYTES`]
    /// together.
    pub async fn put(&self, events: &[&BusEvent]) -> Vec<EntryOutcome> {
        send(events, |events| self.call(events)).await
    }

    async fn call(&self, events: Vec<&BusEvent>) -> Result<Vec<EntryOutcome>, CallFailed> {
        let entries = events.iter().map(|event| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(SOURCE)
                .detail_type(&event.detail_type)
                .detail(&event.detail)
                .time(DateTime::from_millis(event.time.as_millisecond()))
                .build()
        });
        let request = self.client.put_events().set_entries(Some(entries.collect()));
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| CallFailed::new(&error, error.code(), &REFUSED_CALLS))?;
        let mut results = answer.entries.unwrap_or_default().into_iter();
        Ok(events.iter().map(|_| results.next().map_or_else(unanswered, outcome)).collect())
    }
}

fn outcome(result: PutEventsResultEntry) -> EntryOutcome {
    let Some(code) = result.error_code else { return EntryOutcome::Published };
    let reason = format!("{code}: {}", result.error_message.unwrap_or_default());
    if REFUSED_ENTRIES.contains(&code.as_str()) {
        EntryOutcome::Refused(reason)
    } else {
        EntryOutcome::Failed(reason)
    }
}
