//! Sockets: who gets in, who gets what, and what happens to those who are gone.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use sojourn::core::clock::{Clock, SystemClock};
use sojourn_tests::{Customer, Socket, TestRegion, fresh_key};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

fn to_user(user: &Customer, text: &str) -> Value {
    json!({"action": "send", "to": {"userId": user.user_id}, "type": "chat.message", "body": {"text": text}})
}

fn refusal(outcome: Result<Socket, Error>) -> u16 {
    match outcome {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("refused without a status: {other}"),
        Ok(_) => panic!("the handshake succeeded"),
    }
}

async fn connections(region: &TestRegion) -> usize {
    let rows = region.dynamodb().scan().table_name("ConnectionsTable").send().await.unwrap();
    usize::try_from(rows.count).unwrap()
}

/// Waits until the number of registered connections is `expected`.
async fn until_connections(region: &TestRegion, expected: usize) {
    for _ in 0..400 {
        if connections(region).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{} connections are registered, not {expected}", connections(region).await);
}

#[tokio::test]
async fn a_bad_token_is_refused_with_401_and_leaves_no_row() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    assert_eq!(refusal(Socket::open(region.ws_url(), "not.a.token").await), 401);
    assert_eq!(refusal(Socket::open_with(region.ws_url(), &[]).await), 401);
    assert_eq!(
        refusal(Socket::open_with(region.ws_url(), &[("sec-websocket-protocol", "sojourn.v1")]).await),
        401
    );
    let in_the_url = format!("{}?token={}", region.ws_url(), customer.token);
    assert_eq!(refusal(Socket::open_with(&in_the_url, &[]).await), 401);
    assert_eq!(connections(&region).await, 0);
}

#[tokio::test]
async fn a_foreign_origin_is_refused_and_an_allowed_one_is_not() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let bearer = format!("Bearer {}", customer.token);
    let with_origin = |origin| vec![("authorization", bearer.as_str()), ("origin", origin)];
    let foreign = with_origin("https://evil.example");
    assert_eq!(refusal(Socket::open_with(region.ws_url(), &foreign).await), 403);
    assert_eq!(connections(&region).await, 0);
    let allowed = with_origin("http://127.0.0.1:5173");
    Socket::open_with(region.ws_url(), &allowed).await.unwrap().close().await;
}

#[tokio::test]
async fn the_answer_to_the_handshake_names_the_protocol_and_never_the_token() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    assert_eq!(region.socket(&customer).await.subprotocol.as_deref(), Some("sojourn.v1"));
    let bearer = format!("Bearer {}", customer.token);
    let plain = Socket::open_with(region.ws_url(), &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(plain.subprotocol, None);
}

