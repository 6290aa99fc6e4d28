//! How many round trips to DynamoDB, and to queues, an answer waits for.
//!
//! Every request is delayed by a fault rule, so that requests which a function sends together overlap, and those which
//! it sends one after the other do not.

use std::time::Duration;

use serde_json::json;
use sojourn::core::clock::{Clock, SystemClock};
use sojourn_tests::{File, PASSWORD, TestRegion, fresh_key};

/// The delay of each request: far above what the requests themselves take, and what a busy machine puts between two that
/// are sent together.
const DELAY_MS: u64 = 400;

/// The delay where a session is stamped: a read waits 200 ms for its stamp, and goes on without.
const STAMP_DELAY_MS: u64 = 150;

async fn delayed() -> TestRegion {
    delayed_by(DELAY_MS).await
}

async fn delayed_by(millis: u64) -> TestRegion {
    let region = TestRegion::start().await;
    let rule = json!({"match": {"service": "dynamodb", "caller": "api-*"}, "effect": {"kind": "delay", "millis": millis}});
    region.fault(&rule).await;
    region
}

async fn sequential(region: &TestRegion) -> u64 {
    let usage = region.usage_of("api-*").await;
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
async fn a_cancellation_waits_for_two_round_trips_and_for_the_provider() {
    let region = delayed().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let order_id = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId");
    region.record().await;
    let cancel = region.call_as(&customer, "POST", &format!("/orders/{order_id}/cancel")).key(&fresh_key());
    cancel.send().await.expect(200);
    let usage = region.usage_of("api-*").await;
    assert!(usage.to_string().contains("PaymentLedgerTable"), "the payment was voided: {usage}");
    assert_eq!(sequential(&region).await, 3);
}

#[tokio::test]
async fn an_order_of_the_cart_waits_for_three_round_trips_and_its_replay_for_one() {
    let region = delayed().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    region.fill_cart(&customer, &[("lamp", 2)]).await;
    let key = fresh_key();
    // The cart's products can't be read before the cart.
    for (replayed, round_trips) in [(None, 3), (Some("true"), 1)] {
        region.record().await;
        let order = region.order_cart(&customer, &key).await.expect(201);
        assert_eq!(order.header("idempotent-replayed"), replayed);
        assert_eq!(sequential(&region).await, round_trips);
    }
}

#[tokio::test]
async fn reading_a_cart_waits_for_one_round_trip_and_writing_it_for_two() {
    let region = delayed().await;
    let customer = region.customer().await;
    region.record().await;
    region.cart(&customer).await;
    assert_eq!(sequential(&region).await, 1);
    region.record().await;
    region.fill_cart(&customer, &[("lamp", 1)]).await;
    assert_eq!(sequential(&region).await, 2);
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
    let usage = region.usage_of("api-*").await;
    assert!(usage.to_string().contains("SessionsTable"), "the session row was read: {usage}");
    assert_eq!(sequential(&region).await, 1);
}

#[tokio::test]
async fn an_announcement_waits_for_two_round_trips_and_reading_an_upload_for_one() {
    let region = delayed().await;
    let customer = region.customer().await;
    let file = File::text("a.txt", "twelve bytes");
    region.record().await;
    let offer = region.announce(&customer, &file).await.expect(201);
    assert_eq!(sequential(&region).await, 2, "the session, then the row with the quota");
    for path in [format!("/uploads/{}", offer.text_of("uploadId")), "/uploads".to_owned()] {
        region.record().await;
        region.call_as(&customer, "GET", &path).send().await.expect(200);
        assert_eq!(sequential(&region).await, 1, "{path}");
    }
}

#[tokio::test]
async fn signing_in_waits_for_three_round_trips_with_its_attempt_counted() {
    let region = delayed().await;
    let customer = region.customer().await;
    region.record().await;
    // Pointer, profile; the session. The attempt is counted during the first two and given back during the third.
    region.sign_in(&customer.email).await;
    let usage = region.usage_of("api-*").await;
    assert!(usage.to_string().contains("SignInAttemptsTable"), "the attempt was counted: {usage}");
    assert_eq!(sequential(&region).await, 3);
}

#[tokio::test]
async fn a_read_by_cookie_waits_for_one_round_trip_as_one_by_token_does() {
    let region = delayed().await;
    let customer = region.customer().await;
    region.record().await;
    region.call_by_cookie(&customer, "GET", "/orders").send().await.expect(200);
    let usage = region.usage_of("api-*").await;
    assert!(usage.to_string().contains("SessionsTable"), "the cookie was proven: {usage}");
    assert_eq!(sequential(&region).await, 1);
}

#[tokio::test]
async fn the_first_read_of_a_quiet_minute_stamps_the_session_and_waits_for_one_more() {
    let region = delayed_by(STAMP_DELAY_MS).await;
    let customer = region.customer().await;
    region.quiet_session(&customer.session_id, 2).await;
    for expected in [2, 1] {
        region.record().await;
        region.call_as(&customer, "GET", "/orders").send().await.expect(200);
        assert_eq!(sequential(&region).await, expected);
    }
}

#[tokio::test]
async fn an_order_of_a_quiet_minute_stamps_the_session_and_waits_for_no_more() {
    let region = delayed_by(STAMP_DELAY_MS).await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    region.quiet_session(&customer.session_id, 23 * 60).await;
    region.record().await;
    region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
    assert_eq!(sequential(&region).await, 2);
    // Were the session not stamped, it would be idle for too long in an hour.
    let an_hour_ago = SystemClock.now().checked_sub(Duration::from_hours(1)).unwrap_or_default();
    assert!(region.last_activity(&customer.session_id).await > an_hour_ago);
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
async fn a_refresh_waits_for_two_round_trips_and_its_retry_for_one() {
    let region = delayed().await;
    let customer = region.customer().await;
    // The session and its account together, the exchange; a retry has nothing to exchange.
    for expected in [2, 1] {
        region.record().await;
        region.refresh(&customer.refresh_token).await.expect(200);
        assert_eq!(sequential(&region).await, expected);
    }
}

#[tokio::test]
async fn a_revocation_waits_for_three_round_trips_however_many_sessions_end() {
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
        assert_eq!(sequential(&region).await, 3, "{path}: the check, the transaction, the sockets to close");
    }
}

#[tokio::test]
async fn a_new_password_waits_for_five_round_trips() {
    let region = delayed().await;
    let customer = region.customer().await;
    region.sign_in(&customer.email).await;
    let body = json!({"current": PASSWORD, "new": "another password of hers"});
    region.record().await;
    region.call_as(&customer, "PUT", "/users/me/password").json(&body).send().await.expect(204);
    // Session and account together; the attempt, by address and by account; the transaction, with the attempt given
    // back; the sockets to close.
    assert_eq!(sequential(&region).await, 5);
}

#[tokio::test]
async fn asking_for_an_export_waits_for_three_round_trips_and_a_replay_that_finds_it_sent_for_two() {
    let region = delayed().await;
    let queue = json!({"match": {"service": "sqs", "caller": "api-*"}, "effect": {"kind": "delay", "millis": DELAY_MS}});
    region.fault(&queue).await;
    // What the worker asks for is nothing that an answer waits for.
    let worker = json!({"match": {"caller": "export-worker"}, "effect": {"kind": "hold", "when": "before"}});
    region.fault(&worker).await;
    let (customer, key) = (region.customer().await, fresh_key());
    // The third one is the queue's: what was acknowledged is in it. The first replay does not know that: it claims the right to
    // send, sends, and says so. The next one finds that.
    for (replayed, round_trips) in [(None, 3), (Some("true"), 4), (Some("true"), 2)] {
        region.record().await;
        let export = region.export(&customer, &key).await.expect(202);
        assert_eq!(export.header("idempotent-replayed"), replayed);
        assert_eq!(sequential(&region).await, round_trips);
    }
}

#[tokio::test]
async fn health_asks_nobody() {
    let region = TestRegion::start().await;
    region.record().await;
    let health = region.call("GET", "/health").send().await.expect(200);
    assert_eq!((health.body["status"].as_str(), health.body["region"].as_str()), (Some("ok"), Some("local")));
    assert_eq!(sequential(&region).await, 0);
}
