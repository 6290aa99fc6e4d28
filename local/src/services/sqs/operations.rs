//! What the operations do, from a request's body to the body of its answer.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::message::{Message, MessageAttributes, attributes_digest, body_digest};
use super::queues::{Outgoing, QueueError, Queues};
use super::refusal::Refusal;
use super::request::{
    Batch, BatchEntry, ChangeMessageVisibility, DeleteMessage, GetQueueAttributes, ReceiveMessage,
    SendMessage, parse,
};
use super::store::{Received, Take};
use crate::services::faults::EntryFault;
use crate::template::arn::Arns;
use crate::template::model::{ACCOUNT, Queue};

/// Entries of one batch.
const MAX_BATCH_ENTRIES: usize = 10;

/// All messages of a `SendMessageBatch` together: 1 MiB.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Characters of an entry's id.
const MAX_ENTRY_ID_CHARACTERS: usize = 80;

/// SQS's ranges, in seconds and messages.
const DELAY_SECONDS: RangeInclusive<i64> = 0..=900;
const VISIBILITY_SECONDS: RangeInclusive<i64> = 0..=43_200;
const WAIT_SECONDS: RangeInclusive<i64> = 0..=20;
const MESSAGES: RangeInclusive<i64> = 1..=10;

/// The one system attribute that a sender may set. It is not delivered here.
const TRACE_HEADER: &str = "AWSTraceHeader";

/// What a receiver may ask for besides `All`. Those that only FIFO queues have are absent from
/// every message.
const SYSTEM_ATTRIBUTES: [&str; 9] = [
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    TRACE_HEADER,
    "DeadLetterQueueSourceArn",
];

pub(super) fn send(queues: &Queues, queue: &str, sender: &str, body: &[u8]) -> Result<Value, Refusal> {
    let limit = queues.queue(queue)?.maximum_message_bytes;
    let (message, delay) = accept(parse(body)?, limit)?;
    let ids = queues.send(queue, sender, &[Outgoing { message: &message, delay }])?;
    Ok(sent(&message, ids.first().map_or("", String::as_str)))
}

fn sent(message: &Message, id: &str) -> Value {
    let mut answer = json!({"MessageId": id, "MD5OfMessageBody": body_digest(message.body())});
    if let Some(digest) = attributes_digest(message.attributes()) {
        answer["MD5OfMessageAttributes"] = digest.into();
    }
    answer
}

/// Entries that are not accepted are listed as `Failed` and don't keep the others from being sent.
pub(super) fn send_batch(
    queues: &Queues,
    queue: &str,
    sender: &str,
    body: &[u8],
    faults: &[EntryFault],
) -> Result<Value, Refusal> {
    let entries: Vec<BatchEntry<SendMessage>> = entries(body, "SendMessageBatchRequestEntry")?;
    check_size(&entries)?;
    let limit = queues.queue(queue)?.maximum_message_bytes;
    let (mut accepted, mut failed) = (Vec::new(), Vec::new());
    for (position, BatchEntry { id, request }) in entries.into_iter().enumerate() {
        if let Some(fault) = faults.iter().find(|fault| fault.hits(position, &request.message_body)) {
            failed.push(failed_entry(&id, &Refusal::injected_entry(fault)));
            continue;
        }
        match accept(request, limit) {
            Ok((message, delay)) => accepted.push((id, message, delay)),
            Err(refusal) => failed.push(failed_entry(&id, &refusal)),
        }
    }
    let outgoing: Vec<_> =
        accepted.iter().map(|(_, message, delay)| Outgoing { message, delay: *delay }).collect();
    let ids = queues.send(queue, sender, &outgoing)?;
    let successful = accepted.iter().zip(ids).map(|((id, message, _), message_id)| {
        let mut entry = sent(message, &message_id);
        entry["Id"] = id.as_str().into();
        entry
    });
    Ok(batch_answer(&successful.collect::<Vec<_>>(), failed))
}

