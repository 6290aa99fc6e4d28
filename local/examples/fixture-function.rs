//! A Lambda function that misbehaves on request. The tests of the process pool run it as a real
//! process.
//!
//! The event says what to do: `{"do": "echo"}`, `"error"`, `"crash"`, `"sleep"` with `ms`, `"fill"`
//! with `bytes`, `"flood"` with `lines`, `"environment"`. A message of a queue says it in its body:
//! `{"do": "fail"}` or `"crash"`, with `until`, the number of the receive that succeeds. A record
//! of a stream says it in its item: `{"do": "crash"}` with `marker`, a file that the first crash
//! leaves, so that the next attempt succeeds. `FIXTURE_INIT` makes the start itself fail (`crash`)
//! or hang (`hang`).

#![expect(clippy::print_stdout, reason = "a function logs to standard output")]

use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Error> {
    match std::env::var("FIXTURE_INIT").as_deref() {
        Ok("crash") => return Err("init failed as told".into()),
        Ok("hang") => std::future::pending().await,
        _ => {}
    }
    lambda_runtime::run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    if let Some(records) = event.payload["Records"].as_array() {
        return handle_messages(records);
    }
    let number = |name: &str| event.payload[name].as_u64().unwrap_or_default();
    match event.payload["do"].as_str() {
        Some("error") => return Err("failed as told".into()),
        Some("crash") => std::process::exit(3),
        Some("sleep") => tokio::time::sleep(Duration::from_millis(number("ms"))).await,
        Some("fill") => return Ok(json!("x".repeat(usize::try_from(number("bytes"))?))),
        Some("flood") => (0..number("lines")).for_each(|line| println!("line {line} {}", "x".repeat(200))),
        Some("environment") => {
            return Ok(json!(std::env::vars().collect::<std::collections::BTreeMap<_, _>>()));
        }
        _ => {}
    }
    let context = &event.context;
    Ok(json!({
        "pid": std::process::id(),
        "echo": event.payload,
        "requestId": context.request_id,
        "arn": context.invoked_function_arn,
        "deadlineMs": context.deadline,
    }))
}

fn handle_messages(records: &[Value]) -> Result<Value, Error> {
    let mut failures = Vec::new();
    for record in records {
        if let Some(item) = record["dynamodb"]["NewImage"].as_object() {
            handle_item(&Value::Object(item.clone()))?;
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told: Value = serde_json::from_str(&text(&record["body"]))?;
        let receive: u64 = text(&record["attributes"]["ApproximateReceiveCount"]).parse()?;
        if receive >= told["until"].as_u64().unwrap_or_default() {
            continue;
        }
        match told["do"].as_str() {
            Some("crash") => std::process::exit(3),
            _ => failures.push(json!({"itemIdentifier": record["messageId"]})),
        }
    }
    Ok(json!({"batchItemFailures": failures}))
}

fn handle_item(item: &Value) -> Result<(), Error> {
    if item["do"]["S"] == "crash"
        && let Some(marker) = item["marker"]["S"].as_str()
        && !std::path::Path::new(marker).exists()
    {
        std::fs::write(marker, "")?;
        std::process::exit(3);
    }
    Ok(())
}
