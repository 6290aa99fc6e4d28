//! A delivery of the schedule: under the slot's lock, look after what was due before the scheduled time.

use std::sync::Arc;

use serde_json::Value;

use sojourn::coordination::lock::{JobSlot, SlotRunner};
use sojourn::edge::schedule::{self, Delivery, JobError};
use sojourn::files::uploads::cleanup;
use sojourn::files::uploads::dynamo::DynamoSweep;
use sojourn::files::uploads::s3::S3Uploads;

/// What the function works with.
pub(crate) struct App {
    pub(crate) runner: SlotRunner,
    pub(crate) rows: DynamoSweep,
    pub(crate) files: S3Uploads,
}

/// Answers a delivery.
pub(crate) async fn handle(app: Arc<App>, delivery: Delivery) -> Result<Value, JobError> {
    let slot = JobSlot::of_second("upload-cleanup", delivery.scheduled_at);
    let app = &app;
    let work = |turn| async move { cleanup::run(&app.rows, &app.files, &turn).await };
    schedule::answer_turn(&app.runner, &slot, delivery, work).await
}
