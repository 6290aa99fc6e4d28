//! Workers that are paused, overtaken, and wake up.

use std::pin::Pin;
use std::time::Duration;

use local_region::services::faults::{Rule, RuleId, When};
use sojourn::core::deadline::Deadline;
use sojourn::core::ids::{ExportId, OrderId};
use sojourn::files::exports::{ExportMessage, WorkError};
use sojourn_testing::BUCKET;

use crate::stage::{At, Stage, hold};

/// More than any run needs.
const AMPLE: Duration = Duration::from_mins(2);

async fn stage() -> (Stage, Vec<OrderId>) {
    let stage = Stage::open_with_small_parts();
    let orders = stage.orders_of_two_pages().await;
    (stage, orders)
}

/// Lets `worker` run until the rule holds a request of it. From then on nobody moves it: it is
/// paused.
async fn run_until_held(
    stage: &Stage,
    at: At,
    rule: RuleId,
    mut worker: Pin<&mut impl Future<Output = Result<(), WorkError>>>,
) {
    tokio::select! {
        biased;
        () = stage.until_held(at, rule) => {}
        ended = &mut worker => panic!("it ended before it was paused: {ended:?}"),
    }
}

/// A worker is paused while its request is held by `rule`; another one takes over and ends the
/// export, of orders that are paid by now. Then the request goes on, and the first worker wakes up.
async fn wake_up_too_late(at: At, rule: Rule) {
    let (stage, orders) = stage().await;
    let id = stage.request().await;
    let (worker, message) = (stage.worker(), ExportMessage { export_id: id.clone() });
    let mut zombie = Box::pin(worker.take(&message, Deadline::after(AMPLE)));
    let rule = stage.faults(at).add(rule.times(1));
    run_until_held(&stage, at, rule, zombie.as_mut()).await;

    stage.pay_all(&orders).await;
    stage.finish(&id).await;
    stage.assert_ready(&id, &orders).await;
    let (items, file) = (stage.items(id.as_str()).await, stage.file(&id).await);
    assert!(!file.contains("PENDING_PAYMENT"), "the successor read the orders itself");

    stage.faults(at).remove(rule);
    let ended = zombie.await;
    assert!(ended.is_err(), "it was overtaken: {ended:?}");
    assert_eq!(stage.items(id.as_str()).await, items, "neither the row nor a part has changed");
    assert!(stage.file(&id).await == file, "the file has changed");
    assert_eq!(stage.events(&id).await, ["export.ready"]);
}

#[tokio::test]
async fn a_late_upload_changes_nothing() {
    wake_up_too_late(At::S3, hold(When::Before).operation("CreateMultipartUpload")).await;
}

#[tokio::test]
async fn a_late_part_changes_nothing() {
    wake_up_too_late(At::S3, hold(When::Before).operation("UploadPart")).await;
}

#[tokio::test]
async fn a_late_checkpoint_changes_nothing() {
    wake_up_too_late(At::DynamoDb, hold(When::Before).operation("TransactWriteItems")).await;
    wake_up_too_late(At::DynamoDb, hold(When::Before).operation("TransactWriteItems").skip(1)).await;
}

/// Its list is final by then, and is its successor's too.
#[tokio::test]
async fn a_late_completion_makes_the_same_file() {
    let (stage, orders) = stage().await;
    let id = stage.request().await;
    let (worker, message) = (stage.worker(), ExportMessage { export_id: id.clone() });
    let mut zombie = Box::pin(worker.take(&message, Deadline::after(AMPLE)));
    let rule = stage.faults(At::S3).add(hold(When::Before).operation("CompleteMultipartUpload").times(1));
    run_until_held(&stage, At::S3, rule, zombie.as_mut()).await;

    stage.pay_all(&orders).await;
    stage.finish(&id).await;
    stage.assert_ready(&id, &orders).await;
    let (row, file) = (stage.row(&id).await, stage.file(&id).await);
    assert!(!file.contains("PAID"), "the parts are those of the one that was paused");
    stage.faults(At::S3).remove(rule);
    assert!(zombie.await.is_err());
    assert_eq!((stage.row(&id).await, stage.file(&id).await == file), (row, true));
}

#[tokio::test]
async fn an_end_that_comes_too_late_is_refused() {
    // Begun, two parts, then the end.
    wake_up_before_the_end(hold(When::Before).operation("TransactWriteItems").skip(3)).await;
}

async fn wake_up_before_the_end(rule: Rule) {
    let (stage, orders) = stage().await;
    let id = stage.request().await;
    let (worker, message) = (stage.worker(), ExportMessage { export_id: id.clone() });
    let mut zombie = Box::pin(worker.take(&message, Deadline::after(AMPLE)));
    let rule = stage.faults(At::DynamoDb).add(rule.times(1));
    run_until_held(&stage, At::DynamoDb, rule, zombie.as_mut()).await;
    assert_eq!(stage.row(&id).await.document()["status"], "RUNNING");
    stage.finish(&id).await;
    let row = stage.row(&id).await;
    stage.faults(At::DynamoDb).remove(rule);
    assert!(zombie.await.is_err());
    assert_eq!(stage.row(&id).await, row);
    stage.assert_ready(&id, &orders).await;
}

