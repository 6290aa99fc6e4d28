//! A delivery of the schedule: under the slot's lock, cancel what was placed too long before the scheduled time.

use std::sync::Arc;

use serde_json::Value;

use sojourn::jobs::order_cleanup::{self, Cleanup, UnpaidHours};
use sojourn::jobs::{self, Delivery, JobError};
use sojourn::lock::{DynamoLocks, JobSlot, SlotRunner};
use sojourn::orders::dynamo::DynamoExpiry;
use sojourn::payments::sandbox::SandboxProvider;

/// What the function works with.
pub(crate) struct App {
    pub(crate) runner: SlotRunner<DynamoLocks>,
    pub(crate) expiry: DynamoExpiry<SandboxProvider>,
    pub(crate) unpaid_hours: UnpaidHours,
}

/// Answers a delivery.
pub(crate) async fn handle(app: Arc<App>, delivery: Delivery) -> Result<Value, JobError> {
    let slot = JobSlot::of_second("order-cleanup", delivery.scheduled_at);
    let work = |lease| {
        let (app, slot) = (&app, &slot);
        async move {
            let guard = app.runner.locks().guard(&lease).map_err(order_cleanup::CleanupError::Guard)?;
            let cleanup = Cleanup::of_slot(slot, app.unpaid_hours, delivery.deadline, guard);
            order_cleanup::run(&app.expiry, &cleanup).await
        }
    };
    let run = app.runner.run(&slot, delivery.deadline, work).await?;
    jobs::answer(&slot, run)
}
