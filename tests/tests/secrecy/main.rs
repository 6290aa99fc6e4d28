//! Nothing secret is logged: by no function, at no level, not by the region, and not by API
//! Gateway.
//!
//! 1. A region is visited in every right way and in many wrong ones ([`visit`]).
//! 2. It is stopped, so that no line is on its way any more.
//! 3. Its whole log is searched for any piece of any secret in any spelling ([`secrets`]): what was
//!    sent and handed out, the hashes of passwords, the private key that signs.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod secrets;
mod visit;

use serde_json::Value;
use sojourn_tests::{Options, TestRegion, workspace};

use secrets::Secrets;
use visit::Visit;

/// What API Gateway may log: nothing of it is a client's own text. `path` and the query string
/// would be, and headers.
const LOGGED_BY_API_GATEWAY: &[&str] = &[
    "requestId",
    "requestTime",
    "identity.sourceIp",
    "routeKey",
    "status",
    "responseLength",
    "responseLatency",
    "integrationLatency",
    "integrationErrorMessage",
    "eventType",
    "connectionId",
    "disconnectStatusCode",
    "error.message",
];

/// The log of a whole visit, and its secrets.
async fn visited(level: &str) -> (String, Secrets) {
    let data = tempfile::tempdir().unwrap();
    let arguments = vec!["--parameter".to_owned(), format!("LogLevel={level}"), "--metrics".to_owned()];
    let options = Options { arguments, data: Some(data.path().to_owned()), ..Options::default() };
    let region = TestRegion::start_with(options).await;
    let mut secrets = Secrets::default();
    Visit::new(&region, &mut secrets).pay().await;

    let users = region.dynamodb().scan().table_name("UsersTable").send().await.unwrap();
    let hashes: Vec<&String> =
        users.items().iter().filter_map(|row| row.get("passwordHash")?.as_s().ok()).collect();
    assert!(hashes.len() >= 2, "passwords are stored as hashes");
    for hash in hashes {
        secrets.keep("password hash", hash.rsplit('$').next().unwrap());
    }
    let keys = std::fs::read_to_string(data.path().join("token-signing-keys.json")).unwrap();
    let keys: Value = serde_json::from_str(&keys).unwrap();
    secrets.keep_token("private key", keys["keys"][0]["d"].as_str().unwrap());
    (region.stop(), secrets)
}

#[track_caller]
fn assert_kept(log: &str, secrets: &Secrets) {
    // The log is that of the visit: every function that a client reaches has spoken in it.
    for line in [
        "\"refused\"",
        "duplicate answered",
        "access token refused",
        "connected",
        "disconnected",
        "token reused",
    ] {
        assert!(log.contains(line), "{line} is not in the log");
    }
    for function in [
        "api-sessions",
        "api-orders",
        "api-carts",
        "api-catalog",
        "api-uploads",
        "api-exports",
        "api-inbox",
        "export-worker",
        "ws-connect",
        "ws-send",
        "ws-disconnect",
    ] {
        assert!(log.contains(&format!("\"function\":\"{function}\"")), "{function} has logged nothing");
    }
    assert_eq!(secrets.leaks(log), Vec::new());
}

#[tokio::test]
async fn no_log_line_of_a_visit_holds_a_piece_of_a_secret() {
    let (log, secrets) = visited("info").await;
    assert!(!log.contains("\"starts\""), "only what matters is logged");
    assert_kept(&log, &secrets);
}

#[tokio::test]
async fn no_log_line_holds_a_piece_of_a_secret_even_at_the_lowest_level() {
    let (log, secrets) = visited("trace").await;
    assert!(log.contains("\"starts\""), "the level is in force");
    assert_kept(&log, &secrets);
}

#[test]
fn the_search_finds_a_secret_whole_in_part_and_in_other_spellings() {
    assert_eq!(secrets::missed(), None);
}

#[test]
fn api_gateway_logs_nothing_that_a_client_wrote() {
    let template = std::fs::read_to_string(workspace().join("template.yaml")).unwrap();
    let variables: Vec<&str> =
        template.split("$context.").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(variables.len() > LOGGED_BY_API_GATEWAY.len(), "both APIs have an access log");
    for variable in variables {
        assert!(LOGGED_BY_API_GATEWAY.contains(&variable), "$context.{variable}");
    }
    assert!(template.contains("DataTraceEnabled: false") && !template.contains("DataTraceEnabled: true"));
}
