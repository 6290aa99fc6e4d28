//! What the operations do, from a request's body to the body of its answer.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::message::{Message, MessageAttributes, MessageError, attributes_digest, body_digest};
use super::queues::{Outgoing, Queues};
use super::refusal::{Refusal, code};
use super::request::{
    BatchEntry, DeleteMessage, GetQueueAttributes, ReceiveMessage, SendMessage, SendMessageBatch, parse,
};
use super::store::{Received, Take};
use crate::services::access::arn;
use crate::template::model::{ACCOUNT, Queue};

/// Entries of one `SendMessageBatch`.
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

pub(super) fn send(queues: &Queues, queue: &str, sender: &str, body: &[u8]) -> Result<Value, Refusal> {
    let SendMessage { message_body, delay_seconds, message_attributes } = parse(body)?;
    let limit = queues.queue(queue)?.maximum_message_bytes;
    let message = Message::new(message_body, message_attributes, limit)?;
    let delay =
        seconds("DelaySeconds", delay_seconds, DELAY_SECONDS).map_err(|why| Refusal::parameter(&why))?;
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
pub(super) fn send_batch(queues: &Queues, queue: &str, sender: &str, body: &[u8]) -> Result<Value, Refusal> {
    let SendMessageBatch { entries } = parse(body)?;
    check_entries(&entries)?;
    let limit = queues.queue(queue)?.maximum_message_bytes;
    let (mut accepted, mut failed) = (Vec::new(), Vec::new());
    for BatchEntry { id, message } in entries {
        match accept(message, limit) {
            Ok((message, delay)) => accepted.push((id, message, delay)),
            Err((code, why)) => {
                failed.push(json!({"Id": id, "SenderFault": true, "Code": code, "Message": why}));
            }
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
    let mut answer = json!({"Successful": successful.collect::<Vec<_>>()});
    if !failed.is_empty() {
        answer["Failed"] = failed.into();
    }
    Ok(answer)
}

fn accept(message: SendMessage, limit: usize) -> Result<(Message, Option<Duration>), (&'static str, String)> {
    let SendMessage { message_body, delay_seconds, message_attributes } = message;
    let refused = |error: MessageError| (code(&error), error.to_string());
    let message = Message::new(message_body, message_attributes, limit).map_err(refused)?;
    let delay = seconds("DelaySeconds", delay_seconds, DELAY_SECONDS)
        .map_err(|why| ("InvalidParameterValue", why))?;
    Ok((message, delay))
}

/// What makes the whole batch fail.
fn check_entries(entries: &[BatchEntry]) -> Result<(), Refusal> {
    if entries.is_empty() {
        let message = "There should be at least one SendMessageBatchRequestEntry in the request.";
        return Err(Refusal::prefixed("EmptyBatchRequest", message));
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
    for BatchEntry { id, .. } in entries {
        if !is_id(id) {
            let message = "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can \
                           be at most 80 letters long.";
            return Err(Refusal::prefixed("InvalidBatchEntryId", message));
        }
        if !seen.insert(id) {
            return Err(Refusal::prefixed("BatchEntryIdsNotDistinct", &format!("Id {id} repeated.")));
        }
    }
    let sizes = entries.iter().map(|BatchEntry { message, .. }| {
        Message::size_of(&message.message_body, &message.message_attributes)
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
    let out_of_range = |why: String| Refusal::parameter(&why);
    let messages = request.max_number_of_messages.unwrap_or(1);
    if !MESSAGES.contains(&messages) {
        return Err(out_of_range(invalid("MaxNumberOfMessages", messages, &MESSAGES)));
    }
    let take = Take {
        messages: usize::try_from(messages).unwrap_or(1),
        bytes: usize::MAX,
        overhead_bytes: 0,
        visibility_timeout: seconds("VisibilityTimeout", request.visibility_timeout, VISIBILITY_SECONDS)
            .map_err(out_of_range)?,
    };
    let wait = seconds("WaitTimeSeconds", request.wait_time_seconds, WAIT_SECONDS).map_err(out_of_range)?;
    let wait = wait.unwrap_or(queues.queue(name)?.receive_wait);
    let received = match tokio::time::timeout(wait, first(queues, name, take)).await {
        Ok(received) => received?,
        Err(_) => Vec::new(),
    };
    if received.is_empty() {
        return Ok(json!({}));
    }
    let messages: Vec<_> = received.iter().map(|message| shown(message, &request)).collect();
    Ok(json!({ "Messages": messages }))
}

/// What there is, as soon as there is something. Looks at once: a wait of no time is a look.
async fn first(queues: &Arc<Queues>, name: &str, take: Take) -> Result<Vec<Received>, Refusal> {
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
fn shown(message: &Received, request: &ReceiveMessage) -> Value {
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
        .system_attributes()
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
    let DeleteMessage { receipt_handle } = parse(body)?;
    queues.delete(queue, &receipt_handle)?;
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
        ("QueueArn", arn::queue(name)),
        ("VisibilityTimeout", queue.visibility_timeout.as_secs().to_string()),
        ("DelaySeconds", queue.delay.as_secs().to_string()),
        ("MessageRetentionPeriod", queue.retention.as_secs().to_string()),
        ("ReceiveMessageWaitTimeSeconds", queue.receive_wait.as_secs().to_string()),
        ("MaximumMessageSize", queue.maximum_message_bytes.to_string()),
    ];
    all.extend(redrive_policy(queue).map(|policy| ("RedrivePolicy", policy)));
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

fn redrive_policy(queue: &Queue) -> Option<String> {
    let redrive = queue.redrive.as_ref()?;
    let policy = json!({
        "deadLetterTargetArn": arn::queue(&redrive.dead_letter_queue),
        "maxReceiveCount": redrive.maximum_receives,
    });
    Some(policy.to_string())
}

fn seconds(name: &str, value: Option<i64>, range: RangeInclusive<i64>) -> Result<Option<Duration>, String> {
    match value {
        None => Ok(None),
        Some(value) if range.contains(&value) => Ok(Some(Duration::from_secs(value.unsigned_abs()))),
        Some(value) => Err(invalid(name, value, &range)),
    }
}

fn invalid(name: &str, value: i64, range: &RangeInclusive<i64>) -> String {
    format!(
        "Value {value} for parameter {name} is invalid. Reason: Must be between {} and {}, if provided.",
        range.start(),
        range.end()
    )
}
