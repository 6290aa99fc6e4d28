//! How long a received message stays hidden, when its receiver says so.

use std::time::Duration;

use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::operation::change_message_visibility::ChangeMessageVisibilityError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    QueueAttributeName,
};
use local_region::services::sqs::Take;

use super::{Stage, bodies, code};

const HOUR: i64 = 3600;

impl Stage {
    async fn hide(&self, handle: &str, seconds: i32) -> Result<(), String> {
        let change = self.client(None).change_message_visibility().queue_url(self.url("Jobs"));
        let change = change.receipt_handle(handle).visibility_timeout(seconds).send().await;
        change.map(drop).map_err(|error| code(&error))
    }

    async fn receive_one(&self) -> Message {
        self.receive("Jobs").await.pop().unwrap()
    }
}

fn handle(message: &Message) -> &str {
    message.receipt_handle().unwrap()
}

#[tokio::test]
async fn a_receiver_shortens_and_lengthens_the_time_that_a_message_is_hidden() {
    let stage = Stage::start();
    stage.send("one").await;
    let first = stage.receive_one().await;
    stage.clock.pass(29);
    stage.hide(handle(&first), 60).await.unwrap();
    stage.clock.pass(59);
    assert!(stage.receive("Jobs").await.is_empty());
    stage.hide(handle(&first), 5).await.unwrap();
    stage.clock.pass(4);
    assert!(stage.receive("Jobs").await.is_empty());
    stage.clock.pass(1);
    let second = stage.receive_one().await;
    stage.hide(handle(&second), 0).await.unwrap();
    assert_eq!(stage.attribute("Jobs", QueueAttributeName::ApproximateNumberOfMessages).await, "1");
}

#[tokio::test]
async fn whoever_waits_for_a_message_is_woken_when_its_receiver_gives_it_back() {
    let stage = Stage::start();
    stage.send("one").await;
    let message = stage.receive_one().await;
    let waiting = tokio::spawn(stage.receiving("Jobs").wait_time_seconds(20).send());
    stage.hide(handle(&message), 0).await.unwrap();
    assert_eq!(bodies(waiting.await.unwrap().unwrap().messages()), ["one"]);
}

#[tokio::test]
async fn only_a_message_in_flight_can_be_hidden_for_longer() {
    let stage = Stage::start();
    stage.send("one").await;
    let first = stage.receive_one().await;
    assert_eq!(stage.hide("nonsense", 5).await, Err("ReceiptHandleIsInvalid".to_owned()));
    for seconds in [-1, 43_201] {
        assert_eq!(stage.hide(handle(&first), seconds).await, Err("InvalidParameterValue".to_owned()));
    }
    let client = stage.client(None);
    let incomplete = client.change_message_visibility().queue_url(stage.url("Jobs"));
    let incomplete = incomplete.receipt_handle(handle(&first)).send().await.unwrap_err();
    assert_eq!(code(&incomplete), "MissingParameter");

    stage.clock.pass(30);
    let change = client.change_message_visibility().queue_url(stage.url("Jobs")).visibility_timeout(30);
    let late = change.receipt_handle(handle(&first)).send().await.unwrap_err();
    assert_eq!(code(&late), "AWS.SimpleQueueService.MessageNotInflight");
    assert!(matches!(late, SdkError::ServiceError(_)));
    assert!(matches!(late.into_service_error(), ChangeMessageVisibilityError::MessageNotInflight(_)));
    // It is still there to be received, and the first receipt counts for nothing any more.
    let second = stage.receive_one().await;
    assert_eq!(stage.hide(handle(&first), 0).await, Err("InvalidParameterValue".to_owned()));
    stage.delete(&second).await;
    assert_eq!(stage.hide(handle(&second), 30).await, Err("InvalidParameterValue".to_owned()));
}

#[tokio::test]
async fn a_message_is_hidden_for_twelve_hours_at_most() {
    let stage = Stage::start();
    stage.send("one").await;
    let message = stage.receive_one().await;
    stage.hide(handle(&message), 43_200).await.unwrap();
    stage.clock.pass(6 * HOUR);
    assert_eq!(stage.hide(handle(&message), 43_200).await, Err("InvalidParameterValue".to_owned()));
    stage.hide(handle(&message), 21_600).await.unwrap();
    stage.clock.pass(6 * HOUR - 1);
    assert_eq!(stage.hide(handle(&message), 2).await, Err("InvalidParameterValue".to_owned()));
    stage.clock.pass(1);
    assert_eq!(bodies(&stage.receive("Jobs").await), ["one"]);
}

