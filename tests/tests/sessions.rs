//! Sessions over HTTP: renewed, listed and ended; and what has ended is refused by every function's
//! very next answer.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use sojourn_tests::{Answer, Customer, PASSWORD, Socket, TestRegion, fresh_key};
use tokio_tungstenite::tungstenite::Error;

const NEW_PASSWORD: &str = "tr0ub4dor and three";
/// Processes that are killed under load, at least.
const KILLS: u64 = 10;
/// Longest that a client tries while they are.
const PATIENCE: Duration = Duration::from_mins(1);

/// What every function that serves callers answers to `who`: reads, writes, a handshake.
async fn answers(region: &TestRegion, who: &Customer) -> Vec<(&'static str, u16)> {
    let product = json!({"name": "Lamp", "price": {"amount": 12_900, "currency": "TWD"}});
    let stock = region.call_as(who, "POST", "/products/lamp/stock").key(&fresh_key());
    let socket = match Socket::open(region.ws_url(), &who.token).await {
        Ok(socket) => {
            socket.close().await;
            101
        }
        Err(Error::Http(refusal)) => refusal.status().as_u16(),
        Err(other) => panic!("neither opened nor refused: {other}"),
    };
    vec![
        ("GET /orders", region.call_as(who, "GET", "/orders").send().await.status),
        ("POST /orders", region.order(who, &fresh_key(), &[("lamp", 1)]).await.status),
        ("PUT /products", region.call_as(who, "PUT", "/products/lamp").json(&product).send().await.status),
        ("POST /products/stock", stock.json(&json!({"delta": 1})).send().await.status),
        ("GET /sessions", region.call_as(who, "GET", "/sessions").send().await.status),
        ("$connect", socket),
    ]
}

async fn is_served_everywhere(region: &TestRegion, who: &Customer) {
    for (what, status) in answers(region, who).await {
        assert!(matches!(status, 101 | 200 | 201), "{what}: {status}");
    }
}

/// An order would take a unit, and a stock change would add one.
async fn is_refused_everywhere(region: &TestRegion, who: &Customer) {
    let before = region.available("lamp").await;
    for (what, status) in answers(region, who).await {
        assert_eq!(status, 401, "{what}");
    }
    region.refresh(&who.refresh_token).await.expect_problem(401, "unauthenticated");
    region.call_by_cookie(who, "GET", "/sessions").send().await.expect_problem(401, "unauthenticated");
    assert_eq!(region.available("lamp").await, before, "a refused write changed something");
}

/// A region with an operator, signed in on two devices. Operators may do everything, so that a
/// refusal is the session's.
async fn two_devices() -> (TestRegion, Customer, Customer) {
    let region = TestRegion::start().await;
    let phone = region.operator().await;
    region.stock(&phone, "lamp", 100).await;
    let laptop = region.sign_in(&phone.email).await;
    is_served_everywhere(&region, &laptop).await;
    (region, phone, laptop)
}

/// What a password change answers to `who`.
async fn change_password(region: &TestRegion, who: &Customer, current: &str, new: &str) -> Answer {
    let call = region.call_as(who, "PUT", "/users/me/password");
    call.json(&json!({"current": current, "new": new})).send().await
}

