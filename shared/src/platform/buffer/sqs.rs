//! The buffer as an SQS queue.
//!
//! 1. *Offer* packs entries into messages, at most [`ENTRIES_PER_MESSAGE`] and
//!    [`MAX_MESSAGE_BYTES`], and sends up to ten messages and 1 MiB per call. `SendMessageBatch`
//!    answers 200 even if every message failed: failed messages are sent again with backoff until
//!    the deadline. What still fails is an error.
//! 2. *Poll* receives up to ten messages and hides them for the lease (visibility timeout). An
//!    unreadable message is left to the queue's redrive policy, which moves it to the dead-letter
//!    queue.
//! 3. *Ack* deletes messages by the receipt handles of that poll. A handle from before a later
//!    receive deletes nothing.
//!
//! Most deployments do not poll: Lambda's event source mapping does, and deletes what its function
//! stored. The bodies are then read with [`decode`], and the lease is the queue's visibility
//! timeout.
//!
//! # Limits
//! The number of waiting entries is an estimate: the approximate number of messages of SQS, times
//! the mean number of entries in the messages that this process has seen, or 1. The age of the
//! oldest entry is unknown here; CloudWatch has it (`ApproximateAgeOfOldestMessage`). Calls:
//! `SendMessage`, `ReceiveMessage`, `DeleteMessage` (each as batch), `GetQueueAttributes`.
//!
//! Sources of the limits: "Amazon SQS message quotas" and `SendMessageBatch`, API reference. A
//! message may have 1 MiB since August 2025; a queue whose `MaximumMessageSize` was set before has
//! 256 KiB.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, DeleteMessageBatchRequestEntry, DeleteMessageBatchResultEntry,
    MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
    SendMessageBatchResultEntry,
};
use futures::stream::{self, StreamExt, TryStreamExt};

use super::bound::SampledBound;
use super::message::{OVERHEAD_BYTES, decode, join, text};
use super::{
    AdapterSettings, BufferError, Entry, LeasedBatch, Offered, QueueDepth, Receipt, TakenBatch, backpressure,
};
use crate::core::deadline::Deadline;
use crate::core::env::{ConfigError, Env};
use crate::core::retry::Backoff;

/// The variable with the queue's URL.
const QUEUE_URL: &str = "BUFFER_QUEUE_URL";

/// Most messages of one call.
const MAX_MESSAGES: usize = 10;

/// Most bytes of the messages of one `SendMessageBatch`.
const MAX_CALL_BYTES: usize = 1024 * 1024;

/// Most bytes of one message: the limit of queues of any age. Ten of them fit into the 6 MB of an
/// invocation.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// Most entries of one message. A message is redelivered as a whole when one entry fails. The price
/// does not depend on it: a call is billed by 64 KB.
pub const ENTRIES_PER_MESSAGE: usize = 100;

/// Calls of one offer that run at the same time. The largest offer needs nine.
const CALLS_AT_ONCE: usize = 4;

/// How long a poll waits for a first message. With any wait, SQS queries all of its servers (long
/// polling), so that no message is missed.
const WAIT_SECONDS: i32 = 1;

/// The buffer. Further variable: `BUFFER_QUEUE_URL`.
#[derive(Debug)]
pub(super) struct SqsBuffer {
    client: Client,
    url: String,
    bound: SampledBound,
    lease: Duration,
    /// Entries and messages that this process has sent or received.
    entries_seen: AtomicU64,
    messages_seen: AtomicU64,
}

impl SqsBuffer {
    pub(super) fn from_env(client: Client, env: &Env, terms: AdapterSettings) -> Result<Self, ConfigError> {
        Ok(Self {
            client,
            url: env.required(QUEUE_URL)?.to_owned(),
            bound: SampledBound::new(terms),
            lease: terms.lease,
            entries_seen: AtomicU64::new(0),
            messages_seen: AtomicU64::new(0),
        })
    }

    pub(super) async fn offer(&self, batch: &[Entry], deadline: Deadline) -> Result<Offered, BufferError> {
        let messages = pack(batch)?;
        if !self.bound.has_room(batch.len(), self.waiting()).await {
            return Ok(backpressure());
        }
        let calls = calls(&messages);
        let mut sends = Vec::with_capacity(calls.len());
        for call in calls {
            sends.push(self.send(call, deadline));
        }
        stream::iter(sends).buffer_unordered(CALLS_AT_ONCE).try_collect::<()>().await?;
        self.record_seen(batch.len(), messages.len());
        Ok(Offered::Accepted)
    }

