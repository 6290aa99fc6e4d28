//! Scheduled jobs: once a slot, whatever is delivered.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use sojourn_tests::{Answer, File, TestRegion, fresh_key};

/// The slot of the daily report that covers today.
fn tomorrow_at_two() -> (String, String) {
    let now = SystemClock.now();
    let tomorrow = now.checked_add(Duration::from_hours(24)).unwrap();
    (rfc3339(now)[..10].to_owned(), format!("{}T02:00:00Z", &rfc3339(tomorrow)[..10]))
}

/// Of several deliveries of one slot, one runs. The others find it done, or held: then they fail,
/// so that whoever delivers tries again.
#[track_caller]
fn assert_one_ran(deliveries: &[Answer]) {
    assert!(deliveries.iter().any(|answer| answer.status == 200), "{deliveries:?}");
    let in_order = |answer: &Answer| answer.status == 200 || answer.text.contains("slot-held");
    assert!(deliveries.iter().all(in_order), "{deliveries:?}");
}

async fn report(region: &TestRegion, date: &str) -> Value {
    let bucket = region.s3().list_buckets().send().await.unwrap().buckets()[0].name().unwrap().to_owned();
    let key = format!("reports/{date}/daily.json");
    let object = region.s3().get_object().bucket(bucket).key(key).send().await.unwrap();
    serde_json::from_slice(&object.body.collect().await.unwrap().into_bytes()).unwrap()
}

#[tokio::test]
async fn the_daily_report_counts_a_day_and_runs_once_however_often_it_is_delivered() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 50).await;
    region.stock(&operator, "chair", 50).await;
    let customer = region.customer().await;
    for quantity in [1, 2, 3] {
        let placed = region.order(&customer, &fresh_key(), &[("lamp", quantity)]).await.expect(201);
        region.pay(&customer, &fresh_key(), &placed.text_of("orderId"), "tok_ok").await.expect(201);
    }
    region.order(&customer, &fresh_key(), &[("chair", 1)]).await.expect(201);

    let (today, slot) = tomorrow_at_two();
    let deliveries: Vec<Answer> =
        stream::iter(0..5).map(|_| region.fire("daily-report", &slot)).buffer_unordered(5).collect().await;
    assert_one_ran(&deliveries);

    let written = report(&region, &today).await;
    assert_eq!(written["date"], today.as_str(), "{written}");
    assert_eq!(
        written["orders"],
        json!({"total": 4, "byStatus": {"PAID": 3, "PENDING_PAYMENT": 1}}),
        "{written}"
    );
    assert_eq!(written["revenue"][0]["currency"], "TWD", "{written}");
    assert_eq!(written["revenue"][0]["amount"], 6 * 12_900, "{written}");
    assert_eq!(written["topProducts"][0]["productId"], "lamp", "{written}");

    // A delivery after the fact finds the slot done and changes nothing.
    region.order(&customer, &fresh_key(), &[("chair", 1)]).await.expect(201);
    region.fire("daily-report", &slot).await.expect(200);
    assert_eq!(report(&region, &today).await, written);
    let lock = region.dynamodb().scan().table_name("LocksTable").send().await.unwrap();
    assert_eq!(lock.count, 1);
    assert!(lock.items()[0].contains_key("completedAt"));
}

#[tokio::test]
async fn order_cleanup_cancels_what_is_stale_and_gives_the_stock_back_once() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 30).await;
    let customer = region.customer().await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(region.order(&customer, &fresh_key(), &[("lamp", 2)]).await.expect(201).text_of("orderId"));
    }
    // The first eight are two days old, one of them with a charge whose answer was lost.
    let unknown = region.pay(&customer, &fresh_key(), &ids[0], "tok_timeout_after_charge").await;
    unknown.expect_problem(503, "payment-outcome-unknown");
    for id in &ids[..8] {
        region.age_order(id, 48).await;
    }
    assert_eq!(region.available("lamp").await, 10);

    // Two slots at once, each delivered three times.
    let now = SystemClock.now();
    let slots = [now, now.checked_sub(Duration::from_hours(1)).unwrap()].map(rfc3339);
    let runs: Vec<(usize, Answer)> = stream::iter(0..6)
        .map(|n| {
            let delivery = region.fire("order-cleanup", &slots[n % 2]);
            async move { (n % 2, delivery.await) }
        })
        .buffer_unordered(6)
        .collect()
        .await;
    for slot in 0..2 {
        let of_slot = runs.iter().filter(|(n, _)| *n == slot).map(|(_, answer)| answer.clone());
        assert_one_ran(&of_slot.collect::<Vec<_>>());
    }

    let mut statuses = Vec::new();
    for id in &ids {
        let order = region.call_as(&customer, "GET", &format!("/orders/{id}")).send().await.expect(200);
        statuses.push(order.text_of("status"));
    }
    assert_eq!(statuses[0], "PAID", "what was charged is paid, not cancelled");
    assert!(statuses[1..8].iter().all(|status| status == "CANCELLED"), "{statuses:?}");
    assert!(statuses[8..].iter().all(|status| status == "PENDING_PAYMENT"), "{statuses:?}");
    assert_eq!(region.available("lamp").await, 10 + 7 * 2);
}

const MIB: usize = 1024 * 1024;

