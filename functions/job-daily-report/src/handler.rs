//! A delivery of the schedule: under the slot's lock, compile the report and publish it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sojourn::commerce::orders::dynamo::DynamoOrders;
use sojourn::commerce::reports::{self, S3Reports};
use sojourn::coordination::lock::{JobSlot, RETENTION, SlotRun, SlotRunner};
use sojourn::core::clock::SharedClock;
use sojourn::edge::schedule::{self, Delivery, JobError};

/// What the function works with.
pub(crate) struct App {
    pub(crate) runner: SlotRunner,
    pub(crate) orders: DynamoOrders,
    pub(crate) archive: S3Reports,
    pub(crate) clock: SharedClock,
}

const DAY: Duration = Duration::from_hours(24);

const JOB: &str = "daily-report";

/// Answers a delivery.
pub(crate) async fn handle(app: Arc<App>, delivery: Delivery) -> Result<Value, JobError> {
    let slot = JobSlot::of_day(JOB, delivery.scheduled_at);
    let day = slot.day_before();
    let work = |lease| {
        let app = &app;
        async move {
            let now = app.clock.now();
            reports::make(&app.orders, &app.archive, day, &lease, now, delivery.deadline).await
        }
    };
    let run = app.runner.run(slot.task(), delivery.deadline, work).await?;
    if matches!(run, SlotRun::Completed(_))
        && let Ok(long_ago) = delivery.scheduled_at.checked_sub(RETENTION + DAY)
    {
        app.runner.locks().forget(JobSlot::of_day(JOB, long_ago).lock_name()).await;
    }
    schedule::answer(&slot, run)
}
