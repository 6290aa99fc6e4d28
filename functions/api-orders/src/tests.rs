//! Runs the handler with the events of `events/api-orders`: every refusal is the documented
//! problem.

use std::sync::Arc;

use local_region::services::Service;
use local_region::services::faults::{Failure, Rule};
use serde_json::json;
use sojourn::commerce::catalog::ProductDraft;
use sojourn::commerce::catalog::cached::Catalog;
use sojourn::commerce::payments::sandbox::SandboxProvider;
use sojourn::core::clock::{self, Clock, SystemClock};
use sojourn::core::ids;
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::reply::Reply;
use sojourn::platform::dynamo::{number, text};
use sojourn_testing::{Event, Fixture};

use crate::app::App;
use crate::handler::handle;

const PLACE: &str = include_str!("../../../events/api-orders/place.json");
const GET: &str = include_str!("../../../events/api-orders/get.json");
const LIST: &str = include_str!("../../../events/api-orders/list.json");
const PAY: &str = include_str!("../../../events/api-orders/pay.json");
const CANCEL: &str = include_str!("../../../events/api-orders/cancel.json");
const NOBODYS_ORDER: &str = "ord_01JD0000000000000000000000";

struct Stage {
    fixture: Fixture,
    app: Arc<App>,
    token: String,
}

impl Stage {
    /// A shop with three units of the ordered product, and a customer.
    async fn open() -> Self {
        let fixture = Fixture::start();
        let client = fixture.store.client.clone();
        let price = json!({"amount": 68_000, "currency": "TWD"});
        let draft: ProductDraft =
            serde_json::from_value(json!({"name": "Espresso beans, 1 kg", "price": price})).unwrap();
        let catalog = Catalog::from_env(client.clone(), &fixture.env, clock::system()).unwrap();
        let id = "espresso-beans-1kg".parse().unwrap();
        catalog.put(&id, &draft, SystemClock.now()).await.unwrap();
        let stock = client.put_item().table_name("StockTable");
        stock
            .item("productId", text("espresso-beans-1kg"))
            .item("region", text("local"))
            .item("available", number(3))
            .send()
            .await
            .unwrap();
        let ledger = client.clone().into();
        let provider = SandboxProvider::with_ledger(ledger, &fixture.env, ids::random()).unwrap();
        let app = Arc::new(App::from_env(client, provider, &fixture.env, clock::system()).unwrap());
        let token = fixture.token(&[]).await;
        Self { fixture, app, token }
    }

    async fn ask(&self, event: Event) -> Result<Reply, Problem> {
        handle(Arc::clone(&self.app), event.incoming()).await
    }

    async fn refusal(&self, event: Event) -> ProblemType {
        self.ask(event).await.expect_err("must be refused").kind
    }

    fn event(&self, file: &str) -> Event {
        Event::of(file).token(&self.token)
    }