/// While its successor is at work the row is open, and only the lock's condition stands between it
/// and a late write.
async fn wake_up_beside_its_successor(writes_before: u64) {
    let (stage, orders) = stage().await;
    let id = stage.request().await;
    let message = ExportMessage { export_id: id.clone() };
    let (worker, successor_worker) = (stage.worker(), stage.worker());
    let write = hold(When::Before).operation("TransactWriteItems").skip(writes_before).times(1);
    let write = stage.faults(At::DynamoDb).add(write);
    let mut zombie = Box::pin(worker.take(&message, Deadline::after(AMPLE)));
    run_until_held(&stage, At::DynamoDb, write, zombie.as_mut()).await;

    stage.past_the_lease();
    let completion = hold(When::Before).operation("CompleteMultipartUpload").times(1);
    let completion = stage.faults(At::S3).add(completion);
    let mut successor = Box::pin(successor_worker.take(&message, Deadline::after(AMPLE)));
    run_until_held(&stage, At::S3, completion, successor.as_mut()).await;
    let items = stage.items(id.as_str()).await;
    stage.faults(At::DynamoDb).remove(write);
    assert!(zombie.await.is_err());
    assert_eq!(stage.items(id.as_str()).await, items, "neither the row nor a part has changed");
    assert_eq!(stage.events(&id).await, Vec::<String>::new());

    stage.faults(At::S3).remove(completion);
    successor.await.unwrap();
    stage.assert_ready(&id, &orders).await;
}

#[tokio::test]
async fn a_late_checkpoint_does_not_move_a_successor_that_is_at_work() {
    wake_up_beside_its_successor(1).await;
}

#[tokio::test]
async fn a_late_end_does_not_forestall_a_successor_that_is_at_work() {
    wake_up_beside_its_successor(3).await;
}

/// Nobody can keep a part from arriving that a worker sent before it was overtaken. It makes the
/// successor's list untrue, and S3 says so.
#[tokio::test]
async fn a_part_that_is_written_over_is_found_out_and_everything_begins_anew() {
    let (stage, orders) = stage().await;
    let id = stage.request().await;
    let message = ExportMessage { export_id: id.clone() };
    let completion = hold(When::Before).operation("CompleteMultipartUpload").times(1);
    let completion = stage.faults(At::S3).add(completion);
    let worker = stage.worker();
    let mut run = Box::pin(worker.take(&message, Deadline::after(AMPLE)));
    run_until_held(&stage, At::S3, completion, run.as_mut()).await;
    let (key, upload) = (key_of(&stage, &id).await, upload_of(&stage, &id).await);
    assert!(is_upload(&stage, &key, &upload).await, "the late part has arrived");

    stage.faults(At::S3).remove(completion);
    run.await.unwrap();
    stage.assert_ready(&id, &orders).await;
    assert!(!is_upload(&stage, &key, &upload).await, "the spoiled upload is gone");
}

#[tokio::test]
async fn an_upload_that_vanished_between_two_parts_is_begun_anew() {
    let (stage, orders) = stage().await;
    let id = stage.request().await;
    // Behind the first part's checkpoint.
    assert!(stage.crash(&id, At::DynamoDb, hold(When::After).operation("TransactWriteItems").skip(1)).await);
    let progress = stage.row(&id).await.progress;
    assert!(progress.percent > 0 && progress.rows > 0, "{progress:?}");
    abort(&stage, &id).await;
    stage.finish(&id).await;
    stage.assert_ready(&id, &orders).await;
}

#[tokio::test]
async fn an_upload_that_vanished_at_the_end_is_begun_anew_at_another_key() {
    let (stage, orders) = stage().await;
    let id = stage.request().await;
    assert!(stage.crash(&id, At::S3, hold(When::Before).operation("CompleteMultipartUpload")).await);
    abort(&stage, &id).await;
    let dropped = key_of(&stage, &id).await;
    stage.finish(&id).await;
    stage.assert_ready(&id, &orders).await;
    assert_ne!(stage.row(&id).await.result.unwrap().result_key, dropped);
}

async fn key_of(stage: &Stage, id: &ExportId) -> String {
    let row = stage.row(id).await;
    row.result_key(&row.checkpoint.as_ref().unwrap().attempt.mark)
}

async fn upload_of(stage: &Stage, id: &ExportId) -> String {
    stage.row(id).await.checkpoint.unwrap().attempt.upload_id.as_str().to_owned()
}

async fn abort(stage: &Stage, id: &ExportId) {
    let abort = stage.s3().abort_multipart_upload().bucket(BUCKET).key(key_of(stage, id).await);
    abort.upload_id(upload_of(stage, id).await).send().await.unwrap();
}

/// Whether the upload is still there: it takes another part 1.
async fn is_upload(stage: &Stage, key: &str, upload: &str) -> bool {
    let part = stage.s3().upload_part().bucket(BUCKET).key(key);
    part.upload_id(upload).part_number(1).body(b"x".to_vec().into()).send().await.is_ok()
}