    /// Sends all of `messages`, and retries those that fail.
    async fn send(&self, messages: &[String], deadline: Deadline) -> Result<(), BufferError> {
        let operation = "take";
        let mut backoff = Backoff::within(deadline);
        let mut unsent: Vec<usize> = (0..messages.len()).collect();
        loop {
            let mut request = self.client.send_message_batch().queue_url(&self.url);
            for &position in &unsent {
                let entry = SendMessageBatchRequestEntry::builder()
                    .id(position.to_string())
                    .message_body(&messages[position]);
                request = request.entries(entry.build().map_err(|error| self.failed(operation, error))?);
            }
            let answer = Box::pin(request.send()).await.map_err(|error| self.failed(operation, error))?;
            let sent: HashSet<&str> =
                answer.successful().iter().map(SendMessageBatchResultEntry::id).collect();
            unsent.retain(|position| !sent.contains(position.to_string().as_str()));
            self.poll_more(operation, unsent.len(), answer.failed(), &mut backoff).await?;
            if unsent.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) async fn poll(&self, n: usize, deadline: Deadline) -> Result<Option<TakenBatch>, BufferError> {
        let messages = n.div_ceil(ENTRIES_PER_MESSAGE).clamp(1, MAX_MESSAGES);
        let wait = if deadline.remaining() > 2 * Duration::from_secs(1) { WAIT_SECONDS } else { 0 };
        let request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(messages).unwrap_or(1))
            .visibility_timeout(i32::try_from(self.lease.as_secs()).unwrap_or(i32::MAX))
            .wait_time_seconds(wait)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let answer = Box::pin(request.send()).await.map_err(|error| self.failed("deliver", error))?;
        if answer.messages().is_empty() {
            return Ok(None);
        }
        let (mut entries, mut handles) = (Vec::new(), Vec::new());
        let (mut redelivered, mut unreadable) = (0, 0);
        for message in answer.messages() {
            let (Some(body), Some(handle)) = (message.body(), message.receipt_handle()) else {
                unreadable += 1;
                continue;
            };
            let Ok(read) = decode(body.as_bytes()) else {
                unreadable += 1;
                continue;
            };
            let receives = message
                .attributes()
                .and_then(|attributes| attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount))
                .and_then(|count| count.parse::<u32>().ok());
            if receives.is_some_and(|count| count > 1) {
                redelivered += read.len();
            }
            self.record_seen(read.len(), 1);
            entries.extend(read);
            handles.push(handle.to_owned());
        }
        let leased = LeasedBatch { entries, receipt: Receipt::Sqs(handles) };
        Ok(Some(TakenBatch { leased, redelivered, unreadable }))
    }

    pub(super) async fn ack(&self, handles: &[String], deadline: Deadline) -> Result<(), BufferError> {
        let operation = "delete";
        let mut backoff = Backoff::within(deadline);
        let mut held: Vec<usize> = (0..handles.len()).collect();
        while !held.is_empty() {
            let mut request = self.client.delete_message_batch().queue_url(&self.url);
            for &position in &held {
                let entry = DeleteMessageBatchRequestEntry::builder()
                    .id(position.to_string())
                    .receipt_handle(&handles[position]);
                request = request.entries(entry.build().map_err(|error| self.failed(operation, error))?);
            }
            let answer = Box::pin(request.send()).await.map_err(|error| self.failed(operation, error))?;
            let deleted: HashSet<&str> =
                answer.successful().iter().map(DeleteMessageBatchResultEntry::id).collect();
            held.retain(|position| !deleted.contains(position.to_string().as_str()));
            self.poll_more(operation, held.len(), answer.failed(), &mut backoff).await?;
        }
        Ok(())
    }

    /// Waits before a retry. An error if a retry is of no use, or if there is no time.
    async fn poll_more(
        &self,
        operation: &'static str,
        failed: usize,
        errors: &[BatchResultErrorEntry],
        backoff: &mut Backoff,
    ) -> Result<(), BufferError> {
        let is_hopeless = errors.iter().any(BatchResultErrorEntry::sender_fault);
        if failed == 0 || (!is_hopeless && backoff.wait().await) {
            return Ok(());
        }
        let reason = errors.first().map_or_else(
            || "no answer for them".to_owned(),
            |error| format!("{}: {}", error.code(), error.message().unwrap_or_default()),
        );
        Err(BufferError::Entries { operation, queue: self.url.clone(), failed, reason })
    }

    pub(super) async fn size(&self) -> Result<QueueDepth, BufferError> {
        Ok(QueueDepth { entries: self.waiting().await?, oldest: None })
    }

    async fn waiting(&self) -> Result<u64, BufferError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let request =
            self.client.get_queue_attributes().queue_url(&self.url).set_attribute_names(Some(names.into()));
        let answer = Box::pin(request.send()).await.map_err(|error| self.failed("tell its size", error))?;
        let messages = answer.attributes().into_iter().flat_map(|attributes| attributes.values());
        let messages = messages.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>();
        let (entries, seen) =
            (self.entries_seen.load(Ordering::Relaxed), self.messages_seen.load(Ordering::Relaxed));
        Ok(if seen == 0 { messages } else { messages.saturating_mul(entries).div_ceil(seen) })
    }

    fn record_seen(&self, entries: usize, messages: usize) {
        self.entries_seen.fetch_add(entries as u64, Ordering::Relaxed);
        self.messages_seen.fetch_add(messages as u64, Ordering::Relaxed);
    }

    fn failed(
        &self,
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> BufferError {
        BufferError::Sqs { operation, queue: self.url.clone(), source: source.into() }
    }
}

