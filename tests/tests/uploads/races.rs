//! Completions and deletions at once, and answers that get lost.

use futures::future::join;
use serde_json::{Value, json};
use sojourn_tests::{Answer, Customer, File, TestRegion};

use crate::at_once;

/// Tries of the SDK before it gives up.
const SDK_ATTEMPTS: u64 = 3;

/// A file that was sent, and its upload.
async fn sent(region: &TestRegion, who: &Customer) -> (File, String) {
    let file = File::text("a.txt", "twelve bytes");
    let offer = region.announce(who, &file).await.expect(201);
    assert_eq!(region.send_whole(&offer, &file.bytes).await.status, 200);
    (file, offer.text_of("uploadId"))
}

async fn delete(region: &TestRegion, who: &Customer, id: &str) -> Answer {
    region.call_as(who, "DELETE", &format!("/uploads/{id}")).send().await
}

/// What an upload's answers have in common: all but the link.
fn told(answer: &Answer) -> Value {
    let mut body = answer.clone().expect(200).body;
    for member in ["downloadUrl", "downloadExpiresAt"] {
        body.as_object_mut().unwrap().remove(member).unwrap();
    }
    body
}

/// Nothing is left of a customer's uploads, when their links have ended.
async fn assert_nothing_left(region: &TestRegion, who: &Customer) {
    assert_eq!(region.uploaded_objects().await, [""; 0]);
    region.sweep_deleted_uploads(who).await;
    assert_eq!(region.quota_taken(who).await, (0, 0));
    let list = region.call_as(who, "GET", "/uploads").send().await.expect(200);
    assert_eq!(list.body["items"], json!([]));
}

#[tokio::test]
async fn completions_one_after_the_other_and_at_once_tell_the_same() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let (file, id) = sent(&region, &ann).await;
    let body = json!({});
    let answers = at_once(8, || region.complete(&ann, &id, &body)).await;
    let first = told(&answers[0]);
    assert_eq!(first["status"], "READY");
    for answer in &answers {
        assert_eq!(told(answer), first);
    }
    let again = region.complete(&ann, &id, &json!({})).await;
    assert_eq!(told(&again), first);
    assert_eq!(region.download(&again.body).await.bytes().await.unwrap(), file.bytes);
    assert_eq!(region.uploaded_objects().await.len(), 1);
    assert_eq!(region.quota_taken(&ann).await, (12, 1));
}

#[tokio::test]
async fn completions_at_once_of_a_file_in_parts_tell_the_same() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(9 * 1024 * 1024);
    let offer = region.announce(&ann, &file).await.expect(201);
    let id = offer.text_of("uploadId");
    let parts = region.send_parts(&offer, &file).await;
    let answers = at_once(6, || region.complete(&ann, &id, &parts)).await;
    let ready: Vec<_> = answers.iter().map(told).collect();
    assert!(ready.iter().all(|told| *told == ready[0]));
    let again = region.complete(&ann, &id, &parts).await.expect(200);
    assert_eq!(region.download(&again.body).await.bytes().await.unwrap(), file.bytes);
    assert_eq!(region.uploaded_objects().await.len(), 1);
}

#[tokio::test]
async fn an_answer_that_gets_lost_on_the_way_to_the_function_changes_nothing() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(6 * 1024 * 1024);
    for (service, operation) in [
        ("s3", "CompleteMultipartUpload"),
        ("s3", "HeadObject"),
        ("s3", "CopyObject"),
        ("dynamodb", "UpdateItem"),
        ("s3", "DeleteObject"),
    ] {
        // Once, which the SDK tries again; and as often as it tries, which the client does.
        for times in [1, SDK_ATTEMPTS] {
            let offer = region.announce(&ann, &file).await.expect(201);
            let id = offer.text_of("uploadId");
            let parts = region.send_parts(&offer, &file).await;
            region
                .fault(&json!({
                    "match": {"service": service, "operation": operation, "caller": "api-uploads"},
                    "times": times, "effect": {"kind": "commitThenReset"},
                }))
                .await;
            let first = region.complete(&ann, &id, &parts).await;
            assert!(matches!(first.status, 200 | 503), "{operation} {times}: {}", first.text);
            let ready = region.complete(&ann, &id, &parts).await.expect(200);
            assert_eq!(ready.body["status"], "READY", "{operation} {times}");
            assert_eq!(region.download(&ready.body).await.bytes().await.unwrap(), file.bytes);
            delete(&region, &ann, &id).await.expect(204);
        }
    }
    assert_nothing_left(&region, &ann).await;
}

