//! Runs the handler with the events of `events/api-catalog`: every refusal is the documented
//! problem.

use std::sync::Arc;

use local_region::services::Service;
use local_region::services::faults::{Failure, Rule};
use serde_json::json;
use sojourn::core::clock;
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::reply::Reply;
use sojourn::identity::principal::Role;
use sojourn_testing::{Event, Fixture};

use crate::app::App;
use crate::handler::handle;

const LIST: &str = include_str!("../../../events/api-catalog/list.json");
const GET: &str = include_str!("../../../events/api-catalog/get.json");
const PUT: &str = include_str!("../../../events/api-catalog/put.json");
const STOCK: &str = include_str!("../../../events/api-catalog/stock.json");

struct Stage {
    fixture: Fixture,
    app: Arc<App>,
    operator: String,
}

impl Stage {
    async fn open() -> Self {
        let fixture = Fixture::start();
        let app = App::from_env(fixture.store.client.clone(), &fixture.env, clock::system()).unwrap();
        let operator = fixture.token(&[Role::Operator]).await;
        Self { fixture, app: Arc::new(app), operator }
    }

    async fn ask(&self, event: Event) -> Result<Reply, Problem> {
        handle(Arc::clone(&self.app), event.incoming()).await
    }

    async fn refusal(&self, event: Event) -> ProblemType {
        self.ask(event).await.expect_err("must be refused").kind
    }

    fn event(&self, file: &str) -> Event {
        Event::of(file).token(&self.operator)
    }
}

#[tokio::test]
async fn a_product_is_put_stocked_and_seen_by_everybody() {
    let stage = Stage::open().await;
    let created = stage.ask(stage.event(PUT)).await.unwrap();
    assert_eq!((created.status, &created.body.unwrap()["available"]), (201, &json!(0)));
    let stocked = stage.ask(stage.event(STOCK)).await.unwrap();
    let sum = json!({"productId": "espresso-beans-1kg", "region": "local", "available": 100});
    assert_eq!((stocked.status, stocked.body), (200, Some(sum)));
    let replaced = stage.ask(stage.event(PUT)).await.unwrap();
    let product = replaced.body.unwrap();
    assert_eq!((replaced.status, &product["available"]), (200, &json!(100)));

    let anybody = |file: &str| Event::of(file).without("authorization");
    assert_eq!(stage.ask(anybody(GET)).await.unwrap().body, Some(product.clone()));
    assert_eq!(stage.ask(anybody(LIST)).await.unwrap().body, Some(json!({"items": [product]})));
}

#[tokio::test]
async fn writes_are_for_operators_whose_sessions_stand() {
    let stage = Stage::open().await;
    let customer = stage.fixture.token(&[]).await;
    for file in [PUT, STOCK] {
        assert_eq!(stage.refusal(Event::of(file).token(&customer)).await, ProblemType::Forbidden);
        assert_eq!(
            stage.refusal(Event::of(file).without("authorization")).await,
            ProblemType::Unauthenticated
        );
    }
    stage.fixture.end_sessions().await;
    for file in [PUT, STOCK] {
        assert_eq!(stage.refusal(stage.event(file)).await, ProblemType::Unauthenticated);
    }
    assert_eq!(stage.refusal(Event::of(GET)).await, ProblemType::NotFound, "nothing was written");
}

#[tokio::test]
async fn bodies_keys_and_ids_out_of_bounds_are_refused() {
    let stage = Stage::open().await;
    for body in ["{", "{}", r#"{"name":"","price":{"amount":1,"currency":"TWD"}}"#] {
        assert_eq!(stage.refusal(stage.event(PUT).body(body)).await, ProblemType::InvalidRequest, "{body}");
    }
    for body in [r#"{"delta":0}"#, r#"{"delta":1000001}"#, r#"{"delta":1.5}"#, r#"{"delta":1,"set":2}"#] {
        assert_eq!(stage.refusal(stage.event(STOCK).body(body)).await, ProblemType::InvalidRequest, "{body}");
    }
    let keyless = stage.event(STOCK).without("idempotency-key");
    assert_eq!(stage.refusal(keyless).await, ProblemType::IdempotencyKeyMissing);
    for file in [PUT, GET, STOCK] {
        assert_eq!(stage.refusal(stage.event(file).path("productId", "Tea!")).await, ProblemType::NotFound);
    }
    assert_eq!(stage.refusal(Event::of(LIST).query("cursor", "e30")).await, ProblemType::InvalidRequest);
    assert_eq!(stage.refusal(Event::of(LIST).query("limit", "0")).await, ProblemType::InvalidRequest);
}

#[tokio::test]
async fn stock_has_its_refusals() {
    let stage = Stage::open().await;
    let stock = |key: &str, delta: i64| {
        let body = json!({"delta": delta}).to_string();
        stage.event(STOCK).header("idempotency-key", key).body(&body)
    };
    assert_eq!(stage.refusal(stock("a", 1)).await, ProblemType::NotFound);
    stage.ask(stage.event(PUT)).await.unwrap();
    assert_eq!(stage.refusal(stock("b", -1)).await, ProblemType::StockBelowZero);
    assert_eq!(stage.ask(stock("c", 5)).await.unwrap().status, 200);
    assert_eq!(stage.refusal(stock("c", 6)).await, ProblemType::IdempotencyKeyReused);
    let of_another = stock("c", 5).path("productId", "another");
    assert_eq!(stage.refusal(of_another).await, ProblemType::IdempotencyKeyReused);
}

#[tokio::test]
async fn a_store_that_is_asked_too_much_is_a_503() {
    let stage = Stage::open().await;
    let throttled = Rule::fail(Failure::ProvisionedThroughputExceededException).service(Service::DynamoDb);
    stage.fixture.store.embedded.faults().add(throttled);
    assert_eq!(stage.refusal(Event::of(GET)).await, ProblemType::Unavailable);
}
