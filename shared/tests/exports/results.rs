//! What an export comes to.

use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use sojourn::deadline::Deadline;
use sojourn::exports::run::{self, Slice, Stop};
use sojourn::exports::{ExportMessage, Guarded, Progress, RETENTION, Rows, WorkError};
use sojourn::ids::{self, AttemptId, ExportId};
use sojourn::lock::{Acquire, LockStore, Once, Task};
use sojourn_local::services::faults::When;

use crate::stage::{At, Stage, hold};

#[tokio::test]
async fn an_export_has_the_orders_of_its_period_and_its_customer_and_no_others() {
    let mut stage = Stage::open();
    let inside = [
        stage.order("2026-11-01T00:00:00.000Z", json!({"status": "PAID"})).await,
        stage.order("2026-11-04T12:00:00.000Z", json!({"status": "CANCELLED"})).await,
        stage.order("2026-11-07T23:59:59.999Z", json!({})).await,
    ];
    stage.order("2026-10-31T23:59:59.999Z", json!({})).await;
    stage.order("2026-11-08T00:00:00.000Z", json!({})).await;
    let owner = std::mem::replace(&mut stage.customer, sojourn::ids::random().next());
    stage.order("2026-11-04T12:00:00.000Z", json!({})).await;
    stage.customer = owner;

    let id = stage.request().await;
    stage.take(&id).await.unwrap();
    stage.assert_ready(&id, &inside).await;
    let file = stage.file(&id).await;
    let [first, ..] = &inside;
    let line = format!("{first},2026-11-01T00:00:00.000Z,PAID,local,TWD,258,2,tea*2@129\r\n");
    assert!(file.contains(&line), "{file}");
}

#[tokio::test]
async fn a_period_without_orders_has_a_file_with_the_header_alone() {
    let stage = Stage::open();
    let id = stage.request().await;
    stage.take(&id).await.unwrap();
    stage.assert_ready(&id, &[]).await;
}

#[tokio::test]
async fn a_message_that_comes_again_does_nothing_more() {
    let stage = Stage::open();
    let orders = stage.orders(3, 10).await;
    let id = stage.request().await;
    for _ in 0..3 {
        stage.take(&id).await.unwrap();
    }
    stage.assert_ready(&id, &orders).await;
}

#[tokio::test]
async fn an_order_that_cannot_be_read_fails_the_export_at_once_and_says_which_it_is() {
    let stage = Stage::open();
    stage.orders(2, 10).await;
    let broken = stage.order("2026-11-02T00:00:00.000Z", json!({"status": "LOST"})).await;
    let id = stage.request().await;
    stage.take(&id).await.unwrap();
    let document = stage.row(&id).await.document();
    assert_eq!(document["status"], "FAILED");
    assert_eq!(document["failure"], format!("the order {broken} cannot be read"));
    assert_eq!(stage.events(&id).await, ["export.failed"]);
    let again = stage.take(&id).await;
    assert!(again.is_ok(), "a message too many: {again:?}");
    assert_eq!(stage.events(&id).await, ["export.failed"]);
}

#[tokio::test]
async fn what_comes_from_the_dead_letter_queue_is_given_up_unless_it_has_ended() {
    let stage = Stage::open();
    let orders = stage.orders(3, 10).await;
    let message = |id: &ExportId| ExportMessage { export_id: id.clone() };

    let stuck = stage.request().await;
    assert!(stage.crash(&stuck, At::S3, hold(When::Before).operation("CompleteMultipartUpload")).await);
    stage.past_the_lease();
    stage.worker().give_up(&message(&stuck), in_a_minute()).await.unwrap();
    let document = stage.row(&stuck).await.document();
    assert_eq!((&document["status"], &document["failure"]), (&json!("FAILED"), &json!(run::GAVE_UP)));
    assert_eq!(stage.events(&stuck).await, ["export.failed"]);
    stage.take(&stuck).await.unwrap();
    assert_eq!(stage.row(&stuck).await.document(), document, "nobody goes on with it");

    let ready = stage.request().await;
    // Dead between the end and the notice.
    assert!(stage.crash(&ready, At::DynamoDb, hold(When::Before).operation("Query").skip(1)).await);
    stage.past_the_lease();
    stage.worker().give_up(&message(&ready), in_a_minute()).await.unwrap();
    stage.assert_ready(&ready, &orders).await;
}

#[tokio::test]
async fn an_export_that_is_unknown_or_has_expired_is_nobodys_work() {
    let stage = Stage::open();
    stage.take(&ids::random().next()).await.unwrap();
    let id = stage.request().await;
    stage.clock.advance(RETENTION);
    stage.take(&id).await.unwrap();
    assert_eq!(stage.row(&id).await.document()["status"], "QUEUED");
}

#[tokio::test]
async fn a_slice_without_time_for_a_page_has_not_advanced_and_fails_its_message() {
    let stage = Stage::open();
    let id = stage.request().await;
    let message = ExportMessage { export_id: id.clone() };
    let stopped = stage.worker().take(&message, Deadline::after(Duration::from_secs(10))).await;
    assert!(matches!(stopped, Err(WorkError::Stopped { why: Stop::OutOfTime { has_advanced: false }, .. })));
    assert!(stage.sent.bodies().is_empty());
}

