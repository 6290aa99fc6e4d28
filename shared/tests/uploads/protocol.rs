//! Completing, where no client of the API gets to: objects that change while they are looked at,
//! and services that fail.

use local_region::services::Service;
use local_region::services::faults::{Failure, Rule, When};
use sojourn::core::ids::UploadId;
use sojourn::files::uploads::{
    CompletionRequest, MAX_TRIES, Method, Offer, Rejection, Upload, UploadError, UploadStatus, UsageByRegion,
};
use sojourn_testing::BUCKET;

use crate::{Stage, in_a_minute, wish};

impl Stage {
    async fn complete(&self, upload_id: &UploadId) -> Result<Upload, UploadError> {
        self.uploads().complete(&self.owner, upload_id, &CompletionRequest::default(), in_a_minute()).await
    }

    async fn status(&self, upload_id: &UploadId) -> UploadStatus {
        self.rows().read(&self.owner, upload_id).await.unwrap().unwrap().status
    }
}

fn id(offer: &Offer) -> &UploadId {
    &offer.upload.upload_id
}

#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_looked_at_is_looked_at_again() {
    for (replacement, ready) in [(&b"twelve bytes"[..], true), (b"TWELVE BYTES", false)] {
        let stage = Stage::new();
        let offer = stage.announce(wish(b"twelve bytes")).await;
        stage.send(&offer, b"other bytes!").await;
        let faults = &stage.files.controls.faults;
        let rule = faults.add(Rule::hold(When::Before).service(Service::S3).operation("CopyObject").times(1));
        let meanwhile = async {
            assert!(faults.until_held(rule, 1).await);
            stage.send(&offer, replacement).await;
            faults.release(rule);
        };
        let (completed, ()) = futures::join!(stage.complete(id(&offer)), meanwhile);
        if ready {
            assert_eq!(completed.unwrap().status, UploadStatus::Ready);
            assert_eq!(stage.files.keys().await, [offer.upload.final_key()]);
        } else {
            let rejection = completed.unwrap_err();
            assert!(matches!(rejection, UploadError::Rejected(Rejection::WrongChecksum)), "{rejection}");
            assert_eq!(stage.files.keys().await, [""; 0]);
        }
    }
}

/// A completion that has found no final object, and looks for the incoming one only after
/// `meanwhile`.
async fn complete_around<T>(
    stage: &Stage,
    offer: &Offer,
    meanwhile: impl Future<Output = T>,
) -> (Result<Upload, UploadError>, T) {
    let faults = &stage.files.controls.faults;
    let hold = |when, key: String| {
        let object = format!("{BUCKET}/{key}");
        faults.add(Rule::hold(when).operation("HeadObject").resource(object).times(1))
    };
    let found_nothing = hold(When::After, offer.upload.final_key());
    let about_to_look = hold(When::Before, offer.upload.incoming_key());
    let meanwhile = async {
        assert!(faults.until_held(found_nothing, 1).await && faults.until_held(about_to_look, 1).await);
        let outcome = meanwhile.await;
        faults.release(found_nothing);
        faults.release(about_to_look);
        outcome
    };
    futures::join!(stage.complete(id(offer)), meanwhile)
}

#[tokio::test]
async fn what_others_have_taken_away_is_not_told_as_never_sent() {
    let stage = Stage::new();
    let offer = stage.announce(wish(b"twelve bytes")).await;
    stage.send(&offer, b"twelve bytes").await;
    let (completed, rival) = Box::pin(complete_around(&stage, &offer, stage.complete(id(&offer)))).await;
    assert_eq!(completed.unwrap(), rival.unwrap());
    assert_eq!(stage.files.keys().await, [offer.upload.final_key()]);

    let offer = stage.announce(wish(b"twelve bytes")).await;
    stage.send(&offer, b"other bytes!").await;
    let (completed, rival) = Box::pin(complete_around(&stage, &offer, stage.complete(id(&offer)))).await;
    for rejection in [completed.unwrap_err(), rival.unwrap_err()] {
        assert!(matches!(rejection, UploadError::Rejected(Rejection::WrongChecksum)), "{rejection}");
    }

    let offer = stage.announce(wish(b"twelve bytes")).await;
    stage.send(&offer, b"twelve bytes").await;
    let uploads = stage.uploads();
    let deletion = uploads.delete(&stage.owner, id(&offer), in_a_minute());
    let (completed, deleted) = complete_around(&stage, &offer, deletion).await;
    deleted.unwrap();
    let gone = completed.unwrap_err();
    assert!(matches!(gone, UploadError::NotFound(_)), "{gone}");
}

