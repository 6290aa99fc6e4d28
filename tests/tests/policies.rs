//! The IAM policies of template.yaml cover exactly the calls that the functions make.
//!
//! The local region enforces them, so every other test shows that nothing is missing. This one
//! drives each function through everything it does and then asks which permissions nobody used.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use local_region::template::arn;
use local_region::template::model::{Condition, Function, Statement};
use local_region::template::{self, Context};
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn::core::date_time::rfc3339;
use sojourn::platform::tables;
use sojourn_tests::{Customer, File, PASSWORD, SOCKETS_PER_USER, Socket, TestRegion, fresh_key, workspace};

/// Tries of the SDK before it gives up.
const SDK_ATTEMPTS: u64 = 3;
/// Connections that a broadcast reads at a time.
const PAGE: usize = 250;

#[tokio::test]
async fn every_permission_in_the_template_is_used() {
    let region = TestRegion::start().await;
    use_everything(&region).await;
    let access = region.control("GET", "/access").send().await.expect(200);
    assert_eq!(access.body["unused"], json!([]), "permissions that nothing uses: {}", access.body["unused"]);
    assert_eq!(access.body["denied"], json!([]), "calls that were denied: {}", access.body["denied"]);
}

#[test]
fn only_sign_in_and_administration_may_change_more_of_a_session_than_its_activity() {
    let context = Context {
        arns: arn::local(),
        parameters: BTreeMap::from([("TokenJwks".to_owned(), "{}".to_owned())]),
        http_url: "http://127.0.0.1:1".to_owned(),
        websocket_url: "ws://127.0.0.1:2".to_owned(),
        sqs_url: "http://127.0.0.1:3".to_owned(),
        ..Context::default()
    };
    let stack = template::load(&workspace().join("template.yaml"), &context).unwrap();
    let sessions = arn::local().table(tables::SESSIONS.logical_id);
    let stamp = Condition::Attributes(["sessionId", "lastActivity"].map(str::to_owned).into());
    let writes = |statement: &&Statement| {
        statement.resources.contains(&sessions)
            && ["PutItem", "UpdateItem", "DeleteItem"]
                .iter()
                .any(|write| statement.actions.contains(&format!("dynamodb:{write}")))
    };
    let is_free = |function: &&Function| {
        function.policy.iter().filter(writes).any(|statement| !statement.conditions.contains(&stamp))
    };
    let free: Vec<_> = stack.functions.iter().filter(is_free).map(|function| &function.name).collect();
    assert_eq!(free, ["admin-users", "api-sessions"]);
}

