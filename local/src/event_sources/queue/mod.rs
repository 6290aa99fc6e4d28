//! Queues as event sources.
//!
//! 1. Wait for messages: for one that is sent, and for the instant at which one becomes visible.
//!    There is no polling.
//! 2. Receive a batch, at most as many messages as the mapping says and as fit into an event. A
//!    batch that is not full waits for more as long as the batching window says, from its first
//!    message on. A message that matches no filter of the mapping is deleted at once, and counts
//!    for no batch.
//! 3. Invoke the function with the event that Lambda makes of the batch; up to the mapping's
//!    maximum concurrency at a time. Beyond it messages stay in the queue.
//! 4. Delete what was handled: the batch, or what the function did not list under
//!    `batchItemFailures`. Everything else becomes visible again when its visibility timeout has
//!    passed, whether the function failed, crashed, ran out of time or was throttled; after
//!    `maxReceiveCount` receives it goes to the dead-letter queue.
//!
//! So every message is handled at least once. A region that stops, or is killed, leaves what was
//! being handled in flight.
//!
//! Different from the cloud: the number of batches at a time does not grow with the load (see
//! [`DEFAULT_CONCURRENCY`]).

mod event;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

use super::{answer, filter};
use crate::functions::outcome::{Invoke, MAX_PAYLOAD_BYTES, Outcome};
use crate::services::sqs::{QueueError, Queues, Received, Take, Watch};
use crate::template::model::{Answers, EventSource};

/// Batches of one mapping that are handled at a time, if the template doesn't say: as many as
/// Lambda begins with.
pub const DEFAULT_CONCURRENCY: usize = 5;

/// Pause after a queue could not be read: a disk that is full is not empty a moment later.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What a message is counted with besides its body and attributes: names, ids, digests and times in
/// its record.
const RECORD_BYTES: usize = 1024;

/// What the messages of an event may come to. In JSON a character may take two bytes instead of
/// one.
const BATCH_BYTES: usize = MAX_PAYLOAD_BYTES / 2;

/// A batch grows while this much is left, so that the next message always fits.
const LARGEST_MESSAGE_BYTES: usize = 1024 * 1024 + RECORD_BYTES;

/// What reads the queues.
pub(super) struct Poller<I> {
    pub(super) queues: Arc<Queues>,
    pub(super) functions: Arc<I>,
}

impl<I: Invoke> Poller<I> {
    /// Reads the queue of `source` for as long as it is polled.
    pub(super) async fn serve(&self, source: &Arc<EventSource>) {
        let mut watch = match self.queues.watch(&source.queue) {
            Ok(watch) => watch,
            Err(error) => {
                tracing::error!(function = source.function, %error, "an event source can't be read");
                return;
            }
        };
        let concurrency = source.maximum_concurrency.unwrap_or(DEFAULT_CONCURRENCY);
        let mut running = JoinSet::new();
        loop {
            // First room, then messages: what is received has its visibility timeout running.
            while running.len() >= concurrency
                && let Some(ended) = running.join_next().await
            {
                report(source, ended);
            }
            match self.batch(source, &mut watch).await {
                Ok(batch) => {
                    let queues = Arc::clone(&self.queues);
                    running.spawn(deliver(queues, Arc::clone(&self.functions), Arc::clone(source), batch));
                }
                Err(error) => {
                    tracing::error!(queue = source.queue, %error, "messages can't be received");
                    sleep(STORE_RETRY).await;
                }
            }
            while let Some(ended) = running.try_join_next() {
                report(source, ended);
            }
        }
    }

