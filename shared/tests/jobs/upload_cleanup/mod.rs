//! The upload clean-up on an embedded DynamoDB and an embedded S3: quotas come back exactly once
//! and nothing is left, whatever happens to the run.

mod interruptions;
mod stage;

use local_region::services::faults::{Failure, Rule};
use sojourn::core::deadline::Deadline;
use sojourn::files::uploads::Upload;
use sojourn::files::uploads::dynamo::{key, usage_key};

use stage::{LARGE, LONG, SMALL, Stage, hours, nine, user};

#[tokio::test]
async fn an_unfinished_upload_past_its_time_becomes_a_tombstone_which_gives_its_quota_back_once() {
    let stage = Stage::new();
    let ann = user();
    let (whole, in_parts, rejected) =
        (stage.sent(&ann).await, stage.sent_in_parts(&ann).await, stage.rejected(&ann).await);
    let ready = stage.ready(&ann).await;
    stage.a_day_later();
    let young = stage.sent(&ann).await;
    assert_eq!(stage.taken(&ann).await, (4 * SMALL + LARGE, 5));
    assert!(stage.has_parts(&in_parts).await);

    let result = stage.sweep(nine()).await;
    assert_eq!((result.expired, result.objects_left, result.forgotten), (3, 0, 0), "{result:?}");
    assert_eq!(result.settled, 1, "{result:?}");
    for upload in [&whole, &in_parts, &rejected] {
        assert_eq!(stage.status(upload).await.as_deref(), Some("DELETED"));
    }
    assert!(!stage.has_parts(&in_parts).await);
    assert_eq!(stage.status(&ready).await.as_deref(), Some("READY"));
    assert_eq!(stage.status(&young).await.as_deref(), Some("PENDING"));
    assert_eq!(stage.objects().await, [young.incoming_key(), ready.final_key()]);
    assert_eq!(stage.taken(&ann).await, (4 * SMALL + LARGE, 5), "completions may still be running");

    // The next slot finds tombstones that are not due.
    let next = stage.sweep(nine() + hours(1)).await;
    assert_eq!((next.expired, next.forgotten, next.failed), (0, 0, 0), "{next:?}");
    assert_eq!(stage.status(&whole).await.as_deref(), Some("DELETED"));
    assert_eq!(stage.taken(&ann).await, (4 * SMALL + LARGE, 5));

    // The one after that finds them due.
    for forgotten in [3, 0] {
        let last = stage.sweep(nine() + hours(2)).await;
        assert_eq!((last.expired, last.forgotten, last.failed), (0, forgotten, 0), "{last:?}");
        assert_eq!(stage.taken(&ann).await, (2 * SMALL, 2));
    }
}

#[tokio::test]
async fn a_tombstone_whose_time_has_come_takes_along_what_was_put_there_after_the_deletion() {
    let stage = Stage::new();
    let ann = user();
    let (deleted, in_parts) = (stage.deleted(&ann).await, stage.sent_in_parts(&ann).await);
    stage.uploads().delete(&ann, &in_parts.upload_id, Deadline::after(LONG)).await.unwrap();
    // A link that still lived, and a completion that was still running.
    stage.put(&deleted.incoming_key(), "late").await;
    stage.put(&deleted.final_key(), "later").await;
    stage.put(&in_parts.incoming_key(), "late").await;
    stage.a_day_later();

    let result = stage.sweep(nine()).await;
    assert_eq!((result.expired, result.forgotten, result.failed), (0, 2, 0), "{result:?}");
    assert_eq!(stage.objects().await, [""; 0]);
    assert_eq!((stage.status(&deleted).await, stage.status(&in_parts).await), (None, None));
    assert_eq!(stage.taken(&ann).await, (0, 0));
}

#[tokio::test]
async fn what_is_ready_stays_however_long() {
    let stage = Stage::new();
    let ann = user();
    let ready = stage.ready(&ann).await;
    stage.a_day_later();
    // Its link is good for longer than the upload takes.
    stage.put(&ready.incoming_key(), "twelve bytes").await;
    for (slot, settled) in [(nine(), 1), (nine() + hours(24 * 365), 0)] {
        let result = stage.sweep(slot).await;
        assert_eq!((result.expired, result.forgotten, result.ended_before), (0, 0, 0), "{result:?}");
        assert_eq!(result.settled, settled, "{result:?}");
    }
    assert_eq!(stage.status(&ready).await.as_deref(), Some("READY"));
    assert_eq!(stage.objects().await, [ready.final_key()]);
    assert_eq!(stage.taken(&ann).await, (SMALL, 1));
}

#[tokio::test]
async fn objects_that_cannot_be_deleted_are_left_to_the_tombstone_whose_row_outlives_them() {
    let stage = Stage::new();
    let ann = user();
    let upload = stage.sent(&ann).await;
    stage.a_day_later();
    let faults = &stage.files.controls.faults;
    faults.add(Rule::fail(Failure::InternalServerError).operation("DeleteObject"));
    let result = stage.sweep(nine()).await;
    assert_eq!((result.expired, result.objects_left, result.failed), (1, 1, 0), "{result:?}");
    let result = stage.sweep(nine() + hours(3)).await;
    assert_eq!((result.forgotten, result.failed), (0, 1), "{result:?}");
    assert_eq!(stage.status(&upload).await.as_deref(), Some("DELETED"));
    assert_eq!(stage.taken(&ann).await, (SMALL, 1), "what S3 still has counts");

    faults.clear();
    let result = stage.sweep(nine() + hours(4)).await;
    assert_eq!((result.forgotten, result.failed), (1, 0), "{result:?}");
    assert_eq!((stage.status(&upload).await, stage.objects().await.len()), (None, 0));
    assert_eq!(stage.taken(&ann).await, (0, 0));
}

