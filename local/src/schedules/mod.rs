//! Schedules, as `EventBridge` Scheduler runs them: by the clock, and by hand.
//!
//! 1. Each schedule waits for its next slot by itself. Up to [`MAX_OVERLAPPING_DELIVERIES`]
//!    deliveries of one schedule may be retried at the same time, later slots are skipped with a
//!    warning.
//! 2. A delivery fills the placeholders of `Input` (`<aws.scheduler.scheduled-time>`,
//!    `<aws.scheduler.execution-id>`, `<aws.scheduler.attempt-number>`,
//!    `<aws.scheduler.schedule-arn>`) and hands the event over to Lambda. The delivery ends there:
//!    Lambda retries the function (`functions::events`).
//! 3. If Lambda does not take the event, the delivery is tried again, `maximum_retry_attempts`
//!    times at most: the same slot, the next attempt number, a new execution id. Then it is given
//!    up with a dead-letter line in the log, which carries the input; the input is also the body of
//!    a message in the queue of the schedule's `DeadLetterConfig`.
//!
//! By hand a run is invoked synchronously and once, so that the caller sees its outcome.
//!
//! Different from the cloud: pauses between attempts are short (see [`RETRY_PAUSE`]), and slots
//! that are due while the machine sleeps or the region is down are skipped. As in the cloud,
//! delivery is at least once: a function that ran and then failed gets its slot again.

mod expression;
mod input;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use self::expression::{Expression, ExpressionError};
use self::input::Attempt;
use crate::clock::{self, Clock};
use crate::functions::outcome::{HandOver, HandedOver, Invoke, Outcome};
use crate::services::sqs::Queues;
use crate::template::model::Schedule;

/// Deliveries of one schedule that are under way at the same time.
pub const MAX_OVERLAPPING_DELIVERIES: usize = 10;

/// Pause before the first retry; it doubles with each, up to [`MAX_RETRY_PAUSE`]. The cloud waits
/// minutes.
pub const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause between two attempts.
pub const MAX_RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Whom the dead letters are from.
const SENDER: &str = "scheduler";

/// A schedule of the template whose expression can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("schedule `{name}`: {source}")]
pub struct ScheduleError {
    pub name: String,
    /// What is wrong with it.
    pub source: ExpressionError,
}

/// Why a schedule can't be fired by hand.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no schedule `{name}`; there are: {known}")]
pub struct UnknownSchedule {
    name: String,
    known: String,
}

/// A schedule as start-up shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    pub name: String,
    pub expression: String,
    /// Its next slot; `None` if it is disabled or has none left.
    pub next: Option<Timestamp>,
}

/// The stack's schedules.
pub struct Schedules<I, C> {
    entries: Vec<Arc<Entry>>,
    functions: Arc<I>,
    clock: C,
    /// Where dead letters go besides the log.
    queues: Option<Arc<Queues>>,
}

#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    expression: Expression,
}