#[tokio::test]
async fn both_sockets_of_a_user_get_the_message_and_nobody_else_does() {
    let region = TestRegion::start().await;
    let (alice, bob, carol) = (region.customer().await, region.customer().await, region.customer().await);
    let mut from_alice = region.socket(&alice).await;
    let mut phone = region.socket(&bob).await;
    let mut laptop = region.socket(&bob).await;
    let mut bystander = region.socket(&carol).await;

    from_alice.send(&to_user(&bob, "hello")).await;
    let ack = from_alice.receive().await;
    assert_eq!((ack["type"].as_str(), ack["delivered"].as_u64()), (Some("ack"), Some(2)));
    for socket in [&mut phone, &mut laptop] {
        let message = socket.receive().await;
        assert_eq!(message["type"], "chat.message");
        assert_eq!(message["from"], alice.user_id);
        assert_eq!(message["messageId"], ack["messageId"]);
        assert_eq!(message["body"], json!({"text": "hello"}));
    }
    assert_eq!(bystander.waiting().await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_repeated_message_is_acknowledged_again_and_delivered_once() {
    let region = TestRegion::start().await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    let mut sender = region.socket(&alice).await;
    let mut receiver = region.socket(&bob).await;
    let mut message = to_user(&bob, "once");
    message["messageId"] = fresh_key().into();
    sender.send(&message).await;
    let first = sender.receive().await;
    sender.send(&message).await;
    assert_eq!(sender.receive().await, first);
    assert_eq!(receiver.receive().await["messageId"], message["messageId"]);
    assert_eq!(receiver.waiting().await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_message_to_an_order_reaches_its_customer_and_only_by_those_who_may() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 1).await;
    let customer = region.customer().await;
    let order_id = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId");
    let message = json!({"action": "send", "to": {"orderId": order_id}, "type": "chat.message", "body": {}});

    let mut receiver = region.socket(&customer).await;
    let mut support = region.socket(&operator).await;
    support.send(&message).await;
    assert_eq!(support.receive().await["delivered"], 1);
    assert_eq!(receiver.told("chat.message").await["from"], operator.user_id);

    let mut stranger = region.socket(&region.customer().await).await;
    stranger.send(&message).await;
    let error = stranger.receive().await;
    assert_eq!((error["type"].as_str(), error["status"].as_u64()), (Some("error"), Some(404)));
    // The event of the order comes at its own time.
    for message in receiver.waiting().await {
        assert_eq!(message["type"], "order.placed", "{message}");
    }
}

#[tokio::test]
async fn a_late_disconnect_removes_its_own_row_only() {
    let region = TestRegion::start().await;
    let bob = region.customer().await;
    let old = region.socket(&bob).await;
    let mut new = region.socket(&bob).await;
    assert_eq!(connections(&region).await, 2);
    old.close().await;
    until_connections(&region, 1).await;

    let mut alice = region.socket(&region.customer().await).await;
    alice.send(&to_user(&bob, "still there?")).await;
    assert_eq!(alice.receive().await["delivered"], 1);
    assert_eq!(new.receive().await["body"]["text"], "still there?");
}

#[tokio::test]
async fn a_dead_peer_is_removed_and_nobody_else() {
    let region = TestRegion::start().await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    let mut sender = region.socket(&alice).await;
    let mut living = region.socket(&bob).await;
    region.lost_socket(&bob).await;
    assert_eq!(connections(&region).await, 3);

    sender.send(&to_user(&bob, "anyone?")).await;
    assert_eq!(sender.receive().await["delivered"], 1);
    assert_eq!(living.receive().await["body"]["text"], "anyone?");
    until_connections(&region, 2).await;
}

/// API Gateway says 410 to posts until the handshake is answered, as if the peer were gone.
#[tokio::test]
async fn a_socket_that_gets_a_message_while_it_is_being_opened_stays_registered() {
    let region = TestRegion::start().await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    let mut sender = region.socket(&alice).await;
    let registered = json!({"match": {"caller": "ws-connect", "operation": "TransactWriteItems"}, "times": 1,
        "effect": {"kind": "hold", "when": "after"}});
    let hold = region.fault(&registered).await;
    let meanwhile = async {
        until_connections(&region, 2).await;
        sender.send(&to_user(&bob, "too early")).await;
        assert_eq!(sender.receive().await["delivered"], 0);
        region.control("POST", &format!("/faults/{hold}/release")).send().await.expect(200);
    };
    let (mut receiver, ()) = tokio::join!(region.socket(&bob), meanwhile);

    sender.send(&to_user(&bob, "now")).await;
    assert_eq!(sender.receive().await["delivered"], 1);
    assert_eq!(receiver.receive().await["body"]["text"], "now");
    receiver.send(&json!({"action": "ping"})).await;
    assert_eq!(receiver.receive().await, json!({"type": "pong"}));
}

#[tokio::test]
async fn what_is_no_message_gets_an_error_and_the_socket_stays_open() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let mut socket = region.socket(&customer).await;
    let wrong = [
        "hello",
        "{}",
        "[]",
        r#"{"action":"dance"}"#,
        r#"{"action":"send"}"#,
        r#"{"action":"send","to":{"userId":"bob"},"type":"chat.message","body":{}}"#,
        r#"{"action":"send","to":{"userId":"usr_01JD0000000000000000000000","broadcast":true},"type":"chat.message","body":{}}"#,
        r#"{"action":"send","to":{"broadcast":true},"type":"order.paid","body":{}}"#,
        r#"{"action":"send","to":{"broadcast":true},"type":"chat.message","body":{},"extra":1}"#,
    ];
    for text in wrong {
        socket.send_text(text).await;
        let error = socket.receive().await;
        assert_eq!(error["type"], "error", "{text}: {error}");
        assert!((400..500).contains(&error["status"].as_u64().unwrap()), "{text}: {error}");
        assert!(error["title"].is_string() && error["detail"].is_string(), "{text}: {error}");
    }
    socket.send(&json!({"action": "ping"})).await;
    assert_eq!(socket.receive().await, json!({"type": "pong"}));
}

#[tokio::test]
async fn a_broadcast_needs_the_operators_role() {
    let region = TestRegion::start().await;
    let (customer, operator) = (region.customer().await, region.operator().await);
    let message =
        json!({"action": "send", "to": {"broadcast": true}, "type": "news", "body": {"sale": true}});
    let mut from_customer = region.socket(&customer).await;
    from_customer.send(&message).await;
    let error = from_customer.receive().await;
    assert_eq!((error["type"].as_str(), error["status"].as_u64()), (Some("error"), Some(403)));
    let mut from_operator = region.socket(&operator).await;
    from_operator.send(&message).await;
    assert_eq!(from_customer.receive().await["body"], json!({"sale": true}));
}

#[tokio::test]
async fn a_broadcast_reaches_a_thousand_sockets() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    let mut sockets = region.crowd(1_000).await;
    assert_eq!(connections(&region).await, 1_000);
    let mut sender = region.socket(&operator).await;
    let news = json!({"action": "send", "to": {"broadcast": true}, "type": "news", "body": {"n": 1}});
    sender.send(&news).await;
    let mut ids = Vec::new();
    for socket in &mut sockets {
        let message = socket.receive().await;
        assert_eq!(message["type"], "news");
        ids.push(message["messageId"].clone());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "all got the same message");
}

