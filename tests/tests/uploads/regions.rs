//! Uploads whose customer moves between regions.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sojourn::platform::tables;
use sojourn_tests::{Answer, Customer, File, TestRegion, TestRegions};

/// The page that samconfig.toml allows.
const SHOP: &str = "https://shop.example";
/// Longer than a test.
const NEVER: Duration = Duration::from_hours(1);
const MIB: usize = 1024 * 1024;
/// Names of Taiwan and Tokyo in AWS, and of their buckets on this machine.
const TAIWAN: &str = "ap-east-2";
const TAIWAN_BUCKET: &str = "sojourn-filesbucket-ap-east-2";
const TOKYO_BUCKET: &str = "sojourn-filesbucket-ap-northeast-1";

async fn three() -> TestRegions {
    TestRegions::start(&["taiwan", "tokyo", "singapore"]).await
}

/// How long replication takes from now on.
async fn lag(regions: &TestRegions, lag: Duration) {
    let lag_ms = lag.as_secs() * 1_000;
    let body = json!({"minMs": lag_ms, "maxMs": lag_ms});
    regions.control("POST", "/lag").json(&body).send().await.expect(204);
}

/// Waits until all rows and all files have arrived everywhere.
async fn settle(regions: &TestRegions) {
    regions.heal().await;
    while regions.overview().await["copies"] != 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn read(region: &TestRegion, who: &Customer, id: &str) -> Answer {
    region.call_as(who, "GET", &format!("/uploads/{id}")).send().await
}

async fn delete(region: &TestRegion, who: &Customer, id: &str) -> Answer {
    region.call_as(who, "DELETE", &format!("/uploads/{id}")).send().await
}

/// The upload's row as a region has it, whole.
async fn row(
    region: &TestRegion,
    who: &Customer,
    id: &str,
) -> std::collections::HashMap<String, AttributeValue> {
    let row = region.dynamodb().get_item().table_name(region.table(tables::UPLOADS.logical_id));
    let row = row.key("ownerId", AttributeValue::S(who.user_id.clone()));
    let row = row.key("uploadId", AttributeValue::S(id.to_owned())).consistent_read(true);
    row.send().await.unwrap().item.unwrap_or_default()
}

/// Asserts that the link leads to the bucket, and to the file.
async fn assert_link(region: &TestRegion, document: &Value, bucket: &str, file: &File) {
    let link = document["downloadUrl"].as_str().unwrap();
    assert!(link.contains(&format!("/{bucket}/")), "{link}");
    assert_eq!(region.download(document).await.bytes().await.unwrap(), file.bytes);
}

#[tokio::test]
async fn a_file_is_completed_read_and_deleted_in_other_regions_than_its_own() {
    let regions = three().await;
    let [taiwan, tokyo, singapore] = ["taiwan", "tokyo", "singapore"].map(|name| regions.region(name));
    let ann = taiwan.customer().await;
    let (small, large) = (File::text("a note.txt", "twelve bytes"), File::of_size(6 * MIB));
    let (note, journey) =
        (taiwan.announce(&ann, &small).await.expect(201), taiwan.announce(&ann, &large).await.expect(201));
    let never_sent = taiwan.announce(&ann, &large).await.expect(201).text_of("uploadId");
    assert_eq!(taiwan.send_whole(&note, &small.bytes).await.status, 200);
    let parts = taiwan.send_parts(&journey, &large).await;
    let (note, journey) = (note.text_of("uploadId"), journey.text_of("uploadId"));
    settle(&regions).await;
    lag(&regions, NEVER).await;

    // Taiwan's bucket is the only one that has them.
    for (region, id, parts, file) in [(singapore, &note, json!({}), &small), (tokyo, &journey, parts, &large)]
    {
        let ready = region.complete(&ann, id, &parts).await.expect(200);
        assert_eq!(ready.body["status"], "READY");
        assert_link(region, &ready.body, TAIWAN_BUCKET, file).await;
        assert!(region.uploaded_objects().await.is_empty(), "it was copied by a request");
    }
    assert_eq!(taiwan.quota_taken(&ann).await.1, 3);
    assert_eq!((tokyo.quota_taken(&ann).await, singapore.quota_taken(&ann).await), ((0, 0), (0, 0)));
    lag(&regions, Duration::ZERO).await;
    settle(&regions).await;
    let listed = tokyo.call_as(&ann, "GET", "/uploads").send().await.expect(200);
    let items = listed.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    for item in items.iter().filter(|item| item["status"] == "READY") {
        let file = if item["uploadId"] == note { &small } else { &large };
        assert_link(tokyo, item, TOKYO_BUCKET, file).await;
    }

    // The links of the first ended long ago: all of it goes at once.
    taiwan.old_upload(&ann, &note).await;
    settle(&regions).await;
    for (region, id) in [(tokyo, &note), (singapore, &journey), (tokyo, &never_sent)] {
        delete(region, &ann, id).await.expect(204);
    }
    assert_eq!(taiwan.open_multipart_uploads().await, 0);
    assert_eq!(taiwan.quota_taken(&ann).await.1, 2);
    settle(&regions).await;
    for (name, region) in regions.all() {
        assert!(region.uploaded_objects().await.is_empty(), "{name}");
        for id in [&note, &journey, &never_sent] {
            read(region, &ann, id).await.expect_problem(404, "not-found");
        }
    }
    // The home's clean-up does the rest, and the count is of nothing.
    taiwan.sweep_deleted_uploads(&ann).await;
    assert_eq!(taiwan.quota_taken(&ann).await, (0, 0));

    let access = tokyo.control("GET", "/access").send().await.expect(200);
    assert_eq!(access.body["denied"], json!([]));
    let of_taiwan = |grant: &&Value| {
        let resource = grant["resource"].as_str().unwrap();
        grant["function"] == "api-uploads" && (resource.contains(TAIWAN) || resource.contains(TAIWAN_BUCKET))
    };
    let unused: Vec<_> = access.body["unused"].as_array().unwrap().iter().filter(of_taiwan).collect();
    assert!(unused.is_empty(), "permissions that nothing uses: {unused:?}");
}

#[tokio::test]
async fn an_upload_whose_region_does_not_answer_is_503_and_unchanged() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let ann = taiwan.customer().await;
    let file = File::text("a note.txt", "twelve bytes");
    let old = taiwan.upload(&ann, &file).await.text_of("uploadId");
    let offer = taiwan.announce(&ann, &file).await.expect(201);
    let id = offer.text_of("uploadId");
    assert_eq!(taiwan.send_whole(&offer, &file.bytes).await.status, 200);
    settle(&regions).await;
    let before = row(taiwan, &ann, &id).await;

    regions.isolate("taiwan").await;
    let unavailable = |answer: Answer| {
        let answer = answer.expect_problem(503, "unavailable");
        assert!(answer.text_of("detail").contains(TAIWAN), "{}", answer.text);
        assert!(answer.header("retry-after").is_some());
    };
    unavailable(tokyo.complete(&ann, &id, &json!({})).await);
    unavailable(delete(tokyo, &ann, &id).await);
    unavailable(delete(tokyo, &ann, &old).await);
    assert_eq!((row(taiwan, &ann, &id).await, row(tokyo, &ann, &id).await), (before.clone(), before.clone()));
    regions.heal().await;
    assert_eq!((row(taiwan, &ann, &id).await, row(tokyo, &ann, &id).await), (before.clone(), before));
    regions.down("taiwan").await;
    unavailable(tokyo.complete(&ann, &id, &json!({})).await);
    unavailable(delete(tokyo, &ann, &id).await);
    // What is READY is read, completed again, and counted.
    let ready = tokyo.complete(&ann, &old, &json!({})).await.expect(200);
    assert_link(tokyo, &ready.body, TOKYO_BUCKET, &file).await;
    let listed = tokyo.call_as(&ann, "GET", "/uploads").send().await.expect(200);
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 2);
    tokyo.upload(&ann, &file).await;

    regions.up("taiwan").await;
    settle(&regions).await;
    assert_eq!(tokyo.complete(&ann, &id, &json!({})).await.expect(200).body["status"], "READY");
    assert_eq!((taiwan.quota_taken(&ann).await.1, tokyo.quota_taken(&ann).await.1), (2, 1));
}