fn batch_answer(successful: &[Value], failed: Vec<Value>) -> Value {
    let mut answer = json!({ "Successful": successful });
    if !failed.is_empty() {
        answer["Failed"] = failed.into();
    }
    answer
}

fn failed_entry(id: &str, refusal: &Refusal) -> Value {
    let Refusal { code, message, .. } = refusal;
    json!({"Id": id, "SenderFault": refusal.is_fault_of_sender(), "Code": code, "Message": message})
}

fn accept(message: SendMessage, limit: usize) -> Result<(Message, Option<Duration>), Refusal> {
    let SendMessage {
        message_body,
        delay_seconds,
        message_attributes,
        message_system_attributes,
        message_deduplication_id,
    } = message;
    if let Some(name) = message_system_attributes.keys().find(|name| *name != TRACE_HEADER) {
        return Err(Refusal::parameter(&format!("Message system attribute '{name}' can't be set.")));
    }
    if message_deduplication_id.is_some() {
        return Err(Refusal::parameter(
            "The request include parameter MessageDeduplicationId which is not valid for this queue type.",
        ));
    }
    let message = Message::new(message_body, message_attributes, limit)?;
    Ok((message, seconds("DelaySeconds", delay_seconds, DELAY_SECONDS)?))
}

/// The entries of a batch, unless they make the whole batch fail.
fn entries<T: DeserializeOwned>(body: &[u8], kind: &str) -> Result<Vec<BatchEntry<T>>, Refusal> {
    let Batch { entries } = parse::<Batch<T>>(body)?;
    if entries.is_empty() {
        let message = format!("There should be at least one {kind} in the request.");
        return Err(Refusal::prefixed("EmptyBatchRequest", &message));
    }
    if entries.len() > MAX_BATCH_ENTRIES {
        let message = format!(
            "Maximum number of entries per request are {MAX_BATCH_ENTRIES}. You have sent {}.",
            entries.len()
        );
        return Err(Refusal::prefixed("TooManyEntriesInBatchRequest", &message));
    }
    let is_id = |id: &str| {
        let valid = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
        (1..=MAX_ENTRY_ID_CHARACTERS).contains(&id.len()) && id.chars().all(valid)
    };
    let mut seen = BTreeSet::new();
    for BatchEntry { id, .. } in &entries {
        if !is_id(id) {
            let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can \
                           be at most 80 letters long.";
            return Err(Refusal::prefixed("InvalidBatchEntryId", message));
        }
        if !seen.insert(id) {
            return Err(Refusal::prefixed("BatchEntryIdsNotDistinct", &format!("Id {id} repeated.")));
        }
    }
    Ok(entries)
}

fn check_size(entries: &[BatchEntry<SendMessage>]) -> Result<(), Refusal> {
    let sizes = entries.iter().map(|BatchEntry { request, .. }| {
        Message::size_of(&request.message_body, &request.message_attributes)
    });
    let total: usize = sizes.sum();
    if total > MAX_BATCH_BYTES {
        let message = format!(
            "Batch requests cannot be longer than {MAX_BATCH_BYTES} bytes. You have sent {total} bytes."
        );
        return Err(Refusal::prefixed("BatchRequestTooLong", &message));
    }
    Ok(())
}

