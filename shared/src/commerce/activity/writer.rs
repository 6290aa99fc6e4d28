//! Writes the events of the buffer to the table.
//!
//! 1. A message of the buffer has one or more entries, and an entry is an event. Messages come from
//!    an event source ([`ActivityWriter::write`]), or are polled from the buffer
//!    ([`ActivityWriter::drain`]).
//! 2. An unreadable message or entry can never be stored. It is counted and sent unchanged to the
//!    dead-letter queue. So it blocks nothing, and nothing is lost.
//! 3. All events of a batch are stored together. A message with an event that was not stored has
//!    failed and is delivered again; its stored events are then duplicates.
//!
//! A message that the dead-letter queue did not accept has failed, too.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::ActivityEvent;
use super::dynamo::{DynamoActivity, NotStored, StoreOutcome};
use crate::core::deadline::Deadline;
use crate::core::error_type::ErrorType;
use crate::core::ids::ActivityId;
use crate::platform::buffer::{BufferError, Entry, WriteBehindBuffer, decode};
use crate::platform::queue::{NotSent, Queue};
use crate::platform::telemetry::{Metric, chain, count_case};

/// Entries that a drain polls at a time. Storing them takes well under a second.
const BATCH: usize = 500;

/// A drain polls no further batch when less than this is left: time to store and acknowledge one.
const LAST_BATCH: Duration = Duration::from_secs(5);

/// Most bytes of an unreadable message that are kept. As base64 they fit into an SQS message (1
/// MiB).
const KEPT_BYTES: usize = 700 * 1024;

/// The `error_type` of messages and entries that were sent to the dead-letter queue.
const SET_ASIDE: &str = "activity-set-aside";

/// Writes activity. `Q` is the dead-letter queue.
#[derive(Debug, Clone)]
pub struct ActivityWriter<Q> {
    activity: DynamoActivity,
    dead_letters: Q,
}

/// The result of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    pub stored: StoreOutcome,
    /// Entries that were sent to the dead-letter queue.
    pub set_aside: usize,
    /// Whether the buffer was empty at the end. Otherwise time was up.
    pub is_empty: bool,
}

/// Why a drain ended early. What was not stored is delivered again.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    #[error(transparent)]
    Buffer(#[from] BufferError),
    #[error(transparent)]
    Store(#[from] NotStored),
    /// The dead-letter queue failed.
    #[error("an entry could not be sent to the dead-letter queue")]
    SetAside(#[from] NotSent),
}

impl ErrorType for DrainError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Buffer(_) => "buffer-unavailable",
            Self::Store(_) => "activity-not-stored",
            Self::SetAside(_) => "activity-not-set-aside",
        }
    }
}

impl<Q: Queue> ActivityWriter<Q> {
    /// Writes to this table, with this dead-letter queue.
    pub fn new(activity: DynamoActivity, dead_letters: Q) -> Self {
        Self { activity, dead_letters }
    }

    /// Writes the messages of an event source. Returns the indexes of those that failed, and logs
    /// why.
    pub async fn write(&self, messages: &[Vec<u8>], deadline: Deadline) -> BTreeSet<usize> {
        let mut failed = BTreeSet::new();
        let (mut events, mut of_message) = (Vec::new(), Vec::new());
        for (place, message) in messages.iter().enumerate() {
            match self.read(message).await {
                Ok(read) => {
                    of_message.push((place, ids(&read)));
                    events.extend(read);
                }
                Err(error) => {
                    report(&DrainError::SetAside(error));
                    failed.insert(place);
                }
            }
        }
        match self.store(events, deadline).await {
            Ok(_) => {}
            Err(error) => {
                let is_missing = |ids: &Vec<ActivityId>| ids.iter().any(|id| error.events.contains(id));
                failed.extend(of_message.iter().filter(|(_, ids)| is_missing(ids)).map(|(place, _)| *place));
                report(&DrainError::Store(error));
            }
        }
        failed
    }

