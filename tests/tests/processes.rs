//! Function processes: started when needed, replaced when they die, stopped with the region.

use std::collections::{BTreeSet, HashSet};
use std::process::Command;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use sojourn_tests::{Options, TestRegion, binary, fresh_key, workspace};

#[tokio::test]
async fn a_function_without_its_configuration_stops_with_a_sentence_that_names_the_variable() {
    let output = {
        drop(TestRegion::start().await);
        Command::new(binary("api-orders")).env_clear().env("AWS_REGION", "local").output().unwrap()
    };
    assert!(!output.status.success());
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(log.contains("the environment variable PAYMENT_PROVIDER is not set"), "{log}");
}

#[tokio::test]
async fn a_live_stage_does_not_start_with_the_payment_sandbox() {
    drop(TestRegion::start().await);
    let start = |function: &str, stage: &str, provider: &str| {
        let mut process = Command::new(binary(function));
        let variables = [("AWS_REGION", "local"), ("STAGE", stage), ("PAYMENT_PROVIDER", provider)];
        let output = process.env_clear().envs(variables).output().unwrap();
        assert!(!output.status.success(), "it lacks its tables");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for function in ["api-orders", "job-order-cleanup"] {
        for stage in ["live", "prod"] {
            let log = start(function, stage, "sandbox");
            assert!(log.contains("PAYMENT_PROVIDER is wrong") && log.contains("PaymentProvider"), "{log}");
        }
        let log = start(function, "dev", "stripe");
        assert!(log.contains("PAYMENT_PROVIDER is wrong"), "{log}");
        let log = start(function, "dev", "sandbox");
        assert!(log.contains("PAYMENT_LEDGER_TABLE is not set"), "no stage but a live one refuses: {log}");
    }
}

#[tokio::test]
async fn every_function_counts_its_cold_start_and_the_invocations_that_fail() {
    let region = TestRegion::start().await;
    let mut functions = BTreeSet::new();
    let mut failing = BTreeSet::new();
    for folder in std::fs::read_dir(workspace().join("events")).unwrap().map(|entry| entry.unwrap().path()) {
        let Some(file) = std::fs::read_dir(&folder).ok().and_then(|mut files| files.next()) else { continue };
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let event = std::fs::read_to_string(file.unwrap().path()).unwrap();
        region.invoke(&name, &serde_json::from_str(&event).unwrap()).await.expect(200);
        // What comes through API Gateway is answered, whatever it is.
        if !name.starts_with("api-") && !name.starts_with("ws-") {
            let refused = region.invoke(&name, &json!({"nonsense": true})).await;
            assert!(refused.header("x-amz-function-error").is_some(), "{name}: {}", refused.text);
            failing.insert(name.clone());
        }
        functions.insert(name);
    }
    let log = region.stop();
    let metrics: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let counted = |metric: &str| -> BTreeSet<String> {
        let lines = metrics.iter().filter(|line| line["_aws"].is_object() && line[metric] == 1);
        lines.map(|line| line["function"].as_str().unwrap().to_owned()).collect()
    };
    assert!(functions.contains("admin-users") && failing.contains("admin-users"), "{functions:?}");
    assert_eq!(counted("ColdStart"), functions);
    assert_eq!(failing.difference(&counted("Errors")).next(), None);
}

#[tokio::test]
async fn a_killed_function_is_replaced_by_the_next_request() {
    let region = TestRegion::start().await;
    region.call("GET", "/health").send().await.expect(200);
    assert_eq!(region.kill("api-health").await, 1);
    region.call("GET", "/health").send().await.expect(200);
}

#[tokio::test]
async fn load_is_spread_over_more_processes_and_no_request_fails() {
    let region = TestRegion::start().await;
    region.fault(&json!({"match": {"service": "dynamodb"}, "effect": {"kind": "delay", "millis": 50}})).await;
    let answers: Vec<_> = stream::iter(0..60)
        .map(|_| region.call("GET", "/products").send())
        .buffer_unordered(60)
        .collect()
        .await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let processes = region.control("GET", "/ps").send().await.expect(200);
    let serving =
        processes.body["processes"].as_array().unwrap().iter().filter(|p| p["function"] == "api-catalog");
    let pids: HashSet<_> = serving.map(|process| process["pid"].to_string()).collect();
    assert!((2..=10).contains(&pids.len()), "{} processes", pids.len());
}

#[tokio::test]
async fn no_process_outlives_its_region() {
    let region = TestRegion::start().await;
    region.customer().await;
    region.call("GET", "/health").send().await.expect(200);
    let pids = function_pids(&region).await;
    drop(region);
    for pid in pids {
        assert!(!std::path::Path::new("/proc").join(&pid).exists(), "{pid} is still there");
    }
}

#[tokio::test]
async fn no_process_outlives_a_region_that_was_killed() {
    let region = TestRegion::start().await;
    region.customer().await;
    region.call("GET", "/health").send().await.expect(200);
    let pids = function_pids(&region).await;
    let killed = Command::new("kill").args(["-KILL", &region.process_id().to_string()]).status().unwrap();
    assert!(killed.success());
    for pid in pids {
        let path = std::path::Path::new("/proc").join(&pid);
        for _ in 0..400 {
            if !path.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(!path.exists(), "{pid} is still there");
    }
}

#[tokio::test]
async fn a_region_that_stops_removes_its_ready_file_and_one_that_was_killed_is_recognised() {
    let mut region = TestRegion::start().await;
    let ready_file = region.ready_file();
    let ask = |file: &std::path::Path| {
        let asked =
            Command::new(binary("sojourn-dev")).args(["ps", "--region-file"]).arg(file).output().unwrap();
        (asked.status.success(), String::from_utf8_lossy(&asked.stderr).into_owned())
    };
    assert_eq!(ask(&ready_file), (true, String::new()));
    // What a killed region leaves behind.
    let left = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(&ready_file, left.path()).unwrap();
    region.end();

    let (found, says) = ask(&ready_file);
    assert!(!found && says.contains("is not there: its region has not started or has stopped"), "{says}");
    let (found, says) = ask(left.path());
    assert!(!found && says.contains("nothing answers at http://127.0.0.1:"), "{says}");
}

/// The processes of the functions, of which there are two at least.
async fn function_pids(region: &TestRegion) -> Vec<String> {
    let processes = region.control("GET", "/ps").send().await.expect(200);
    let pids: Vec<_> =
        processes.body["processes"].as_array().into_iter().flatten().map(|p| p["pid"].to_string()).collect();
    assert!(pids.len() >= 2, "{}", processes.text);
    pids
}

#[tokio::test]
async fn a_web_page_cannot_invoke_a_function() {
    let region = TestRegion::start().await;
    let mallory = region.sign_up("mallory@example.com").await.expect(201).text_of("userId");
    let grant = serde_json::json!({"grant": {"userId": mallory, "role": "operator"}});
    let page = [("origin", "https://evil.example"), ("host", "evil.example")];
    for header in page {
        region.invoke_with(&[header], "admin-users", &grant).await.expect(403);
    }
    region.invoke("admin-users", &grant).await.expect(200);
}

#[tokio::test]
async fn data_survives_a_restart_and_even_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let start =
        || TestRegion::start_with(Options { data: Some(data.path().to_owned()), ..Options::default() });
    let region = start().await;
    let operator = region.operator().await;
    region.stock(&operator, "lamp", 5).await;
    let customer = region.customer().await;
    let (key, lines) = (fresh_key(), [("lamp", 2)]);
    let order = region.order(&customer, &key, &lines).await.expect(201);
    assert!(
        Command::new("kill").args(["-KILL", &region.process_id().to_string()]).status().unwrap().success()
    );
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(region);

    // Tokens still verify, the order is there, and its key still replays.
    let region = start().await;
    assert_eq!(region.available("lamp").await, 3);
    let replay = region.order(&customer, &key, &lines).await.expect(201);
    assert_eq!(
        (replay.text.as_str(), replay.header("idempotent-replayed")),
        (order.text.as_str(), Some("true"))
    );
}
