//! A hundred megabytes, sent by a program that knows nothing of us, while the functions are killed.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use sojourn_tests::{Customer, File, TestRegion};
use tokio::process::Command;

const MIB: usize = 1024 * 1024;
const FUNCTION: &str = "api-uploads";

/// Whether there is a `curl` to send with. If not, it is said what is not tested. Under `CI` that
/// is a failure, since nobody reads what a green run prints.
async fn has_curl() -> bool {
    let asked = Command::new("curl").arg("--version").stdout(Stdio::null()).status().await;
    let found = asked.is_ok_and(|status| status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "curl is not installed, and CI tests with it");
        #[expect(clippy::print_stderr, reason = "whoever reads the result should know")]
        {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            eprintln!("NOT TESTED with curl, which is not installed: {test}");
        }
    }
    found
}

/// `curl --upload-file`, as somebody would type it. Gives the entity tag of the answer.
async fn curl_part(url: &str, file: &Path) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--upload-file"])
        .arg(file)
        .args(["--output", "/dev/null", "--write-out", "%header{etag}", url])
        .output()
        .await
        .expect("curl starts");
    assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Kills the function's processes until so many were killed; there is always one after a request
/// was answered.
async fn kill(region: &TestRegion) -> u64 {
    region.kill(FUNCTION).await
}

/// Completes, with the function killed while a call of it is held. What the client gets is a 5xx.
async fn complete_and_kill(
    region: &TestRegion,
    who: &Customer,
    id: &str,
    parts: &Value,
    (service, operation, when): (&str, &str, &str),
) -> u64 {
    // The first update counts the try.
    let skip = u64::from(operation == "UpdateItem");
    let rule = region
        .fault(&json!({
            "match": {"service": service, "operation": operation, "caller": FUNCTION},
            "skip": skip, "times": 1, "effect": {"kind": "hold", "when": when},
        }))
        .await;
    let killing = async {
        region.until_held(rule).await;
        let killed = kill(region).await;
        region.lift(rule).await;
        killed
    };
    let (answer, killed) = futures::future::join(region.complete(who, id, parts), killing).await;
    assert!(answer.status >= 500, "{operation} {when}: {}", answer.text);
    killed
}

#[tokio::test]
async fn a_hundred_megabytes_arrive_whole_although_the_function_is_killed_again_and_again() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(100 * MIB);
    let with_curl = has_curl().await;
    let directory = tempfile::tempdir().unwrap();
    let mut kills = 0;

    let offer = region.announce(&ann, &file).await.expect(201);
    let id = offer.text_of("uploadId");
    kills += kill(&region).await;
    let count = offer.body["parts"].as_array().unwrap().len();
    assert_eq!(count, 13);
    let mut parts = Vec::new();
    for number in 1..=count {
        let etag = if with_curl {
            let path = directory.path().join(format!("part-{number}"));
            std::fs::write(&path, file.part(&offer, number)).unwrap();
            curl_part(offer.body["parts"][number - 1]["url"].as_str().unwrap(), &path).await
        } else {
            region.send_part(&offer, number, file.part(&offer, number)).await.etag.expect("a tag")
        };
        parts.push(json!({"partNumber": number, "etag": etag}));
        if number == 5 {
            // The function is asked in between, and killed once more.
            let early = json!({"parts": parts});
            region.complete(&ann, &id, &early).await.expect_problem(422, "upload-mismatch");
            kills += kill(&region).await;
        }
    }
    let parts = json!({"parts": parts});

    // What is held before its effect still takes it when it is let go, as a request does whose
    // sender has died.
    for call in [
        ("dynamodb", "BatchGetItem", "after"),
        ("s3", "CompleteMultipartUpload", "before"),
        ("s3", "CompleteMultipartUpload", "after"),
        ("s3", "HeadObject", "before"),
        ("s3", "HeadObject", "after"),
        ("s3", "CopyObject", "before"),
        ("s3", "CopyObject", "after"),
        ("dynamodb", "UpdateItem", "before"),
    ] {
        kills += complete_and_kill(&region, &ann, &id, &parts, call).await;
    }
    assert!(kills >= 10, "only {kills} processes were killed");

    let ready = region.complete(&ann, &id, &parts).await.expect(200);
    assert_eq!((&ready.body["status"], &ready.body["sizeBytes"]), (&json!("READY"), &json!(100 * MIB)));
    let download = region.download(&ready.body).await.bytes().await.unwrap();
    assert!(download == file.bytes, "the bytes are those that were sent");
    assert_eq!(region.quota_taken(&ann).await, (100 * MIB as u64, 1));
    region.call_as(&ann, "DELETE", &format!("/uploads/{id}")).send().await.expect(204);
    assert_eq!(region.uploaded_objects().await, [""; 0]);
    region.sweep_deleted_uploads(&ann).await;
    assert_eq!(region.quota_taken(&ann).await, (0, 0));
}