async fn listed(region: &TestRegion, who: &Customer) -> Vec<Value> {
    let list = region.call_as(who, "GET", "/sessions").send().await.expect(200);
    list.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_revoked_session_is_refused_everywhere_at_once_and_its_neighbour_is_not() {
    let (region, phone, laptop) = two_devices().await;
    let path = format!("/sessions/{}", laptop.session_id);
    let revoked = region.call_as(&phone, "DELETE", &path).send().await.expect(204);
    assert_eq!((revoked.text.as_str(), revoked.header("set-cookie")), ("", None));
    is_refused_everywhere(&region, &laptop).await;
    is_served_everywhere(&region, &phone).await;
    region.call_as(&phone, "DELETE", &path).send().await.expect_problem(404, "not-found");
}

#[tokio::test]
async fn signing_out_ends_this_session_everywhere_at_once_and_no_other() {
    let (region, phone, laptop) = two_devices().await;
    region.call_as(&laptop, "DELETE", "/sessions/current").send().await.expect(204);
    is_refused_everywhere(&region, &laptop).await;
    is_served_everywhere(&region, &phone).await;
    let again = region.call_as(&laptop, "DELETE", "/sessions/current").send().await;
    again.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn revoking_all_ends_every_session_everywhere_at_once() {
    let (region, phone, laptop) = two_devices().await;
    let somebody_else = region.customer().await;
    region.call_as(&laptop, "DELETE", "/sessions").send().await.expect(204);
    is_refused_everywhere(&region, &laptop).await;
    is_refused_everywhere(&region, &phone).await;
    region.call_as(&somebody_else, "GET", "/orders").send().await.expect(200);
    is_served_everywhere(&region, &region.sign_in(&phone.email).await).await;
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_everywhere_at_once() {
    let (region, phone, laptop) = two_devices().await;
    change_password(&region, &laptop, PASSWORD, NEW_PASSWORD).await.expect(204);
    is_refused_everywhere(&region, &phone).await;
    is_served_everywhere(&region, &laptop).await;
    region.call_by_cookie(&laptop, "GET", "/sessions").send().await.expect(200);
    let refreshed = region.refresh(&laptop.refresh_token).await.expect(200);
    let renewed = Customer { token: refreshed.text_of("accessToken"), ..laptop.clone() };
    is_served_everywhere(&region, &renewed).await;
    assert_eq!(listed(&region, &laptop).await.len(), 1);
    let sign_in = |password| {
        let body = json!({"email": phone.email, "password": password});
        region.call("POST", "/sessions").json(&body).send()
    };
    sign_in(PASSWORD).await.expect_problem(401, "wrong-credentials");
    sign_in(NEW_PASSWORD).await.expect(201);
}

#[tokio::test]
async fn a_withdrawn_role_ends_every_session_everywhere_at_once() {
    let (region, phone, laptop) = two_devices().await;
    let withdraw = json!({"withdraw": {"userId": phone.user_id, "role": "operator"}});
    region.invoke("admin-users", &withdraw).await.expect(200);
    for device in [&phone, &laptop] {
        is_refused_everywhere(&region, device).await;
    }
    let next = region.sign_in(&phone.email).await;
    region.call_as(&next, "GET", "/orders").send().await.expect(200);
    region
        .call_as(&next, "POST", "/products/lamp/stock")
        .key(&fresh_key())
        .json(&json!({"delta": 1}))
        .send()
        .await
        .expect_problem(403, "forbidden");
}

#[tokio::test]
async fn the_list_shows_the_callers_live_sessions_newest_first() {
    let region = TestRegion::start().await;
    let (ann, bob) = (region.customer().await, region.customer().await);
    let body = json!({"email": ann.email, "password": PASSWORD, "device": "Ann's phone"});
    let phone = region.call("POST", "/sessions").json(&body).send().await.expect(201).text_of("sessionId");
    let revoked = region.sign_in(&ann.email).await;
    region.call_as(&revoked, "DELETE", "/sessions/current").send().await.expect(204);
    region.quiet_session(&ann.session_id, 60).await;

    let items = listed(&region, &ann).await;
    let ids: Vec<&str> = items.iter().map(|item| item["sessionId"].as_str().unwrap()).collect();
    assert_eq!(ids, [phone.as_str(), &ann.session_id]);
    assert_eq!((&items[0]["device"], &items[0]["current"]), (&json!("Ann's phone"), &json!(false)));
    assert_eq!((&items[1]["device"], &items[1]["current"]), (&json!(null), &json!(true)));
    assert!(items.iter().all(|item| item["region"] == "local" && item["createdAt"].is_string()));
    // Listing is a use as well: the second list shows what the first one stamped, an hour after it
    // was seen last.
    let stamped = listed(&region, &ann).await[1]["lastActivity"].as_str().unwrap().to_owned();
    assert!(stamped.as_str() >= items[1]["createdAt"].as_str().unwrap(), "{stamped}");

    assert_eq!(listed(&region, &bob).await.len(), 1);
    for item in &items {
        let path = format!("/sessions/{}", item["sessionId"].as_str().unwrap());
        region.call_as(&bob, "DELETE", &path).send().await.expect_problem(404, "not-found");
    }
    region.call_as(&ann, "DELETE", "/sessions/nonsense").send().await.expect_problem(404, "not-found");
    assert_eq!(listed(&region, &ann).await.len(), 2);
}

#[tokio::test]
async fn the_list_has_pages_and_leaves_out_what_has_ended() {
    let region = TestRegion::start().await;
    let ann = region.customer().await;
    let [idle, revoked, other] = [
        region.sign_in(&ann.email).await,
        region.sign_in(&ann.email).await,
        region.sign_in(&ann.email).await,
    ];
    region.call_as(&revoked, "DELETE", "/sessions/current").send().await.expect(204);
    region.quiet_session(&idle.session_id, 24 * 60).await;
    let (mut listed, mut path) = (Vec::new(), "/sessions?limit=1".to_owned());
    loop {
        let page = region.call_as(&ann, "GET", &path).send().await.expect(200);
        let items = page.body["items"].as_array().unwrap();
        listed.extend(items.iter().map(|item| item["sessionId"].as_str().unwrap().to_owned()));
        let Some(cursor) = page.body["nextCursor"].as_str() else { break };
        path = format!("/sessions?limit=1&cursor={cursor}");
    }
    assert_eq!(listed, [other.session_id, ann.session_id.clone()]);
    for wrong in ["limit=0", "limit=101", "cursor=nonsense"] {
        let path = format!("/sessions?{wrong}");
        region.call_as(&ann, "GET", &path).send().await.expect_problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn a_session_that_was_idle_for_a_day_has_ended_everywhere() {
    let region = TestRegion::start().await;
    let customer = region.operator().await;
    region.quiet_session(&customer.session_id, 24 * 60 - 1).await;
    region.call_as(&customer, "GET", "/orders").send().await.expect(200);
    region.quiet_session(&customer.session_id, 24 * 60).await;
    region.refresh(&customer.refresh_token).await.expect_problem(401, "unauthenticated");
    for (endpoint, status) in answers(&region, &customer).await {
        assert_eq!(status, 401, "{endpoint}");
    }
}

#[tokio::test]
async fn fifty_refreshes_at_once_with_one_token_get_one_successor_and_the_session_stands() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let answers: Vec<Answer> = stream::iter(0..50)
        .map(|_| region.refresh(&customer.refresh_token))
        .buffer_unordered(50)
        .collect()
        .await;
    let successors: HashSet<String> =
        answers.into_iter().map(|answer| answer.expect(200).text_of("refreshToken")).collect();
    assert_eq!(successors.len(), 1);
    let successor = successors.into_iter().next().unwrap();
    assert_ne!(successor, customer.refresh_token);
    let next = region.refresh(&successor).await.expect(200);
    assert_eq!(next.text_of("sessionId"), customer.session_id);
    assert_eq!((next.text_of("userId"), &next.body["expiresIn"]), (customer.user_id.clone(), &json!(900)));
    assert_eq!(next.header("set-cookie"), None, "the cookie lasts as long as the session");
    let renewed = Customer { token: next.text_of("accessToken"), ..customer };
    region.call_as(&renewed, "GET", "/orders").send().await.expect(200);
}

#[tokio::test]
async fn a_refresh_token_that_is_used_again_ends_the_session_for_thief_and_owner() {
    let region = TestRegion::start().await;
    let owner = region.customer().await;
    let other_device = region.sign_in(&owner.email).await;
    let stolen = owner.refresh_token.clone();
    let renewed = region.refresh(&stolen).await.expect(200);
    // Until the successor is used it is a retry.
    region.refresh(&stolen).await.expect(200);
    let renewed = region.refresh(&renewed.text_of("refreshToken")).await.expect(200);
    region.refresh(&stolen).await.expect_problem(401, "unauthenticated");
    let owner = Customer {
        token: renewed.text_of("accessToken"),
        refresh_token: renewed.text_of("refreshToken"),
        ..owner
    };
    region.call_as(&owner, "GET", "/orders").send().await.expect_problem(401, "unauthenticated");
    region.refresh(&owner.refresh_token).await.expect_problem(401, "unauthenticated");
    region.call_as(&other_device, "GET", "/orders").send().await.expect(200);
    region.log_with("refresh token reused").await;
}

#[tokio::test]
async fn a_client_that_retries_stays_signed_in_when_processes_are_killed_before_and_after_the_exchange() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let mut token = customer.refresh_token.clone();
    for when in ["before", "after", "after", "before", "after"] {
        let rule = region
            .fault(&json!({
                "match": {"service": "dynamodb", "operation": "TransactWriteItems", "caller": "api-sessions"},
                "times": 1,
                "effect": {"kind": "hold", "when": when},
            }))
            .await;
        let (lost, killed) = tokio::join!(region.refresh(&token), async {
            region.until_held(rule).await;
            region.kill("api-sessions").await
        });
        lost.expect_crash();
        assert!(killed > 0, "{killed} killed");
        region.control("DELETE", &format!("/faults/{rule}")).send().await.expect(200);
        token = region.refresh(&token).await.expect(200).text_of("refreshToken");
    }
    let last = region.refresh(&token).await.expect(200);
    let renewed = Customer { token: last.text_of("accessToken"), ..customer };
    region.call_as(&renewed, "GET", "/orders").send().await.expect(200);
}

#[tokio::test]
async fn fifty_clients_that_retry_stay_signed_in_while_one_process_after_the_other_is_killed() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let over = AtomicBool::new(false);
    let killed = async {
        let mut kills = 0;
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(rand::random_range(100..300))).await;
            if kills < KILLS {
                kills += region.kill("api-sessions").await;
            }
        }
        kills
    };
    let refresh = async |_: usize| {
        let began = Instant::now();
        loop {
            let answer = region.refresh(&customer.refresh_token).await;
            if answer.status < 500 {
                return answer.expect(200).text_of("refreshToken");
            }
            assert!(began.elapsed() < PATIENCE, "never answered: {}", answer.text);
        }
    };
    let clients = async {
        let successors: HashSet<String> =
            stream::iter(0..50).map(refresh).buffer_unordered(50).collect().await;
        over.store(true, Ordering::Relaxed);
        successors
    };
    let (kills, successors) = tokio::join!(killed, clients);
    assert!(kills > 0, "nothing was killed");
    assert_eq!(successors.len(), 1);
    let last = region.refresh(successors.iter().next().unwrap()).await.expect(200);
    assert_eq!(last.text_of("sessionId"), customer.session_id);
}

