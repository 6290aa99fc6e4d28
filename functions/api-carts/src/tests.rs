//! Runs the handler with the events of `events/api-carts`.

use std::sync::Arc;

use local_region::services::Service;
use local_region::services::faults::{Failure, Rule};
use serde_json::json;
use sojourn::core::clock;
use sojourn::core::precondition::EntityTag;
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::reply::Reply;
use sojourn_testing::{Event, Fixture};

use crate::app::App;
use crate::handler::handle;

const GET: &str = include_str!("../../../events/api-carts/get.json");
const PUT: &str = include_str!("../../../events/api-carts/put.json");
const DELETE: &str = include_str!("../../../events/api-carts/delete.json");

struct Stage {
    fixture: Fixture,
    app: Arc<App>,
    token: String,
}

impl Stage {
    async fn open() -> Self {
        let fixture = Fixture::start();
        let app =
            Arc::new(App::from_env(fixture.store.client.clone(), &fixture.env, clock::system()).unwrap());
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
}

fn etag(reply: &Reply) -> &str {
    &reply.headers["etag"]
}

#[tokio::test]
async fn a_cart_is_written_read_and_deleted() {
    let stage = Stage::open().await;
    let none = stage.ask(stage.event(GET)).await.unwrap();
    assert_eq!((none.status, etag(&none), none.body.clone()), (200, "\"0\"", Some(json!({"lines": []}))));

    let put = stage.ask(stage.event(PUT)).await.unwrap();
    assert_eq!((put.status, etag(&put)), (200, "\"1\""));
    assert_eq!(put.body.as_ref().unwrap()["lines"][0]["quantity"], 2);
    let read = stage.ask(stage.event(GET)).await.unwrap();
    assert_eq!((etag(&read), &read.body), (etag(&put), &put.body));

    let deleted = stage.ask(stage.event(DELETE)).await.unwrap();
    assert_eq!((deleted.status, deleted.body), (204, None));
    let left = stage.ask(stage.event(GET)).await.unwrap();
    assert_eq!((etag(&left), &left.body.as_ref().unwrap()["lines"]), ("\"2\"", &json!([])));
}

#[tokio::test]
async fn a_stale_write_is_told_the_version_that_stands_and_changes_nothing() {
    let stage = Stage::open().await;
    stage.ask(stage.event(PUT)).await.unwrap();
    for file in [PUT, DELETE] {
        for other in ["\"0\"", "W/\"1\"", "\"2\", \"3\"", "\"one\""] {
            let problem = stage.ask(stage.event(file).header("if-match", other)).await.unwrap_err();
            let first = Some(EntityTag::Version(1));
            assert_eq!((problem.kind, &problem.tag), (ProblemType::StaleVersion, &first), "{other}");
            assert_eq!(etag(&problem.into_reply()), "\"1\"");
        }
    }
    assert_eq!(etag(&stage.ask(stage.event(GET)).await.unwrap()), "\"1\"");
    for fits in ["\"1\"", "*", "\"9\", \"3\""] {
        stage.ask(stage.event(PUT).header("if-match", fits)).await.unwrap();
    }
    assert_eq!(etag(&stage.ask(stage.event(GET)).await.unwrap()), "\"4\"");
}

#[tokio::test]
async fn what_is_no_cart_and_no_entity_tag_is_refused() {
    let stage = Stage::open().await;
    let put = |body: &str| stage.refusal(stage.event(PUT).body(body));
    assert_eq!(put("{").await, ProblemType::InvalidRequest);
    assert_eq!(put("{}").await, ProblemType::InvalidRequest);
    assert_eq!(put(r#"{"lines":[],"version":1}"#).await, ProblemType::InvalidRequest);
    assert_eq!(put(r#"{"lines":[{"productId":"tea","quantity":0}]}"#).await, ProblemType::InvalidRequest);
    assert_eq!(put(&"x".repeat(300_000)).await, ProblemType::BodyTooLarge);
    for file in [PUT, DELETE] {
        for malformed in ["", "1", "\"1", "*, \"1\""] {
            let refusal = stage.refusal(stage.event(file).header("if-match", malformed)).await;
            assert_eq!(refusal, ProblemType::InvalidRequest, "{malformed}");
        }
    }
}

#[tokio::test]
async fn nobody_is_served_without_a_token() {
    let stage = Stage::open().await;
    for file in [GET, PUT, DELETE] {
        let refusal = stage.refusal(stage.event(file).without("authorization")).await;
        assert_eq!(refusal, ProblemType::Unauthenticated);
        assert_eq!(stage.refusal(stage.event(file).token("e30.e30.e30")).await, ProblemType::Unauthenticated);
    }
}

#[tokio::test]
async fn a_session_that_has_ended_reads_nothing_and_writes_nothing() {
    let stage = Stage::open().await;
    stage.ask(stage.event(PUT)).await.unwrap();
    let client = &stage.fixture.store.client;
    stage.fixture.end_sessions().await;
    for file in [GET, PUT, DELETE] {
        let refusal = stage.refusal(stage.event(file).without("if-match")).await;
        assert_eq!(refusal, ProblemType::Unauthenticated, "{file}");
    }
    let carts = client.scan().table_name("CartsTable").send().await.unwrap().items.unwrap();
    assert_eq!(carts[0]["version"].as_n().unwrap(), "1");
}

#[tokio::test]
async fn a_store_that_is_asked_too_much_is_a_503() {
    let stage = Stage::open().await;
    let throttled = Rule::fail(Failure::ProvisionedThroughputExceededException).service(Service::DynamoDb);
    stage.fixture.store.embedded.faults().add(throttled);
    for file in [GET, PUT, DELETE] {
        let problem = stage.ask(stage.event(file)).await.unwrap_err();
        assert_eq!((problem.kind, problem.retry_after.is_some()), (ProblemType::Unavailable, true));
    }
}