#[tokio::test]
async fn a_completion_killed_around_any_call_is_finished_by_the_next() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(6 * MIB);
    for (service, operation) in [
        ("s3", "CompleteMultipartUpload"),
        ("s3", "HeadObject"),
        ("s3", "CopyObject"),
        ("dynamodb", "UpdateItem"),
        ("s3", "DeleteObject"),
    ] {
        for when in ["before", "after"] {
            let offer = region.announce(&ann, &file).await.expect(201);
            let id = offer.text_of("uploadId");
            let parts = region.send_parts(&offer, &file).await;
            complete_and_kill(&region, &ann, &id, &parts, (service, operation, when)).await;
            let ready = region.complete(&ann, &id, &parts).await.expect(200);
            let download = region.download(&ready.body).await.bytes().await.unwrap();
            assert!(download == file.bytes, "{operation} {when}");
            region.call_as(&ann, "DELETE", &format!("/uploads/{id}")).send().await.expect(204);
            assert_eq!(region.uploaded_objects().await, [""; 0], "{operation} {when}");
        }
    }
    region.sweep_deleted_uploads(&ann).await;
    assert_eq!(region.quota_taken(&ann).await, (0, 0));
}

#[tokio::test]
async fn a_rejection_that_was_cut_off_is_the_same_when_it_is_asked_for_again() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(6 * MIB);
    let mut other = file.clone();
    other.bytes[0] ^= 1;
    for (service, operation, when) in [
        ("s3", "CopyObject", "after"),
        ("dynamodb", "UpdateItem", "before"),
        ("dynamodb", "UpdateItem", "after"),
        ("s3", "DeleteObject", "before"),
    ] {
        let offer = region.announce(&ann, &file).await.expect(201);
        let id = offer.text_of("uploadId");
        let parts = region.send_parts(&offer, &other).await;
        complete_and_kill(&region, &ann, &id, &parts, (service, operation, when)).await;
        let refused = region.complete(&ann, &id, &parts).await.expect_problem(422, "upload-mismatch");
        assert_eq!(refused.body["rejection"], "WRONG_CHECKSUM", "{operation} {when}");
        let path = format!("/uploads/{id}");
        let found = region.call_as(&ann, "GET", &path).send().await.expect(200);
        assert_eq!((&found.body["status"], found.body.get("downloadUrl")), (&json!("REJECTED"), None));
        region.call_as(&ann, "DELETE", &path).send().await.expect(204);
        assert_eq!(region.uploaded_objects().await, [""; 0], "{operation} {when}");
    }
}

#[tokio::test]
async fn curl_sends_a_small_file_with_the_headers_of_the_answer() {
    if !has_curl().await {
        return;
    }
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::text("a.txt", "twelve bytes");
    let offer = region.announce(&ann, &file).await.expect(201);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.txt");
    std::fs::write(&path, &file.bytes).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--upload-file"]).arg(&path);
    for (name, value) in offer.body["headers"].as_object().unwrap() {
        curl.args(["--header", &format!("{name}: {}", value.as_str().unwrap())]);
    }
    let sent = curl.arg(offer.text_of("url")).output().await.unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    region.complete(&ann, &offer.text_of("uploadId"), &json!({})).await.expect(200);
}

#[tokio::test]
async fn a_function_killed_around_the_transaction_of_an_announcement_loses_no_quota_for_good() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let file = File::of_size(6 * MIB);
    for when in ["before", "after"] {
        let rule = region
            .fault(&json!({
                "match": {"service": "dynamodb", "operation": "TransactWriteItems", "caller": FUNCTION},
                "times": 1, "effect": {"kind": "hold", "when": when},
            }))
            .await;
        let killing = async {
            region.until_held(rule).await;
            kill(&region).await;
            region.lift(rule).await;
        };
        let (answer, ()) = futures::future::join(region.announce(&ann, &file), killing).await;
        assert!(answer.status >= 500, "{when}: {}", answer.text);
        // Whatever was reserved is in the list, where it can be deleted, and in the index, where
        // the clean-up finds it.
        let list = region.call_as(&ann, "GET", "/uploads").send().await.expect(200);
        let items = list.body["items"].as_array().unwrap().clone();
        let taken = region.quota_taken(&ann).await;
        assert_eq!(taken.1, items.len() as u64, "{when}");
        for item in items {
            let path = format!("/uploads/{}", item["uploadId"].as_str().unwrap());
            region.call_as(&ann, "DELETE", &path).send().await.expect(204);
        }
        region.sweep_deleted_uploads(&ann).await;
        assert_eq!(region.quota_taken(&ann).await, (0, 0), "{when}");
    }
}