impl<I: Invoke + HandOver, C: Clock> Schedules<I, C> {
    /// Parses the schedules' expressions.
    pub fn new(schedules: Vec<Schedule>, functions: Arc<I>, clock: C) -> Result<Self, ScheduleError> {
        let parse = |schedule: Schedule| match schedule.expression.parse() {
            Ok(expression) => Ok(Arc::new(Entry { schedule, expression })),
            Err(source) => Err(ScheduleError { name: schedule.name, source }),
        };
        let entries = schedules.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { entries, functions, clock, queues: None })
    }

    /// The queues that the schedules' dead letters go to.
    #[must_use]
    pub fn with_queues(self, queues: Arc<Queues>) -> Self {
        Self { queues: Some(queues), ..self }
    }

    /// Every schedule with its next slot.
    pub fn upcoming(&self) -> Vec<Upcoming> {
        let now = self.clock.now();
        let upcoming = |entry: &Arc<Entry>| Upcoming {
            name: entry.schedule.name.clone(),
            expression: entry.schedule.expression.clone(),
            next: entry.schedule.enabled.then(|| entry.expression.next_after(now)).flatten(),
        };
        self.entries.iter().map(upcoming).collect()
    }

    /// Fires the enabled schedules by the clock until `shutdown` is ready. Deliveries that have
    /// begun then are given up with their retries: the functions stop with the region.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let enabled = self.entries.iter().filter(|entry| entry.schedule.enabled);
        // As many as the template has.
        let all = enabled
            .map(|entry| self.fire_by_the_clock(entry))
            .collect::<FuturesUnordered<_>>()
            .collect::<()>();
        tokio::select! {
            () = shutdown => {}
            () = async { all.await; std::future::pending::<()>().await } => {}
        }
    }

    async fn fire_by_the_clock(&self, entry: &Arc<Entry>) {
        let name = &entry.schedule.name;
        let mut deliveries = JoinSet::new();
        let mut last = self.clock.now();
        while let Some(slot) = entry.expression.next_after(last) {
            clock::until(&self.clock, slot).await;
            while let Some(ended) = deliveries.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(schedule = name, %error, "the task of a delivery failed");
                }
            }
            if deliveries.len() < MAX_OVERLAPPING_DELIVERIES {
                let queues = self.queues.clone();
                deliveries.spawn(deliver(Arc::clone(&self.functions), queues, Arc::clone(entry), slot));
            } else {
                tracing::warn!(schedule = name, %slot, "skipped: too many earlier deliveries are still tried");
            }
            // After a long sleep of the machine: on from now, not through every slot that was
            // missed.
            last = slot.max(entry.expression.last_before(self.clock.now()).unwrap_or(slot));
        }
        // No slot left; what is under way may end.
        while deliveries.join_next().await.is_some() {}
    }

    /// Runs the schedule `name` now, once, disabled or not, and gives the function's outcome.
    ///
    /// `name` may leave out the stack's prefix (`daily-report`). `at` is the scheduled time that
    /// the function is told; by default the most recent slot, or for a schedule that had none yet,
    /// its first.
    pub async fn fire(&self, name: &str, at: Option<Timestamp>) -> Result<Outcome, UnknownSchedule> {
        let entry = self.find(name)?;
        let now = self.clock.now();
        let slot = at
            .or_else(|| entry.expression.last_before(now))
            .or_else(|| entry.expression.next_after(now))
            .unwrap_or(now);
        let input = input(entry, slot, 1);
        Ok(self.functions.invoke(&entry.schedule.function, Bytes::from(input)).await)
    }

    fn find(&self, name: &str) -> Result<&Entry, UnknownSchedule> {
        let exactly = self.entries.iter().find(|entry| entry.schedule.name == name);
        let mut without_prefix = self.entries.iter().filter(|entry| {
            entry.schedule.name.strip_suffix(name).is_some_and(|prefix| prefix.ends_with('-'))
        });
        match (exactly, without_prefix.next(), without_prefix.next()) {
            (Some(entry), ..) | (None, Some(entry), None) => Ok(entry),
            _ => {
                let known: Vec<&str> =
                    self.entries.iter().map(|entry| entry.schedule.name.as_str()).collect();
                Err(UnknownSchedule { name: name.to_owned(), known: known.join(", ") })
            }
        }
    }
}

/// One delivery: attempts until Lambda accepts one or none are left.
async fn deliver<I: HandOver>(
    functions: Arc<I>,
    queues: Option<Arc<Queues>>,
    entry: Arc<Entry>,
    slot: Timestamp,
) {
    let Schedule { name, function, maximum_retry_attempts, .. } = &entry.schedule;
    let mut pause = RETRY_PAUSE;
    let mut number = 1;
    let input = loop {
        let input = input(&entry, slot, number);
        match functions.hand_over(function, Bytes::from(input.clone())) {
            HandedOver::Accepted => return,
            refused @ (HandedOver::Throttled | HandedOver::NotFound) => {
                tracing::warn!(schedule = name, function, %slot, attempt = number, ?refused, "a delivery failed");
            }
        }
        if number > *maximum_retry_attempts {
            break input;
        }
        number += 1;
        sleep(pause).await;
        pause = MAX_RETRY_PAUSE.min(pause * 2);
    };
    tracing::error!(schedule = name, function, %slot, input, "dead letter: a delivery was given up");
    if let (Some(queues), Some(queue)) = (queues, &entry.schedule.dead_letter_queue)
        && let Err(error) = queues.send_text(queue, SENDER, input)
    {
        tracing::error!(schedule = name, queue, %error, "a dead letter can't be put into its queue");
    }
}

/// What the function gets by attempt `number` for `slot`.
fn input(entry: &Entry, slot: Timestamp, number: u32) -> String {
    Attempt::new(&entry.schedule.arn, slot, number).fill(&entry.schedule.input)
}
