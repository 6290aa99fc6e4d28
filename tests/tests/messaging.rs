//! Events on the bus, and the messages that they are to sockets.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jsonschema::Validator;
use serde_json::{Value, json};
use sojourn::core::ids::{EventId, random};
use sojourn::platform::dynamo::text;
use sojourn_tests::{Customer, TestRegion, fresh_key, workspace};

/// Template.yaml's example of a consumer.
const ORDER_EVENTS: &str = "OrderEventsQueue";
/// What can never be published.
const UNPUBLISHED: &str = "UnpublishedEventsQueue";
/// Orders of the test in which entries fail.
const ORDERS: usize = 60;
/// Clients that place them at the same time, so that calls have several entries.
const CLIENTS: usize = 8;

/// The schemas of asyncapi.yaml.
struct Schemas(Value);

impl Schemas {
    fn read() -> Self {
        let text = std::fs::read_to_string(workspace().join("asyncapi.yaml")).unwrap();
        Self(serde_yaml_ng::from_str(&text).unwrap())
    }

    /// Holds `value` against the message `name` of `channel`.
    fn check(&self, channel: &str, value: &Value) {
        let name = value["type"].as_str().unwrap();
        let messages = self.0["channels"][channel]["messages"].as_object().unwrap();
        let at = |reference: &Value| {
            self.0.pointer(reference["$ref"].as_str().unwrap().trim_start_matches('#')).unwrap()
        };
        let message = messages.values().map(at).find(|message| message["name"] == name).unwrap();
        let mut schema = message["payload"].clone();
        schema["components"] = self.0["components"].clone();
        let validator: Validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{value}: {errors:?}");
    }
}

async fn shop(region: &TestRegion) -> (Customer, Customer) {
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 100_000).await;
    (operator, region.customer().await)
}

