//! What was not announced is not taken: other bytes, other sizes, too much.

use serde_json::{Value, json};
use sojourn_tests::{Answer, Customer, File, Options, TestRegion};

use crate::at_once;

const MIB: usize = 1024 * 1024;

async fn status_of(region: &TestRegion, who: &Customer, id: &str) -> Value {
    region.call_as(who, "GET", &format!("/uploads/{id}")).send().await.expect(200).body
}

/// An upload that must be rejected is so for good, leaves no object, and gives its quota back when
/// it is deleted.
async fn assert_rejected(region: &TestRegion, who: &Customer, id: &str, body: &Value, reason: &str) {
    for _ in 0..2 {
        let refused = region.complete(who, id, body).await.expect_problem(422, "upload-mismatch");
        assert_eq!(refused.body["rejection"], reason);
    }
    let found = status_of(region, who, id).await;
    assert_eq!((&found["status"], &found["rejection"]), (&json!("REJECTED"), &json!(reason)));
    assert_eq!(found.get("downloadUrl"), None);
    assert_eq!(region.uploaded_objects().await, [""; 0], "what was sent is gone");
    region.call_as(who, "DELETE", &format!("/uploads/{id}")).send().await.expect(204);
    assert_ne!(region.quota_taken(who).await, (0, 0), "it counts until its links have ended");
    region.sweep_deleted_uploads(who).await;
    assert_eq!(region.quota_taken(who).await, (0, 0));
}

#[tokio::test]
async fn a_whole_file_that_is_truncated_or_tampered_with_is_refused_by_s3_itself() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::text("a.txt", "twelve bytes");
    let offer = region.announce(&ann, &file).await.expect(201);
    let id = offer.text_of("uploadId");
    for (bytes, status) in
        [(&b"twelve byte"[..], 403), (b"twelve bytes and more", 403), (b"twelve BYTES", 400), (b"", 403)]
    {
        assert_eq!(region.send_whole(&offer, bytes).await.status, status, "{bytes:?}");
    }
    let mut lie = offer.clone();
    let other = File::text("a.txt", "twelve BYTES");
    lie.body["headers"]["x-amz-checksum-sha256"] =
        region.announce(&ann, &other).await.body["headers"]["x-amz-checksum-sha256"].clone();
    assert_eq!(region.send_whole(&lie, &other.bytes).await.status, 403, "the checksum is signed");
    let mut html = offer.clone();
    html.body["headers"]["content-type"] = "text/html".into();
    assert_eq!(region.send_whole(&html, &file.bytes).await.status, 403, "the type is signed");

    region.complete(&ann, &id, &json!({})).await.expect_problem(409, "upload-incomplete");
    assert_eq!(region.uploaded_objects().await, [""; 0]);
    assert_eq!(region.send_whole(&offer, &file.bytes).await.status, 200);
    region.complete(&ann, &id, &json!({})).await.expect(200);
}

#[tokio::test]
async fn a_part_that_was_tampered_with_is_found_in_the_checksum_of_the_whole() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(16 * MIB + 1_000);
    let offer = region.announce(&ann, &file).await.expect(201);
    let id = offer.text_of("uploadId");
    let truncated = &file.part(&offer, 3)[1..];
    assert_eq!(region.send_part(&offer, 3, truncated).await.status, 403, "the length is signed");

    let mut tampered = file.clone();
    tampered.bytes[9 * MIB] ^= 1;
    let sent = region.send_parts(&offer, &tampered).await;
    assert_rejected(&region, &ann, &id, &sent, "WRONG_CHECKSUM").await;
    assert_eq!(region.open_multipart_uploads().await, 0);
}

#[tokio::test]
async fn an_object_of_another_size_is_rejected_before_it_is_copied() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::text("a.txt", "twelve bytes");
    let id = region.announce(&ann, &file).await.text_of("uploadId");
    // No client could do this: its link signs the length.
    let key = format!("incoming/{}/{}/file", ann.user_id, id.trim_start_matches("upl_"));
    let put = region.s3().put_object().bucket(region.bucket().await).key(key);
    put.body(b"other".to_vec().into()).send().await.unwrap();
    region.record().await;
    assert_rejected(&region, &ann, &id, &json!({}), "WRONG_SIZE").await;
    assert!(!region.usage().await.to_string().contains("CopyObject"));
}

#[tokio::test]
async fn a_list_of_parts_that_does_not_fit_is_refused_and_the_right_one_is_taken() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(17 * MIB);
    let offer = region.announce(&ann, &file).await.expect(201);
    let id = offer.text_of("uploadId");
    assert_eq!(offer.body["parts"].as_array().unwrap().len(), 3);
    let complete = async |body: &Value| region.complete(&ann, &id, body).await;
    let unfit = |answer: Answer| {
        assert_eq!(answer.expect_problem(422, "upload-mismatch").body.get("rejection"), None);
    };

    let tag = json!("\"0123456789abcdef0123456789abcdef\"");
    let list = |numbers: &[i32]| -> Value {
        let part = |number: &i32| json!({"partNumber": number, "etag": tag});
        json!({"parts": numbers.iter().map(part).collect::<Vec<_>>()})
    };
    for numbers in [&[][..], &[1], &[1, 2], &[1, 2, 2], &[2, 1, 3], &[1, 2, 3, 4], &[0, 1, 2]] {
        unfit(complete(&list(numbers)).await);
    }
    unfit(complete(&list(&[1, 2, 3])).await);
    let mut right = region.send_parts(&offer, &file).await;
    let mut wrong = right.clone();
    wrong["parts"][1]["etag"] = tag.clone();
    unfit(complete(&wrong).await);
    // A part that was sent again has another tag; the last one counts.
    let mut other = file.clone();
    other.bytes[0] ^= 1;
    let again = region.send_part(&offer, 1, other.part(&offer, 1)).await;
    assert_ne!(json!(again.etag), right["parts"][0]["etag"]);
    unfit(complete(&right).await);
    assert_eq!(region.send_part(&offer, 1, file.part(&offer, 1)).await.status, 200);
    // With the quotes of the header, as so far, or without.
    for part in right["parts"].as_array_mut().unwrap() {
        part["etag"] = part["etag"].as_str().unwrap().trim_matches('"').into();
    }
    let ready = complete(&right).await.expect(200);
    assert_eq!(region.download(&ready.body).await.bytes().await.unwrap(), file.bytes);

    let whole = File::text("a.txt", "twelve bytes");
    let offer = region.announce(&ann, &whole).await.expect(201);
    unfit(region.complete(&ann, &offer.text_of("uploadId"), &list(&[1])).await);
}

