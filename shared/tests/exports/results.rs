//! What an export comes to.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use local_region::services::faults::When;
use serde_json::json;
use sojourn::coordination::lock::{AcquireOutcome, IfHolder, LeaseSettings, Task};
use sojourn::core::clock::Clock;
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{self, AttemptId, ExportId};
use sojourn::files::exports::dynamo::GuardedWrite;
use sojourn::files::exports::run::{self, Slice, Stop};
use sojourn::files::exports::{ExportMessage, ExportProgress, RETENTION, WorkError};

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
    let owner = std::mem::replace(&mut stage.customer, sojourn::core::ids::random().next());
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
    stage.worker().give_up(&message(&stuck), stage.clock.now(), in_a_minute()).await.unwrap();
    assert!(stage.sent.bodies().is_empty());
    let document = stage.row(&stuck).await.document();
    assert_eq!((&document["status"], &document["failure"]), (&json!("FAILED"), &json!(run::GAVE_UP)));
    assert_eq!(stage.events(&stuck).await, ["export.failed"]);
    stage.take(&stuck).await.unwrap();
    assert_eq!(stage.row(&stuck).await.document(), document, "nobody goes on with it");

    let ready = stage.request().await;
    // Dead between the end and the lock's completion. The update before is the lock's acquisition.
    assert!(stage.crash(&ready, At::DynamoDb, hold(When::Before).operation("UpdateItem").skip(1)).await);
    stage.past_the_lease();
    stage.worker().give_up(&message(&ready), stage.clock.now(), in_a_minute()).await.unwrap();
    stage.assert_ready(&ready, &orders).await;
}