    async fn placed(&self, key: &str) -> String {
        let body = r#"{"lines":[{"productId":"espresso-beans-1kg","quantity":1}]}"#;
        let reply = self.ask(self.event(PLACE).header("idempotency-key", key).body(body)).await.unwrap();
        reply.body.unwrap()["orderId"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_order_is_placed_paid_listed_and_no_longer_to_be_cancelled() {
    let stage = Stage::open().await;
    let placed = stage.ask(stage.event(PLACE)).await.unwrap();
    assert_eq!(placed.status, 201);
    let order = placed.body.unwrap();
    let id = order["orderId"].as_str().unwrap();

    let paid = stage.ask(stage.event(PAY).path("orderId", id)).await.unwrap();
    assert_eq!((paid.status, &paid.body.unwrap()["amount"]["amount"]), (201, &json!(136_000)));
    let found = stage.ask(stage.event(GET).path("orderId", id)).await.unwrap().body.unwrap();
    assert_eq!((&found["status"], &found["lines"]), (&json!("PAID"), &order["lines"]));
    let listed = stage.ask(stage.event(LIST)).await.unwrap().body.unwrap();
    assert_eq!(listed, json!({"items": [found]}));
    assert_eq!(stage.refusal(stage.event(CANCEL).path("orderId", id)).await, ProblemType::OrderStateConflict);
}

#[tokio::test]
async fn an_unpaid_order_is_cancelled_without_a_body() {
    let stage = Stage::open().await;
    let id = stage.placed("k").await;
    let cancelled = stage.ask(stage.event(CANCEL).path("orderId", &id)).await.unwrap();
    assert_eq!((cancelled.status, &cancelled.body.unwrap()["status"]), (200, &json!("CANCELLED")));
}

#[tokio::test]
async fn every_write_needs_a_well_formed_key() {
    let stage = Stage::open().await;
    for file in [PLACE, PAY, CANCEL] {
        let event = || stage.event(file).path("orderId", NOBODYS_ORDER);
        assert_eq!(
            stage.refusal(event().without("idempotency-key")).await,
            ProblemType::IdempotencyKeyMissing
        );
        for key in ["", "a key", "\"half", &"k".repeat(256)] {
            let refusal = stage.refusal(event().header("idempotency-key", key)).await;
            assert_eq!(refusal, ProblemType::IdempotencyKeyInvalid, "{key}");
        }
    }
}

#[tokio::test]
async fn a_quoted_key_is_the_same_key_and_another_payload_is_refused() {
    let stage = Stage::open().await;
    let id = stage.placed("k").await;
    assert_eq!(stage.placed("\"k\"").await, id);
    let other = stage.event(PLACE).header("idempotency-key", "k");
    assert_eq!(stage.refusal(other).await, ProblemType::IdempotencyKeyReused);
}

#[tokio::test]
async fn a_key_that_was_used_on_one_order_is_refused_on_another() {
    let stage = Stage::open().await;
    let (one, other) = (stage.placed("one").await, stage.placed("other").await);
    let on = |file: &str, id: &str| stage.event(file).path("orderId", id).header("idempotency-key", "k");
    assert_eq!(stage.ask(on(PAY, &one)).await.unwrap().status, 201);
    assert_eq!(stage.refusal(on(PAY, &other)).await, ProblemType::IdempotencyKeyReused);
    assert_eq!(stage.refusal(on(CANCEL, &one)).await, ProblemType::OrderStateConflict, "another operation");
    assert_eq!(stage.refusal(on(CANCEL, &other)).await, ProblemType::IdempotencyKeyReused);
}

#[tokio::test]
async fn nobody_is_served_without_a_token() {
    let stage = Stage::open().await;
    for file in [PLACE, PAY, CANCEL, GET, LIST] {
        let event = || stage.event(file).path("orderId", NOBODYS_ORDER);
        assert_eq!(stage.refusal(event().without("authorization")).await, ProblemType::Unauthenticated);
        assert_eq!(stage.refusal(event().token("e30.e30.e30")).await, ProblemType::Unauthenticated);
    }
}

#[tokio::test]
async fn a_session_that_has_ended_is_refused_by_reads_and_writes() {
    let stage = Stage::open().await;
    stage.fixture.end_sessions().await;
    for file in [PLACE, PAY, CANCEL, GET, LIST] {
        let refusal = stage.refusal(stage.event(file).path("orderId", NOBODYS_ORDER)).await;
        assert_eq!(refusal, ProblemType::Unauthenticated, "{file}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_orders_are_told_what_they_are() {
    let stage = Stage::open().await;
    let place = |body: &str| stage.refusal(stage.event(PLACE).body(body));
    assert_eq!(place("{").await, ProblemType::InvalidRequest);
    assert_eq!(place(r#"{"lines":[]}"#).await, ProblemType::InvalidRequest);
    assert_eq!(place(r#"{"lines":[{"productId":"tea","quantity":1}]}"#).await, ProblemType::Unprocessable);
    assert_eq!(place(&"x".repeat(300_000)).await, ProblemType::BodyTooLarge);
    let form = stage.event(PLACE).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(stage.refusal(form).await, ProblemType::UnsupportedMediaType);
}

#[tokio::test]
async fn what_is_not_there_is_a_404_and_a_bad_page_a_400() {
    let stage = Stage::open().await;
    for file in [GET, PAY, CANCEL] {
        for id in [NOBODYS_ORDER, "ord_1", "usr_01JD0000000000000000000000"] {
            let event = stage.event(file).path("orderId", id).header("idempotency-key", id);
            assert_eq!(stage.refusal(event).await, ProblemType::NotFound);
        }
    }
    assert_eq!(stage.refusal(stage.event(LIST).query("limit", "101")).await, ProblemType::InvalidRequest);
    assert_eq!(stage.refusal(stage.event(LIST).query("cursor", "e30")).await, ProblemType::InvalidRequest);
}

#[tokio::test]
async fn stock_money_and_provider_each_have_their_refusal() {
    let stage = Stage::open().await;
    let id = stage.placed("k").await;
    let many = r#"{"lines":[{"productId":"espresso-beans-1kg","quantity":3}]}"#;
    let order = stage.event(PLACE).header("idempotency-key", "many").body(many);
    assert_eq!(stage.refusal(order).await, ProblemType::OutOfStock);
    let pay = |token: &str| {
        let body = json!({"paymentToken": token}).to_string();
        stage.refusal(stage.event(PAY).path("orderId", &id).header("idempotency-key", token).body(&body))
    };
    assert_eq!(pay("tok_declined").await, ProblemType::PaymentDeclined);
    assert_eq!(pay("tok_unavailable").await, ProblemType::Unavailable);
    assert_eq!(pay("tok_timeout_after_charge").await, ProblemType::PaymentOutcomeUnknown);
    assert_eq!(pay("").await, ProblemType::IdempotencyKeyInvalid);
}

#[tokio::test]
async fn a_store_that_is_asked_too_much_is_a_503() {
    let stage = Stage::open().await;
    let throttled = Rule::fail(Failure::ProvisionedThroughputExceededException).service(Service::DynamoDb);
    stage.fixture.store.embedded.faults().add(throttled);
    let problem = stage.ask(stage.event(PLACE)).await.unwrap_err();
    assert_eq!((problem.kind, problem.retry_after.is_some()), (ProblemType::Unavailable, true));
}
