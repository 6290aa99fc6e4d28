//! Rows: what changes them, and which of them somebody has to look after.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use sojourn::files::uploads::{
    COMPLETIONS_WRITE, Creation, EndOutcome, LINKS_WRITE, MAX_TRIES, Rejection, SweepShard, Transition,
    Upload, UploadStatus, Usage,
};

use crate::{Stage, wish};

type Item = HashMap<String, AttributeValue>;

impl Stage {
    async fn pending(&self) -> Upload {
        self.announce(wish(b"twelve bytes")).await.upload
    }

    /// All rows of the index `sweep`.
    async fn swept(&self) -> Vec<Item> {
        let scan = self.store.client.scan().table_name("UploadsTable").index_name("sweep");
        scan.send().await.unwrap().items.unwrap()
    }

    /// Bytes and files that are taken.
    async fn taken(&self) -> (String, String) {
        let get = self.store.client.get_item().table_name("UploadsTable").consistent_read(true);
        let get = get.key("ownerId", AttributeValue::S(self.owner.to_string()));
        let row = get.key("uploadId", AttributeValue::S("usage#local".to_owned())).send().await.unwrap();
        let row = row.item.unwrap();
        let number = |name: &str| row[name].as_n().unwrap().clone();
        (number("bytes"), number("files"))
    }
}

fn counts(bytes: u64, files: u64) -> (String, String) {
    (bytes.to_string(), files.to_string())
}

fn text<'a>(row: &'a Item, name: &str) -> &'a str {
    row[name].as_s().unwrap()
}

