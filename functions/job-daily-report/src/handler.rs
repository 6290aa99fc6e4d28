//! A delivery of the schedule: under the slot's lock, compile the report and publish it.

use std::sync::Arc;

use serde_json::Value;
use sojourn::commerce::orders::dynamo::DynamoOrders;
use sojourn::commerce::reports::{self, S3Reports};
use sojourn::coordination::lock::{JobSlot, SlotRunner};
use sojourn::core::clock::SharedClock;
use sojourn::edge::schedule::{self, Delivery, JobError};

/// What the function works with.
pub(crate) struct App {
    pub(crate) runner: SlotRunner,
    pub(crate) orders: DynamoOrders,
    pub(crate) archive: S3Reports,
    pub(crate) clock: SharedClock,
}

/// Answers a delivery.
pub(crate) async fn handle(app: Arc<App>, delivery: Delivery) -> Result<Value, JobError> {
    let slot = JobSlot::of_day("daily-report", delivery.scheduled_at);
    let day = slot.day_before();
    let work = |lease| {
        let app = &app;
        async move {
            let now = app.clock.now();
            reports::make(&app.orders, &app.archive, day, &lease, now, delivery.deadline).await
        }
    };
    let run = app.runner.run(slot.task(), delivery.deadline, work).await?;
    schedule::answer(&slot, run)
}