#[tokio::test]
async fn a_file_that_is_deleted_while_it_is_completed_is_gone() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    for (service, operation, when) in [
        ("s3", "HeadObject", "before"),
        ("s3", "CopyObject", "before"),
        ("s3", "CopyObject", "after"),
        ("dynamodb", "UpdateItem", "before"),
    ] {
        let (_, id) = sent(&region, &ann).await;
        // The first update counts the try.
        let skip = u64::from(operation == "UpdateItem");
        let rule = region
            .fault(&json!({
                "match": {"service": service, "operation": operation, "caller": "api-uploads"},
                "skip": skip, "times": 1, "effect": {"kind": "hold", "when": when},
            }))
            .await;
        let body = json!({});
        let deletion = async {
            region.until_held(rule).await;
            let deleted = delete(&region, &ann, &id).await;
            region.lift(rule).await;
            deleted
        };
        let (completed, deleted) = join(region.complete(&ann, &id, &body), deletion).await;
        deleted.expect(204);
        assert_eq!(completed.status, 404, "{operation} {when}: {}", completed.text);
        completed.expect_problem(404, "not-found");
        delete(&region, &ann, &id).await.expect_problem(404, "not-found");
        assert_nothing_left(&region, &ann).await;
    }
}

#[tokio::test]
async fn deletions_and_completions_in_any_order_leave_nothing() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    for _ in 0..12 {
        let (_, id) = sent(&region, &ann).await;
        let body = json!({});
        let (completed, deleted) = join(region.complete(&ann, &id, &body), delete(&region, &ann, &id)).await;
        deleted.expect(204);
        assert!(matches!(completed.status, 200 | 404), "{}", completed.text);
        assert_nothing_left(&region, &ann).await;
    }
}

#[tokio::test]
async fn of_deletions_at_once_one_happens() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let kept = region.upload(&ann, &File::text("kept.txt", "kept")).await;
    let id = region.upload(&ann, &File::text("a.txt", "twelve bytes")).await.text_of("uploadId");
    let answers = at_once(6, || delete(&region, &ann, &id)).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 404, 404, 404, 404, 404]);
    region.sweep_deleted_uploads(&ann).await;
    assert_eq!(region.quota_taken(&ann).await, (4, 1), "given back once");
    assert_eq!(region.download(&kept.body).await.bytes().await.unwrap(), "kept");
    region.complete(&ann, &id, &json!({})).await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn a_deleted_file_cannot_be_downloaded_by_a_link_of_before() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let ready = region.upload(&ann, &File::text("a.txt", "twelve bytes")).await;
    assert_eq!(region.download(&ready.body).await.status(), 200);
    delete(&region, &ann, &ready.text_of("uploadId")).await.expect(204);
    assert_eq!(region.download(&ready.body).await.status(), 404);
}

#[tokio::test]
async fn an_unfinished_upload_in_parts_is_ended_when_it_is_deleted() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(9 * 1024 * 1024);
    let offer = region.announce(&ann, &file).await.expect(201);
    assert_eq!(region.send_part(&offer, 1, file.part(&offer, 1)).await.status, 200);
    assert_eq!(region.open_multipart_uploads().await, 1);
    delete(&region, &ann, &offer.text_of("uploadId")).await.expect(204);
    assert_eq!(region.open_multipart_uploads().await, 0);
    assert_eq!(
        region.send_part(&offer, 2, file.part(&offer, 2)).await.status,
        404,
        "there is nothing to add to"
    );
    assert_nothing_left(&region, &ann).await;
}