async fn use_everything(region: &TestRegion) {
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 100).await;
    region.stock(&operator, "lamp", 1).await;
    region.call("GET", "/products").send().await.expect(200);
    // Not the lamp: its writer keeps it in the cache.
    region.call("GET", "/products/shade").send().await.expect(404);
    let customer = region.customer().await;
    use_sessions(region).await;
    use_uploads(region).await;
    stamp_sessions(region, &operator).await;
    use_belongings(region, &customer).await;
    use_activity(region, &customer).await;

    // Orders: placed, refused, paid, declined, lost, cancelled, listed.
    let order =
        async || region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId");
    region.order(&customer, &fresh_key(), &[("lamp", 999)]).await.expect(409);
    let paid = order().await;
    region.pay(&customer, &fresh_key(), &paid, "tok_declined").await.expect(402);
    region.pay(&customer, &fresh_key(), &paid, "tok_unavailable").await.expect(503);
    region.pay(&customer, &fresh_key(), &paid, "tok_ok").await.expect(201);
    let cancelled = order().await;
    let cancel = |id: String| {
        region.call_as(&customer, "POST", &format!("/orders/{id}/cancel")).key(&fresh_key()).send()
    };
    cancel(cancelled).await.expect(200);
    let unsettled = order().await;
    region.pay(&customer, &fresh_key(), &unsettled, "tok_timeout_after_charge").await.expect(503);
    cancel(unsettled).await.expect(409);
    region.call_as(&customer, "GET", "/orders").send().await.expect(200);
    region.call_as(&customer, "GET", &format!("/orders/{paid}")).send().await.expect(200);

    // Sockets: to a user, to an order, to all; repeated; to somebody gone; continued.
    let mut socket = region.socket(&operator).await;
    let targets = [json!({"userId": operator.user_id}), json!({"orderId": paid}), json!({"broadcast": true})];
    for to in targets {
        let message =
            json!({"action": "send", "messageId": fresh_key(), "to": to, "type": "chat.message", "body": {}});
        for _ in 0..2 {
            socket.send(&message).await;
            while socket.receive().await["type"] != "ack" {}
        }
    }
    let gone = region.socket(&customer).await;
    region.lost_socket(&customer).await;
    let to_gone =
        json!({"action": "send", "to": {"userId": customer.user_id}, "type": "chat.message", "body": {}});
    socket.send(&to_gone).await;
    while socket.receive().await["type"] != "ack" {}
    gone.close().await;
    // A message that could not be delivered frees its id.
    let broken = |operation: &str, skip: u64| {
        json!({
            "match": {"service": "dynamodb", "operation": operation, "caller": "ws-send"},
            "skip": skip, "times": SDK_ATTEMPTS, "effect": {"kind": "error", "error": "InternalServerError"},
        })
    };
    region.fault(&broken("Query", 0)).await;
    let mut named = to_gone.clone();
    named["messageId"] = fresh_key().into();
    socket.send(&named).await;
    while socket.receive().await["type"] != "error" {}
    // A broadcast that cannot go on hands its second page on to an invocation of its own.
    let mut crowd = region.crowd(PAGE + 50).await;
    crowd.push(region.socket(&customer).await);
    // One socket too many, and another one when one of them is forgotten.
    let many = region.customer().await;
    for _ in 0..SOCKETS_PER_USER {
        crowd.push(region.socket(&many).await);
    }
    assert!(Socket::open(region.ws_url(), &many.token).await.is_err(), "that is one too many");
    region.fault(&broken("Scan", 1)).await;
    socket.send(&json!({"action": "send", "to": {"broadcast": true}, "type": "news", "body": {}})).await;
    for member in &mut crowd {
        assert_eq!(member.receive().await["type"], "news");
    }
    use_topics(region, &customer, &mut crowd).await;
    use_exports(region, &customer).await;
    drop(crowd);

    use_reconciler(region, &customer, &order().await, &order().await).await;

    // Jobs, with an order to expire and one whose charge was lost.
    let (stale, lost) = (order().await, order().await);
    region.pay(&customer, &fresh_key(), &lost, "tok_timeout_after_charge").await.expect(503);
    region.age_order(&stale, 48).await;
    region.age_order(&lost, 48).await;
    // The answer to a report's plain name is lost: the run finds its own object there.
    let lost_answer = json!({
        "match": {"service": "s3", "operation": "PutObject"}, "skip": 2, "times": 1,
        "effect": {"kind": "commitThenReset"},
    });
    region.fault(&lost_answer).await;
    let now = rfc3339(SystemClock.now());
    region.fire("daily-report", &now).await.expect(200);
    region.fire("order-cleanup", &now).await.expect(200);
    clean_uploads(region, &now).await;
    give_up_events(region).await;

    // A session ends: its sockets are closed, and no other is opened. Nor does one speak whose row
    // was removed.
    let withdraw = json!({"withdraw": {"userId": operator.user_id, "role": "operator"}});
    region.invoke("admin-users", &withdraw).await.expect(200);
    while socket.receive().await["type"] != "session.revoked" {}
    assert!(Socket::open(region.ws_url(), &operator.token).await.is_err(), "the session has ended");
    let mut mute = region.socket(&customer).await;
    region.forget_sockets().await;
    mute.send(&json!({"action": "ping"})).await;
    assert_eq!(mute.receive().await["status"], 401);
    let mut signed_out = region.socket(&customer).await;
    region.call_as(&customer, "DELETE", "/sessions/current").send().await.expect(204);
    while signed_out.receive().await["type"] != "session.revoked" {}
    miss_sockets(region).await;
}

/// An event that is stored, one that can never be, and a look at what waits.
async fn use_activity(region: &TestRegion, customer: &Customer) {
    let event = json!({
        "eventId": fresh_key(), "kind": "view", "productId": "lamp", "at": rfc3339(SystemClock.now()),
    });
    let events = json!({"events": [event]});
    region.call_as(customer, "POST", "/activity").json(&events).send().await.expect(202);
    let sqs = region.sqs();
    let url = sqs.get_queue_url().queue_name("ActivityQueue").send().await.unwrap().queue_url.unwrap();
    sqs.send_message().queue_url(&url).message_body("no event").send().await.unwrap();
    region.until_queued("ActivityDeadLetterQueue", 1).await;
    region.fire("activity-turn", &rfc3339(SystemClock.now())).await.expect(200);
    let path = "/products/lamp/activity";
    while region.call("GET", path).send().await.expect(200).body["days"][0]["views"] != 1 {}
}

