//! The edge of scheduled jobs: EventBridge Scheduler's events in, results or function errors out.
//!
//! 1. The event is `{"scheduledTime": RFC 3339, "attempt": text}`; template.yaml fills it from the
//!    scheduler's context. The scheduled time names the slot. The attempt is only logged.
//! 2. A delivery succeeds only if its slot is done, by its own run or by another one. Everything
//!    else is a function error, so that Lambda delivers the event again, and finally to the
//!    dead-letter queue: the holder of the slot may be dead, and another delivery has to replace
//!    it.
//! 3. An error's message says what to do about it.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use lambda_runtime::LambdaEvent;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::coordination::backlog::{BacklogError, JobRun};
use crate::coordination::lock::{JobSlot, LockError, SlotRun, SlotRunner};
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::error_type::ErrorType;
use crate::core::ids::AttemptId;
use crate::edge::boot::BootError;
use crate::edge::invocation;
use crate::platform::dynamo::Guard;

/// One delivery of a schedule.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// The time for which it was scheduled.
    pub scheduled_at: Timestamp,
    /// The end of the invocation, less the time for the answer.
    pub deadline: Deadline,
}

/// The event that the template composes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScheduleEvent {
    scheduled_time: String,
    attempt: String,
}

/// Why a delivery ended without its slot being done.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The event is not a schedule's. Delivering it again does not help.
    #[error(
        "the event is not a schedule's: {reason}; expected is {{\"scheduledTime\": \"2026-11-20T02:00:00Z\", \
         \"attempt\": \"1\"}}"
    )]
    Event { reason: String },
    /// Another run holds the slot.
    #[error("the slot {slot} is held by {by} until {}; a retry after that finds it done or takes over", rfc3339(*until))]
    Held {
        slot: String,
        by: AttemptId,
        /// The end of its lease.
        until: Timestamp,
    },
    /// The work did not end in time.
    #[error("the slot {slot} was not finished in time and is free for a retry")]
    CutOff { slot: String },
    /// Another run took the slot over.
    #[error("the slot {slot} was taken over by a later run")]
    TakenOver { slot: String },
    /// The lock's table did not answer.
    #[error("the lock of the slot failed: {0}")]
    Lock(#[from] LockError),
    #[error("the work of the slot {slot} failed: {source}")]
    Work { slot: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl ErrorType for JobError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Event { .. } => "invalid-event",
            Self::Held { .. } => "slot-held",
            Self::CutOff { .. } => "slot-cut-off",
            Self::TakenOver { .. } => "slot-taken-over",
            Self::Lock(_) => "lock-unavailable",
            Self::Work { .. } => "job-failed",
        }
    }
}

impl Delivery {
    /// Reads an event.
    pub fn parse(event: Value, deadline: Deadline) -> Result<Self, JobError> {
        let event: ScheduleEvent =
            serde_json::from_value(event).map_err(|error| JobError::Event { reason: error.to_string() })?;
        let scheduled_at = event.scheduled_time.parse::<Timestamp>().map_err(|error| JobError::Event {
            reason: format!("scheduledTime {:?} is not a time ({error})", event.scheduled_time),
        })?;
        tracing::info!(scheduled_at = %rfc3339(scheduled_at), attempt = event.attempt, "delivered");
        Ok(Self { scheduled_at, deadline })
    }
}

/// The answer to a delivery of `slot`: the result of the run that completed it, now or earlier.
pub fn answer<T, E>(slot: &JobSlot, run: SlotRun<T, E>) -> Result<Value, JobError>
where
    T: Serialize,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let name = slot.to_string();
    match run {
        SlotRun::Completed(value) => {
            let result = serde_json::to_value(value)
                .map_err(|error| JobError::Work { slot: name.clone(), source: error.into() })?;
            tracing::info!(slot = name, %result, "completed");
            Ok(json!({"slot": name, "outcome": "completed", "result": result}))
        }
        SlotRun::AlreadyDone { at, result } => {
            tracing::info!(slot = name, completed_at = %rfc3339(at), "done already");
            let result = result.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
            Ok(json!({"slot": name, "outcome": "alreadyDone", "completedAt": rfc3339(at), "result": result}))
        }
        SlotRun::HeldElsewhere { by, until, .. } => Err(JobError::Held { slot: name, by, until }),
        SlotRun::CutOff => Err(JobError::CutOff { slot: name }),
        SlotRun::TakenOver => Err(JobError::TakenOver { slot: name }),
        SlotRun::Failed(error) => Err(JobError::Work { slot: name, source: error.into() }),
    }
}