#[tokio::test]
async fn a_link_to_another_region_is_not_answered_while_the_two_are_cut_off() {
    let regions = three().await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let ann = taiwan.customer().await;
    let file = File::text("a note.txt", "twelve bytes");
    let offer = taiwan.announce(&ann, &file).await.expect(201);
    assert_eq!(taiwan.send_whole(&offer, &file.bytes).await.status, 200);
    settle(&regions).await;
    lag(&regions, NEVER).await;
    let ready = tokyo.complete(&ann, &offer.text_of("uploadId"), &json!({})).await.expect(200);
    let link = ready.text_of("downloadUrl");
    assert!(link.contains(TAIWAN_BUCKET), "{link}");
    // A page gets the headers that its browser asks for from the bucket that answers.
    let get = || reqwest::Client::new().get(&link).header("origin", SHOP);
    let answer = get().send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], SHOP);
    assert_eq!(answer.status(), StatusCode::OK);

    let cut = json!({"between": ["taiwan", "tokyo"]});
    regions.control("POST", "/partition").json(&cut).send().await.expect(204);
    let lost = tokio::time::timeout(Duration::from_secs(1), get().send());
    assert!(lost.await.is_err(), "it was answered");
    lag(&regions, Duration::ZERO).await;
    regions.heal().await;
    assert_eq!(get().send().await.unwrap().bytes().await.unwrap(), file.bytes);
    // A signature for one bucket opens no other: the path is signed.
    let moved = link.replace(TAIWAN_BUCKET, TOKYO_BUCKET);
    assert_eq!(reqwest::get(&moved).await.unwrap().status(), StatusCode::FORBIDDEN);
}
