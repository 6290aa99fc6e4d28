//! How many round trips to DynamoDB an answer waits for.
//!
//! Every request is delayed by a fault rule, so that requests which a function sends together overlap, and those which
//! it sends one after the other do not.

use serde_json::json;
use sojourn_tests::{PASSWORD, TestRegion, fresh_key};

/// The delay of each request: far above what the requests themselves take.
const DELAY_MS: u64 = 40;

async fn delayed() -> TestRegion {
    let region = TestRegion::start().await;
    region.fault(&json!({"match": {"service": "dynamodb", "caller": "api-*"}, "effect": {"kind": "delay", "millis": DELAY_MS}})).await;
    region
}

async fn sequential(region: &TestRegion) -> u64 {
    let usage = region.usage().await;
    usage["sequentialRoundTrips"].as_u64().unwrap_or_else(|| panic!("{usage}"))
}

#[tokio::test]
async fn a_new_order_waits_for_two_round_trips_and_its_replay_for_one() {
    let region = delayed().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    region.stock(&operator, "chair", 10).await;
    let customer = region.customer().await;
    let (key, lines) = (fresh_key(), [("lamp", 1), ("chair", 2)]);

    region.record().await;
    region.order(&customer, &key, &lines).await.expect(201);
    assert_eq!(sequential(&region).await, 2);

    region.record().await;
    let replay = region.order(&customer, &key, &lines).await.expect(201);
    assert_eq!(replay.header("idempotent-replayed"), Some("true"));
    assert_eq!(sequential(&region).await, 1);
}

#[tokio::test]
async fn reading_an_order_waits_for_one_round_trip_with_its_session_checked() {
    let region = delayed().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let location = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
    let location = location.header("location").unwrap_or_default().to_owned();
    region.record().await;
    region.call_as(&customer, "GET", &location).send().await.expect(200);
    let usage = region.usage().await;
    assert!(usage.to_string().contains("SessionsTable"), "the session row was read: {usage}");
    assert_eq!(sequential(&region).await, 1);
}

#[tokio::test]
async fn a_read_by_cookie_waits_for_one_round_trip_as_one_by_token_does() {
    let region = delayed().await;
    let customer = region.customer().await;
    region.record().await;
    region.call_by_cookie(&customer, "GET", "/orders").send().await.expect(200);
    let usage = region.usage().await;
    assert!(usage.to_string().contains("SessionsTable"), "the cookie was proven: {usage}");
    assert_eq!(sequential(&region).await, 1);
}

#[tokio::test]
async fn the_first_read_of_a_quiet_minute_stamps_the_session_and_waits_for_one_more() {
    let region = delayed().await;
    let customer = region.customer().await;
    region.quiet_session(&customer.session_id, 2).await;
    for expected in [2, 1] {
        region.record().await;
        region.call_as(&customer, "GET", "/orders").send().await.expect(200);
        assert_eq!(sequential(&region).await, expected);
    }
}

#[tokio::test]
async fn listing_sessions_waits_for_two_round_trips() {
    let region = delayed().await;
    let customer = region.customer().await;
    region.record().await;
    region.call_as(&customer, "GET", "/sessions").send().await.expect(200);
    assert_eq!(sequential(&region).await, 2, "the ids from the index, then the rows");
}

#[tokio::test]
async fn a_refresh_waits_for_two_round_trips_and_so_does_its_retry() {
    let region = delayed().await;
    let customer = region.customer().await;
    for attempt in ["exchange", "retry"] {
        region.record().await;
        region.refresh(&customer.refresh_token).await.expect(200);
        assert_eq!(sequential(&region).await, 2, "{attempt}");
    }
}

#[tokio::test]
async fn a_revocation_waits_for_two_round_trips_however_many_sessions_end() {
    let region = delayed().await;
    let customer = region.customer().await;
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(region.sign_in(&customer.email).await);
    }
    let one = format!("/sessions/{}", others[0].session_id);
    for (who, path) in
        [(&customer, one.as_str()), (&others[1], "/sessions/current"), (&customer, "/sessions")]
    {
        region.record().await;
        region.call_as(who, "DELETE", path).send().await.expect(204);
        assert_eq!(sequential(&region).await, 2, "{path}: the check, then the transaction");
    }
}

#[tokio::test]
async fn a_new_password_waits_for_two_round_trips() {
    let region = delayed().await;
    let customer = region.customer().await;
    region.sign_in(&customer.email).await;
    let body = json!({"current": PASSWORD, "new": "another password of hers"});
    region.record().await;
    region.call_as(&customer, "PUT", "/users/me/password").json(&body).send().await.expect(204);
    assert_eq!(sequential(&region).await, 2, "session and account together, then the transaction");
}

#[tokio::test]
async fn health_asks_nobody() {
    let region = TestRegion::start().await;
    region.record().await;
    let health = region.call("GET", "/health").send().await.expect(200);
    assert_eq!((health.body["status"].as_str(), health.body["region"].as_str()), (Some("ok"), Some("local")));
    assert_eq!(sequential(&region).await, 0);
}
