//! Every file in `events/` is answered well by the function it belongs to.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

use local_region::template::arn;
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use sojourn_tests::{Answer, Customer, File, TestRegion, fresh_key, workspace};

/// Who the operators' placeholders of the files stand for.
struct Stage {
    operator: Customer,
}

impl Stage {
    /// The event of a file, with a customer of its own: some events end a session.
    async fn event(&self, region: &TestRegion, path: &Path) -> Value {
        let mut text = fs::read_to_string(path).unwrap();
        let customer = region.customer().await;
        if text.contains("${ORDER_ID}") {
            let order = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
            text = text.replace("${ORDER_ID}", &order.text_of("orderId"));
        }
        if text.contains("${EXPORT_ID}") {
            let body =
                json!({"kind": "orders", "from": "2026-01-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"});
            let export =
                region.call_as(&customer, "POST", "/exports").key(&fresh_key()).json(&body).send().await;
            text = text.replace("${EXPORT_ID}", &export.expect(202).text_of("exportId"));
        }
        if text.contains("${INBOX_CURSOR}") {
            region.store_message(&customer, &self.operator).await;
            let page = region.call_as(&customer, "GET", "/inbox").send().await.expect(200);
            text = text.replace("${INBOX_CURSOR}", &page.text_of("nextCursor"));
        }
        // Queues of an account that is none become those of the region.
        text = text.replace(&arn_of_nobodys_queue(""), &arn::local().queue(""));
        if text.contains("fromCart") {
            region.fill_cart(&customer, &[("lamp", 1)]).await;
        }
        if text.contains("${UPLOAD_ID}") {
            let file = File::text("label.txt", "twelve bytes");
            let offer = region.announce(&customer, &file).await.expect(201);
            assert_eq!(region.send_whole(&offer, &file.bytes).await.status, 200);
            text = text.replace("${UPLOAD_ID}", &offer.text_of("uploadId"));
        }
        text = text
            .replace("${REGION}", arn::local().region())
            .replace("${NOW}", &rfc3339(SystemClock.now()))
            .replace("${ACCESS_TOKEN}", &customer.token)
            .replace("${REFRESH_TOKEN}", &customer.refresh_token)
            .replace("${SESSION_ID}", &customer.session_id)
            .replace("${USER_ID}", &customer.user_id)
            .replace("${SESSION_COOKIE}", &customer.cookie)
            .replace("${OPERATOR_TOKEN}", &self.operator.token);
        assert!(!text.contains("${"), "{} has a placeholder that nobody fills", path.display());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

/// The ARN of a queue as the files have it.
fn arn_of_nobodys_queue(name: &str) -> String {
    format!("arn:aws:sqs:ap-northeast-1:123456789012:{name}")
}

/// Holds the answer of a function to its kind of trigger.
fn check(event: &Value, answer: &Answer, name: &str) {
    assert_eq!(
        (answer.status, answer.header("x-amz-function-error")),
        (200, None),
        "{name}: {}",
        answer.text
    );
    if event["requestContext"]["http"].is_object() || event["requestContext"]["eventType"] == "CONNECT" {
        let status = answer.body["statusCode"].as_u64().unwrap_or_default();
        assert!((200..300).contains(&status), "{name}: {}", answer.text);
    }
    if event["Records"].is_array() {
        assert_eq!(answer.body, json!({"batchItemFailures": []}), "{name}: {}", answer.text);
    }
}

#[tokio::test]
async fn every_event_file_is_answered_by_its_function() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 1_000).await;
    let stage = Stage { operator };

    let mut functions: Vec<_> =
        fs::read_dir(workspace().join("events")).unwrap().map(|entry| entry.unwrap()).collect();
    functions.retain(|entry| entry.path().is_dir());
    assert!(!functions.is_empty());
    functions.sort_by_key(fs::DirEntry::file_name);
    for function in functions {
        let name = function.file_name().into_string().unwrap();
        let mut files: Vec<_> =
            fs::read_dir(function.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{name} has no event");
        // Signing up comes before signing in, granting before withdrawing.
        files.sort_by_key(|path| (!path.ends_with("sign-up.json"), path.clone()));
        for file in files {
            prepare(&region, &stage, &file).await;
            let event = stage.event(&region, &file).await;
            let answer = region.invoke(&name, &event).await;
            check(&event, &answer, &file.display().to_string());
        }
    }
}

/// What must be there before an event makes sense: the accounts and products that the files name.
async fn prepare(region: &TestRegion, stage: &Stage, file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let event: Value = serde_json::from_str(&text).unwrap();
    if let Some(email) = event["find"]["email"].as_str() {
        let answer = region.sign_up(email).await;
        assert!(matches!(answer.status, 201 | 409), "{}", answer.text);
    }
    let body: Value =
        event["body"].as_str().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
    let lines = body["lines"].as_array().cloned().unwrap_or_default();
    let ordered = lines.iter().filter_map(|line| line["productId"].as_str());
    let named = event["pathParameters"]["productId"].as_str();
    for product in ordered.chain(named) {
        region.stock(&stage.operator, product, 1_000).await;
    }
    // A socket's message comes from a connection that exists.
    let context = &event["requestContext"];
    if context["eventType"] == "MESSAGE" {
        let connect = json!({
            "headers": {"Authorization": format!("Bearer {}", stage.operator.token)},
            "requestContext": {
                "routeKey": "$connect", "eventType": "CONNECT", "connectionId": context["connectionId"],
                "connectedAt": context["connectedAt"], "requestTimeEpoch": context["requestTimeEpoch"],
                "domainName": context["domainName"], "stage": context["stage"], "apiId": context["apiId"],
                "requestId": context["requestId"], "identity": {"sourceIp": "127.0.0.1"},
            },
            "isBase64Encoded": false,
        });
        let connected = region.invoke("ws-connect", &connect).await;
        assert_eq!(connected.body["statusCode"], 200, "{}", connected.text);
    }
}