/// A revocation that cannot read the sockets. Its event closes them.
async fn miss_sockets(region: &TestRegion) {
    let missed = region.customer().await;
    let mut socket = region.socket(&missed).await;
    let unread = json!({
        "match": {"service": "dynamodb", "operation": "Query", "caller": "api-sessions", "resource": "ConnectionsTable"},
        "times": SDK_ATTEMPTS, "effect": {"kind": "error", "error": "InternalServerError"},
    });
    region.fault(&unread).await;
    region.call_as(&missed, "DELETE", "/sessions/current").send().await.expect(204);
    socket.told("session.revoked").await;
    socket.closed().await;
}

/// An order is another region's, then this region's again, and then it has ended. Another one is
/// charged, and its customer does not try again.
async fn use_reconciler(region: &TestRegion, customer: &Customer, order_id: &str, charged: &str) {
    let unrecorded = json!({
        "match": {"operation": "TransactWriteItems", "caller": "api-orders"}, "skip": 1,
        "effect": {"kind": "reset"},
    });
    let unrecorded = region.fault(&unrecorded).await;
    region.pay(customer, &fresh_key(), charged, "tok_ok").await.expect(503);
    region.lift(unrecorded).await;
    let hear = async |file: &str, order_id: &str| {
        let file = workspace().join("events/order-reconciler").join(file);
        let event = std::fs::read_to_string(file).unwrap().replace("${ORDER_ID}", order_id);
        let event = serde_json::from_str(&event).unwrap();
        let answer = region.invoke("order-reconciler", &event).await.expect(200);
        assert_eq!(answer.body["batchItemFailures"], json!([]));
    };
    region.replace_order(order_id, "elsewhere").await;
    hear("order-replaced.json", order_id).await;
    region.replace_order(order_id, "local").await;
    hear("order-replaced.json", order_id).await;
    hear("order-reopened.json", order_id).await;
    hear("payment-begun.json", charged).await;
}

/// An asynchronous invocation that fails for good, of each function that has a destination for it.
async fn give_up_events(region: &TestRegion) {
    const EVENT: [(&str, &str); 1] = [("x-amz-invocation-type", "Event")];
    for job in ["job-daily-report", "job-order-cleanup", "job-upload-cleanup"] {
        region.invoke_with(&EVENT, job, &json!({"not": "a slot"})).await.expect(202);
    }
    let unread = json!({
        "match": {"service": "dynamodb", "operation": "Scan", "caller": "ws-send"},
        "effect": {"kind": "error", "error": "InternalServerError"},
    });
    let unread = region.fault(&unread).await;
    let file = std::fs::read_to_string(workspace().join("events/ws-send/continuation.json")).unwrap();
    let continuation = serde_json::from_str(&file).unwrap();
    region.invoke_with(&EVENT, "ws-send", &continuation).await.expect(202);
    region.until_queued("ScheduleDeadLetterQueue", 4).await;
    region.lift(unread).await;
}

/// What another region publishes, and what the relay cannot. `crowd` is all the sockets of
/// `customer`.
async fn use_topics(region: &TestRegion, customer: &Customer, crowd: &mut [Socket]) {
    let message = |to: Value| {
        let message = json!({"type": "news", "messageId": fresh_key(), "sentAt": "2026-11-20T09:31:05.250Z", "body": "{}"});
        json!({"region": "elsewhere", "task": {"deliver": {"message": message, "to": to}}})
    };
    let deliver = async |body: &Value| {
        let file = std::fs::read_to_string(workspace().join("events/ws-deliver/order-placed.json")).unwrap();
        let mut event: Value = serde_json::from_str(&file).unwrap();
        event["Records"][0]["body"] = body.to_string().into();
        region.invoke("ws-deliver", &event).await.expect(200).body["batchItemFailures"].clone()
    };
    let broken = |operation: &str, skip: u64| {
        json!({
            "match": {"service": "dynamodb", "operation": operation, "caller": "ws-deliver"},
            "skip": skip, "times": SDK_ATTEMPTS, "effect": {"kind": "error", "error": "InternalServerError"},
        })
    };
    // A broadcast whose second page cannot be read is handed on.
    region.lost_socket(customer).await;
    region.fault(&broken("Scan", 1)).await;
    let mut to_all = message(json!({"broadcast": true}));
    to_all["task"]["deliver"]["message"]["from"] = json!(customer.user_id);
    assert_eq!(deliver(&to_all).await, json!([]));
    for member in crowd {
        while member.receive().await["type"] != "news" {}
    }
    // A message that failed frees its id.
    region.fault(&broken("Query", 0)).await;
    let to_one = message(json!({"userId": customer.user_id}));
    assert_ne!(deliver(&to_one).await, json!([]));
    assert_eq!(deliver(&to_one).await, json!([]));
    // No event at all.
    let poison = region.dynamodb().put_item().table_name(tables::OUTBOX.logical_id);
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let poison = poison.item("subject", text("poison")).item("eventId", text("poison"));
    poison.item("region", text("local")).send().await.unwrap();
    region.until_queued("UnpublishedEventsQueue", 1).await;
}