#[tokio::test]
async fn of_many_new_passwords_at_once_one_counts() {
    let region = TestRegion::start().await;
    let phone = region.customer().await;
    let laptop = region.sign_in(&phone.email).await;
    let wish = |n: usize| format!("my next password is number {n}");
    // With the wrong sign-ins below, no more than an account has attempts.
    let answers: Vec<(usize, Answer)> = stream::iter(0_usize..3)
        .map(|n| {
            let (region, who) = (&region, if n.is_multiple_of(2) { &phone } else { &laptop });
            async move { (n, change_password(region, who, PASSWORD, &wish(n)).await) }
        })
        .buffer_unordered(3)
        .collect()
        .await;
    let counted: Vec<usize> =
        answers.iter().filter(|(_, answer)| answer.status == 204).map(|(n, _)| *n).collect();
    assert_eq!(counted.len(), 1, "{answers:?}");
    let winner = counted[0];
    for (n, answer) in answers {
        if n != winner {
            assert_eq!(answer.status, 401, "{}", answer.text);
        }
        let body = json!({"email": phone.email, "password": wish(n)});
        let sign_in = region.call("POST", "/sessions").json(&body).send().await;
        assert_eq!(sign_in.status, if n == winner { 201 } else { 401 });
    }
    let (chose, other) = if winner.is_multiple_of(2) { (&phone, &laptop) } else { (&laptop, &phone) };
    region.call_as(chose, "GET", "/orders").send().await.expect(200);
    region.call_as(other, "GET", "/orders").send().await.expect_problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_wrong_current_password_changes_nothing() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let refused = change_password(&region, &customer, "hunter2 hunter2", NEW_PASSWORD).await;
    refused.expect_problem(401, "wrong-credentials");
    region.call_as(&customer, "GET", "/orders").send().await.expect(200);
    region.sign_in(&customer.email).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_no_secret_is_repeated() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let secret = "hunter2-hunter2-hunter2";
    let refresh = |body: Value| region.call("POST", "/sessions/refresh").json(&body).send();
    let change = |body: Value| region.call_as(&customer, "PUT", "/users/me/password").json(&body).send();
    let token = &customer.refresh_token;
    let mut refusals = vec![
        refresh(json!({"refreshToken": {"of": secret}})).await,
        refresh(json!({"refreshToken": token, "more": secret})).await,
        refresh(json!({"token": secret})).await,
        change(json!({"current": secret, "new": "hunter2"})).await,
        change(json!({"current": secret, "new": [secret]})).await,
        change(json!({"current": {"of": secret}, "new": NEW_PASSWORD})).await,
        change(json!({"current": secret, "new": NEW_PASSWORD, "more": secret})).await,
        change(json!({"current": secret})).await,
    ];
    for refusal in &refusals {
        refusal.clone().expect_problem(400, "invalid-request");
    }
    for unreadable in [secret.to_owned(), String::new(), format!("{}.{secret}", customer.session_id)] {
        let refusal = refresh(json!({"refreshToken": unreadable})).await;
        refusals.push(refusal.expect_problem(401, "unauthenticated"));
    }
    let plain = region.call("POST", "/sessions/refresh").header("content-type", "text/plain");
    refusals.push(plain.text(secret).send().await.expect_problem(415, "unsupported-media-type"));
    let plain = region.call_as(&customer, "PUT", "/users/me/password").header("content-type", "text/plain");
    refusals.push(plain.text(secret).send().await.expect_problem(415, "unsupported-media-type"));
    for refusal in &refusals {
        assert!(!refusal.text.contains("hunter2") && !refusal.text.contains(token), "{}", refusal.text);
    }
    region.refresh(token).await.expect(200);
    let log = region.log();
    for secret in ["hunter2", token, &customer.token, &customer.cookie, PASSWORD] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}
