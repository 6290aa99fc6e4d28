//! Exports, from the request to the file, whatever dies on the way.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn_tests::{Answer, Customer, TestRegion, TestRegions, fresh_key};

/// Receives that a message has before it is given up.
const RECEIVES: usize = 10;
/// Tries of the SDK before it gives up.
const SDK_ATTEMPTS: u64 = 3;

/// A customer with orders.
struct Buyer {
    customer: Customer,
    orders: BTreeSet<String>,
}

/// A region that sells lamps.
async fn shop() -> TestRegion {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 1_000).await;
    region
}

async fn buyer(region: &TestRegion, orders: usize) -> Buyer {
    let customer = region.customer().await;
    let mut placed = BTreeSet::new();
    for _ in 0..orders {
        let order = region.order(&customer, &fresh_key(), &[("lamp", 2)]).await.expect(201);
        placed.insert(order.text_of("orderId"));
    }
    Buyer { customer, orders: placed }
}

/// Follows the link of an export, and holds the file against the orders: each is in it once.
async fn assert_whole(region: &TestRegion, export: &Answer, buyer: &Buyer) {
    assert_eq!((&export.body["status"], &export.body["progress"]), (&json!("READY"), &json!(100)));
    assert_eq!(export.body["rows"], buyer.orders.len(), "{}", export.text);
    let file = region.follow(&export.text_of("downloadUrl")).send().await.expect(200);
    assert_eq!(export.body["sizeBytes"], file.text.len(), "{}", export.text);
    let mut lines = file.text.split_terminator("\r\n");
    assert_eq!(lines.next(), Some("orderId,createdAt,status,region,currency,total,units,lines"));
    let rows: Vec<&str> = lines.collect();
    let ids: BTreeSet<String> = rows.iter().map(|row| row.split(',').next().unwrap().to_owned()).collect();
    assert_eq!((ids, rows.len()), (buyer.orders.clone(), buyer.orders.len()), "{}", file.text);
}

/// The rows of all exports, without their parts and their customers' slots.
async fn export_rows(region: &TestRegion) -> Vec<HashMap<String, AttributeValue>> {
    let rows = region.dynamodb().scan().table_name("ExportsTable").send().await.unwrap().items.unwrap();
    rows.into_iter().filter(|row| row["item"] == AttributeValue::S("export".to_owned())).collect()
}

fn hold(service: &str, operation: &str, when: &str, more: &Value) -> Value {
    let mut rule = json!({
        "match": {"service": service, "operation": operation, "caller": "export-worker"},
        "times": 1, "effect": {"kind": "hold", "when": when},
    });
    for (name, value) in more.as_object().unwrap() {
        if name == "resource" { rule["match"][name] = value.clone() } else { rule[name] = value.clone() }
    }
    rule
}

#[tokio::test]
async fn an_export_is_made_told_of_and_downloaded_by_its_customer_alone() {
    let region = shop().await;
    let buyer = buyer(&region, 3).await;
    let paid = buyer.orders.first().unwrap();
    region.pay(&buyer.customer, &fresh_key(), paid, "tok_ok").await.expect(201);
    let mut socket = region.socket(&buyer.customer).await;

    let key = fresh_key();
    let asked = region.export(&buyer.customer, &key).await.expect(202);
    let id = asked.text_of("exportId");
    assert_eq!(asked.header("location"), Some(format!("/exports/{id}").as_str()));
    assert_eq!((&asked.body["status"], &asked.body["progress"]), (&json!("QUEUED"), &json!(0)));
    assert!(asked.text_of("to") <= asked.text_of("requestedAt"), "what has not been is cut off");

    let told = socket.told("export.ready").await;
    let ready = region.ended_export(&buyer.customer, &id).await;
    assert_eq!(told["sentAt"], ready.body["readyAt"]);
    let (body, size) = (&told["body"], &ready.body["sizeBytes"]);
    assert_eq!((&body["exportId"], &body["rows"], &body["sizeBytes"]), (&json!(id), &json!(3), size));

    assert_whole(&region, &ready, &buyer).await;
    let file = region.follow(&ready.text_of("downloadUrl")).send().await.expect(200);
    assert!(
        file.text.contains(&format!("{paid},")) && file.text.contains(",PAID,local,TWD,25800,2,lamp*2@12900")
    );
    let today = &asked.text_of("requestedAt")[..10];
    let name = format!("attachment; filename=\"orders-2020-01-01-{today}.csv\"");
    assert!(file.header("content-disposition").unwrap().starts_with(&name), "{:?}", file.headers);
    assert_eq!(file.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert!(ready.text_of("downloadExpiresAt") <= ready.text_of("expiresAt"));

    // The same request again is the same export. There is nothing left to be done, and nobody is
    // sent for.
    let broken = json!({
        "match": {"service": "sqs", "operation": "SendMessage", "caller": "api-exports"},
        "effect": {"kind": "error", "error": "InternalServerError"},
    });
    let broken = region.fault(&broken).await;
    let again = region.export(&buyer.customer, &key).await.expect(202);
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &asked.body));
    region.lift(broken).await;
    let ready_again = region.exported(&buyer.customer, &id).await;
    assert_eq!(ready_again.body["readyAt"], ready.body["readyAt"]);

    let stranger = region.customer().await;
    let path = format!("/exports/{id}");
    region.call_as(&stranger, "GET", &path).send().await.expect_problem(404, "not-found");
    region.call("GET", &path).send().await.expect_problem(401, "unauthenticated");
    socket.close().await;
}