/// The cart: filled, read, ordered, emptied. Preferences: read and changed.
async fn use_belongings(region: &TestRegion, customer: &Customer) {
    region.fill_cart(customer, &[("lamp", 1)]).await;
    region.cart(customer).await;
    region.order_cart(customer, &fresh_key()).await.expect(201);
    region.call_as(customer, "DELETE", "/cart").send().await.expect(204);

    let preferences = |method| region.call_as(customer, method, "/sessions/current/preferences");
    preferences("GET").send().await.expect(200);
    preferences("PATCH").json(&json!({"theme": "dark"})).send().await.expect(200);

    // Nobody has a socket yet: the message is stored, read over HTTP and over a socket, and
    // deleted.
    let sender = region.customer().await;
    region.store_message(customer, &sender).await;
    let page = region.call_as(customer, "GET", "/inbox").send().await.expect(200);
    let mut socket = region.socket(customer).await;
    socket.send(&json!({"action": "inbox"})).await;
    assert_eq!(socket.receive().await["items"], page.body["items"]);
    socket.close().await;
    let through = page.text_of("nextCursor");
    region.call_as(customer, "DELETE", &format!("/inbox?through={through}")).send().await.expect(204);
}

/// Made, told to a crowd of the customer's sockets, downloaded; and one that comes to nothing.
async fn use_exports(region: &TestRegion, customer: &Customer) {
    // One of the sockets is gone.
    region.lost_socket(customer).await;
    // The answer to the file's completion is lost: it is found to be there.
    let lost = json!({
        "match": {"service": "s3", "operation": "CompleteMultipartUpload"},
        "times": 1, "effect": {"kind": "commitThenReset"},
    });
    region.fault(&lost).await;
    let key = fresh_key();
    let id = region.export(customer, &key).await.expect(202).text_of("exportId");
    region.export(customer, &key).await.expect(202);
    let ready = region.ended_export(customer, &id).await;
    region.follow(&ready.text_of("downloadUrl")).send().await.expect(200);
    region.log_with("the export has ended").await;
    region.quiet_session(&customer.session_id, 2).await;
    region.exported(customer, &id).await;

    // The file cannot be completed, and a message that was sent before its part was stored is dead:
    // it gets another one.
    let begins = json!({
        "match": {"service": "s3", "operation": "CreateMultipartUpload", "caller": "export-worker"},
        "times": 1, "effect": {"kind": "hold", "when": "before"},
    });
    let begins = region.fault(&begins).await;
    let broken = json!({
        "match": {"service": "s3", "operation": "CompleteMultipartUpload"},
        "times": SDK_ATTEMPTS, "effect": {"kind": "error", "error": "InternalServerError"},
    });
    region.fault(&broken).await;
    let id = region.export(customer, &fresh_key()).await.expect(202).text_of("exportId");
    region.until_held(begins).await;
    let queue = region.sqs().get_queue_url().queue_name("ExportsDeadLetterQueue").send().await.unwrap();
    let dead = region.sqs().send_message().set_queue_url(queue.queue_url).delay_seconds(2);
    dead.message_body(json!({"exportId": id}).to_string()).send().await.unwrap();
    region.lift(begins).await;
    region.log_with("another message was sent to continue").await;
    assert_eq!(region.ended_export(customer, &id).await.body["status"], "READY");

    let unlucky = region.customer().await;
    let order = region.dynamodb().put_item().table_name(tables::ORDERS.logical_id);
    order
        .item("orderId", AttributeValue::S("ord_01JD0000000000000000000000".to_owned()))
        .item("customerId", AttributeValue::S(unlucky.user_id.clone()))
        .item("createdAt", AttributeValue::S(rfc3339(SystemClock.now())))
        .send()
        .await
        .unwrap();
    let id = region.export(&unlucky, &fresh_key()).await.expect(202).text_of("exportId");
    assert_eq!(region.ended_export(&unlucky, &id).await.body["status"], "FAILED");
    region
        .dynamodb()
        .delete_item()
        .table_name(tables::ORDERS.logical_id)
        .key("orderId", AttributeValue::S("ord_01JD0000000000000000000000".to_owned()))
        .send()
        .await
        .unwrap();
}