fn failed(entries: &[BatchResultErrorEntry]) -> Vec<(&str, &str, bool)> {
    entries.iter().map(|entry| (entry.id(), entry.code(), entry.sender_fault())).collect()
}

#[tokio::test]
async fn batches_of_receipts_are_answered_entry_by_entry() {
    let stage = Stage::start();
    for body in ["one", "two"] {
        stage.send(body).await;
    }
    let messages = stage.receive("Jobs").await;
    let client = stage.client(None);
    let hide = |id: &str, handle: &str, seconds| {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(id).receipt_handle(handle);
        entry.visibility_timeout(seconds).build().unwrap()
    };
    let batch = client.change_message_visibility_batch().queue_url(stage.url("Jobs"));
    let answer = batch
        .entries(hide("back", handle(&messages[0]), 0))
        .entries(hide("forged", "nonsense", 0))
        .entries(hide("long", handle(&messages[1]), 43_201))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.successful().len(), 1);
    assert_eq!(answer.successful()[0].id(), "back");
    assert_eq!(
        failed(answer.failed()),
        [("forged", "ReceiptHandleIsInvalid", true), ("long", "InvalidParameterValue", true)]
    );
    assert_eq!(bodies(&stage.receive("Jobs").await), ["one"]);

    let delete = |id: &str, handle: &str| {
        DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(handle).build().unwrap()
    };
    let batch = client.delete_message_batch().queue_url(stage.url("Jobs"));
    let answer = batch
        .entries(delete("good", handle(&messages[1])))
        .entries(delete("forged", "nonsense"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.successful().len(), 1);
    assert_eq!(answer.successful()[0].id(), "good");
    assert_eq!(failed(answer.failed()), [("forged", "ReceiptHandleIsInvalid", true)]);
    stage.clock.pass(30);
    // The other one was received as often as it may be.
    assert!(stage.receive("Jobs").await.is_empty());
    assert_eq!(bodies(&stage.receive("Dead").await), ["one"]);

    let repeated = client.delete_message_batch().queue_url(stage.url("Jobs"));
    let repeated = repeated.entries(delete("a", "x")).entries(delete("a", "y")).send().await;
    assert_eq!(code(&repeated.unwrap_err()), "AWS.SimpleQueueService.BatchEntryIdsNotDistinct");
    let empty = client.change_message_visibility_batch().queue_url(stage.url("Jobs"));
    let empty = empty.set_entries(Some(Vec::new())).send().await;
    assert_eq!(code(&empty.unwrap_err()), "AWS.SimpleQueueService.EmptyBatchRequest");
}

#[tokio::test]
async fn a_queue_is_purged_once_a_minute() {
    let stage = Stage::start();
    let client = stage.client(None);
    let purge = || client.purge_queue().queue_url(stage.url("Jobs")).send();
    stage.send("in flight").await;
    stage.receive_one().await;
    stage.send("visible").await;
    purge().await.unwrap();
    stage.clock.pass(59);
    assert!(stage.receive("Jobs").await.is_empty());
    stage.send("later").await;
    let refused = purge().await.unwrap_err();
    assert_eq!(code(&refused), "AWS.SimpleQueueService.PurgeQueueInProgress");
    assert_eq!(bodies(&stage.receive("Jobs").await), ["later"]);
    stage.clock.pass(1);
    purge().await.unwrap();
}

#[tokio::test]
async fn no_more_than_120000_messages_are_in_flight() {
    let stage = Stage::start();
    let message = local_region::services::sqs::Message::new("m".to_owned(), [].into(), 1024).unwrap();
    let one = || local_region::services::sqs::Outgoing { message: &message, delay: None };
    let all: Vec<_> = std::iter::repeat_with(one).take(120_001).collect();
    stage.queues.send("Jobs", "test", &all).unwrap();
    let take = Take {
        messages: 130_000,
        bytes: usize::MAX,
        overhead_bytes: 0,
        visibility_timeout: Some(Duration::from_mins(1)),
    };
    assert_eq!(stage.queues.receive("Jobs", take).unwrap().len(), 120_000);
    let look = stage.receiving("Jobs").send().await.unwrap_err();
    assert_eq!(code(&look), "OverLimit");
    // Whoever waits is not told.
    let waited = stage.receiving("Jobs").wait_time_seconds(1).send().await.unwrap();
    assert!(waited.messages().is_empty());
    stage.clock.pass(60);
    assert_eq!(stage.receive("Jobs").await.len(), 10);
}