#[tokio::test]
async fn an_earlier_try_that_died_after_the_copy_is_taken_up_without_another_copy() {
    let stage = Stage::new();
    let offer = stage.announce(wish(b"twelve bytes")).await;
    stage.send(&offer, b"twelve bytes").await;
    let failing = Rule::fail(Failure::InternalServerError).service(Service::DynamoDb).operation("UpdateItem");
    // The first one counts the try.
    stage.store.embedded.faults().add(failing.skip(1).times(3));
    assert!(matches!(stage.complete(id(&offer)).await, Err(UploadError::Rows(_))));
    assert_eq!(stage.status(id(&offer)).await, UploadStatus::Pending);
    stage.files.controls.usage.record();
    assert_eq!(stage.complete(id(&offer)).await.unwrap().status, UploadStatus::Ready);
    let calls = stage.files.controls.usage.snapshot().log;
    assert!(calls.iter().all(|call| call.operation != "CopyObject"), "{calls:?}");
    assert_eq!(stage.files.keys().await, [offer.upload.final_key()]);
}

#[tokio::test]
async fn a_wrong_object_that_an_earlier_try_has_copied_is_not_what_is_read() {
    let stage = Stage::new();
    let offer = stage.announce(wish(b"twelve bytes")).await;
    stage.send(&offer, b"other bytes!").await;
    let failing = Rule::fail(Failure::InternalServerError).service(Service::DynamoDb).operation("UpdateItem");
    // The first one counts the try.
    stage.store.embedded.faults().add(failing.skip(1).times(3));
    assert!(matches!(stage.complete(id(&offer)).await, Err(UploadError::Rows(_))));
    assert!(stage.files.keys().await.contains(&offer.upload.final_key()), "it was copied");
    let refused = stage.complete(id(&offer)).await.unwrap_err();
    assert!(matches!(refused, UploadError::Rejected(Rejection::WrongChecksum)), "{refused}");
    assert_eq!(stage.files.keys().await, [""; 0]);
}

#[tokio::test]
async fn what_one_upload_can_ask_of_s3_is_bounded() {
    let stage = Stage::new();
    let offer = stage.announce(wish(b"twelve bytes")).await;
    let calls = async || {
        let calls = stage.files.controls.usage.snapshot().log.len();
        stage.files.controls.usage.record();
        calls
    };
    calls().await;
    for _ in 0..MAX_TRIES {
        assert!(matches!(stage.complete(id(&offer)).await, Err(UploadError::Incomplete)));
    }
    assert_eq!(calls().await as u64, 2 * MAX_TRIES);
    // It comes too late.
    stage.send(&offer, b"twelve bytes").await;
    calls().await;
    for expected in [2, 0, 0] {
        let refused = stage.complete(id(&offer)).await.unwrap_err();
        assert!(matches!(refused, UploadError::Rejected(Rejection::TooManyTries)), "{refused}");
        assert_eq!(calls().await, expected, "what was sent is deleted, once");
    }
    assert_eq!(stage.files.keys().await, [""; 0]);
}

#[tokio::test]
async fn an_upload_that_was_refused_is_not_looked_at_again() {
    let stage = Stage::new();
    let offer = stage.announce(wish(b"twelve bytes")).await;
    stage.send(&offer, b"other bytes!").await;
    stage.complete(id(&offer)).await.unwrap_err();
    stage.send(&offer, b"other bytes!").await;
    stage.files.controls.usage.record();
    for _ in 0..3 {
        let refused = stage.complete(id(&offer)).await.unwrap_err();
        assert!(matches!(refused, UploadError::Rejected(Rejection::WrongChecksum)), "{refused}");
    }
    assert_eq!(stage.files.controls.usage.snapshot().log.len(), 0);
}