#[tokio::test]
async fn the_limits_of_frames_and_messages_are_kept() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let mut too_large = region.socket(&customer).await;
    too_large.send_text(&"x".repeat(129 * 1024)).await;
    assert_eq!(too_large.closed().await.map(|frame| u16::from(frame.code)), Some(1009));
    let mut binary = region.socket(&customer).await;
    binary.send_binary(vec![0; 8]).await;
    assert_eq!(binary.closed().await.map(|frame| u16::from(frame.code)), Some(1003));
}

// The end of a session is the end of its sockets

/// Takes the operator's role away, which ends all of their sessions.
async fn withdraw(region: &TestRegion, who: &Customer) {
    let command = json!({"withdraw": {"userId": who.user_id, "role": "operator"}});
    region.invoke("admin-users", &command).await.expect(200);
}

/// Changes the row of the session of `who`.
async fn change_session(region: &TestRegion, who: &Customer, update: &str, value: AttributeValue) {
    let row = region.dynamodb().update_item().table_name("SessionsTable");
    let row = row.key("sessionId", AttributeValue::S(who.session_id.clone())).update_expression(update);
    row.expression_attribute_values(":value", value).send().await.unwrap();
}

async fn revoke(region: &TestRegion, who: &Customer) {
    let key = AttributeValue::S(format!("{}#end", who.session_id));
    let end = region.dynamodb().put_item().table_name("SessionsTable").item("sessionId", key);
    end.send().await.unwrap();
}

fn is_end(frame: Option<CloseFrame>) -> bool {
    frame.is_some_and(|frame| frame.code == CloseCode::Normal)
}

#[tokio::test]
async fn all_sockets_of_an_ended_session_are_told_and_closed_and_nobody_elses() {
    let region = TestRegion::start().await;
    let (operator, customer) = (region.operator().await, region.customer().await);
    let mut sockets = [region.socket(&operator).await, region.socket(&operator).await];
    let mut bystander = region.socket(&customer).await;

    withdraw(&region, &operator).await;
    for socket in &mut sockets {
        let told = socket.receive().await;
        assert_eq!(told["type"], "session.revoked");
        assert_eq!(told["body"], json!({"sessionId": operator.session_id}));
        assert!(is_end(socket.closed().await));
    }
    bystander.send(&json!({"action": "ping"})).await;
    assert_eq!(bystander.receive().await, json!({"type": "pong"}));
    until_connections(&region, 1).await;

    assert_eq!(refusal(Socket::open(region.ws_url(), &operator.token).await), 401);
    assert_eq!(connections(&region).await, 1, "a refused handshake leaves no row");
    let again = region.sign_in(&operator.email).await;
    let mut as_customer = region.socket(&again).await;
    as_customer.send(&json!({"action": "send", "to": {"broadcast": true}, "type": "news", "body": {}})).await;
    assert_eq!(as_customer.receive().await["status"], 403, "the role is gone with the session");
}

