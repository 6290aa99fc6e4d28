//! A delivery of the schedule: under the slot's lock, cancel what was placed too long before the scheduled time.

use std::sync::Arc;

use serde_json::Value;

use sojourn::commerce::cancellation::Cancellations;
use sojourn::commerce::cancellation::cleanup::{self, UnpaidHours};
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::coordination::lock::{JobSlot, SlotRunner};
use sojourn::edge::schedule::{self, Delivery, JobError};

/// What the function works with.
pub(crate) struct App {
    pub(crate) runner: SlotRunner,
    pub(crate) cancellations: Cancellations<SandboxProvider>,
    pub(crate) unpaid_hours: UnpaidHours,
}

/// Answers a delivery.
pub(crate) async fn handle(app: Arc<App>, delivery: Delivery) -> Result<Value, JobError> {
    let slot = JobSlot::of_second("order-cleanup", delivery.scheduled_at);
    let app = &app;
    let work = |turn| async move { cleanup::run(&app.cancellations, app.unpaid_hours, &turn).await };
    schedule::answer_turn(&app.runner, &slot, delivery, work).await
}
