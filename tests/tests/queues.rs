//! Queues, as operators see them: what was sent stays, and can be looked into and delivered again.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::process::Command;

use serde_json::{Value, json};
use sojourn_tests::{Options, TestRegion};

/// In template.yaml, and read by no function.
const QUEUE: &str = "ScheduleDeadLetterQueue";

/// Visible, in flight, delayed.
async fn counts(region: &TestRegion) -> [u64; 3] {
    let queues = region.control("GET", "/queues").send().await.expect(200).body;
    let named = |queue: &&Value| queue["name"] == QUEUE;
    let queue = queues.as_array().unwrap().iter().find(named).unwrap().clone();
    ["visible", "inFlight", "delayed"].map(|count| queue[count].as_u64().unwrap())
}

#[tokio::test]
async fn a_message_that_was_acknowledged_survives_the_kill_of_the_region() {
    let data = tempfile::tempdir().unwrap();
    let start =
        || TestRegion::start_with(Options { data: Some(data.path().to_owned()), ..Options::default() });
    let region = start().await;
    let url = region.sqs().get_queue_url().queue_name(QUEUE).send().await.unwrap().queue_url.unwrap();
    let sent = region.sqs().send_message().queue_url(url).message_body("kept").send().await.unwrap();
    let pid = region.process_id().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    drop(region);

    let region = start().await;
    assert_eq!(counts(&region).await, [1, 0, 0]);
    // The port is another one, and with it the URL.
    let url = region.sqs().get_queue_url().queue_name(QUEUE).send().await.unwrap().queue_url.unwrap();
    let received = region.sqs().receive_message().queue_url(url).send().await.unwrap();
    assert_eq!(received.messages()[0].message_id(), sent.message_id());
    assert_eq!(counts(&region).await, [0, 1, 0]);

    let again = region.control("POST", &format!("/queues/{QUEUE}/redeliver")).send().await.expect(200);
    assert_eq!(again.body, json!({"messages": 1}));
    assert_eq!(counts(&region).await, [1, 0, 0]);
    region.control("POST", "/queues/Nobody/redeliver").send().await.expect(404);
}