/// Renewed, listed, revoked one by one and all at once, and a new password.
async fn use_sessions(region: &TestRegion) {
    let customer = region.customer().await;
    let [other, third] = [region.sign_in(&customer.email).await, region.sign_in(&customer.email).await];
    region.refresh(&customer.refresh_token).await.expect(200);
    region.call_as(&customer, "GET", "/sessions").send().await.expect(200);
    let path = format!("/sessions/{}", other.session_id);
    region.call_as(&customer, "DELETE", &path).send().await.expect(204);
    region.call_as(&third, "DELETE", "/sessions/current").send().await.expect(204);
    let password = json!({"current": PASSWORD, "new": "another password of hers"});
    region.call_as(&customer, "PUT", "/users/me/password").json(&password).send().await.expect(204);
    region.call_as(&customer, "DELETE", "/sessions").send().await.expect(204);
}

/// Cleans up one that nobody finished, and one whose user deleted it, both overdue.
async fn clean_uploads(region: &TestRegion, now: &str) {
    let customer = region.customer().await;
    let parts = region.announce(&customer, &File::of_size(6 * 1024 * 1024)).await.expect(201);
    region.overdue_upload(&customer, &parts.text_of("uploadId")).await;
    let deleted = region.announce(&customer, &File::text("b.txt", "twelve bytes")).await.expect(201);
    let deleted = deleted.text_of("uploadId");
    region.call_as(&customer, "DELETE", &format!("/uploads/{deleted}")).send().await.expect(204);
    region.overdue_upload(&customer, &deleted).await;
    region.fire("upload-cleanup", now).await.expect(200);
}

/// Announced, not found, completed, read, listed, deleted; one in parts that is never sent.
async fn use_uploads(region: &TestRegion) {
    let customer = region.customer().await;
    let uploaded = region.upload(&customer, &File::text("a.txt", "twelve bytes")).await;
    region.call_as(&customer, "GET", "/uploads").send().await.expect(200);
    let path = format!("/uploads/{}", uploaded.text_of("uploadId"));
    let found = region.call_as(&customer, "GET", &path).send().await.expect(200);
    assert_eq!(region.download(&found.body).await.status(), 200);
    region.old_upload(&customer, &uploaded.text_of("uploadId")).await;
    region.call_as(&customer, "DELETE", &path).send().await.expect(204);
    let parts = region.announce(&customer, &File::of_size(6 * 1024 * 1024)).await.expect(201);
    let path = format!("/uploads/{}", parts.text_of("uploadId"));
    region.call_as(&customer, "DELETE", &path).send().await.expect(204);
}

/// Each function that finds a session quiet stamps it.
async fn stamp_sessions(region: &TestRegion, operator: &Customer) {
    let product = json!({"name": "lamp", "price": {"amount": 12_900, "currency": "TWD"}});
    let quiet = || region.quiet_session(&operator.session_id, 2);
    quiet().await;
    region.call_as(operator, "PUT", "/products/lamp").json(&product).send().await.expect(200);
    for path in ["/orders", "/orders/summary", "/cart", "/inbox", "/sessions", "/uploads"] {
        quiet().await;
        region.call_as(operator, "GET", path).send().await.expect(200);
    }
    quiet().await;
    let event = json!({
        "eventId": fresh_key(), "kind": "share", "productId": "lamp", "at": rfc3339(SystemClock.now()),
    });
    let events = json!({"events": [event]});
    region.call_as(operator, "POST", "/activity").json(&events).send().await.expect(202);
    quiet().await;
    region.socket(operator).await.close().await;
}
