//! What becomes of a message: hidden, received again, given up, deleted, kept.

use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName};

use super::{HandClock, Stage, bodies, code};

fn system<'a>(message: &'a Message, name: &MessageSystemAttributeName) -> &'a str {
    &message.attributes().unwrap()[name]
}

fn text(data_type: &str, value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder().data_type(data_type).string_value(value).build().unwrap()
}

#[tokio::test]
async fn a_message_is_received_as_it_was_sent_and_deleted() {
    let stage = Stage::start();
    let binary = MessageAttributeValue::builder().data_type("Binary").binary_value(Blob::new([0, 255]));
    let sent = stage
        .client(None)
        .send_message()
        .queue_url(stage.url("Jobs"))
        .message_body("Grüße")
        .message_attributes("kind", text("String", "orders"))
        .message_attributes("cents", text("Number.cents", "12"))
        .message_attributes("raw", binary.build().unwrap())
        .send()
        .await
        .unwrap();
    // Both by Python's hashlib, the second over the bytes that the developer guide lists.
    assert_eq!(sent.md5_of_message_body(), Some("49c5f675b49037b6044b803ac9d1a6d7"));
    assert_eq!(sent.md5_of_message_attributes(), Some("9067e535003ef7d1556c5689ca7914bf"));

    stage.clock.pass(2);
    let answer = stage.receiving("Jobs").message_attribute_names("c*").message_attribute_names("kind");
    let messages = answer.send().await.unwrap().messages.unwrap();
    let [message] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((message.body(), message.message_id()), (Some("Grüße"), sent.message_id()));
    assert_eq!(message.md5_of_body(), sent.md5_of_message_body());
    let names: Vec<_> = message.message_attributes().unwrap().keys().collect();
    assert_eq!(names, ["kind"], "only what was asked for");
    assert_eq!(system(message, &MessageSystemAttributeName::SenderId), "operator");
    assert_eq!(system(message, &MessageSystemAttributeName::SentTimestamp), "1795168800000");
    assert_eq!(
        system(message, &MessageSystemAttributeName::ApproximateFirstReceiveTimestamp),
        "1795168802000"
    );
    assert_eq!(system(message, &MessageSystemAttributeName::ApproximateReceiveCount), "1");

    stage.delete(message).await;
    stage.clock.pass(31);
    assert!(stage.receive("Jobs").await.is_empty());
}

#[tokio::test]
async fn a_received_message_is_hidden_for_the_visibility_timeout() {
    let stage = Stage::start();
    stage.send("one").await;
    assert_eq!(bodies(&stage.receive("Jobs").await), ["one"]);
    stage.clock.pass(29);
    assert!(stage.receive("Jobs").await.is_empty());
    stage.clock.pass(1);
    let again = stage.receive("Jobs").await;
    assert_eq!(system(&again[0], &MessageSystemAttributeName::ApproximateReceiveCount), "2");
    assert_eq!(
        system(&again[0], &MessageSystemAttributeName::ApproximateFirstReceiveTimestamp),
        "1795168800000",
        "the first stays the first"
    );
}

#[tokio::test]
async fn a_receiver_may_hide_a_message_for_another_time() {
    let stage = Stage::start();
    stage.send("one").await;
    let received = stage.receiving("Jobs").visibility_timeout(5).send().await.unwrap();
    assert_eq!(received.messages().len(), 1);
    stage.clock.pass(5);
    assert_eq!(stage.receive("Jobs").await.len(), 1);
}

#[tokio::test]
async fn a_stale_receipt_handle_deletes_nothing() {
    let stage = Stage::start();
    stage.send("one").await;
    let first = stage.receive("Jobs").await;
    stage.clock.pass(30);
    let second = stage.receive("Jobs").await;
    assert_ne!(first[0].receipt_handle(), second[0].receipt_handle());
    stage.delete(&first[0]).await;
    assert_eq!(stage.attribute("Jobs", QueueAttributeName::ApproximateNumberOfMessagesNotVisible).await, "1");
    // The latest one is good even after its timeout.
    stage.clock.pass(30);
    stage.delete(&second[0]).await;
    assert_eq!(stage.attribute("Jobs", QueueAttributeName::ApproximateNumberOfMessages).await, "0");
}

