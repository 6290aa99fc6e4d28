//! Runs the handler with the events of `events/api-uploads`.

use std::collections::BTreeSet;
use std::sync::Arc;

use local_region::services::Service;
use local_region::services::faults::{Failure, Rule};
use serde_json::{Value, json};
use sojourn::core::clock;
use sojourn::core::ids::{self, UploadId};
use sojourn::core::problem::{Problem, ProblemType};
use sojourn::core::reply::Reply;
use sojourn::identity::sessions::SessionCookie;
use sojourn_testing::{BUCKET, Event, Files, Fixture};

use crate::app::App;
use crate::handler::handle;

const CREATE: &str = include_str!("../../../events/api-uploads/create.json");
const CREATE_MULTIPART: &str = include_str!("../../../events/api-uploads/create-multipart.json");
const LIST: &str = include_str!("../../../events/api-uploads/list.json");
const GET: &str = include_str!("../../../events/api-uploads/get.json");
const COMPLETE: &str = include_str!("../../../events/api-uploads/complete.json");
const DELETE: &str = include_str!("../../../events/api-uploads/delete.json");

/// The file that the event `create` declares.
const BYTES: &[u8] = b"twelve bytes";

struct Stage {
    fixture: Fixture,
    files: Files,
    app: Arc<App>,
    token: String,
}