#[tokio::test]
async fn an_export_that_is_unknown_or_has_expired_is_nobodys_work() {
    let stage = Stage::open();
    let unknown: ExportId = ids::random().next();
    stage.take(&unknown).await.unwrap();
    let id = stage.request().await;
    stage.clock.advance(RETENTION);
    stage.take(&id).await.unwrap();
    assert_eq!(stage.row(&id).await.document()["status"], "QUEUED");
    for id in [unknown, id] {
        let asked = stage.locks().acquire(Task::of_export(&id).lock_name(), &ids::random().next()).await;
        assert!(matches!(asked, Ok(AcquireOutcome::Acquired(_))), "not ended for good: {asked:?}");
    }
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
async fn a_slice_that_stored_a_part_has_advanced_and_the_next_one_goes_on_behind_it() {
    let stage = Stage::open_with_small_parts();
    let orders = stage.orders_of_two_pages().await;
    let id = stage.request().await;
    let lease = stage.hold_the_lock(&id).await;
    let guard = stage.locks().guard(&lease).unwrap();
    let slice = Slice { stop_at: in_a_minute(), deadline: Deadline::after(Duration::from_mins(2)) };
    let rule = stage.faults(At::S3).add(hold(When::After).operation("UploadPart").times(1));
    // The answer to the first part comes when the time for pages has passed.
    let time_passes = async {
        stage.until_held(At::S3, rule).await;
        pass(Duration::from_mins(1)).await;
        stage.faults(At::S3).release(rule);
    };
    let has_advanced = AtomicBool::new(false);
    let exporter = stage.exporter();
    let (stopped, ()) = futures::join!(exporter.run(&id, &guard, slice, &has_advanced), time_passes);
    assert!(matches!(stopped, Err(Stop::OutOfTime { has_advanced: true })), "{stopped:?}");
    let row = stage.row(&id).await;
    let first = row.checkpoint.unwrap();
    assert_eq!(first.parts, 1);
    assert!((1..100).contains(&row.progress.percent), "{:?}", row.progress);
    stage.finish(&id).await;
    stage.assert_ready(&id, &orders).await;
}

#[tokio::test]
async fn no_write_under_the_lock_makes_progress_fall_or_reopens_what_has_ended() {
    let stage = Stage::open();
    let id = stage.request().await;
    let task = Task::of_export(&id);
    let AcquireOutcome::Acquired(lease) =
        stage.locks().acquire(task.lock_name(), &ids::random().next()).await.unwrap()
    else {
        panic!("nobody has it");
    };
    let (rows, guard) = (stage.rows(), stage.locks().guard(&lease).unwrap());
    let at = |percent, rows| ExportProgress { percent, rows };
    assert_eq!(rows.progress(&id, at(40, 10), &guard).await.unwrap(), GuardedWrite::Done);
    assert_eq!(rows.progress(&id, at(39, 11), &guard).await.unwrap(), GuardedWrite::Over);
    let export = stage.row(&id).await;
    assert_eq!(export.progress, at(40, 10));
    assert_eq!(rows.failed(&export, "no", &guard).await.unwrap(), GuardedWrite::Done);
    assert_eq!(rows.progress(&id, at(50, 12), &guard).await.unwrap(), GuardedWrite::Over);
    assert_eq!(rows.failed(&export, "again", &guard).await.unwrap(), GuardedWrite::Over);
    assert_eq!(stage.row(&id).await.failure.as_deref(), Some("no"));
    assert_eq!(stage.events(&id).await, ["export.failed"]);
}

#[tokio::test]
async fn a_worker_that_finds_another_one_at_it_fails_its_message_and_disturbs_nobody() {
    let stage = Stage::open();
    let id = stage.request().await;
    let owner: AttemptId = ids::random().next();
    let held = stage.locks().acquire(Task::of_export(&id).lock_name(), &owner).await.unwrap();
    assert!(matches!(held, AcquireOutcome::Acquired(_)));
    let message = ExportMessage { export_id: id.clone() };
    // No time to wait for it.
    let taken = stage.worker().take(&message, Deadline::after(Duration::from_secs(2))).await;
    assert!(matches!(taken, Err(WorkError::Held { by, .. }) if by == owner));
    assert_eq!(stage.row(&id).await.document()["status"], "QUEUED");
}

/// Ten of them are enough for the dead-letter queue. None of them may bring an export there that
/// somebody works on, and none may be the last: one of them may be the holder's own, delivered
/// twice.
#[tokio::test]
async fn messages_too_many_wait_outside_of_the_lock_while_the_holder_renews_and_their_verdict_fails_nothing()
{
    let stage = Stage::open();
    let orders = stage.orders(3, 10).await;
    let id = stage.request().await;
    let (worker, message) = (stage.worker(), ExportMessage { export_id: id.clone() });
    let sent_at = stage.clock.now();
    let mut lease = stage.hold_the_lock(&id).await;
    let duplicates = async {
        for _ in 0..10 {
            worker.take(&message, in_a_minute()).await.unwrap();
        }
        worker.give_up(&message, sent_at, in_a_minute()).await.unwrap();
    };
    let holder = async {
        loop {
            stage.clock.advance(Duration::from_millis(100));
            match stage.locks().renew(&lease).await.unwrap() {
                IfHolder::Done(renewed) => lease = renewed,
                IfHolder::Lost => panic!("somebody took it from a holder that lives"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! { () = duplicates => {} never = holder => never }
    assert_eq!(stage.row(&id).await.document()["status"], "QUEUED");
    assert_eq!(stage.sent.delays(), [Duration::from_mins(1); 11], "each leaves one that looks again, later");
    stage.finish(&id).await;
    stage.assert_ready(&id, &orders).await;
}

#[tokio::test]
async fn an_export_that_has_advanced_since_the_dead_message_was_sent_is_not_given_up() {
    let stage = Stage::open();
    let orders = stage.orders(3, 10).await;
    let id = stage.request().await;
    let message = ExportMessage { export_id: id.clone() };
    let sent_at = stage.clock.now();
    stage.clock.advance(Duration::from_millis(1));
    assert!(stage.crash(&id, At::S3, hold(When::Before).operation("CompleteMultipartUpload")).await);
    stage.past_the_lease();
    // The gap between two slices: the lock is free, and the fresh message is on its way.
    stage.worker().give_up(&message, sent_at, in_a_minute()).await.unwrap();
    assert_eq!(stage.row(&id).await.document()["status"], "RUNNING");
    assert_eq!(stage.sent.bodies(), [message.body()], "one more");
    stage.finish(&id).await;
    stage.assert_ready(&id, &orders).await;
}

#[tokio::test]
async fn a_slice_that_is_cut_off_behind_a_part_is_gone_on_from_because_of_another_message() {
    let stage = Stage::open_with_small_parts();
    let orders = stage.orders_of_two_pages().await;
    let id = stage.request().await;
    let (worker, message) = (stage.worker(), ExportMessage { export_id: id.clone() });
    let rule = stage.faults(At::S3).add(hold(When::Before).operation("UploadPart").skip(1).times(1));
    let time_passes = async {
        stage.until_held(At::S3, rule).await;
        // The end of the lease, at which the run is dropped.
        pass(LeaseSettings::EXPORTS.lease).await;
    };
    let (taken, ()) =
        futures::join!(worker.take(&message, Deadline::after(Duration::from_mins(5))), time_passes);
    taken.unwrap();
    assert_eq!(stage.sent.bodies(), [message.body()]);
    stage.faults(At::S3).remove(rule);
    stage.take(&id).await.unwrap();
    stage.assert_ready(&id, &orders).await;
}

/// So much time passes at once.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn in_a_minute() -> Deadline {
    Deadline::after(Duration::from_mins(1))
}