#[tokio::test]
async fn what_is_received_too_often_goes_to_the_dead_letter_queue() {
    let stage = Stage::start();
    let id = stage.send("poison").await;
    for _ in 0..2 {
        assert_eq!(stage.receive("Jobs").await.len(), 1);
        stage.clock.pass(30);
    }
    assert!(stage.receive("Dead").await.is_empty());
    stage.send("good").await;
    assert_eq!(bodies(&stage.receive("Jobs").await), ["good"]);
    let dead = stage.receive("Dead").await;
    assert_eq!((bodies(&dead), dead[0].message_id()), (vec!["poison"], Some(id.as_str())));
    assert_eq!(system(&dead[0], &MessageSystemAttributeName::ApproximateReceiveCount), "3");
    assert_eq!(
        system(&dead[0], &MessageSystemAttributeName::DeadLetterQueueSourceArn),
        "arn:aws:sqs:local:000000000000:Jobs"
    );
    // Given up once; a dead-letter queue without a policy of its own keeps it.
    for _ in 0..3 {
        stage.clock.pass(30);
        assert_eq!(stage.receive("Dead").await.len(), 1);
    }
}

#[tokio::test]
async fn a_delayed_message_is_hidden_at_first_and_an_old_one_is_gone() {
    let stage = Stage::start();
    let client = stage.client(None);
    let send = |delay| {
        client.send_message().queue_url(stage.url("Jobs")).message_body("m").delay_seconds(delay).send()
    };
    send(60).await.unwrap();
    assert!(stage.receive("Jobs").await.is_empty());
    assert_eq!(stage.attribute("Jobs", QueueAttributeName::ApproximateNumberOfMessagesDelayed).await, "1");
    assert_eq!(code(&send(901).await.unwrap_err()), "InvalidParameterValue");
    stage.clock.pass(60);
    assert_eq!(stage.attribute("Jobs", QueueAttributeName::ApproximateNumberOfMessages).await, "1");
    stage.clock.pass(96 * 3600 - 61);
    assert_eq!(stage.attribute("Jobs", QueueAttributeName::ApproximateNumberOfMessages).await, "1");
    stage.clock.pass(1);
    assert_eq!(stage.attribute("Jobs", QueueAttributeName::ApproximateNumberOfMessages).await, "0");
    assert!(stage.receive("Jobs").await.is_empty());
}

#[tokio::test]
async fn a_receiver_waits_for_a_message_that_is_sent_later() {
    let stage = Stage::start();
    stage.controls.usage.record();
    let waiting = tokio::spawn(stage.receiving("Jobs").wait_time_seconds(20).send());
    // Nothing tells when the request has arrived; if the message is there before it, the answer is
    // the same.
    stage.send("one").await;
    assert_eq!(bodies(waiting.await.unwrap().unwrap().messages()), ["one"]);
    assert_eq!(stage.controls.usage.snapshot().count("ReceiveMessage"), 1);
}

#[tokio::test]
async fn a_kept_message_survives_a_restart_with_its_receipt_and_its_count() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queues.db");
    let clock = HandClock::default();
    let received = {
        let stage = Stage::on(Some(&file), clock.clone());
        stage.send("one").await;
        stage.send("two").await;
        stage.receiving("Jobs").max_number_of_messages(1).send().await.unwrap().messages.unwrap()
    };
    let stage = Stage::on(Some(&file), clock);
    assert_eq!(bodies(&stage.receive("Jobs").await), ["two"], "the other one is still in flight");
    stage.delete(&received[0]).await;
    stage.clock.pass(30);
    let again = stage.receive("Jobs").await;
    assert_eq!(bodies(&again), ["two"]);
    assert_eq!(system(&again[0], &MessageSystemAttributeName::ApproximateReceiveCount), "2");
}