#[tokio::test]
async fn what_is_no_export_is_refused() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let ask =
        |body: Value| region.call_as(&customer, "POST", "/exports").key(&fresh_key()).json(&body).send();
    let whole = json!({"kind": "orders", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"});
    for (member, value) in [("kind", "customers"), ("from", "yesterday"), ("to", "2026-13-01T00:00:00Z")] {
        let mut body = whole.clone();
        body[member] = value.into();
        ask(body).await.expect_problem(400, "invalid-request");
    }
    for member in ["kind", "from", "to"] {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(member);
        ask(body).await.expect_problem(400, "invalid-request");
    }
    let with = |member: &str, value: &str| {
        let mut body = whole.clone();
        body[member] = value.into();
        body
    };
    ask(with("more", "1")).await.expect_problem(400, "invalid-request");
    ask(with("to", "2026-01-01T00:00:00Z")).await.expect_problem(422, "unprocessable");
    let body = json!({"kind": "orders", "from": "2120-01-01T00:00:00Z", "to": "2121-01-01T00:00:00Z"});
    let key = fresh_key();
    for _ in 0..2 {
        let call = region.call_as(&customer, "POST", "/exports").key(&key).json(&body);
        call.send().await.expect_problem(422, "unprocessable");
    }
    let unkeyed = region.call_as(&customer, "POST", "/exports").json(&whole);
    unkeyed.send().await.expect_problem(400, "idempotency-key-missing");
    for id in ["exp_01JD0000000000000000000000", "exp_1", "ord_01JD0000000000000000000000"] {
        let get = region.call_as(&customer, "GET", &format!("/exports/{id}"));
        get.send().await.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn an_export_that_has_expired_is_gone() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let id = region.export(&customer, &fresh_key()).await.expect(202).text_of("exportId");
    region.ended_export(&customer, &id).await;
    let update = region.dynamodb().update_item().table_name("ExportsTable");
    let update = update.key("exportId", AttributeValue::S(id.clone()));
    let update = update.key("item", AttributeValue::S("export".to_owned()));
    let update = update.update_expression("SET expiresAt = :now");
    let now = AttributeValue::N(SystemClock.now().as_second().to_string());
    update.expression_attribute_values(":now", now).send().await.unwrap();
    let get = region.call_as(&customer, "GET", &format!("/exports/{id}"));
    get.send().await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn a_worker_killed_around_its_writes_to_s3_is_replaced_and_the_file_is_whole() {
    let region = shop().await;
    let points = [
        ("UploadPart", "before"),
        ("UploadPart", "after"),
        ("CompleteMultipartUpload", "before"),
        ("CompleteMultipartUpload", "after"),
    ];
    let mut stopped = Vec::new();
    for (operation, when) in points {
        let buyer = buyer(&region, 3).await;
        let resource = format!("filesbucket/exports/{}/*", buyer.customer.user_id);
        let rule = region.fault(&hold("s3", operation, when, &json!({"resource": resource}))).await;
        let id = region.export(&buyer.customer, &fresh_key()).await.expect(202).text_of("exportId");
        region.until_held(rule).await;
        stopped.push((buyer, id, rule));
    }
    assert_eq!(region.kill("export-worker").await, 4);
    for (_, _, rule) in &stopped {
        region.lift(*rule).await;
    }
    region.redeliver("ExportsQueue").await;
    for (buyer, id, _) in &stopped {
        let export = region.ended_export(&buyer.customer, id).await;
        assert_whole(&region, &export, buyer).await;
    }
}

#[tokio::test]
async fn a_killed_worker_is_replaced_within_a_minute_and_there_is_one_result() {
    let region = shop().await;
    let buyer = buyer(&region, 3).await;
    let rule = region.fault(&hold("s3", "UploadPart", "before", &json!({}))).await;
    let id = region.export(&buyer.customer, &fresh_key()).await.expect(202).text_of("exportId");
    region.until_held(rule).await;
    assert_eq!(region.kill("export-worker").await, 1);
    region.lift(rule).await;
    // Nobody delivers the message again but the queue, whose own visibility timeout is nine
    // minutes.
    let export = region.ended_export(&buyer.customer, &id).await;
    assert_whole(&region, &export, &buyer).await;
    let prefix = format!("exports/{}/", buyer.customer.user_id);
    let files = region.s3().list_objects_v2().bucket("filesbucket").prefix(prefix).send().await.unwrap();
    assert_eq!(files.key_count(), Some(1));
}

#[tokio::test]
async fn a_message_that_cannot_be_read_fails_alone() {
    let region = TestRegion::start().await;
    let record = |id: &str, sent: &str| {
        json!({
            "messageId": id, "receiptHandle": "none",
            "body": "{\"exportId\":\"exp_01JD0000000000000000000000\"}",
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": sent},
            "messageAttributes": {}, "eventSource": "aws:sqs", "awsRegion": "local",
            "eventSourceARN": "arn:aws:sqs:local:000000000000:ExportsQueue",
        })
    };
    let now = "1795167008412";
    let event = json!({"Records": [record("first", now), record("spoiled", "now"), record("last", now)]});
    let answer = region.invoke("export-worker", &event).await.expect(200);
    assert_eq!(answer.body, json!({"batchItemFailures": [{"itemIdentifier": "spoiled"}]}));
}

/// The third transaction of a small export: begun, stored, ready.
async fn kill_at_the_end(when: &str) {
    let region = shop().await;
    let buyer = buyer(&region, 3).await;
    let mut socket = region.socket(&buyer.customer).await;
    let rule = region.fault(&hold("dynamodb", "TransactWriteItems", when, &json!({"skip": 2}))).await;
    let id = region.export(&buyer.customer, &fresh_key()).await.expect(202).text_of("exportId");
    region.until_held(rule).await;
    let expected = if when == "before" { "RUNNING" } else { "READY" };
    assert_eq!(region.exported(&buyer.customer, &id).await.body["status"], expected);
    region.kill("export-worker").await;
    region.lift(rule).await;
    region.redeliver("ExportsQueue").await;
    // The event is part of the transaction: the customer is told, whether the worker lived to see
    // its answer or not.
    assert_eq!(socket.told("export.ready").await["body"]["exportId"], json!(id));
    let export = region.ended_export(&buyer.customer, &id).await;
    assert_whole(&region, &export, &buyer).await;
    socket.close().await;
}

#[tokio::test]
async fn a_worker_killed_before_it_says_that_the_export_is_ready_is_replaced() {
    kill_at_the_end("before").await;
}

#[tokio::test]
async fn a_worker_killed_when_it_has_said_that_the_export_is_ready_is_replaced() {
    kill_at_the_end("after").await;
}

/// One request makes the export and tells the queue. Killed between the two, it has not been
/// answered.
#[tokio::test]
async fn a_request_that_died_before_it_told_the_queue_is_made_good_by_its_repetition() {
    let region = shop().await;
    let buyer = buyer(&region, 2).await;
    let before_sending = json!({
        "match": {"service": "sqs", "operation": "SendMessage", "caller": "api-exports"},
        "times": 1, "effect": {"kind": "hold", "when": "before"},
    });
    let rule = region.fault(&before_sending).await;
    let key = fresh_key();
    let kill = async {
        region.until_held(rule).await;
        region.kill("api-exports").await;
        region.lift(rule).await;
    };
    let (died, ()) = tokio::join!(region.export(&buyer.customer, &key), kill);
    died.expect_crash();
    let exports = export_rows(&region).await;
    assert_eq!(exports[0]["status"], AttributeValue::S("QUEUED".to_owned()), "nobody was told");

    let again = region.export(&buyer.customer, &key).await.expect(202);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let export = region.ended_export(&buyer.customer, &again.text_of("exportId")).await;
    assert_whole(&region, &export, &buyer).await;
    assert_eq!(export_rows(&region).await.len(), 1);
}

#[tokio::test]
async fn a_queue_that_fails_is_a_503_and_the_same_key_succeeds() {
    let region = shop().await;
    let buyer = buyer(&region, 2).await;
    let broken = json!({
        "match": {"service": "sqs", "operation": "SendMessage", "caller": "api-exports"},
        "times": SDK_ATTEMPTS, "effect": {"kind": "error", "error": "InternalServerError"},
    });
    region.fault(&broken).await;
    let key = fresh_key();
    let refused = region.export(&buyer.customer, &key).await.expect_problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    let id = region.export(&buyer.customer, &key).await.expect(202).text_of("exportId");
    let export = region.ended_export(&buyer.customer, &id).await;
    assert_whole(&region, &export, &buyer).await;
}

#[tokio::test]
async fn a_message_that_names_no_export_is_logged_without_its_text_and_gone() {
    let region = TestRegion::start().await;
    let queue = region.sqs().get_queue_url().queue_name("ExportsQueue").send().await.unwrap();
    let sent =
        region.sqs().send_message().set_queue_url(queue.queue_url).message_body("a secret of somebody's");
    sent.send().await.unwrap();
    for receive in 1..=RECEIVES {
        region.log_with(&format!("\"receive_count\":{receive},\"error_type\":\"invalid-message\"")).await;
        region.redeliver("ExportsQueue").await;
    }
    let log = region.log_with("a message names no export").await;
    let line = log.lines().find(|line| line.contains("a message names no export")).unwrap();
    assert!(line.contains("\"bytes\":22"), "{line}");
    assert!(!log.contains("secret of somebody"));
}

#[tokio::test]
async fn an_export_that_fails_every_time_is_given_up_and_says_so() {
    let region = shop().await;
    let buyer = buyer(&region, 1).await;
    let broken = json!({
        "match": {"service": "s3", "operation": "CreateMultipartUpload", "caller": "export-worker"},
        "effect": {"kind": "error", "error": "InternalServerError"},
    });
    let rule = region.fault(&broken).await;
    let id = region.export(&buyer.customer, &fresh_key()).await.expect(202).text_of("exportId");
    for receive in 1..=RECEIVES {
        region.log_with(&format!("\"receive_count\":{receive},\"error_type\":\"files-failed\"")).await;
        let open = region.exported(&buyer.customer, &id).await;
        assert!(matches!(open.body["status"].as_str(), Some("QUEUED" | "RUNNING")), "{}", open.text);
        region.redeliver("ExportsQueue").await;
    }
    let failed = region.ended_export(&buyer.customer, &id).await;
    assert_eq!(failed.body["status"], "FAILED");
    assert_eq!(failed.text_of("failure"), "the export failed too often; request it again");
    assert!(failed.body.get("downloadUrl").is_none());
    // It can be asked for again.
    region.lift(rule).await;
    let id = region.export(&buyer.customer, &fresh_key()).await.expect(202).text_of("exportId");
    let export = region.ended_export(&buyer.customer, &id).await;
    assert_whole(&region, &export, &buyer).await;
}

/// No worker gets beyond its first call, so that exports stay open.
async fn hold_workers(region: &TestRegion) -> u64 {
    region
        .fault(&json!({"match": {"caller": "export-worker"}, "effect": {"kind": "hold", "when": "before"}}))
        .await
}

/// Workers work from now on: fresh ones, since those that were held may have given up.
async fn replace_workers(region: &TestRegion, held: u64) {
    region.kill("export-worker").await;
    region.lift(held).await;
    region.redeliver("ExportsQueue").await;
}

#[tokio::test]
async fn a_customer_with_too_many_open_exports_waits_until_one_has_ended() {
    let region = shop().await;
    let buyer = buyer(&region, 1).await;
    let workers = hold_workers(&region).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        open.push(region.export(&buyer.customer, &fresh_key()).await.expect(202).text_of("exportId"));
    }
    let key = fresh_key();
    let refused = region.export(&buyer.customer, &key).await.expect_problem(429, "too-many-open-exports");
    assert!(refused.header("retry-after").is_some());
    region.export(&region.customer().await, &fresh_key()).await.expect(202);
    replace_workers(&region, workers).await;
    for id in &open {
        region.ended_export(&buyer.customer, id).await;
    }
    // The refusal is not kept under the key.
    let id = region.export(&buyer.customer, &key).await.expect(202).text_of("exportId");
    let export = region.ended_export(&buyer.customer, &id).await;
    assert_whole(&region, &export, &buyer).await;
}

#[tokio::test]
async fn a_client_that_repeats_its_request_does_not_fill_the_queue() {
    let region = shop().await;
    let buyer = buyer(&region, 1).await;
    let workers = hold_workers(&region).await;
    let key = fresh_key();
    let id = region.export(&buyer.customer, &key).await.expect(202).text_of("exportId");
    region.record().await;
    for _ in 0..10 {
        let again = region.export(&buyer.customer, &key).await.expect(202);
        assert_eq!(
            (again.header("idempotent-replayed"), again.text_of("exportId")),
            (Some("true"), id.clone())
        );
    }
    let usage = region.usage().await;
    let calls = usage["log"].as_array().unwrap();
    let sent = calls.iter().filter(|call| call["operation"] == "SendMessage").count();
    assert_eq!(sent, 1, "{usage}");
    replace_workers(&region, workers).await;
    let export = region.ended_export(&buyer.customer, &id).await;
    assert_whole(&region, &export, &buyer).await;
}

/// Its worker dies with the region, and the message is in that region's queue.
#[tokio::test]
async fn an_export_of_a_lost_region_is_shown_as_it_was_and_another_one_is_made_elsewhere() {
    let regions = TestRegions::start(&["taiwan", "tokyo", "singapore"]).await;
    let (taiwan, tokyo) = (regions.region("taiwan"), regions.region("tokyo"));
    let operator = taiwan.operator().await;
    taiwan.stock(&operator, "lamp", 100).await;
    let buyer = buyer(taiwan, 2).await;
    taiwan.fault(&hold("dynamodb", "UpdateItem", "before", &json!({"resource": "LocksTable"}))).await;
    let key = fresh_key();
    let asked = taiwan.export(&buyer.customer, &key).await.expect(202);
    assert_eq!(asked.body["region"], "ap-east-2");
    let id = asked.text_of("exportId");
    regions.heal().await;
    regions.down("taiwan").await;

    let seen = tokyo.exported(&buyer.customer, &id).await;
    assert_eq!((&seen.body["status"], &seen.body["region"]), (&json!("QUEUED"), &json!("ap-east-2")));
    assert!(seen.body.get("downloadUrl").is_none());
    // Whether Taiwan's queue has its message is not known here, so nothing is acknowledged.
    let again = tokyo.export(&buyer.customer, &key).await.expect_problem(503, "unavailable");
    assert!(again.text_of("detail").contains("ap-east-2") && again.header("retry-after").is_some());
    let other = tokyo.export(&buyer.customer, &fresh_key()).await.expect(202);
    assert_eq!(other.body["region"], "ap-northeast-1");
    let ready = tokyo.ended_export(&buyer.customer, &other.text_of("exportId")).await;
    assert_whole(tokyo, &ready, &buyer).await;
    assert_eq!(
        tokyo.exported(&buyer.customer, &id).await.body["status"],
        "QUEUED",
        "no worker of Tokyo ran it"
    );

    regions.up("taiwan").await;
    let ended = taiwan.ended_export(&buyer.customer, &id).await;
    assert_whole(taiwan, &ended, &buyer).await;
    regions.heal().await;
    // The row may be there before the file is.
    let read = tokyo.exported(&buyer.customer, &id).await;
    assert_whole(tokyo, &read, &buyer).await;
    assert_eq!(
        tokyo.export(&buyer.customer, &key).await.expect(202).body["exportId"],
        asked.body["exportId"]
    );
}
