//! A batch: the next records of a reader, as many as fit into an event.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use super::{LOOK_AGAIN, Reader, SAVE_EVERY, STORE_RETRY};
use crate::event_sources::filter;
use crate::functions::outcome::{Invoke, MAX_PAYLOAD_BYTES};
use crate::services::dynamodb::streams::{Page, Position, Record, StreamError};

/// What an event is besides its records and the commas between them.
const ENVELOPE: (&str, &str) = ("{\"Records\":[", "]}");

/// Why no records were collected.
#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Read(#[from] StreamError),
    #[error("a record can't be written: {0}")]
    Write(#[from] serde_json::Error),
}

/// A record and its JSON.
pub(super) struct Entry {
    pub(super) record: Arc<Record>,
    pub(super) json: String,
}

/// The event of some records.
pub(super) fn event(entries: &[Entry]) -> String {
    let records: Vec<_> = entries.iter().map(|entry| entry.json.as_str()).collect();
    [ENVELOPE.0, &records.join(","), ENVELOPE.1].concat()
}

#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
    /// The next record has no room.
    full: bool,
}

impl Batch {
    /// Takes records until the event is full. Moves `position` behind what was taken or passed
    /// over.
    fn add(&mut self, page: Page, position: &mut Position) -> serde_json::Result<()> {
        for record in page.records {
            let json = record.in_event()?.to_string();
            // One for the comma.
            let bytes = self.bytes + json.len() + 1;
            if bytes + ENVELOPE.0.len() + ENVELOPE.1.len() > MAX_PAYLOAD_BYTES && !self.entries.is_empty() {
                self.full = true;
                return Ok(());
            }
            self.bytes = bytes;
            *position = record.position;
            self.entries.push(Entry { record, json });
        }
        *position = page.end;
        Ok(())
    }
}

impl<I: Invoke> Reader<I> {
    /// The next batch. Waits for its first record, then for the others as long as the window says.
    pub(super) async fn collect(
        &self,
        position: &mut Position,
        news: &mut watch::Receiver<()>,
    ) -> Vec<Entry> {
        let source = &self.source;
        let mut batch = Batch::default();
        let mut window_ends = None;
        let (mut saved, mut save_at) = (*position, Instant::now() + SAVE_EVERY);
        loop {
            news.mark_unchanged();
            let exhausted = match self.add_page(&mut batch, position) {
                Ok(exhausted) => exhausted,
                Err(error) => {
                    tracing::error!(table = source.table, %error, "a stream can't be read");
                    sleep(STORE_RETRY).await;
                    continue;
                }
            };
            if batch.full || batch.entries.len() >= source.batch_size {
                return batch.entries;
            }
            if batch.entries.is_empty() && *position != saved && save_at <= Instant::now() {
                // All of it was for others.
                self.save(*position);
                (saved, save_at) = (*position, Instant::now() + SAVE_EVERY);
            }
            if !exhausted {
                // A long stream must not keep the thread.
                yield_now().await;
                continue;
            }
            if !batch.entries.is_empty() && window_ends.is_none() {
                window_ends = Some(Instant::now() + source.batching_window);
            }
            let look_again = Instant::now() + LOOK_AGAIN;
            tokio::select! {
                () = sleep_until(window_ends.unwrap_or(look_again).min(look_again)) => {}
                changed = news.changed() => if changed.is_err() {
                    // The streams hold the sender, and the reader holds the streams.
                    tracing::debug!(table = source.table, "the streams are gone");
                    sleep(STORE_RETRY).await;
                },
            }
            if window_ends.is_some_and(|end| end <= Instant::now()) {
                return batch.entries;
            }
        }
    }

    /// Reads on from `position`. Whether the end of the stream was reached.
    fn add_page(&self, batch: &mut Batch, position: &mut Position) -> Result<bool, CollectError> {
        let source = &self.source;
        let room = source.batch_size.saturating_sub(batch.entries.len());
        let page = self.parts.streams.read(&source.table, *position, room, |record| {
            // A record that can't be written is found out when it is added.
            self.is_mine(record)
                && (source.filters.is_empty()
                    || record.in_event().map_or(true, |json| filter::passes_record(&source.filters, &json)))
        })?;
        let exhausted = page.exhausted;
        batch.add(page, position)?;
        Ok(exhausted)
    }
}