    /// Polls batches and writes them, until the buffer is empty or time is up. Several drains may
    /// run concurrently.
    pub async fn drain(&self, buffer: &WriteBehindBuffer, deadline: Deadline) -> Result<Drained, DrainError> {
        let mut drained = Drained::default();
        while deadline.remaining() > LAST_BATCH {
            let Some(batch) = buffer.poll(BATCH, deadline).await? else {
                drained.is_empty = true;
                break;
            };
            let mut events = Vec::with_capacity(batch.entries.len());
            for entry in &batch.entries {
                match self.event(entry).await? {
                    Some(event) => events.push(event),
                    None => drained.set_aside += 1,
                }
            }
            let stored = self.store(events, deadline).await?;
            drained.stored.new += stored.new;
            drained.stored.known += stored.known;
            buffer.ack(batch, deadline).await?;
        }
        Ok(drained)
    }

    async fn store(&self, events: Vec<ActivityEvent>, deadline: Deadline) -> Result<StoreOutcome, NotStored> {
        let stored = self.activity.store(events, deadline).await?;
        for (outcome, number) in [("stored", stored.new), ("known", stored.known)] {
            if number > 0 {
                count_case(Metric::ActivityEvents, outcome, number as u64);
            }
        }
        Ok(stored)
    }

    /// The events of a message. What is unreadable goes to the dead-letter queue.
    async fn read(&self, message: &[u8]) -> Result<Vec<ActivityEvent>, NotSent> {
        let entries = match decode(message) {
            Ok(entries) => entries,
            Err(error) => {
                self.set_aside(message, &error.to_string()).await?;
                return Ok(Vec::new());
            }
        };
        let mut events = Vec::with_capacity(entries.len());
        for entry in &entries {
            events.extend(self.event(entry).await?);
        }
        Ok(events)
    }

    /// The event of an entry, unless it went to the dead-letter queue.
    async fn event(&self, entry: &Entry) -> Result<Option<ActivityEvent>, NotSent> {
        match serde_json::from_str(&entry.payload) {
            Ok(event) => Ok(Some(event)),
            // The error's own text would contain a part of the payload.
            Err(error) => {
                let why = format!("an entry is not an event: error at character {}", error.column());
                self.set_aside(entry.payload.as_bytes(), &why).await?;
                Ok(None)
            }
        }
    }

    async fn set_aside(&self, what: &[u8], why: &str) -> Result<(), NotSent> {
        self.dead_letters.send(&as_text(what)).await?;
        count_case(Metric::Errors, SET_ASIDE, 1);
        tracing::error!(bytes = what.len(), error_type = SET_ASIDE, error = why, "set aside");
        Ok(())
    }
}

fn ids(events: &[ActivityEvent]) -> Vec<ActivityId> {
    let unique: HashSet<&ActivityId> = events.iter().map(|event| &event.event_id).collect();
    unique.into_iter().cloned().collect()
}

fn report(error: &DrainError) {
    let error_type = error.error_type();
    count_case(Metric::Errors, error_type, 1);
    tracing::error!(error_type, error = chain(error), "messages failed");
}

/// Bytes as an SQS message: unchanged if SQS accepts them as text, otherwise `{"base64", "bytes"}`.
fn as_text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && bytes.len() <= KEPT_BYTES && text.chars().all(is_taken) => {
            text.to_owned()
        }
        _ => {
            let kept = &bytes[..bytes.len().min(KEPT_BYTES)];
            json!({"base64": STANDARD.encode(kept), "bytes": bytes.len()}).to_string()
        }
    }
}

/// API reference, `SendMessage`: the characters of XML 1.0.
fn is_taken(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_set_aside_fits_into_a_message_of_sqs() {
        assert_eq!(as_text(b"{\"a\": 1}"), "{\"a\": 1}");
        assert_eq!(as_text(b""), r#"{"base64":"","bytes":0}"#);
        assert_eq!(as_text(b"a\0"), r#"{"base64":"YQA=","bytes":2}"#);
        assert_eq!(as_text(b"\xff"), r#"{"base64":"/w==","bytes":1}"#);
        for large in [vec![b'a'; 2 << 20], vec![0; 2 << 20]] {
            assert!(as_text(&large).len() < 1 << 20);
        }
    }
}
