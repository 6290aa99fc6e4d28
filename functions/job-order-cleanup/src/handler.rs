//! A delivery of the schedule: under the slot's lock, cancels orders that were placed too long
//! before the scheduled time.

use std::sync::Arc;

use serde_json::Value;

use sojourn::commerce::cancellation::Cancellations;
use sojourn::commerce::cancellation::cleanup::{self, UnpaidHours};
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::coordination::lock::{JobSlot, SlotRunner};
use sojourn::coordination::regions::Regions;
use sojourn::core::deadline::Deadline;
use sojourn::edge::schedule::{self, Delivery, JobError};

/// What the function works with.
pub(crate) struct App {
    pub(crate) runner: SlotRunner,
    pub(crate) cancellations: Cancellations<SandboxProvider>,
    pub(crate) unpaid_hours: UnpaidHours,
    /// `None` in a single region.
    pub(crate) regions: Option<Regions>,
    pub(crate) own: String,
}

impl App {
    /// The regions whose orders are cleaned up here. If the agreement table does not answer, only
    /// this one.
    async fn cleaned_up_here(&self, deadline: Deadline) -> Vec<String> {
        let own = vec![self.own.clone()];
        let Some(regions) = &self.regions else { return own };
        regions.cleaned_up_here(deadline).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the evacuation of other regions is unknown");
            own
        })
    }
}

/// Answers a delivery.
pub(crate) async fn handle(app: Arc<App>, delivery: Delivery) -> Result<Value, JobError> {
    let slot = JobSlot::of_second("order-cleanup", delivery.scheduled_at);
    let app = &app;
    let regions = app.cleaned_up_here(delivery.deadline).await;
    let regions = regions.as_slice();
    let work = |turn| async move { cleanup::run(&app.cancellations, regions, app.unpaid_hours, &turn).await };
    schedule::answer_slot(&app.runner, &slot, delivery, work).await
}