/// Waits for a first message as long as the request or the queue says.
pub(super) async fn receive(queues: &Arc<Queues>, name: &str, body: &[u8]) -> Result<Value, Refusal> {
    let request: ReceiveMessage = parse(body)?;
    let messages = request.max_number_of_messages.unwrap_or(1);
    if !MESSAGES.contains(&messages) {
        return Err(invalid("MaxNumberOfMessages", messages, &MESSAGES));
    }
    let names = request.attribute_names.iter().chain(&request.message_system_attribute_names);
    let is_known = |name: &str| name == "All" || SYSTEM_ATTRIBUTES.contains(&name);
    if let Some(name) = names.into_iter().find(|name| !is_known(name)) {
        return Err(Refusal::attribute_name(name));
    }
    let take = Take {
        messages: usize::try_from(messages).unwrap_or(1),
        bytes: usize::MAX,
        overhead_bytes: 0,
        visibility_timeout: seconds("VisibilityTimeout", request.visibility_timeout, VISIBILITY_SECONDS)?,
    };
    let wait = seconds("WaitTimeSeconds", request.wait_time_seconds, WAIT_SECONDS)?;
    let wait = wait.unwrap_or(queues.queue(name)?.receive_wait);
    let received = match tokio::time::timeout(wait, first(queues, name, take)).await {
        // Only a receive that does not wait gets the error.
        Ok(Err(QueueError::OverLimit)) if !wait.is_zero() => Vec::new(),
        Ok(received) => received?,
        Err(_) => Vec::new(),
    };
    if received.is_empty() {
        return Ok(json!({}));
    }
    let messages: Vec<_> = received.iter().map(|message| shown(message, &request, queues.arns())).collect();
    Ok(json!({ "Messages": messages }))
}

/// What there is, as soon as there is something. Looks at once: a wait of no time is a look.
async fn first(queues: &Arc<Queues>, name: &str, take: Take) -> Result<Vec<Received>, QueueError> {
    let mut watch = queues.watch(name)?;
    loop {
        let received = queues.receive(name, take)?;
        if !received.is_empty() {
            return Ok(received);
        }
        watch.wait().await?;
    }
}

/// A message with the attributes that were asked for.
fn shown(message: &Received, request: &ReceiveMessage, arns: &Arns) -> Value {
    let mut shown = json!({
        "MessageId": message.message_id,
        "ReceiptHandle": message.receipt_handle,
        "MD5OfBody": body_digest(&message.body),
        "Body": message.body,
    });
    let wanted = |name: &str| {
        [&request.attribute_names, &request.message_system_attribute_names]
            .into_iter()
            .flatten()
            .any(|wanted| wanted == "All" || wanted == name)
    };
    let system: Map<String, Value> = message
        .system_attributes(arns)
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    if !system.is_empty() {
        shown["Attributes"] = system.into();
    }
    let wanted = |name: &str| {
        request.message_attribute_names.iter().any(|wanted| match wanted.strip_suffix(".*") {
            Some(prefix) => {
                prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
            }
            None => wanted == "All" || wanted == name,
        })
    };
    let attributes: MessageAttributes = message
        .attributes
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, attribute)| (name.clone(), attribute.clone()))
        .collect();
    if let Some(digest) = attributes_digest(&attributes) {
        shown["MessageAttributes"] = json!(attributes);
        shown["MD5OfMessageAttributes"] = digest.into();
    }
    shown
}

/// A receipt that is out of date is no error, and deletes nothing.
pub(super) fn delete(queues: &Queues, queue: &str, body: &[u8]) -> Result<Value, Refusal> {
    delete_one(queues, queue, parse(body)?)?;
    Ok(json!({}))
}

fn delete_one(queues: &Queues, queue: &str, request: DeleteMessage) -> Result<(), Refusal> {
    let handle = request.receipt_handle.ok_or_else(|| Refusal::missing("ReceiptHandle"))?;
    queues.delete(queue, &handle)?;
    Ok(())
}

pub(super) fn delete_batch(queues: &Queues, queue: &str, body: &[u8]) -> Result<Value, Refusal> {
    let entries = entries(body, "DeleteMessageBatchRequestEntry")?;
    queues.queue(queue)?;
    Ok(each(entries, |request| delete_one(queues, queue, request)))
}

pub(super) fn change_visibility(queues: &Queues, queue: &str, body: &[u8]) -> Result<Value, Refusal> {
    change_one(queues, queue, parse(body)?)?;
    Ok(json!({}))
}