/// As time passes until the lease of a holder that has died runs out.
async fn lease_runs_out(region: &TestRegion, lock: &str) {
    let update = region.dynamodb().update_item().table_name("LocksTable");
    let update = update.key("lockName", AttributeValue::S(lock.to_owned()));
    let update = update.update_expression("SET leaseUntilMs = :past");
    let update = update.condition_expression("attribute_exists(leaseUntilMs)");
    update.expression_attribute_values(":past", AttributeValue::N("0".to_owned())).send().await.unwrap();
}

#[tokio::test]
async fn upload_cleanup_ends_what_nobody_finished_although_it_is_delivered_twice_and_killed() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let note = File::text("note.txt", "twelve bytes");
    let ready = region.upload(&ann, &note).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let offer = region.announce(&ann, &note).await.expect(201);
        assert_eq!(region.send_whole(&offer, &note.bytes).await.status, 200);
        ids.push(offer.text_of("uploadId"));
    }
    let large = File::of_size(9 * MIB);
    let offer = region.announce(&ann, &large).await.expect(201);
    assert_eq!(region.send_part(&offer, 1, large.part(&offer, 1)).await.status, 200);
    ids.push(offer.text_of("uploadId"));
    assert_eq!(region.quota_taken(&ann).await, (5 * 12 + 9 * MIB as u64, 6));
    for id in &ids {
        region.overdue_upload(&ann, id).await;
    }

    // The process dies when it has ended one of them, and nobody hears of the second.
    let now = rfc3339(SystemClock.now());
    let rule = region
        .fault(&json!({
            "match": {"operation": "TransactWriteItems", "caller": "job-upload-cleanup"},
            "skip": 1, "times": 1, "effect": {"kind": "hold", "when": "after"},
        }))
        .await;
    let killing = async {
        region.until_held(rule).await;
        let killed = region.kill("job-upload-cleanup").await;
        region.lift(rule).await;
        killed
    };
    let (died, killed) = futures::join!(region.fire("upload-cleanup", &now), killing);
    assert_eq!((died.status == 200, killed), (false, 1), "{}", died.text);
    let list = region.call_as(&ann, "GET", "/uploads").send().await.expect(200);
    let files = list.body["items"].as_array().unwrap().len();
    assert!((2..6).contains(&files), "{files} files: not in the middle");

    // The same slot again, twice at once.
    lease_runs_out(&region, &format!("upload-cleanup#{}Z", &now[..19])).await;
    let deliveries: Vec<Answer> =
        stream::iter(0..2).map(|_| region.fire("upload-cleanup", &now)).buffer_unordered(2).collect().await;
    assert_one_ran(&deliveries);
    assert_eq!(region.quota_taken(&ann).await.1, 6, "completions may still be running");
    for id in &ids {
        let path = format!("/uploads/{id}");
        region.call_as(&ann, "GET", &path).send().await.expect(404);
        region.overdue_upload(&ann, id).await;
    }

    // Two hours later their rows go as well, with their share of the quota and whatever the dead
    // process left.
    let later = SystemClock.now().checked_add(Duration::from_secs(1)).unwrap();
    region.fire("upload-cleanup", &rfc3339(later)).await.expect(200);
    let rows = region.dynamodb().scan().table_name("UploadsTable").send().await.unwrap();
    assert_eq!(rows.count, 2, "the one that is READY, and the usage");
    assert_eq!(region.uploaded_objects().await.len(), 1);
    assert_eq!(region.open_multipart_uploads().await, 0);
    let found = region.call_as(&ann, "GET", &format!("/uploads/{}", ready.text_of("uploadId")));
    let found = found.send().await.expect(200);
    assert_eq!(region.download(&found.body).await.bytes().await.unwrap(), note.bytes);
    assert_eq!(region.quota_taken(&ann).await, (12, 1));
}

#[tokio::test]
async fn a_job_that_always_crashes_leaves_its_record_in_the_dead_letter_queue() {
    const DEAD_LETTERS: &str = "ScheduleDeadLetterQueue";
    let region = TestRegion::start().await;
    let locks = json!({
        "match": {"service": "dynamodb", "operation": "UpdateItem", "caller": "job-order-cleanup"},
        "times": 1, "effect": {"kind": "hold", "when": "before"},
    });
    let slot = json!({"scheduledTime": "2026-11-20T10:00:00Z", "attempt": "1"});
    let mut rule = region.fault(&locks).await;
    let accepted =
        region.invoke_with(&[("x-amz-invocation-type", "Event")], "job-order-cleanup", &slot).await;
    let request_id = accepted.expect(202).header("x-amzn-requestid").unwrap().to_owned();
    for attempt in 1..=3 {
        region.until_held(rule).await;
        // The next attempt is to be held as well.
        let next = if attempt < 3 { Some(region.fault(&locks).await) } else { None };
        assert_eq!(region.kill("job-order-cleanup").await, 1, "attempt {attempt}");
        region.lift(rule).await;
        rule = next.unwrap_or(rule);
    }
    region.until_queued(DEAD_LETTERS, 1).await;
    let url = region.sqs().get_queue_url().queue_name(DEAD_LETTERS).send().await.unwrap().queue_url.unwrap();
    let received = region.sqs().receive_message().queue_url(url).send().await.unwrap();
    let record: Value = serde_json::from_str(received.messages()[0].body().unwrap()).unwrap();
    assert_eq!(record["requestPayload"], slot);
    assert_eq!(record["responsePayload"]["errorType"], "Runtime.ExitError");
    let context = &record["requestContext"];
    assert_eq!(context["requestId"], request_id.as_str());
    assert_eq!(
        (&context["condition"], &context["approximateInvokeCount"]),
        (&json!("RetriesExhausted"), &json!(3))
    );
}
