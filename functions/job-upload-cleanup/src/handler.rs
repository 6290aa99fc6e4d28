//! A delivery of the schedule: under the slot's lock, cleans up uploads that were due before the
//! scheduled time.

use std::sync::Arc;

use serde_json::Value;

use sojourn::coordination::lock::{JobSlot, SlotRunner};
use sojourn::core::clock::SharedClock;
use sojourn::edge::schedule::{self, Delivery, JobError};
use sojourn::files::uploads::{DynamoUploads, S3Uploads, cleanup};

/// What the function works with.
pub(crate) struct App {
    pub(crate) runner: SlotRunner,
    pub(crate) rows: DynamoUploads,
    pub(crate) files: S3Uploads,
    pub(crate) clock: SharedClock,
}

/// Answers a delivery.
pub(crate) async fn handle(app: Arc<App>, delivery: Delivery) -> Result<Value, JobError> {
    let slot = JobSlot::of_second("upload-cleanup", delivery.scheduled_at);
    let app = &app;
    let work = |turn| async move { cleanup::run(&app.rows, &app.files, &app.clock, &turn).await };
    schedule::answer_slot(&app.runner, &slot, delivery, work).await
}