    /// The next batch. Waits for its first message, then for the others as long as the window says.
    async fn batch(&self, source: &EventSource, watch: &mut Watch) -> Result<Vec<Received>, QueueError> {
        let mut batch = Batch::default();
        loop {
            let received = self.receive(source, &mut batch)?;
            if !batch.messages.is_empty() {
                break;
            }
            // There may be more behind messages that did not pass.
            if received == 0 {
                watch.wait().await?;
            } else {
                yield_now().await;
            }
        }
        if !source.batching_window.is_zero() {
            let window = sleep(source.batching_window);
            tokio::pin!(window);
            while batch.messages.len() < source.batch_size
                && batch.bytes + LARGEST_MESSAGE_BYTES <= BATCH_BYTES
            {
                tokio::select! {
                    () = &mut window => break,
                    woken = watch.wait() => woken?,
                }
                self.receive(source, &mut batch)?;
            }
        }
        Ok(batch.messages)
    }

    /// Adds to the batch what passes the filters, and deletes what does not. How many messages were
    /// received.
    fn receive(&self, source: &EventSource, batch: &mut Batch) -> Result<usize, QueueError> {
        let messages = self.queues.receive(&source.queue, batch.room(source))?;
        let received = messages.len();
        for message in messages {
            if filter::passes_body(&source.filters, &message.body) {
                batch.add(message);
            } else {
                // What is not deleted now comes again, and is filtered again.
                if let Err(error) = self.queues.delete(&source.queue, &message.receipt_handle) {
                    tracing::error!(queue = source.queue, %error, "a message that passes no filter can't be deleted");
                }
            }
        }
        Ok(received)
    }
}

#[derive(Default)]
struct Batch {
    messages: Vec<Received>,
    bytes: usize,
}

impl Batch {
    fn room(&self, source: &EventSource) -> Take {
        Take {
            messages: source.batch_size.saturating_sub(self.messages.len()),
            bytes: BATCH_BYTES.saturating_sub(self.bytes),
            overhead_bytes: RECORD_BYTES,
            visibility_timeout: None,
        }
    }

    fn add(&mut self, message: Received) {
        self.bytes += message.size_bytes + RECORD_BYTES;
        self.messages.push(message);
    }
}

fn report(source: &EventSource, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(queue = source.queue, %error, "the task of a batch failed");
    }
}

/// One batch: its invocation, and what becomes of its messages.
async fn deliver<I: Invoke>(
    queues: Arc<Queues>,
    functions: Arc<I>,
    source: Arc<EventSource>,
    batch: Vec<Received>,
) {
    let EventSource { queue, function, .. } = &*source;
    let event = match event::of(queue, &batch, queues.arns()) {
        Ok(event) => event,
        Err(error) => {
            tracing::error!(queue, %error, "an event can't be written");
            return;
        }
    };
    let outcome = functions.invoke(function, Bytes::from(event)).await;
    for message in handled(&source, &batch, outcome) {
        match queues.delete(queue, &message.receipt_handle) {
            Ok(true) => {}
            Ok(false) => {
                let id = &message.message_id;
                tracing::warn!(queue, id, "handled when its visibility timeout had passed: it comes again");
            }
            Err(error) => tracing::error!(queue, %error, "a message that was handled can't be deleted"),
        }
    }
}

/// The messages that are done with.
fn handled<'a>(source: &EventSource, batch: &'a [Received], outcome: Outcome) -> Vec<&'a Received> {
    let EventSource { queue, function, answers, .. } = source;
    let answer = match (outcome, answers) {
        (Outcome::Answered(_), Answers::Ignored) => return batch.iter().collect(),
        (Outcome::Answered(answer), Answers::ReportFailures) => answer,
        (outcome, _) => {
            tracing::warn!(queue, function, messages = batch.len(), ?outcome, "a batch failed");
            return Vec::new();
        }
    };
    let ids: BTreeSet<&str> = batch.iter().map(|message| message.message_id.as_str()).collect();
    match answer::failures(&answer, &ids) {
        Ok(failed) => {
            if !failed.is_empty() {
                tracing::warn!(queue, function, messages = failed.len(), "messages of a batch failed");
            }
            batch.iter().filter(|message| !failed.contains(&message.message_id)).collect()
        }
        Err(error) => {
            tracing::warn!(queue, function, messages = batch.len(), %error, "a batch failed");
            Vec::new()
        }
    }
}