#[tokio::test]
async fn signing_out_closes_the_sockets_of_that_session_and_of_no_other() {
    let region = TestRegion::start().await;
    let laptop = region.customer().await;
    let phone = region.sign_in(&laptop.email).await;
    let mut on_laptop = region.socket(&laptop).await;
    let mut on_phone = region.socket(&phone).await;

    region.call_as(&laptop, "DELETE", "/sessions/current").send().await.expect(204);
    assert_eq!(on_laptop.receive().await["body"], json!({"sessionId": laptop.session_id}));
    assert!(is_end(on_laptop.closed().await));
    on_phone.send(&json!({"action": "ping"})).await;
    assert_eq!(on_phone.receive().await, json!({"type": "pong"}));

    region.call_as(&phone, "DELETE", "/sessions").send().await.expect(204);
    assert_eq!(on_phone.receive().await["body"], json!({"sessionId": phone.session_id}));
    assert!(is_end(on_phone.closed().await));
}

#[tokio::test]
async fn a_socket_whose_row_is_gone_is_closed_at_its_next_frame() {
    let region = TestRegion::start().await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    for frame in [json!({"action": "ping"}), to_user(&bob, "hello")] {
        let mut socket = region.socket(&alice).await;
        region.forget_sockets().await;
        socket.send(&frame).await;
        let error = socket.receive().await;
        assert_eq!((error["type"].as_str(), error["status"].as_u64()), (Some("error"), Some(401)), "{frame}");
        assert!(is_end(socket.closed().await), "{frame}");
    }
}

#[tokio::test]
async fn a_socket_that_a_revocation_missed_is_closed_when_it_speaks_and_speaks_to_nobody() {
    let region = TestRegion::start().await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    let (mut sender, mut receiver) = (region.socket(&alice).await, region.socket(&bob).await);
    revoke(&region, &alice).await;

    let mut message = to_user(&bob, "still here");
    message["messageId"] = fresh_key().into();
    sender.send(&message).await;
    let error = sender.receive().await;
    assert_eq!((error["type"].as_str(), error["status"].as_u64()), (Some("error"), Some(401)));
    assert_eq!(error["messageId"], message["messageId"]);
    assert!(is_end(sender.closed().await));
    until_connections(&region, 1).await;
    assert_eq!(receiver.waiting().await, [] as [Value; 0]);
}

#[tokio::test]
async fn a_session_that_ends_before_a_socket_would_opens_none() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let in_an_hour = SystemClock.now().as_second() + 3_600;
    change_session(&region, &customer, "SET expiresAt = :value", AttributeValue::N(in_an_hour.to_string()))
        .await;
    region.call_as(&customer, "GET", "/orders").send().await.expect(200);
    assert_eq!(refusal(Socket::open(region.ws_url(), &customer.token).await), 401);
    assert_eq!(connections(&region).await, 0);
}

#[tokio::test]
async fn a_revocation_amid_handshakes_leaves_no_socket_that_can_speak_or_hear() {
    let region = TestRegion::start().await;
    let (operator, bob) = (region.operator().await, region.customer().await);
    let mut bystander = region.socket(&bob).await;
    let handshakes = stream::iter(0..20).map(|_| Socket::open(region.ws_url(), &operator.token)).buffered(4);
    let revocation = async {
        while connections(&region).await < 5 {}
        withdraw(&region, &operator).await;
    };
    let (opened, ()) = tokio::join!(handshakes.collect::<Vec<_>>(), revocation);
    let (opened, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert!(refused.into_iter().all(|refused| refusal(refused) == 401));
    assert!((1..20).contains(&opened.len()), "{} were opened", opened.len());

    bystander.send(&to_user(&operator, "anyone?")).await;
    assert_eq!(bystander.receive().await["delivered"], 0);
    for socket in opened {
        let mut socket = socket.unwrap();
        let heard = socket.last_words(&json!({"action": "ping"})).await;
        let kinds: Vec<_> = heard.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
        assert!(matches!(kinds[..], [] | ["session.revoked" | "error"]), "{heard:?}");
    }
}