/// Packs as many entries into a message as fit.
fn pack(batch: &[Entry]) -> Result<Vec<String>, BufferError> {
    let mut messages = Vec::new();
    let (mut texts, mut bytes) = (Vec::new(), OVERHEAD_BYTES);
    for entry in batch {
        let text = text(entry)?;
        if texts.len() == ENTRIES_PER_MESSAGE
            || (bytes + text.len() + 1 > MAX_MESSAGE_BYTES && !texts.is_empty())
        {
            messages.push(join(&texts));
            (texts, bytes) = (Vec::new(), OVERHEAD_BYTES);
        }
        bytes += text.len() + 1;
        texts.push(text);
    }
    if !texts.is_empty() {
        messages.push(join(&texts));
    }
    Ok(messages)
}

/// Packs as many messages into a call as fit.
fn calls(messages: &[String]) -> Vec<&[String]> {
    let mut calls = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (position, message) in messages.iter().enumerate() {
        if position - begin == MAX_MESSAGES || bytes + message.len() > MAX_CALL_BYTES {
            calls.push(&messages[begin..position]);
            (begin, bytes) = (position, 0);
        }
        bytes += message.len();
    }
    if begin < messages.len() {
        calls.push(&messages[begin..]);
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::buffer::{MAX_BATCH, MAX_PAYLOAD_BYTES};
    use jiff::Timestamp;

    fn batch(number: usize, payload_bytes: usize) -> Vec<Entry> {
        let payload = format!("\"{}\"", "x".repeat(payload_bytes - 2));
        let entry =
            |n| Entry { id: format!("{n:064}"), offered_at: Timestamp::UNIX_EPOCH, payload: payload.clone() };
        (0..number).map(entry).collect()
    }

    #[test]
    fn every_entry_is_in_one_message_of_one_call_and_nothing_is_above_a_limit() {
        for (number, bytes) in
            [(1, 2), (500, 2), (499, 200), (101, MAX_PAYLOAD_BYTES), (MAX_BATCH, MAX_PAYLOAD_BYTES)]
        {
            let batch = batch(number, bytes);
            let messages = pack(&batch).unwrap();
            let calls = calls(&messages);
            for call in &calls {
                assert!((1..=MAX_MESSAGES).contains(&call.len()));
                assert!(call.iter().map(String::len).sum::<usize>() <= MAX_CALL_BYTES);
                assert!(call.iter().all(|message| message.len() <= MAX_MESSAGE_BYTES));
            }
            let sent: Vec<Entry> = calls
                .iter()
                .flat_map(|call| call.iter())
                .flat_map(|message| {
                    let entries = decode(message.as_bytes()).unwrap();
                    assert!((1..=ENTRIES_PER_MESSAGE).contains(&entries.len()));
                    entries
                })
                .collect();
            assert_eq!(sent, batch);
        }
    }

    #[test]
    fn small_entries_take_few_messages() {
        assert_eq!(pack(&batch(500, 200)).unwrap().len(), 5);
    }
}