fn done(change: Transition) -> Upload {
    match change {
        Transition::Done(upload) => upload,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_somebody_can_still_write_is_in_the_index_with_the_time_to_look_at_it() {
    let stage = Stage::new();
    let upload = stage.pending().await;
    let day = upload.created_at.checked_add(Duration::from_hours(24)).unwrap();
    let shard = SweepShard::of(&upload.upload_id).key("local");
    let of = |rows: &[Item]| -> Vec<(String, String)> {
        rows.iter().map(|row| (text(row, "sweepShard").into(), text(row, "sweepAt").into())).collect()
    };
    assert_eq!(of(&stage.swept().await), [(shard.clone(), rfc3339(day))]);
    assert_eq!(SweepShard::all().filter(|each| each.key("local") == shard).count(), 1);

    done(stage.rows().reject(&upload, Rejection::WrongSize).await.unwrap());
    assert_eq!(of(&stage.swept().await), [(shard.clone(), rfc3339(day))], "its quota has to come back");
    let rejected = stage.rows().read(&stage.owner, &upload.upload_id).await.unwrap().unwrap();
    let links_end = upload.created_at.checked_add(LINKS_WRITE).unwrap();
    done(stage.rows().delete(&rejected, upload.created_at).await.unwrap());
    assert_eq!(of(&stage.swept().await), [(shard.clone(), rfc3339(links_end))], "its links lead on");
    let tombstone = Upload { status: UploadStatus::Deleted, ..rejected };
    done(stage.rows().delete(&tombstone, day).await.unwrap());
    let completions_end = day.checked_add(COMPLETIONS_WRITE).unwrap();
    assert_eq!(of(&stage.swept().await), [(shard, rfc3339(completions_end))], "one may be running");

    let other = stage.pending().await;
    let now = SystemClock.now();
    let ready = done(stage.rows().finish(&other, now).await.unwrap());
    assert_eq!((ready.status, ready.ready_at, &ready.s3_upload_id), (UploadStatus::Ready, Some(now), &None));
    let shard = SweepShard::of(&ready.upload_id).key("local");
    let links_end = ready.created_at.checked_add(LINKS_WRITE).unwrap();
    assert!(of(&stage.swept().await).contains(&(shard.clone(), rfc3339(links_end))), "its links lead on");
    // Deleted a day later: nothing can write its objects any more.
    done(stage.rows().delete(&ready, day).await.unwrap());
    assert!(of(&stage.swept().await).contains(&(shard, rfc3339(links_end))), "due at once");
}

#[tokio::test]
async fn so_many_tries_to_complete_an_upload_are_counted_and_no_more() {
    let stage = Stage::new();
    let upload = stage.pending().await;
    let rows = stage.rows();
    let count = || rows.count_try(&stage.owner, &upload.upload_id);
    for _ in 0..MAX_TRIES {
        assert_eq!(done(count().await.unwrap()), upload);
    }
    assert_eq!(count().await.unwrap(), Transition::Refused(Some(upload.clone())));
    let unknown = sojourn::core::ids::random().next();
    assert_eq!(rows.count_try(&stage.owner, &unknown).await.unwrap(), Transition::Refused(None));
    assert_eq!(stage.rows().read(&stage.owner, &unknown).await.unwrap(), None, "no row was made");
}

#[tokio::test]
async fn an_upload_ends_once_and_tells_how_to_whoever_comes_later() {
    let stage = Stage::new();
    let (rows, now) = (stage.rows(), SystemClock.now());
    let upload = stage.pending().await;
    let ready = done(rows.finish(&upload, now).await.unwrap());
    for late in [rows.finish(&upload, now).await, rows.reject(&upload, Rejection::WrongSize).await] {
        assert_eq!(late.unwrap(), Transition::Refused(Some(ready.clone())));
    }
    // Seen when it was PENDING: whoever deletes must look again.
    assert_eq!(rows.delete(&upload, now).await.unwrap(), Transition::Refused(Some(ready.clone())));
    assert_eq!(stage.taken().await, counts(12, 1));
    let deleted = done(rows.delete(&ready, now).await.unwrap());
    assert_eq!(deleted.status, UploadStatus::Deleted);
    assert_eq!(stage.taken().await, counts(12, 1), "its links lead on");
    for late in [rows.delete(&ready, now).await, rows.finish(&upload, now).await] {
        let Transition::Refused(Some(stands)) = late.unwrap() else { panic!("it is deleted") };
        assert_eq!(stands.status, UploadStatus::Deleted);
    }
    let settled = deleted.settled_at(now);
    assert_eq!(rows.remove(&deleted, settled).await.unwrap(), EndOutcome::Refused, "not yet");
    assert_eq!(stage.taken().await, counts(12, 1));
    let after = settled.checked_add(Duration::from_millis(1)).unwrap();
    assert_eq!(rows.remove(&deleted, after).await.unwrap(), EndOutcome::Done);
    assert_eq!(rows.remove(&deleted, after).await.unwrap(), EndOutcome::Refused);
    assert_eq!(stage.taken().await, counts(0, 0), "given back once");

    let mut unknown = upload;
    unknown.upload_id = sojourn::core::ids::random().next();
    assert_eq!(rows.finish(&unknown, now).await.unwrap(), Transition::Refused(None));
}

#[tokio::test]
async fn the_quota_counts_bytes_and_files() {
    let stage = Stage::new();
    let mut limits = sojourn::files::uploads::UploadLimits::from_env(&stage.env).unwrap();
    limits.quota_bytes = 30;
    let new = |upload: &Upload| Upload { upload_id: sojourn::core::ids::random().next(), ..upload.clone() };
    let first = stage.pending().await;
    assert_eq!(
        stage.rows().create(&new(&first), &limits, Usage::default()).await.unwrap(),
        Creation::Created
    );
    let full = stage.rows().create(&new(&first), &limits, Usage::default()).await.unwrap();
    let Creation::QuotaExceeded(usage) = full else { panic!("{full:?}") };
    assert_eq!((usage.bytes, usage.files), (24, 2));

    // As many files as there may be, however small.
    limits.quota_bytes = 1_000;
    let most = AttributeValue::N(sojourn::files::uploads::MAX_FILES.to_string());
    let update = stage.store.client.update_item().table_name("UploadsTable");
    let update = update.key("ownerId", AttributeValue::S(stage.owner.to_string()));
    let update = update.key("uploadId", AttributeValue::S("usage#local".to_owned()));
    let update = update.update_expression("SET #files = :most").expression_attribute_names("#files", "files");
    update.expression_attribute_values(":most", most).send().await.unwrap();
    let full = stage.rows().create(&new(&first), &limits, Usage::default()).await.unwrap();
    assert!(matches!(full, Creation::QuotaExceeded(usage) if usage.files == 10_000), "{full:?}");
}

/// As when the answer to the first call got lost, and the SDK or the protocol calls again.
#[tokio::test]
async fn a_row_that_was_written_before_is_no_refusal_even_if_it_filled_the_quota() {
    let stage = Stage::new();
    let first = stage.pending().await;
    let mut limits = sojourn::files::uploads::UploadLimits::from_env(&stage.env).unwrap();
    for (room, taken) in [(1_000, 24), (36, 36)] {
        limits.quota_bytes = room;
        let upload = Upload { upload_id: sojourn::core::ids::random().next(), ..first.clone() };
        for _ in 0..2 {
            assert_eq!(
                stage.rows().create(&upload, &limits, Usage::default()).await.unwrap(),
                Creation::Created,
                "{room}"
            );
        }
        assert_eq!(stage.taken().await.0, taken.to_string(), "taken once");
    }
}

#[tokio::test]
async fn a_usage_row_that_cannot_give_an_upload_back_is_an_error_and_no_conflict() {
    let stage = Stage::new();
    let upload = stage.pending().await;
    let update = stage.store.client.update_item().table_name("UploadsTable");
    let update = update.key("ownerId", AttributeValue::S(stage.owner.to_string()));
    let update = update.key("uploadId", AttributeValue::S("usage#local".to_owned()));
    let update = update.update_expression("SET #bytes = :less").expression_attribute_names("#bytes", "bytes");
    update.expression_attribute_values(":less", AttributeValue::N("11".to_owned())).send().await.unwrap();
    let now = SystemClock.now();
    let deleted = done(stage.rows().delete(&upload, now).await.unwrap());
    let after = deleted.settled_at(now).checked_add(Duration::from_millis(1)).unwrap();
    let refused = stage.rows().remove(&deleted, after).await.unwrap_err();
    assert!(refused.to_string().contains("usage"), "{refused}");
    let stands = stage.rows().read(&stage.owner, &upload.upload_id).await.unwrap().unwrap();
    assert_eq!(stands.status, UploadStatus::Deleted);
}
