//! What runs here is what the template says: nothing else names a route or a table.

use sojourn::core::env::{Env, Stage};
use sojourn_local::template::model::Stack;
use sojourn_local::template::{self, Context};
use sojourn_tests::{Options, TestRegion, workspace};

const ROUTE: &str = "
        Status:
          Type: HttpApi
          Properties:
            ApiId: !Ref HttpApi
            Method: GET
            Path: /status/{part}
";

const TABLE: &str = "
  NotesTable:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - { AttributeName: noteId, AttributeType: S }
      KeySchema:
        - { AttributeName: noteId, KeyType: HASH }
";

#[tokio::test]
async fn a_route_and_a_table_are_there_once_the_template_has_them() {
    let template = std::fs::read_to_string(workspace().join("template.yaml")).unwrap();
    let health = "      Events:\n        Health:";
    assert_eq!(template.matches(health).count(), 1);
    let template = template.replace(health, &format!("      Events:{ROUTE}        Health:"));
    let template = template.replacen("\nResources:\n", &format!("\nResources:{TABLE}"), 1);
    // Inside of the workspace: the functions are those of the workspace that the template is in.
    let folder = tempfile::Builder::new().prefix("template-").tempdir_in(workspace().join("tests")).unwrap();
    let path = folder.path().join("template.yaml");
    std::fs::write(&path, template).unwrap();

    let plain = TestRegion::start().await;
    assert_eq!(plain.call("GET", "/status/now").send().await.expect(404).body["message"], "Not Found");

    let arguments = vec!["--template".to_owned(), path.display().to_string()];
    let region = TestRegion::start_with(Options { arguments, ..Options::default() }).await;
    let answer = region.call("GET", "/status/now").send().await.expect(404);
    // The function's own refusal, so the route led there.
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let table = region.dynamodb().describe_table().table_name("NotesTable").send().await.unwrap();
    assert_eq!(table.table().unwrap().key_schema()[0].attribute_name(), "noteId");
}

/// The template as a region with these parameters reads it.
#[expect(clippy::expect_used, reason = "a test stops where it fails")]
fn stack_with(parameters: &[(&str, &str)]) -> Stack {
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let context = Context {
        parameters: parameters.iter().map(owned).collect(),
        http_url: "http://127.0.0.1:1".to_owned(),
        websocket_url: "ws://127.0.0.1:2".to_owned(),
        sqs_url: "http://127.0.0.1:3".to_owned(),
    };
    template::load(&workspace().join("template.yaml"), &context).expect("the template is read")
}

#[test]
fn every_function_that_knows_the_sessions_table_is_told_where_its_copies_are() {
    let parameters = [
        ("TokenJwks", "{}"),
        ("SessionStore", "redis"),
        ("RedisUrl", "redis://redis:6379"),
        ("SessionCopyKey", "a key of the stack"),
        ("VpcSubnetIds", "subnet-1, subnet-2"),
        ("VpcSecurityGroupIds", "sg-1"),
    ];
    let stack = stack_with(&parameters);
    let with_sessions: Vec<_> = stack
        .functions
        .iter()
        .filter(|function| function.environment.contains_key("SESSIONS_TABLE"))
        .collect();
    assert!(with_sessions.len() > 3, "functions check sessions");
    for function in with_sessions {
        let told = ["SESSION_STORE", "REDIS_URL", "SESSION_COPY_KEY"]
            .map(|name| function.environment.get(name).map(String::as_str));
        let expected = [Some("redis"), Some("redis://redis:6379"), Some("a key of the stack")];
        assert_eq!(told, expected, "{}", function.name);
    }
}

#[test]
fn pages_that_may_call_the_api_may_use_presigned_urls_and_no_others() {
    let stack =
        stack_with(&[("TokenJwks", "{}"), ("AllowedOrigins", "https://shop.example,https://desk.example")]);
    let rules: Vec<_> = stack.buckets.iter().flat_map(|bucket| &bucket.cors).collect();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0].allowed_origins, ["https://shop.example", "https://desk.example"]);
    assert_eq!(rules[0].allowed_methods, ["GET", "HEAD", "PUT"]);
    let api = stack.http_api.and_then(|api| api.cors).expect("the API has CORS settings");
    assert_eq!(rules[0].allowed_origins, api.allow_origins);
}

#[test]
fn functions_post_to_sockets_at_the_address_of_api_gateway_whatever_name_clients_use() {
    let stack = stack_with(&[
        ("TokenJwks", "{}"),
        ("Stage", "live"),
        ("WebSocketDomainName", "sockets.shop.example"),
        ("DomainCertificateArn", "arn:aws:acm:local:000000000000:certificate/1"),
    ]);
    let endpoints: Vec<_> = stack
        .functions
        .iter()
        .filter_map(|function| function.environment.get("WEBSOCKET_ENDPOINT"))
        .collect();
    assert!(!endpoints.is_empty());
    assert!(endpoints.iter().all(|endpoint| *endpoint == "ws://127.0.0.1:2/live"), "{endpoints:?}");
}

#[test]
fn a_live_stage_is_the_same_in_the_template_and_in_the_library() {
    let template = std::fs::read_to_string(workspace().join("template.yaml")).unwrap();
    let rule = format!("Fn::Contains: [[{}], !Ref Stage]", Stage::TRIALS.join(", "));
    assert_eq!(template.matches(&rule).count(), 1, "{rule}");
    let config = std::fs::read_to_string(workspace().join("samconfig.toml")).unwrap();
    for environment in ["taiwan", "tokyo", "singapore"] {
        let section = config.split(&format!("[{environment}.deploy.parameters]")).nth(1).unwrap();
        let stage = section.split("\"Stage=").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        assert_eq!(Stage::from_env(&Env::of([("STAGE", stage)])), Ok(Stage::Live), "{environment}");
    }
}

#[test]
fn another_revision_of_the_secrets_replaces_the_processes_of_every_function_that_reads_one() {
    let environments = ["1", "2"].map(|revision| {
        let stack = stack_with(&[("TokenJwks", "{}"), ("SecretsRevision", revision)]);
        stack.functions.into_iter().map(|function| (function.name, function.environment))
    });
    let [before, after] = environments;
    let reads_a_secret = |variable: &String| variable.ends_with("_SECRET") || variable == "REDIS_URL";
    let mut readers = 0;
    for ((name, before), (_, after)) in before.zip(after) {
        if before.keys().any(reads_a_secret) {
            readers += 1;
            assert_ne!(before, after, "{name}");
        }
    }
    assert!(readers > 3, "functions read secrets");
}
