//! Uploads: from the announcement to the download, with the bytes going past the API.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use serde_json::{Value, json};
use sojourn_tests::{File, TestRegion};

#[tokio::test]
async fn a_small_file_is_announced_sent_completed_and_downloaded() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::text("a note.txt", "twelve bytes");

    let offer = region.announce(&ann, &file).await.expect(201);
    let id = offer.text_of("uploadId");
    assert_eq!(offer.header("location"), Some(format!("/uploads/{id}").as_str()));
    assert_eq!((&offer.body["status"], &offer.body["method"]), (&json!("PENDING"), &json!("put")));
    region.complete(&ann, &id, &json!({})).await.expect_problem(409, "upload-incomplete");
    assert_eq!(region.send_whole(&offer, &file.bytes).await.status, 200);
    let ready = region.complete(&ann, &id, &json!({})).await.expect(200);
    assert_eq!(ready.body["status"], "READY");

    let found = region.call_as(&ann, "GET", &format!("/uploads/{id}")).send().await.expect(200);
    let download = region.download(&found.body).await;
    assert_eq!(
        download.headers()["content-disposition"],
        "attachment; filename=\"a note.txt\"; filename*=UTF-8''a%20note.txt"
    );
    assert_eq!(download.headers()["content-type"], "text/plain");
    assert_eq!(download.bytes().await.unwrap(), file.bytes);
    assert_eq!(found.body["sizeBytes"], 12);
    assert_eq!(found.body.get("s3UploadId"), None::<&Value>);
}

#[tokio::test]
async fn a_large_file_is_sent_in_parts() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(20 * 1024 * 1024 + 1);
    let offer = region.announce(&ann, &file).await.expect(201);
    assert_eq!(
        (&offer.body["method"], &offer.body["partSizeBytes"]),
        (&json!("multipart"), &json!(8_388_608))
    );
    let sent = region.send_parts(&offer, &file).await;
    let ready = region.complete(&ann, &offer.text_of("uploadId"), &sent).await.expect(200);
    assert_eq!(region.download(&ready.body).await.bytes().await.unwrap(), file.bytes);
    assert_eq!(region.uploaded_objects().await.len(), 1);
}