/// Answers a delivery of `slot` by `work`, if the slot's lock can be acquired.
pub async fn answer_slot<T, E, W>(
    runner: &SlotRunner,
    slot: &JobSlot,
    delivery: Delivery,
    work: impl FnOnce(JobRun<Guard>) -> W,
) -> Result<Value, JobError>
where
    T: Serialize,
    E: std::error::Error + Send + Sync + 'static,
    W: Future<Output = Result<T, BacklogError<E>>>,
{
    let Delivery { deadline, .. } = delivery;
    let run = runner.run(slot.task(), deadline, |lease| async move {
        let guard = runner.locks().guard(&lease).map_err(BacklogError::Guard)?;
        work(JobRun::of_slot(slot, deadline, guard)).await
    });
    answer(slot, run.await?)
}

/// Serves a schedule's events with `handler` until Lambda stops the process. `app` is built once.
pub async fn serve<A, H, F>(function: &'static str, app: A, handler: H) -> Result<(), BootError>
where
    A: Send + Sync + 'static,
    H: Fn(Arc<A>, Delivery) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, JobError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    invocation::serve(function, app, move |app, event: LambdaEvent<Value>, deadline| {
        let handler = Arc::clone(&handler);
        async move { handler(app, Delivery::parse(event.payload, deadline)?).await }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(event: Value) -> Result<Delivery, JobError> {
        Delivery::parse(event, Deadline::after(std::time::Duration::from_mins(1)))
    }

    #[test]
    fn the_scheduled_time_is_read_from_the_event() {
        let delivery = parse(json!({"scheduledTime": "2026-11-20T02:00:00Z", "attempt": "1"})).unwrap();
        assert_eq!(rfc3339(delivery.scheduled_at), "2026-11-20T02:00:00.000Z");
    }

    #[test]
    fn an_event_that_is_none_is_refused_with_a_sentence_that_says_what_is_expected() {
        for event in [json!({}), json!(null), json!({"scheduledTime": "tomorrow", "attempt": "1"})] {
            let error = parse(event).unwrap_err();
            assert_eq!(error.error_type(), "invalid-event");
            assert!(error.to_string().contains(r#"{"scheduledTime": "2026-11-20T02:00:00Z""#), "{error}");
        }
    }

    #[test]
    fn only_a_slot_that_is_done_is_an_answer() {
        let slot = JobSlot::of_day("daily-report", Timestamp::UNIX_EPOCH);
        let result = Some(r#"{"expired":3}"#.to_owned());
        let done = SlotRun::<Value, String>::AlreadyDone { at: Timestamp::UNIX_EPOCH, result };
        assert_eq!(answer(&slot, done).unwrap()["result"]["expired"], 3);
        let failed = SlotRun::<Value, String>::Failed("no table".to_owned());
        assert!(answer(&slot, failed).unwrap_err().to_string().contains("no table"));
        assert_eq!(answer(&slot, SlotRun::<Value, String>::CutOff).unwrap_err().error_type(), "slot-cut-off");
    }

    proptest! {
        #[test]
        fn no_scheduled_time_makes_the_parser_panic(time in "\\PC{0,40}", attempt in "\\PC{0,10}") {
            let event = json!({"scheduledTime": time, "attempt": attempt});
            prop_assert_eq!(parse(event).is_ok(), time.parse::<Timestamp>().is_ok());
        }
    }
}