#[tokio::test]
async fn one_bad_row_does_not_stop_the_rest() {
    let stage = Stage::new();
    let ann = user();
    let mut uploads = Vec::new();
    for _ in 0..5 {
        uploads.push(stage.sent(&ann).await);
    }
    // A row that no upload can be read from.
    let broken = stage.store.client.update_item().table_name("UploadsTable");
    let broken = broken.set_key(Some(key(&ann, &uploads[2].upload_id)));
    broken.update_expression("REMOVE fileName").send().await.unwrap();
    stage.a_day_later();
    let result = stage.sweep(nine()).await;
    assert_eq!((result.expired, result.failed, result.remaining), (4, 1, false), "{result:?}");
    assert_eq!(stage.objects().await, [uploads[2].incoming_key()]);
}

#[tokio::test]
async fn a_quota_that_was_lost_is_not_made_up_and_does_not_hold_the_run_up() {
    let stage = Stage::new();
    let (ann, ben) = (user(), user());
    let (of_ann, of_ben) = (stage.sent(&ann).await, stage.sent(&ben).await);
    let usage = usage_key(&ann, "local");
    let lost = stage.store.client.delete_item().table_name("UploadsTable").set_key(Some(usage));
    lost.send().await.unwrap();
    stage.a_day_later();
    let result = stage.sweep(nine()).await;
    assert_eq!((result.expired, result.failed), (2, 0), "{result:?}");
    let result = stage.sweep(nine() + hours(2)).await;
    assert_eq!((result.forgotten, result.failed, result.contended), (1, 1, 0), "{result:?}");
    assert_eq!(stage.status(&of_ann).await.as_deref(), Some("DELETED"));
    assert_eq!(stage.status(&of_ben).await, None);
}

#[tokio::test]
async fn a_link_that_outlives_its_uploads_deletion_stores_nothing_beyond_the_quota() {
    let stage = Stage::new();
    let ann = user();
    let upload = stage.sent(&ann).await;
    stage.uploads().delete(&ann, &upload.upload_id, Deadline::after(LONG)).await.unwrap();
    stage.put(&upload.incoming_key(), "twelve bytes").await;
    assert_eq!(stage.taken(&ann).await, (SMALL, 1), "what can be sent to the link counts");
    stage.a_day_later();
    stage.sweep(nine()).await;
    assert_eq!((stage.taken(&ann).await, stage.objects().await.len()), ((0, 0), 0));
}

#[tokio::test]
async fn a_file_whose_links_ended_long_ago_gives_its_quota_back_with_its_deletion() {
    let stage = Stage::new();
    let ann = user();
    let (old, stuck) = (stage.ready(&ann).await, stage.ready(&ann).await);
    stage.a_day_later();
    let young = stage.ready(&ann).await;
    let delete = async |upload: &Upload| {
        stage.uploads().delete(&ann, &upload.upload_id, Deadline::after(LONG)).await.unwrap();
    };
    delete(&old).await;
    assert_eq!((stage.status(&old).await, stage.taken(&ann).await), (None, (2 * SMALL, 2)));
    delete(&young).await;
    assert_eq!(stage.taken(&ann).await, (2 * SMALL, 2), "its links lead on");

    // Objects that cannot be deleted keep the row, and the row its share.
    let faults = &stage.files.controls.faults;
    let rule = faults.add(Rule::fail(Failure::InternalServerError).operation("DeleteObject"));
    delete(&stuck).await;
    faults.remove(rule);
    assert_eq!(stage.status(&stuck).await.as_deref(), Some("DELETED"));
    assert_eq!(stage.taken(&ann).await, (2 * SMALL, 2));
    let result = stage.sweep(nine()).await;
    assert_eq!((result.forgotten, stage.taken(&ann).await), (1, (SMALL, 1)), "{result:?}");
}

#[tokio::test]
async fn uploads_that_fail_are_put_behind_the_rest() {
    let stage = Stage::new();
    let ann = user();
    let stuck = stage.deleted(&ann).await;
    stage.a_day_later();
    let faults = &stage.files.controls.faults;
    let of_stuck = format!("{}/{}", sojourn_testing::BUCKET, stuck.incoming_key());
    let rule = Rule::fail(Failure::InternalServerError).operation("DeleteObject").resource(of_stuck);
    let rule = faults.add(rule);
    let before = stage.sweep_at(&stuck).await;
    let result = stage.sweep(nine()).await;
    assert_eq!((result.failed, result.forgotten), (1, 0), "{result:?}");
    let after = stage.sweep_at(&stuck).await;
    assert!(before < after, "it is behind all that was due: {before} to {after}");
    assert_eq!(after, "2026-11-20T09:00:00.000Z", "and due in the next slot");
    faults.remove(rule);
    let result = stage.sweep(nine() + hours(1)).await;
    assert_eq!((result.failed, result.forgotten), (0, 1), "{result:?}");
}
