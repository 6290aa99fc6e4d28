//! How many round trips to DynamoDB, and to queues, an answer waits for.
//!
//! A test names the rounds of a request: `&[2, 1]` is two requests at the same time, and one that
//! waits for them. `TestRegion::in_rounds` holds the requests of each round until all of them are
//! under way. The numbers hold for template.yaml's defaults in one region: sessions in DynamoDB, no
//! Redis, no cache.

use std::time::{Duration, Instant};

use serde_json::json;
use sojourn::core::clock::{Clock, SystemClock};
use sojourn_tests::{Customer, File, PASSWORD, TestRegion, fresh_key};

/// Longest wait for an order whose stamp and transaction are under way at the same time.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_new_order_waits_for_two_round_trips_and_its_replay_for_one() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    region.stock(&operator, "chair", 10).await;
    let customer = region.customer().await;
    let (key, lines) = (fresh_key(), [("lamp", 1), ("chair", 2)]);

    region.in_rounds(&[1, 1], region.order(&customer, &key, &lines)).await.expect(201);
    let replay = region.in_rounds(&[1], region.order(&customer, &key, &lines)).await.expect(201);
    assert_eq!(replay.header("idempotent-replayed"), Some("true"));
}

#[tokio::test]
async fn a_cancellation_waits_for_two_round_trips_and_for_the_provider() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let order_id = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201).text_of("orderId");
    let cancel = region.call_as(&customer, "POST", &format!("/orders/{order_id}/cancel")).key(&fresh_key());
    region.in_rounds(&[1, 1, 1], cancel.send()).await.expect(200);
    let usage = region.usage_of("api-*").await;
    assert!(usage.to_string().contains("PaymentLedgerTable"), "the payment was voided: {usage}");
}

#[tokio::test]
async fn an_order_of_the_cart_waits_for_three_round_trips_and_its_replay_for_one() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    region.fill_cart(&customer, &[("lamp", 2)]).await;
    let key = fresh_key();
    // The cart's products can't be read before the cart.
    for (replayed, rounds) in [(None, [1, 1, 1].as_slice()), (Some("true"), &[1])] {
        let order = region.in_rounds(rounds, region.order_cart(&customer, &key)).await.expect(201);
        assert_eq!(order.header("idempotent-replayed"), replayed);
    }
}

#[tokio::test]
async fn reading_a_cart_waits_for_one_round_trip_and_writing_it_for_two() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    region.in_rounds(&[1], region.cart(&customer)).await;
    region.in_rounds(&[1, 1], region.fill_cart(&customer, &[("lamp", 1)])).await;
}

#[tokio::test]
async fn reading_an_order_waits_for_one_round_trip_with_its_session_checked() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    let location = region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
    let location = location.header("location").unwrap_or_default().to_owned();
    region.in_rounds(&[1], region.call_as(&customer, "GET", &location).send()).await.expect(200);
    let usage = region.usage_of("api-*").await;
    assert!(usage.to_string().contains("SessionsTable"), "the session row was read: {usage}");
}

#[tokio::test]
async fn an_announcement_waits_for_two_round_trips_and_reading_an_upload_for_one() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let file = File::text("a.txt", "twelve bytes");
    // The session, then the row with the quota.
    let offer = region.in_rounds(&[1, 1], region.announce(&customer, &file)).await.expect(201);
    let upload = format!("/uploads/{}", offer.text_of("uploadId"));
    for (path, requests) in [(upload.as_str(), 1), ("/uploads", 2)] {
        region.in_rounds(&[requests], region.call_as(&customer, "GET", path).send()).await.expect(200);
    }
}

#[tokio::test]
async fn signing_in_waits_for_three_round_trips_with_its_attempt_counted() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    // Pointer, profile; the session. The attempt is counted during the first two and given back
    // during the third.
    region.in_rounds(&[2, 2, 3], region.sign_in(&customer.email)).await;
    let usage = region.usage_of("api-*").await;
    assert!(usage.to_string().contains("SignInAttemptsTable"), "the attempt was counted: {usage}");
}

#[tokio::test]
async fn a_read_by_cookie_waits_for_one_round_trip_as_one_by_token_does() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    region.in_rounds(&[2], region.call_by_cookie(&customer, "GET", "/orders").send()).await.expect(200);
    let usage = region.usage_of("api-*").await;
    assert!(usage.to_string().contains("SessionsTable"), "the cookie was proven: {usage}");
    region.in_rounds(&[2], region.call_as(&customer, "GET", "/orders").send()).await.expect(200);
}

#[tokio::test]
async fn the_first_read_of_a_quiet_minute_stamps_the_session_and_waits_for_one_more() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    region.quiet_session(&customer.session_id, 2).await;
    // The stamp cannot be held: a read waits for it for a short time only.
    for stamps in [1, 0] {
        let orders = region.call_as(&customer, "GET", "/orders").send();
        region.in_rounds_and(&[2], stamps, orders).await.expect(200);
    }
}

