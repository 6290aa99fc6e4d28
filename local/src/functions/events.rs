//! Asynchronous invocations (`InvocationType: Event`): accepted at once, run later, retried, and
//! recorded when they fail.
//!
//! 1. An event keeps its request id through all attempts.
//! 2. Errors, crashes and timeouts are retried `MaximumRetryAttempts` times, after
//!    [`limits::EVENT_RETRY_DELAYS`](super::limits::EVENT_RETRY_DELAYS). Throttled attempts do not
//!    count; they are repeated with a pause that doubles up to
//!    [`limits::THROTTLED_PAUSE_LIMIT`](super::limits::THROTTLED_PAUSE_LIMIT).
//! 3. An event is given up when its retries are used up (`RetriesExhausted`) or when it would be
//!    older than `MaximumEventAgeInSeconds` at its next attempt (`EventAgeExceeded`).
//! 4. What is given up is a record in the queue of the function's `OnFailure` destination
//!    ("Capturing records of Lambda asynchronous invocations" in Lambda's developer guide), if its
//!    role may send to it, and a line in the function's log.
//!
//! Waiting events are lost when the region stops; Lambda's queue is durable.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::limits::{EVENTS_LIMIT, THROTTLED_PAUSE, THROTTLED_PAUSE_LIMIT};
use super::outcome::{HandedOver, Outcome};
use super::pool::Pool;
use crate::clock;
use crate::services::access::{Access, Caller};
use crate::services::sqs::Queues;

/// What a record in a queue is from.
const SENDER: &str = "lambda";

pub(crate) const SEND: &str = "sqs:SendMessage";

/// Where records of failed events go, and who may send them there.
#[derive(Clone)]
pub struct Destinations {
    pub queues: Arc<Queues>,
    /// The policies of the functions' roles.
    pub access: Arc<Access>,
}

impl Destinations {
    /// Sends `text` to the queue with the role of `function`; otherwise says why not.
    pub(crate) fn send(&self, function: &str, queue: &str, text: String) -> Result<(), String> {
        let role = self.access.role(function).ok_or("the function has no role")?;
        let caller = Caller::Function(role);
        self.access
            .check(&caller, SEND, &self.access.arns.queue(queue))
            .map_err(|denied| denied.to_string())?;
        self.queues.send_text(queue, SENDER, text).map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// The asynchronous invocations under way.
pub(super) struct Events {
    running: Mutex<JoinSet<()>>,
    destinations: Destinations,
}

/// One asynchronous invocation.
struct Event {
    request_id: String,
    payload: Bytes,
    accepted: Instant,
    /// Attempts that the function has seen.
    attempts: usize,
}

/// Why an event was given up, as its record says.
#[derive(Debug, Clone, Copy, Serialize)]
enum Condition {
    RetriesExhausted,
    EventAgeExceeded,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: String,
    condition: Condition,
    approximate_invoke_count: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext {
    status_code: u16,
    executed_version: &'static str,
    function_error: &'static str,
}

impl Events {
    pub(super) fn new(destinations: Destinations) -> Self {
        Self { running: Mutex::default(), destinations }
    }

    pub(super) fn accept(&self, pool: Arc<Pool>, request_id: String, payload: Bytes) -> HandedOver {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while running.try_join_next().is_some() {}
        if running.len() >= EVENTS_LIMIT {
            return HandedOver::Throttled;
        }
        let event = Event { request_id, payload, accepted: Instant::now(), attempts: 0 };
        running.spawn(deliver(pool, event, self.destinations.clone()));
        HandedOver::Accepted
    }

    pub(super) async fn shut_down(&self) {
        let mut running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        running.shutdown().await;
    }
}

async fn deliver(pool: Arc<Pool>, mut event: Event, destinations: Destinations) {
    let config = &pool.function.spec.event_invoke;
    let mut retries =
        pool.function.settings.event_retry_delays.iter().copied().take(config.maximum_retry_attempts);
    let mut throttled_pause = THROTTLED_PAUSE;
    loop {
        let outcome = pool.invoke(event.request_id.clone(), event.payload.clone(), None).await;
        let pause = match outcome {
            Outcome::Answered(_) => return,
            Outcome::Throttled => {
                let pause = throttled_pause;
                throttled_pause = THROTTLED_PAUSE_LIMIT.min(throttled_pause * 2);
                Some(pause)
            }
            _ => {
                event.attempts += 1;
                retries.next()
            }
        };
        let Some(pause) = pause else {
            return give_up(&pool, &event, &outcome, Condition::RetriesExhausted, &destinations).await;
        };
        if event.accepted.elapsed() + pause > config.maximum_event_age {
            return give_up(&pool, &event, &outcome, Condition::EventAgeExceeded, &destinations).await;
        }
        sleep(pause).await;
    }
}

async fn give_up(
    pool: &Pool,
    event: &Event,
    last: &Outcome,
    condition: Condition,
    destinations: &Destinations,
) {
    let text = String::from_utf8_lossy(&event.payload);
    pool.function
        .platform_log(format!(
            "Asynchronous invocation {} given up ({condition:?}): {text}",
            event.request_id
        ))
        .await;
    let Some(queue) = &pool.function.spec.event_invoke.on_failure else { return };
    let record = record(pool, event, last, condition).map_err(|error| error.to_string());
    let sent = record.and_then(|record| destinations.send(&pool.function.spec.name, queue, record));
    if let Err(why) = sent {
        // CloudWatch's metric for it.
        pool.function
            .platform_log(format!("DestinationDeliveryFailures: the record can't be put into {queue}: {why}"))
            .await;
    }
}

fn record(
    pool: &Pool,
    event: &Event,
    last: &Outcome,
    condition: Condition,
) -> Result<String, serde_json::Error> {
    let failure = last.failure_document(&event.request_id, pool.function.spec.timeout);
    let response = failure.as_ref().map(|document| serde_json::from_slice(document)).transpose()?;
    serde_json::to_string(&Record {
        version: "1.0",
        timestamp: format!("{:.3}", clock::now()),
        request_context: RequestContext {
            request_id: &event.request_id,
            function_arn: format!("{}:$LATEST", pool.function.spec.arn),
            condition,
            approximate_invoke_count: event.attempts,
        },
        request_payload: serde_json::from_slice(&event.payload)?,
        // An event that was only ever throttled has no response.
        response_context: response.is_some().then_some(ResponseContext {
            status_code: 200,
            executed_version: "$LATEST",
            function_error: "Unhandled",
        }),
        response_payload: response,
    })
}
