//! Queues as event sources: what Lambda's pollers do between SQS and a function.
//!
//! 1. Wait for messages: for one that is sent, and for the instant at which one becomes visible. Nothing is asked again
//!    and again.
//! 2. Receive a batch, at most as many messages as the mapping says and as fit into an event. A batch that is not full
//!    waits for more as long as the batching window says, from its first message on.
//! 3. Invoke the function with the event that Lambda makes of the batch; up to the mapping's maximum concurrency at a
//!    time. Beyond it messages stay in the queue.
//! 4. Delete what was handled: the batch, or what the function did not list under `batchItemFailures`. Everything else
//!    becomes visible again when its visibility timeout has passed, whether the function failed, crashed, ran out of time
//!    or was throttled; after `maxReceiveCount` receives it goes to the dead-letter queue.
//!
//! So every message is handled at least once. A region that stops, or is killed, leaves what was being handled in flight.
//!
//! Different from the cloud: the number of batches at a time does not grow with the load (see [`DEFAULT_CONCURRENCY`]),
//! and the poller needs no permission of the function's role, which SAM would give it with the event.

mod answer;
mod event;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::functions::outcome::{Invoke, MAX_PAYLOAD_BYTES, Outcome};
use crate::services::sqs::{QueueError, Queues, Received, Take, Watch};
use crate::template::model::{Answers, EventSource};

/// Batches of one mapping that are handled at a time, if the template doesn't say: as many as Lambda begins with.
pub const DEFAULT_CONCURRENCY: usize = 5;

/// Pause after a queue could not be read: a disk that is full is not empty a moment later.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What a message is counted with besides its body and attributes: names, ids, digests and times in its record.
const RECORD_BYTES: usize = 1024;

/// What the messages of an event may come to. In JSON a character may take two bytes instead of one.
const BATCH_BYTES: usize = MAX_PAYLOAD_BYTES / 2;

/// A batch is added to while this is left: whatever comes then has room.
const LARGEST_MESSAGE_BYTES: usize = 1024 * 1024 + RECORD_BYTES;

/// The stack's event sources.
pub struct EventSources<I> {
    sources: Vec<Arc<EventSource>>,
    queues: Arc<Queues>,
    functions: Arc<I>,
}

impl<I: Invoke> EventSources<I> {
    /// Nothing is received before [`run`](Self::run).
    pub fn new(sources: &[EventSource], queues: Arc<Queues>, functions: Arc<I>) -> Self {
        Self { sources: sources.iter().cloned().map(Arc::new).collect(), queues, functions }
    }

    /// Hands messages to functions until `shutdown` is ready. Batches that are being handled then are given up: their
    /// messages become visible again in time.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let enabled = self.sources.iter().filter(|source| source.enabled);
        // As many as the template has.
        let all = enabled.map(|source| self.serve(source)).collect::<FuturesUnordered<_>>().collect::<()>();
        tokio::select! {
            () = shutdown => {}
            () = async { all.await; std::future::pending::<()>().await } => {}
        }
    }

    async fn serve(&self, source: &Arc<EventSource>) {
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
            batch.add(self.queues.receive(&source.queue, batch.room(source))?);
            if !batch.messages.is_empty() {
                break;
            }
            watch.wait().await?;
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
                batch.add(self.queues.receive(&source.queue, batch.room(source))?);
            }
        }
        Ok(batch.messages)
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

    fn add(&mut self, messages: Vec<Received>) {
        self.bytes += messages.iter().map(|message| message.size_bytes + RECORD_BYTES).sum::<usize>();
        self.messages.extend(messages);
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
    let event = match event::of(queue, &batch) {
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
