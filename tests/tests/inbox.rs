//! The inbox, as clients see it: what no socket took is read after the next connect, once.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use rand::RngExt;
use serde_json::{Value, json};
use sojourn::core::ids::{UserId, random};
use sojourn::platform::tables;
use sojourn_tests::{Customer, Options, Socket, TestRegion, fresh_key};

/// Users of the test that kills processes. Every other one has no socket.
const USERS: usize = 1_000;
/// Messages that are acknowledged there.
const MESSAGES: usize = 5_000;
/// Senders there.
const SENDERS: usize = 24;
/// Users that sign in at the same time: each takes a processor for a while.
const SETTING_UP: usize = 4;

fn to(user: &Customer, message_id: &str, body: &Value) -> Value {
    to_id(&user.user_id, message_id, body)
}

fn to_id(user_id: &str, message_id: &str, body: &Value) -> Value {
    json!({"action": "send", "messageId": message_id, "to": {"userId": user_id}, "type": "chat.message", "body": body})
}

#[tokio::test]
async fn what_was_missed_is_read_over_http_and_deleted() {
    let region = TestRegion::start().await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    let mut sender = region.socket(&alice).await;
    let body = json!({"text": "are you there?", "n": 117});
    let mut sent = Vec::new();
    for _ in 0..3 {
        let id = fresh_key();
        sender.send(&to(&bob, &id, &body)).await;
        let ack = sender.receive().await;
        let expected = json!({"type": "ack", "messageId": id, "delivered": 0, "failed": 0, "stored": true});
        assert_eq!(ack, expected);
        sent.push(id);
    }
    let page = region.call_as(&bob, "GET", "/inbox?limit=2").send().await.expect(200);
    let items = page.body["items"].as_array().unwrap();
    assert_eq!(ids(items), sent[..2]);
    assert_eq!((&items[0]["from"], &items[0]["body"]), (&json!(alice.user_id), &body));
    let cursor = page.text_of("nextCursor");
    let rest = region.call_as(&bob, "GET", &format!("/inbox?after={cursor}")).send().await.expect(200);
    assert_eq!(ids(rest.body["items"].as_array().unwrap()), sent[2..]);

    let delete = || region.call_as(&bob, "DELETE", &format!("/inbox?through={cursor}")).send();
    delete().await.expect(204);
    delete().await.expect(204);
    let left = region.call_as(&bob, "GET", "/inbox").send().await.expect(200);
    assert_eq!(ids(left.body["items"].as_array().unwrap()), sent[2..]);
    let others = region.call_as(&alice, "GET", "/inbox").send().await.expect(200);
    assert_eq!(others.body, json!({"items": []}));

    for wrong in ["/inbox?after=nonsense", "/inbox?limit=0", "/inbox?limit=101", "/inbox?after=a&after=b"] {
        region.call_as(&bob, "GET", wrong).send().await.expect_problem(400, "invalid-request");
    }
    for wrong in ["/inbox", "/inbox?through=nonsense", "/inbox?through="] {
        region.call_as(&bob, "DELETE", wrong).send().await.expect_problem(400, "invalid-request");
    }
    region.call("GET", "/inbox").send().await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn what_was_missed_is_read_over_the_next_socket_digit_by_digit() {
    let region = TestRegion::start().await;
    let (alice, bob) = (region.customer().await, region.customer().await);
    let mut sender = region.socket(&alice).await;
    let body = r#"{"z": 123456789012345678901234567890, "a": 117.63331139400017}"#;
    let user_id = &bob.user_id;
    sender
        .send_text(&format!(
            r#"{{"action":"send","to":{{"userId":"{user_id}"}},"type":"chat.message","body":{body}}}"#
        ))
        .await;
    assert_eq!(sender.receive().await["stored"], true);

    let mut receiver = region.socket(&bob).await;
    assert!(receiver.waiting().await.is_empty(), "it comes when it is asked for");
    receiver.send(&json!({"action": "inbox"})).await;
    let text = receiver.receive_text().await;
    assert!(text.contains(&format!("\"body\":{body}")), "{text}");
    let page: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(page["type"], "inbox");
    receiver.send(&json!({"action": "inbox", "after": page["next"]})).await;
    assert_eq!(receiver.receive().await, json!({"type": "inbox", "items": []}));
    receiver.send(&json!({"action": "inbox", "after": "nonsense"})).await;
    let error = receiver.receive().await;
    assert_eq!((&error["type"], &error["status"]), (&json!("error"), &json!(400)));

    let http = region.call_as(&bob, "GET", "/inbox").send().await.expect(200);
    assert_eq!(http.body["items"], page["items"]);
}

#[tokio::test]
async fn under_kill_nine_and_failing_posts_each_message_is_on_a_socket_or_in_the_inbox() {
    // Each sender writes to all of them.
    let arguments = ["--parameter", "RecipientsPerMinute=1000"].map(str::to_owned).into();
    let region = TestRegion::start_with(Options { arguments, ..Options::default() }).await;
    let senders = stream::iter(0..SENDERS).map(|_| region.customer()).buffer_unordered(SETTING_UP);
    let senders: Vec<Customer> = senders.collect().await;
    let online = stream::iter(0..USERS / 2).map(|_| async {
        let user = region.customer().await;
        (user.user_id.clone(), region.socket(&user).await)
    });
    let online: BTreeMap<String, Socket> = online.buffer_unordered(SETTING_UP).collect().await;
    // Nobody signs in as the others, so they need no account.
    let offline = (0..USERS / 2).map(|_| random().next::<UserId>().to_string());
    let users: Vec<String> = online.keys().cloned().chain(offline).collect();
    // One of four posts fails twice, and is lost for its socket.
    let failing = json!({"match": {"service": "connections", "operation": "PostToConnection"},
        "probability": 0.5, "effect": {"kind": "error", "error": "InternalServerError"}});
    region.fault(&failing).await;

    let (over, kills) = (AtomicBool::new(false), AtomicU64::new(0));
    let reaper = async {
        while !over.load(Ordering::Relaxed) {
            let pause = rand::rng().random_range(300..1_000);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            kills.fetch_add(region.kill("ws-send").await, Ordering::Relaxed);
        }
    };
    let sending = async {
        let sending = stream::iter(&senders).map(|sender| send_all(&region, sender, &users));
        let sent = sending.buffer_unordered(SENDERS).collect::<Vec<_>>().await;
        over.store(true, Ordering::Relaxed);
        sent.into_iter().flatten().collect::<Vec<_>>()
    };
    let ((), attempts) = tokio::join!(reaper, sending);
    let sent: Vec<_> = attempts.iter().filter(|attempt| attempt.is_acknowledged).collect();
    assert!(sent.len() >= MESSAGES);
    assert!(kills.load(Ordering::Relaxed) > 20, "{kills:?} processes were killed");

    // What each user was shown: on the socket, and in the inbox.
    let heard = stream::iter(online).map(|(user_id, mut socket)| async move {
        let waiting = socket.waiting().await;
        let seen = waiting.iter().map(|message| message["messageId"].as_str().unwrap().to_owned());
        (user_id, seen.collect())
    });
    let mut shown: BTreeMap<String, BTreeSet<String>> = heard.buffer_unordered(SETTING_UP).collect().await;
    let over_sockets: usize = shown.values().map(BTreeSet::len).sum();
    for (user_id, message_id) in every_stored_message(&region).await {
        shown.entry(user_id).or_default().insert(message_id);
    }
    println!("{kills:?} kills, {over_sockets} of {} messages over sockets", sent.len());
    for Attempt { to, message_id, .. } in sent.iter().copied() {
        assert!(shown[to].contains(message_id), "{message_id} reached {to} nowhere");
    }
    let attempted: BTreeSet<(&str, &str)> =
        attempts.iter().map(|attempt| (attempt.to.as_str(), attempt.message_id.as_str())).collect();
    for (user, message_ids) in &shown {
        for message_id in message_ids {
            assert!(
                attempted.contains(&(user.as_str(), message_id.as_str())),
                "{user} got a message of somebody else"
            );
        }
    }
    assert!(over_sockets > 0 && over_sockets < sent.len());
}

/// A message that was sent.
struct Attempt {
    to: String,
    message_id: String,
    is_acknowledged: bool,
}

/// Sends messages to users at random, until so many are acknowledged. What is not acknowledged, its
/// process being killed, is given up: it may have been delivered or not.
async fn send_all(region: &TestRegion, sender: &Customer, users: &[String]) -> Vec<Attempt> {
    let mut socket = region.socket(sender).await;
    let (mut attempts, mut acknowledged) = (Vec::new(), 0);
    while acknowledged < MESSAGES.div_ceil(SENDERS) {
        let to_whom = &users[rand::rng().random_range(0..users.len())];
        let message_id = fresh_key();
        socket.send(&to_id(to_whom, &message_id, &json!({"n": attempts.len()}))).await;
        let answer = socket.receive().await;
        let is_acknowledged = answer["type"] == "ack";
        if is_acknowledged {
            assert_eq!(answer["messageId"], message_id);
            assert!(answer["delivered"].as_u64() > Some(0) || answer["stored"] == true, "{answer}");
            acknowledged += 1;
        } else if let Some(seconds) = answer["retryAfterSeconds"].as_u64() {
            // The bound on frames of a socket.
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        attempts.push(Attempt { to: to_whom.clone(), message_id, is_acknowledged });
    }
    attempts
}

/// User and message id of each message in an inbox. An inbox holds a message once.
async fn every_stored_message(region: &TestRegion) -> BTreeSet<(String, String)> {
    let pages = region.dynamodb().scan().table_name(tables::INBOX.logical_id).into_paginator().items().send();
    let rows = pages.try_collect().await.unwrap();
    let mut all = BTreeSet::new();
    for row in rows.iter().filter(|row| row.contains_key("frame")) {
        let user_id = row["inboxId"].as_s().unwrap().split('#').next().unwrap().to_owned();
        let frame: Value = serde_json::from_str(row["frame"].as_s().unwrap()).unwrap();
        let message_id = frame["messageId"].as_str().unwrap().to_owned();
        assert!(all.insert((user_id, message_id)), "an inbox holds a message once");
    }
    all
}

fn ids(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| item["messageId"].as_str().unwrap().to_owned()).collect()
}