#[tokio::test]
async fn what_is_no_announcement_is_refused_and_takes_nothing() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let right = File::text("a.txt", "twelve bytes").announcement();
    let with = |member: &str, value: Value| {
        let mut body = right.clone();
        body[member] = value;
        region.call_as(&ann, "POST", "/uploads").json(&body).send()
    };
    for (member, value) in [
        ("sizeBytes", json!(-1)),
        ("sizeBytes", json!(1.5)),
        ("sizeBytes", json!("12")),
        ("sha256", json!("g".repeat(64))),
        ("sha256", json!("a".repeat(63))),
        ("key", json!("uploads/x")),
        ("fileName", json!(null)),
    ] {
        with(member, value).await.expect_problem(400, "invalid-request");
    }
    for (member, value) in [
        ("sizeBytes", json!(0)),
        ("sizeBytes", json!(100 * MIB + 1)),
        ("contentType", json!("text/html")),
        ("contentType", json!("text/plain; charset=utf-8")),
        ("contentType", json!("text")),
    ] {
        with(member, value).await.expect_problem(422, "unprocessable");
    }
    assert_eq!(region.quota_taken(&ann).await, (0, 0));
    assert_eq!(region.open_multipart_uploads().await, 0);
    with("sizeBytes", json!(100 * MIB)).await.expect(201);
}

#[tokio::test]
async fn announcements_at_once_never_exceed_the_quota() {
    let arguments = ["--parameter", "UploadQuotaMegabytes=1", "--parameter", "UploadMaxMegabytes=1"];
    let arguments = arguments.map(str::to_owned).to_vec();
    let region = TestRegion::start_with(Options { arguments, ..Options::default() }).await;
    let ann = region.customer().await;
    let file = File::of_size(300 * 1024);
    let answers = at_once(10, || region.announce(&ann, &file)).await;
    let taken: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(taken.len(), 3, "three of 300 KiB fit into a MiB");
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        let refused = refused.clone().expect_problem(409, "upload-quota-exceeded");
        assert_eq!(refused.body["quotaBytes"], 1_048_576);
        assert!(refused.body["usedBytes"].as_u64().unwrap() > 1_048_576 - 300 * 1024, "{}", refused.text);
    }
    assert_eq!(region.quota_taken(&ann).await, (3 * 300 * 1024, 3));

    // To the last byte, and not one more.
    region.announce(&ann, &File::of_size(124 * 1024 + 1)).await.expect_problem(409, "upload-quota-exceeded");
    region.announce(&ann, &File::of_size(124 * 1024)).await.expect(201);
    region.announce(&ann, &File::of_size(1)).await.expect_problem(409, "upload-quota-exceeded");
    region.announce(&ann, &File::of_size(6 * MIB)).await.expect_problem(422, "unprocessable");
    assert_eq!(region.open_multipart_uploads().await, 0);

    // What is deleted gives room when its links have ended; somebody else has room of their own.
    let path = format!("/uploads/{}", taken[0].text_of("uploadId"));
    region.call_as(&ann, "DELETE", &path).send().await.expect(204);
    let link = region.send_whole(taken[0], &file.bytes).await;
    assert_eq!(link.status, 200, "what the link stores is counted: {}", link.text);
    region.announce(&ann, &file).await.expect_problem(409, "upload-quota-exceeded");
    region.sweep_deleted_uploads(&ann).await;
    assert_eq!(region.uploaded_objects().await, [""; 0]);
    region.announce(&ann, &file).await.expect(201);
    let bob = region.customer().await;
    region.announce(&bob, &file).await.expect(201);
}

#[tokio::test]
async fn an_old_file_gives_room_as_soon_as_it_is_deleted() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let id = region.upload(&ann, &File::text("a.txt", "twelve bytes")).await.text_of("uploadId");
    region.old_upload(&ann, &id).await;
    region.call_as(&ann, "DELETE", &format!("/uploads/{id}")).send().await.expect(204);
    assert_eq!(region.quota_taken(&ann).await, (0, 0));
}

#[tokio::test]
async fn a_large_file_that_the_quota_refuses_leaves_no_upload_open() {
    let arguments = ["--parameter", "UploadQuotaMegabytes=10", "--parameter", "UploadMaxMegabytes=10"];
    let arguments = arguments.map(str::to_owned).to_vec();
    let region = TestRegion::start_with(Options { arguments, ..Options::default() }).await;
    let ann = region.customer().await;
    let file = File::of_size(6 * MIB);
    region.announce(&ann, &file).await.expect(201);
    region.announce(&ann, &file).await.expect_problem(409, "upload-quota-exceeded");
    assert_eq!(region.open_multipart_uploads().await, 1, "the one that was taken");
}