#[tokio::test]
async fn nothing_is_told_ready_while_s3_fails_and_everything_is_after_it() {
    let stage = Stage::new();
    let offer = stage.announce(wish(b"twelve bytes")).await;
    stage.send(&offer, b"twelve bytes").await;
    for operation in ["HeadObject", "CopyObject"] {
        let slow = Rule::fail(Failure::ThrottlingException).service(Service::S3).operation(operation);
        let rule = stage.files.controls.faults.add(slow);
        let failed = stage.complete(id(&offer)).await.unwrap_err();
        assert!(matches!(failed, UploadError::Files(_)), "{operation}: {failed}");
        assert_eq!(stage.status(id(&offer)).await, UploadStatus::Pending);
        stage.files.controls.faults.remove(rule);
    }
    // What only tidies up may fail.
    let stuck = Rule::fail(Failure::ThrottlingException).service(Service::S3).operation("DeleteObject");
    stage.files.controls.faults.add(stuck);
    assert_eq!(stage.complete(id(&offer)).await.unwrap().status, UploadStatus::Ready);
    assert_eq!(stage.files.keys().await.len(), 2, "the lifecycle removes what came in");
}

#[tokio::test]
async fn an_upload_in_parts_is_ended_when_it_cannot_be_recorded() {
    let stage = Stage::new();
    let large = || {
        let mut wish = wish(b"");
        wish.size_bytes = 20 * 1024 * 1024;
        wish
    };
    let failing = Rule::fail(Failure::InternalServerError).service(Service::DynamoDb);
    let rule = stage.store.embedded.faults().add(failing);
    let failed = stage
        .uploads()
        .create(&stage.owner, large(), UsageByRegion::default(), in_a_minute())
        .await
        .unwrap_err();
    assert!(matches!(failed, UploadError::Rows(_)), "{failed}");
    let open = async || {
        let listing = stage.files.client().list_multipart_uploads().bucket(BUCKET).send().await;
        listing.unwrap().uploads().len()
    };
    assert_eq!(open().await, 0);
    stage.store.embedded.faults().remove(rule);
    let offer = stage.announce(large()).await;
    let Method::Parts { links, .. } = &offer.method else { panic!("it comes in parts") };
    let cut: Vec<_> = links.iter().map(|(number, size, _)| (*number, *size)).collect();
    assert_eq!(cut, [(1, 8_388_608), (2, 8_388_608), (3, 4_194_304)]);
    assert_eq!(open().await, 1);
}

#[tokio::test]
async fn a_refusal_without_a_body_is_no_outage() {
    use aws_sdk_s3::config::Credentials;
    use sojourn::core::problem::{Problem, ProblemType};
    use sojourn::files::links::FileError;

    let stage = Stage::new();
    let offer = stage.announce(wish(b"twelve bytes")).await;
    let stranger = Credentials::new("AKIASTRANGER", "secret", None, None, "test");
    let refused = stage.uploads_with(&stage.files.sdk_with(stranger), sojourn::core::clock::system());
    let refused =
        refused.complete(&stage.owner, id(&offer), &CompletionRequest::default(), in_a_minute()).await;
    let refused = refused.unwrap_err();
    let UploadError::Files(FileError::Store { operation: "HeadObject", code, .. }) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(code.as_deref(), Some("403"));
    assert_eq!(Problem::from(refused).kind, ProblemType::Internal);
}

#[tokio::test]
async fn what_fails_of_a_removal_keeps_nothing_else_from_it() {
    let stage = Stage::new();
    let mut large = wish(b"");
    large.size_bytes = 20 * 1024 * 1024;
    for failing in ["AbortMultipartUpload", "DeleteObject"] {
        let offer = stage.announce(large.clone()).await;
        stage.send(&offer, b"twelve bytes").await;
        let rule = Rule::fail(Failure::InternalServerError).operation(failing);
        let rule = stage.files.controls.faults.add(rule);
        stage.uploads().delete(&stage.owner, id(&offer), in_a_minute()).await.unwrap();
        stage.files.controls.faults.remove(rule);
        let listing = stage.files.client().list_multipart_uploads().bucket(BUCKET).send().await;
        let left = (listing.unwrap().uploads().len(), stage.files.keys().await.len());
        assert_eq!(left, if failing == "DeleteObject" { (1, 1) } else { (1, 0) }, "{failing}");
    }
}
