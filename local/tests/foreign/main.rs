//! The program runs any SAM template: here examples/guestbook, whose functions are scripts. Needs
//! `python3` and `curl`.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

mod program;
mod refusals;

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use program::{Program, guestbook};
use reqwest::{Client, Response};
use serde_json::{Value, json};

/// Longest wait for an entry on its way through the queue: a script has to start first.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

const REGION: &str = "eu-west-1";

async fn start(arguments: &[&str]) -> Program {
    let common = ["--stack-name", "guestbook", "--aws-region", REGION];
    Program::start(&guestbook(), &[&common, arguments].concat()).await
}

async fn get(program: &Program, path: &str) -> Response {
    Client::new().get(format!("{}{path}", program.ready.http)).send().await.unwrap()
}

/// The entries, as soon as there are `count` of them.
async fn entries(program: &Program, count: usize) -> Vec<String> {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        let answer = get(program, "/entries").await;
        assert_eq!(answer.status(), 200, "{}", program.log());
        let body: Value = answer.json().await.unwrap();
        let entries = body["entries"].as_array().unwrap();
        if entries.len() >= count {
            let mut entries: Vec<String> =
                entries.iter().map(|one| one.as_str().unwrap().to_owned()).collect();
            entries.sort();
            return entries;
        }
        assert!(Instant::now() < deadline, "still {body}:\n{}", program.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_entry_goes_through_the_api_the_queue_and_two_scripts_to_the_table() {
    let program = start(&["--parameter", "Greeting=welcome"]).await;
    let sent = Client::new()
        .post(format!("{}/entries", program.ready.http))
        .json(&json!({"text": "Ada"}))
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 202, "{}", program.log());
    let id = sent.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(entries(&program, 1).await, ["welcome, Ada"]);

    let credentials = program.credentials();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version_latest()
        .endpoint_url(&program.ready.dynamodb)
        .region(aws_sdk_dynamodb::config::Region::new(REGION))
        .credentials_provider(credentials.clone())
        .build();
    let table = aws_sdk_dynamodb::Client::from_conf(config);
    let item = table.get_item().table_name("EntriesTable").key("id", AttributeValue::S(id)).send().await;
    assert_eq!(item.unwrap().item.unwrap()["text"], AttributeValue::S("welcome, Ada".to_owned()));

    let config = aws_sdk_sqs::Config::builder()
        .behavior_version_latest()
        .endpoint_url(&program.ready.sqs)
        .region(aws_sdk_sqs::config::Region::new(REGION))
        .credentials_provider(credentials)
        .build();
    let queues = aws_sdk_sqs::Client::from_conf(config);
    let url = queues.get_queue_url().queue_name("EntriesQueue").send().await.unwrap().queue_url.unwrap();
    queues.send_message().queue_url(url).message_body("Ben").send().await.unwrap();
    assert_eq!(entries(&program, 2).await, ["welcome, Ada", "welcome, Ben"]);
}

#[tokio::test]
async fn a_shell_script_answers_and_knows_its_stack_and_region() {
    let program = start(&[]).await;
    let answer = get(&program, "/health").await;
    assert_eq!(answer.status(), 200, "{}", program.log());
    assert_eq!(answer.text().await.unwrap(), "guestbook-HealthFunction in eu-west-1");
}

#[tokio::test]
async fn a_function_may_do_what_its_policy_allows_and_nothing_else() {
    let folder = program::copy(&guestbook());
    let template = folder.path().join("template.yaml");
    let text = std::fs::read_to_string(&template).unwrap();
    std::fs::write(&template, text.replace("dynamodb:Scan", "dynamodb:Query")).unwrap();
    let program = Program::start(folder.path(), &[]).await;
    assert_eq!(get(&program, "/entries").await.status(), 500);
    let denied = program.command(&["logs", "ApiFunction"]);
    assert!(denied.contains("HTTP Error 400"), "{denied}");
}

#[tokio::test]
async fn the_build_command_makes_what_is_run() {
    let folder = program::copy(&guestbook());
    let hidden = folder.path().join("health/source");
    std::fs::rename(folder.path().join("health/bootstrap"), &hidden).unwrap();
    let program = Program::start(folder.path(), &["--build", "cp health/source health/bootstrap"]).await;
    assert_eq!(get(&program, "/health").await.status(), 200, "{}", program.log());
}

#[tokio::test]
async fn executables_of_one_folder_are_found_by_the_short_names_of_their_functions() {
    let folder = program::copy(&guestbook());
    let binaries = folder.path().join("binaries");
    std::fs::create_dir(&binaries).unwrap();
    for name in ["ApiFunction", "StoreFunction", "health"] {
        std::fs::rename(folder.path().join("health/bootstrap"), binaries.join(name)).unwrap();
        std::fs::copy(binaries.join(name), folder.path().join("health/bootstrap")).unwrap();
    }
    std::fs::remove_file(folder.path().join("health/bootstrap")).unwrap();
    let program = Program::start(folder.path(), &["--binaries", binaries.to_str().unwrap()]).await;
    assert_eq!(get(&program, "/health").await.text().await.unwrap(), "sam-app-HealthFunction in local");
}

#[tokio::test]
async fn a_secret_has_the_value_that_the_template_gives_it() {
    let folder = program::copy(&guestbook());
    let template = folder.path().join("template.yaml");
    let secret = "  Key: {Type: AWS::SecretsManager::Secret, Properties: {SecretString: !Ref Greeting}}\n";
    std::fs::write(&template, std::fs::read_to_string(&template).unwrap() + secret).unwrap();
    let program = Program::start(folder.path(), &[]).await;
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version_latest()
        .endpoint_url(&program.ready.secrets_manager)
        .region(aws_sdk_secretsmanager::config::Region::new("local"))
        .credentials_provider(program.credentials())
        .build();
    let secrets = aws_sdk_secretsmanager::Client::from_conf(config);
    let value = secrets.get_secret_value().secret_id("Key").send().await.unwrap();
    assert_eq!(value.secret_string(), Some("hello"));
}

#[tokio::test]
async fn environments_of_samconfig_run_as_regions_with_stacks_of_their_own() {
    let folder = program::copy(&guestbook());
    let config = "[one.global.parameters]\nregion = 'eu-west-1'\nstack_name = 'first'\n\
                  [two.global.parameters]\nregion = 'eu-central-1'\n";
    std::fs::write(folder.path().join("samconfig.toml"), config).unwrap();
    let program = Program::start(folder.path(), &["--regions", "one,two"]).await;
    let answer = get(&program, "/health").await;
    assert_eq!(answer.text().await.unwrap(), "first-HealthFunction in eu-west-1");
    let regions = program.command(&["region", "ls"]);
    assert!(regions.contains("one          eu-west-1        up"), "{regions}");
    assert!(regions.contains("two          eu-central-1     up"), "{regions}");
}