impl Stage {
    async fn open() -> Self {
        let files = Files::start();
        let fixture = Fixture::start_with(files.variables());
        let dynamodb = fixture.store.client.clone();
        let app = App::from_env(dynamodb, &files.sdk(), &fixture.env, clock::system()).unwrap();
        let token = fixture.token(&[]).await;
        Self { fixture, files, app: Arc::new(app), token }
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

    /// An event for an upload.
    fn about(&self, file: &str, upload_id: &str) -> Event {
        self.event(file).path("uploadId", upload_id)
    }

    /// Creates the upload of the event `create`.
    async fn announced(&self) -> String {
        text(&self.ask(self.event(CREATE)).await.unwrap(), "uploadId")
    }

    /// Sends the file to the upload's link.
    async fn send(&self, upload_id: &str) {
        let rows = self.fixture.store.client.scan().table_name("UploadsTable").send().await.unwrap();
        let row = rows.items().iter().find(|row| row["uploadId"].as_s().unwrap() == upload_id).unwrap();
        let owner = row["ownerId"].as_s().unwrap();
        let key = format!("incoming/{owner}/{}/file", &upload_id[4..]);
        let put = self.files.client().put_object().bucket(BUCKET).key(key);
        put.body(BYTES.to_vec().into()).send().await.unwrap();
    }
}

fn body(reply: &Reply) -> &Value {
    reply.body.as_ref().unwrap()
}

fn text(reply: &Reply, member: &str) -> String {
    body(reply)[member].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_upload_is_announced_completed_read_listed_and_deleted() {
    let stage = Stage::open().await;
    let created = stage.ask(stage.event(CREATE)).await.unwrap();
    let id = text(&created, "uploadId");
    assert_eq!((created.status, &created.headers["location"]), (201, &format!("/uploads/{id}")));
    assert_eq!(stage.refusal(stage.about(COMPLETE, &id)).await, ProblemType::UploadIncomplete);
    stage.send(&id).await;
    let ready = stage.ask(stage.about(COMPLETE, &id)).await.unwrap();
    assert_eq!((ready.status, text(&ready, "status").as_str()), (200, "READY"));
    let read = stage.ask(stage.about(GET, &id)).await.unwrap();
    assert!(text(&read, "downloadUrl").contains("response-content-disposition=inline"), "as the event asks");
    let listed = stage.ask(stage.event(LIST)).await.unwrap();
    assert_eq!(body(&listed)["items"][0]["uploadId"], id.as_str());
    let deleted = stage.ask(stage.about(DELETE, &id)).await.unwrap();
    assert_eq!((deleted.status, deleted.body), (204, None));
    for file in [GET, DELETE, COMPLETE] {
        assert_eq!(stage.refusal(stage.about(file, &id)).await, ProblemType::NotFound);
    }
    assert_eq!(body(&stage.ask(stage.event(LIST)).await.unwrap()), &json!({"items": []}));
}

#[tokio::test]
async fn a_large_file_is_offered_in_parts_that_need_a_list_to_complete() {
    let stage = Stage::open().await;
    let created = stage.ask(stage.event(CREATE_MULTIPART)).await.unwrap();
    assert_eq!(body(&created)["parts"].as_array().unwrap().len(), 3);
    let id = text(&created, "uploadId");
    assert_eq!(stage.refusal(stage.about(COMPLETE, &id)).await, ProblemType::UploadMismatch);
    let sent = |body: &str| stage.about(COMPLETE, &id).header("content-type", "application/json").body(body);
    let parts =
        r#"{"parts":[{"partNumber":1,"etag":"a"},{"partNumber":2,"etag":"b"},{"partNumber":3,"etag":"c"}]}"#;
    assert_eq!(stage.refusal(sent(parts)).await, ProblemType::UploadMismatch);
    for malformed in ["{", "[]", r#"{"parts":{}}"#, r#"{"part":[]}"#] {
        assert_eq!(stage.refusal(sent(malformed)).await, ProblemType::InvalidRequest, "{malformed}");
    }
}

#[tokio::test]
async fn what_is_no_file_and_no_upload_is_refused() {
    let stage = Stage::open().await;
    let create = |body: &str| stage.refusal(stage.event(CREATE).body(body));
    assert_eq!(create("{}").await, ProblemType::InvalidRequest);
    let digest = "0".repeat(64);
    let file = |name: &str, kind: &str, size: u64| {
        json!({"fileName": name, "contentType": kind, "sizeBytes": size, "sha256": digest}).to_string()
    };
    assert_eq!(create(&file("a/b", "text/plain", 1)).await, ProblemType::Unprocessable);
    assert_eq!(create(&file("a", "text/html", 1)).await, ProblemType::Unprocessable);
    assert_eq!(create(&file("a", "text/plain", 0)).await, ProblemType::Unprocessable);
    let unknown: UploadId = ids::random().next();
    for file in [GET, DELETE, COMPLETE] {
        for id in [unknown.as_str(), "usage", "upl_1", ""] {
            assert_eq!(stage.refusal(stage.about(file, id)).await, ProblemType::NotFound, "{id}");
        }
    }
    assert_eq!(stage.refusal(stage.event(LIST).query("cursor", "x")).await, ProblemType::InvalidRequest);
    assert_eq!(stage.refusal(stage.event(LIST).query("limit", "101")).await, ProblemType::InvalidRequest);
    let shown = stage.event(LIST).query("disposition", "shown");
    assert_eq!(stage.refusal(shown).await, ProblemType::InvalidRequest);
}

#[tokio::test]
async fn nobody_is_served_without_a_token() {
    let stage = Stage::open().await;
    let id = stage.announced().await;
    for file in [CREATE, LIST, GET, COMPLETE, DELETE] {
        let event = || stage.about(file, &id);
        assert_eq!(stage.refusal(event().without("authorization")).await, ProblemType::Unauthenticated);
        assert_eq!(stage.refusal(event().token("e30.e30.e30")).await, ProblemType::Unauthenticated);
        let other = stage.fixture.token(&[]).await;
        if [GET, COMPLETE, DELETE].contains(&file) {
            assert_eq!(stage.refusal(event().token(&other)).await, ProblemType::NotFound);
        }
    }
}

#[tokio::test]
async fn a_session_that_has_ended_reads_nothing_and_writes_nothing() {
    let stage = Stage::open().await;
    let id = stage.announced().await;
    stage.send(&id).await;
    let client = &stage.fixture.store.client;
    stage.fixture.end_sessions().await;
    let before = client.scan().table_name("UploadsTable").send().await.unwrap().items.unwrap();
    for file in [CREATE, CREATE_MULTIPART, LIST, GET, COMPLETE, DELETE] {
        assert_eq!(stage.refusal(stage.about(file, &id)).await, ProblemType::Unauthenticated, "{file}");
    }
    let after = client.scan().table_name("UploadsTable").send().await.unwrap().items.unwrap();
    assert_eq!(before, after);
    assert_eq!(stage.files.keys().await.len(), 1);
}

#[tokio::test]
async fn a_forged_cookie_does_not_learn_whether_an_upload_exists() {
    let stage = Stage::open().await;
    let there = stage.announced().await;
    let row = stage.fixture.store.client.scan().table_name("UploadsTable").send().await.unwrap();
    let owner = row.items().iter().find_map(|row| row.get("ownerId")?.as_s().ok()).unwrap();
    let (session, missing): (_, UploadId) = (ids::random().next(), ids::random().next());
    let cookie = SessionCookie::generate(session, owner.parse().unwrap(), BTreeSet::new()).unwrap();
    let cookie = format!("__Host-SESSION={}", cookie.expose());
    for file in [GET, LIST] {
        let refusal = async |id: &str| {
            let event =
                Event::of(file).without("authorization").header("cookie", &cookie).path("uploadId", id);
            stage.ask(event).await.unwrap_err()
        };
        let (one, other) = (refusal(&there).await, refusal(missing.as_str()).await);
        assert_eq!(one.kind, ProblemType::Unauthenticated);
        assert_eq!(one, other);
    }
}

#[tokio::test]
async fn stores_that_are_asked_too_much_are_a_503() {
    let stage = Stage::open().await;
    let id = stage.announced().await;
    stage.send(&id).await;
    let slow = Rule::fail(Failure::ThrottlingException).service(Service::S3);
    let rule = stage.files.controls.faults.add(slow);
    for file in [CREATE_MULTIPART, COMPLETE] {
        let problem = stage.ask(stage.about(file, &id)).await.unwrap_err();
        assert_eq!((problem.kind, problem.retry_after.is_some()), (ProblemType::Unavailable, true));
    }
    stage.files.controls.faults.remove(rule);
    let throttled = Rule::fail(Failure::ProvisionedThroughputExceededException).service(Service::DynamoDb);
    stage.fixture.store.embedded.faults().add(throttled);
    for file in [CREATE, LIST, GET, COMPLETE, DELETE] {
        let problem = stage.ask(stage.about(file, &id)).await.unwrap_err();
        assert_eq!((problem.kind, problem.retry_after.is_some()), (ProblemType::Unavailable, true));
    }
}