async fn place(region: &TestRegion, who: &Customer) -> String {
    region.order(who, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId")
}

async fn cancel(region: &TestRegion, who: &Customer, order: &str) {
    let cancel = region.call_as(who, "POST", &format!("/orders/{order}/cancel"));
    cancel.key(&fresh_key()).send().await.expect(200);
}

/// Type and order of each event of a queue's message.
fn of_orders(envelopes: &[Value]) -> Vec<(String, String)> {
    let event = |envelope: &Value| {
        let detail = &envelope["detail"];
        (detail["type"].as_str().unwrap().to_owned(), detail["data"]["orderId"].as_str().unwrap().to_owned())
    };
    envelopes.iter().map(event).collect()
}

#[tokio::test]
async fn an_order_is_told_on_the_bus_and_on_every_socket_of_its_customer() {
    let region = TestRegion::start().await;
    let (_, customer) = shop(&region).await;
    let mut sockets = [region.socket(&customer).await, region.socket(&customer).await];
    let stranger = region.customer().await;
    let mut strangers = region.socket(&stranger).await;

    let order = place(&region, &customer).await;
    region.pay(&customer, &fresh_key(), &order, "tok_ok").await.expect(201);
    let cancelled = place(&region, &customer).await;
    cancel(&region, &customer, &cancelled).await;

    let schemas = Schemas::read();
    let mut ids = Vec::new();
    for socket in &mut sockets {
        let mut of_socket: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for _ in 0..4 {
            let message = socket.receive().await;
            schemas.check("socket", &message);
            of_socket
                .entry(message["body"]["orderId"].as_str().unwrap().to_owned())
                .or_default()
                .push(message);
        }
        // Neither topics nor queues keep an order: `sentAt` has it.
        let types = |order: &str| {
            let mut messages = of_socket[order].clone();
            messages.sort_by_key(|message| message["sentAt"].to_string());
            messages.iter().map(|message| message["type"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(types(&order), ["order.placed", "order.paid"]);
        assert_eq!(types(&cancelled), ["order.placed", "order.cancelled"]);
        let of_socket = of_socket.into_values().flatten();
        ids.push(of_socket.map(|message| message["messageId"].to_string()).collect::<BTreeSet<_>>());
    }
    assert_eq!(ids[0], ids[1], "each message has one id on all sockets");

    let envelopes = region.take_messages(ORDER_EVENTS, |all| all.len() >= 4).await;
    for envelope in &envelopes {
        assert_eq!(
            (&envelope["source"], &envelope["detail-type"]),
            (&json!("sojourn"), &envelope["detail"]["type"])
        );
        schemas.check("events", &envelope["detail"]);
    }
    let expected = [
        ("order.placed", &order),
        ("order.paid", &order),
        ("order.placed", &cancelled),
        ("order.cancelled", &cancelled),
    ];
    let mut expected: Vec<_> = expected.map(|(kind, order)| (kind.to_owned(), order.clone())).into();
    let mut events = of_orders(&envelopes);
    expected.sort();
    events.sort();
    assert_eq!(events, expected);
    let inbox = region.call_as(&customer, "GET", "/inbox").send().await.expect(200);
    assert_eq!(inbox.body, json!({"items": []}), "a socket took each of them");

    // Nobody else is told: the first message to the stranger is about an order of their own.
    let own = place(&region, &stranger).await;
    assert_eq!(strangers.receive().await["body"]["orderId"], own.as_str());
}

#[tokio::test]
async fn who_is_not_connected_finds_it_in_the_inbox() {
    let region = TestRegion::start().await;
    let (_, customer) = shop(&region).await;
    let order = place(&region, &customer).await;
    let export = region.export(&customer, &fresh_key()).await.expect(202).text_of("exportId");
    let schemas = Schemas::read();
    let mut items = Vec::new();
    for _ in 0..200 {
        let inbox = region.call_as(&customer, "GET", "/inbox").send().await.expect(200);
        items = inbox.body["items"].as_array().unwrap().clone();
        if items.len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for item in &items {
        schemas.check("socket", item);
    }
    let mut told: Vec<_> = items.iter().map(|item| (&item["type"], &item["body"])).collect();
    told.sort_by_key(|(kind, _)| kind.as_str());
    let [(ready, file), (placed, summary)] = told[..] else { panic!("{told:?}") };
    assert_eq!((ready, &file["exportId"]), (&json!("export.ready"), &json!(export)));
    assert_eq!((placed, &summary["orderId"]), (&json!("order.placed"), &json!(order)));
}

#[tokio::test]
async fn entries_that_fail_are_sent_again_and_no_others() {
    let region = TestRegion::start_for_many_orders().await;
    let (_, customer) = shop(&region).await;
    let mut socket = region.socket(&customer).await;
    for (service, operation) in [("eventbridge", "PutEvents"), ("sns", "PublishBatch")] {
        // Each of the first entries of a call fails in two of five calls.
        for position in 0..CLIENTS {
            region
                .fault(&json!({
                    "match": {"service": service, "operation": operation}, "probability": 0.4,
                    "effect": {"kind": "failEntries", "positions": [position]},
                }))
                .await;
        }
    }
    let orders = stream::iter(0..ORDERS).map(|_| place(&region, &customer)).buffer_unordered(CLIENTS);
    let placed: BTreeSet<String> = orders.collect().await;
    let envelopes = region.take_messages(ORDER_EVENTS, |all| all.len() >= ORDERS).await;
    assert!(region.take_waiting(ORDER_EVENTS).await.is_empty(), "nothing is published twice");
    let events: BTreeSet<String> = of_orders(&envelopes).into_iter().map(|(_, order)| order).collect();
    assert_eq!((events, envelopes.len()), (placed.clone(), ORDERS));
    let mut shown = BTreeSet::new();
    for _ in 0..ORDERS {
        shown.insert(socket.receive().await["body"]["orderId"].as_str().unwrap().to_owned());
    }
    assert_eq!(shown, placed);
    // Nothing is shown twice: the event of a later order is the next one.
    let later = place(&region, &customer).await;
    assert_eq!(socket.receive().await["body"]["orderId"], later.as_str());
    let log = region.log();
    assert!(log.contains("an event was not published and is retried"), "no entry failed");
}

#[tokio::test]
async fn a_poison_event_is_set_aside_and_holds_up_nobody() {
    let region = TestRegion::start().await;
    let (_, customer) = shop(&region).await;
    let mut socket = region.socket(&customer).await;
    let put = |subject: &str, id: &EventId| {
        let put = region.dynamodb().put_item().table_name("OutboxTable");
        put.item("subject", text(subject)).item("eventId", text(id.as_str())).item("region", text("local"))
    };
    // No event at all, and one whose message is larger than SNS takes.
    let (broken, large): (EventId, EventId) = (random().next(), random().next());
    put("poison", &broken).send().await.unwrap();
    let data = BTreeMap::from([
        ("customerId".to_owned(), text(&*customer.user_id)),
        ("text".to_owned(), text("x".repeat(300_000))),
    ]);
    let data = aws_sdk_dynamodb::types::AttributeValue::M(data.into_iter().collect());
    let event = put("large", &large).item("type", text("order.paid")).item("data", data);
    event.item("occurredAt", text("2026-11-20T09:31:05.250Z")).send().await.unwrap();

    // And one that EventBridge refuses.
    let stranger = region.customer().await;
    let malformed = place(&region, &stranger).await;
    region
        .fault(&json!({
            "match": {"service": "eventbridge", "operation": "PutEvents"},
            "effect": {"kind": "failEntries", "containing": malformed, "code": "MalformedDetail"},
        }))
        .await;
    cancel(&region, &stranger, &malformed).await;

    let order = place(&region, &customer).await;
    let message = socket.receive().await;
    assert_eq!((&message["type"], &message["body"]["orderId"]), (&json!("order.placed"), &json!(order)));
    let set_aside = region.take_messages(UNPUBLISHED, |all| all.len() >= 3).await;
    let reasons: Vec<&str> = set_aside.iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert!(reasons.iter().any(|reason| reason.starts_with("the row is not an event")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("at most 262144 pass")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.starts_with("MalformedDetail")), "{reasons:?}");
    let on_the_bus = region.take_messages(ORDER_EVENTS, |all| all.len() >= 2).await;
    assert!(
        on_the_bus.iter().any(|envelope| envelope["detail"]["eventId"] == json!(large)),
        "the bus takes it"
    );
}

#[tokio::test]
async fn a_socket_that_the_revocation_missed_is_closed_by_its_event() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let phone = region.sign_in(&customer.email).await;
    let mut lost = region.socket(&phone).await;
    // api-sessions cannot read the user's sockets.
    region
        .fault(&json!({
            "match": {"service": "dynamodb", "operation": "Query", "caller": "api-sessions", "resource": "ConnectionsTable"},
            "effect": {"kind": "error", "error": "InternalServerError"},
        }))
        .await;
    let revoke = region.call_as(&customer, "DELETE", &format!("/sessions/{}", phone.session_id));
    revoke.send().await.expect(204);
    assert_eq!(lost.receive().await["type"], "session.revoked");
    assert!(lost.closed().await.is_some());
}