/// Whether the stamp of an order's session is under way while its transaction is.
async fn stamps_during_the_transaction(region: &TestRegion, customer: &Customer) -> bool {
    let hold = async |operation: &str| {
        let rule = json!({"match": {"operation": operation, "caller": "api-*"}, "effect": {"kind": "hold", "when": "before"}});
        region.fault(&rule).await
    };
    region.quiet_session(&customer.session_id, 23 * 60).await;
    let (stamp, transaction) = (hold("UpdateItem").await, hold("TransactWriteItems").await);
    let look = async {
        region.until_held(transaction).await;
        let stamps = region.held_by(stamp).await;
        region.lift(stamp).await;
        region.lift(transaction).await;
        stamps == 1
    };
    let key = fresh_key();
    let (order, seen) = futures::join!(region.order(customer, &key, &[("lamp", 1)]), look);
    order.expect(201);
    seen
}

#[tokio::test]
async fn an_order_of_a_quiet_minute_stamps_the_session_and_waits_for_no_more() {
    let region = TestRegion::start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 10).await;
    let customer = region.customer().await;
    region.quiet_session(&customer.session_id, 23 * 60).await;
    region.order(&customer, &fresh_key(), &[("lamp", 1)]).await.expect(201);
    // Were the session not stamped, it would be idle for too long in an hour.
    let an_hour_ago = SystemClock.now().checked_sub(Duration::from_hours(1)).unwrap_or_default();
    assert!(region.last_activity(&customer.session_id).await > an_hour_ago);

    // A function that sends one after the other never has both under way. One that sends both at
    // the same time gives up the stamp soon, so a busy machine may need several orders.
    let began = Instant::now();
    while !stamps_during_the_transaction(&region, &customer).await {
        assert!(
            began.elapsed() < PATIENCE,
            "the transaction and the stamp are never under way at the same time"
        );
    }
}

#[tokio::test]
async fn listing_sessions_waits_for_two_round_trips() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    // The ids from the index, then the rows.
    region.in_rounds(&[2, 1], region.call_as(&customer, "GET", "/sessions").send()).await.expect(200);
}

#[tokio::test]
async fn a_refresh_waits_for_two_round_trips_and_its_retry_for_one() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    // The session and its account together, the exchange; a retry has nothing to exchange.
    for rounds in [[2, 1].as_slice(), &[2]] {
        region.in_rounds(rounds, region.refresh(&customer.refresh_token)).await.expect(200);
    }
}

#[tokio::test]
async fn a_revocation_waits_for_three_round_trips_however_many_sessions_end() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    let mut others = Vec::new();
    for _ in 0..5 {
        others.push(region.sign_in(&customer.email).await);
    }
    let one = format!("/sessions/{}", others[0].session_id);
    for (who, path) in
        [(&customer, one.as_str()), (&others[1], "/sessions/current"), (&customer, "/sessions")]
    {
        // The check, the transaction, the sockets to close.
        region.in_rounds(&[1, 1, 1], region.call_as(who, "DELETE", path).send()).await.expect(204);
    }
}

#[tokio::test]
async fn a_new_password_waits_for_five_round_trips() {
    let region = TestRegion::start().await;
    let customer = region.customer().await;
    region.sign_in(&customer.email).await;
    let body = json!({"current": PASSWORD, "new": "another password of hers"});
    // Session and account together; the attempt, by address and by account; the transaction, with
    // the attempt given back; the sockets to close.
    let change = region.call_as(&customer, "PUT", "/users/me/password").json(&body);
    region.in_rounds(&[2, 1, 1, 3, 1], change.send()).await.expect(204);
}

#[tokio::test]
async fn asking_for_an_export_waits_for_three_round_trips_and_a_replay_that_finds_it_sent_for_two() {
    let region = TestRegion::start().await;
    let (customer, key) = (region.customer().await, fresh_key());
    // The third request sends the message to the queue. The first replay does not know of it: it
    // claims the right to send, sends, and writes that down. The next replay finds that.
    for (replayed, rounds) in
        [(None, [1, 1, 1].as_slice()), (Some("true"), &[1, 1, 1, 1]), (Some("true"), &[1, 1])]
    {
        let export = region.in_rounds(rounds, region.export(&customer, &key)).await.expect(202);
        assert_eq!(export.header("idempotent-replayed"), replayed);
    }
}

#[tokio::test]
async fn health_asks_nobody() {
    let region = TestRegion::start().await;
    let health = region.in_rounds(&[], region.call("GET", "/health").send()).await.expect(200);
    assert_eq!((health.body["status"].as_str(), health.body["region"].as_str()), (Some("ok"), Some("local")));
}