#[tokio::test]
async fn what_there_was_no_time_to_tell_is_told_because_of_another_message() {
    let stage = Stage::open();
    let orders = stage.orders(3, 10).await;
    let id = stage.request().await;
    let message = ExportMessage { export_id: id.clone() };
    // Dead between the end and the notice.
    assert!(stage.crash(&id, At::DynamoDb, hold(When::Before).operation("Query").skip(1)).await);
    stage.past_the_lease();
    stage.worker().take(&message, Deadline::after(Duration::from_secs(5))).await.unwrap();
    assert_eq!(stage.sent.bodies(), [message.body()]);
    // It comes at once: the lock is free.
    stage.take(&id).await.unwrap();
    stage.assert_ready(&id, &orders).await;
}

#[tokio::test]
async fn a_slice_that_stored_a_part_has_advanced_and_the_next_one_goes_on_behind_it() {
    let stage = Stage::open();
    let orders = stage.orders(20, 300_000).await;
    // As long as this machine needs for a part: a slice that was too short is tried again with twice the time.
    let mut pages = Duration::from_secs(2);
    let id = loop {
        let id = stage.request().await;
        let task = Task::of_export(&id);
        let Acquire::Acquired(lease) =
            stage.locks().acquire(task.lock_name(), &ids::random().next()).await.unwrap()
        else {
            panic!("nobody has it");
        };
        let guard = stage.locks().guard(&lease).unwrap();
        let slice = Slice { stop_at: Deadline::after(pages), deadline: in_a_minute() };
        // The answer to the first part comes when the time for pages has passed.
        let rule = stage.faults(At::S3).add(hold(When::After).operation("UploadPart").times(1));
        let time_passes = async {
            stage.until_held(At::S3, rule).await;
            tokio::time::sleep(slice.stop_at.remaining()).await;
            stage.faults(At::S3).release(rule);
        };
        let exporter = stage.exporter();
        let stopped = {
            let mut run = pin!(exporter.run(&id, &guard, slice));
            tokio::select! {
                biased;
                stopped = &mut run => stopped,
                () = time_passes => run.await,
            }
        };
        stage.faults(At::S3).remove(rule);
        match stopped {
            Err(Stop::OutOfTime { has_advanced: true }) => break id,
            Err(Stop::OutOfTime { has_advanced: false }) => pages *= 2,
            other => panic!("{other:?}"),
        }
    };
    let row = stage.row(&id).await;
    let first = row.checkpoint.unwrap();
    assert_eq!(first.parts.len(), 1);
    assert!((1..100).contains(&row.progress.percent), "{:?}", row.progress);
    stage.finish(&id).await;
    stage.assert_ready(&id, &orders).await;
}

#[tokio::test]
async fn no_write_under_the_lock_makes_progress_fall_or_reopens_what_has_ended() {
    let stage = Stage::open();
    let id = stage.request().await;
    let task = Task::of_export(&id);
    let Acquire::Acquired(lease) =
        stage.locks().acquire(task.lock_name(), &ids::random().next()).await.unwrap()
    else {
        panic!("nobody has it");
    };
    let (rows, guard) = (stage.rows(), stage.locks().guard(&lease).unwrap());
    let at = |percent, rows| Progress { percent, rows };
    assert_eq!(rows.progress(&id, at(40, 10), &guard).await.unwrap(), Guarded::Done);
    assert_eq!(rows.progress(&id, at(39, 11), &guard).await.unwrap(), Guarded::Over);
    let export = stage.row(&id).await;
    assert_eq!(export.progress, at(40, 10));
    assert_eq!(rows.failed(&export, "no", &guard).await.unwrap(), Guarded::Done);
    assert_eq!(rows.progress(&id, at(50, 12), &guard).await.unwrap(), Guarded::Over);
    assert_eq!(rows.failed(&export, "again", &guard).await.unwrap(), Guarded::Over);
    assert_eq!(stage.row(&id).await.failure.as_deref(), Some("no"));
    assert_eq!(stage.events(&id).await, ["export.failed"]);
}

#[tokio::test]
async fn a_worker_that_finds_another_one_at_it_fails_its_message_and_disturbs_nobody() {
    let stage = Stage::open();
    let id = stage.request().await;
    let owner: AttemptId = ids::random().next();
    let held = stage.locks().acquire(Task::of_export(&id).lock_name(), &owner).await.unwrap();
    assert!(matches!(held, Acquire::Acquired(_)));
    let message = ExportMessage { export_id: id.clone() };
    // No time to wait for it.
    let taken = stage.worker().take(&message, Deadline::after(Duration::from_secs(2))).await;
    assert!(matches!(taken, Err(WorkError::Held { by, .. }) if by == owner));
    assert_eq!(stage.row(&id).await.document()["status"], "QUEUED");
}

fn in_a_minute() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}