fn change_one(queues: &Queues, queue: &str, request: ChangeMessageVisibility) -> Result<(), Refusal> {
    let handle = request.receipt_handle.ok_or_else(|| Refusal::missing("ReceiptHandle"))?;
    let timeout = seconds("VisibilityTimeout", request.visibility_timeout, VISIBILITY_SECONDS)?
        .ok_or_else(|| Refusal::missing("VisibilityTimeout"))?;
    Ok(queues.change_visibility(queue, &handle, timeout)?)
}

pub(super) fn change_visibility_batch(queues: &Queues, queue: &str, body: &[u8]) -> Result<Value, Refusal> {
    let entries = entries(body, "ChangeMessageVisibilityBatchRequestEntry")?;
    queues.queue(queue)?;
    Ok(each(entries, |request| change_one(queues, queue, request)))
}

/// Answers a batch whose entries are done one by one.
fn each<T>(entries: Vec<BatchEntry<T>>, work: impl Fn(T) -> Result<(), Refusal>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for BatchEntry { id, request } in entries {
        match work(request) {
            Ok(()) => successful.push(json!({ "Id": id })),
            Err(refusal) => failed.push(failed_entry(&id, &refusal)),
        }
    }
    batch_answer(&successful, failed)
}

pub(super) fn purge(queues: &Queues, queue: &str) -> Result<Value, Refusal> {
    queues.purge(queue)?;
    Ok(json!({}))
}

pub(super) fn url(queues: &Queues, queue: &str, base: &str) -> Result<Value, Refusal> {
    queues.queue(queue)?;
    Ok(json!({"QueueUrl": format!("{base}/{ACCOUNT}/{queue}")}))
}

pub(super) fn attributes(queues: &Queues, name: &str, body: &[u8]) -> Result<Value, Refusal> {
    let GetQueueAttributes { attribute_names } = parse(body)?;
    let queue = queues.queue(name)?;
    let counts = queues.count(name)?;
    let mut all = vec![
        ("ApproximateNumberOfMessages", counts.visible.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string()),
        ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
        ("QueueArn", queues.arns().queue(name)),
        ("VisibilityTimeout", queue.visibility_timeout.as_secs().to_string()),
        ("DelaySeconds", queue.delay.as_secs().to_string()),
        ("MessageRetentionPeriod", queue.retention.as_secs().to_string()),
        ("ReceiveMessageWaitTimeSeconds", queue.receive_wait.as_secs().to_string()),
        ("MaximumMessageSize", queue.maximum_message_bytes.to_string()),
    ];
    all.extend(redrive_policy(queue, queues.arns()).map(|policy| ("RedrivePolicy", policy)));
    for name in &attribute_names {
        let known = name == "All" || name == "RedrivePolicy" || all.iter().any(|(known, _)| known == name);
        if !known {
            return Err(Refusal::attribute_name(name));
        }
    }
    let wanted = |name: &str| attribute_names.iter().any(|wanted| wanted == "All" || wanted == name);
    let shown: Map<String, Value> = all
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    Ok(if shown.is_empty() { json!({}) } else { json!({ "Attributes": shown }) })
}

fn redrive_policy(queue: &Queue, arns: &Arns) -> Option<String> {
    let redrive = queue.redrive.as_ref()?;
    let policy = json!({
        "deadLetterTargetArn": arns.queue(&redrive.dead_letter_queue),
        "maxReceiveCount": redrive.maximum_receives,
    });
    Some(policy.to_string())
}

fn seconds(name: &str, value: Option<i64>, range: RangeInclusive<i64>) -> Result<Option<Duration>, Refusal> {
    match value {
        None => Ok(None),
        Some(value) if range.contains(&value) => Ok(Some(Duration::from_secs(value.unsigned_abs()))),
        Some(value) => Err(invalid(name, value, &range)),
    }
}

fn invalid(name: &str, value: i64, range: &RangeInclusive<i64>) -> Refusal {
    Refusal::parameter(&format!(
        "Value {value} for parameter {name} is invalid. Reason: Must be between {} and {}, if provided.",
        range.start(),
        range.end()
    ))
}
