//! What only SQS can do: take a part of a batch, and say 200.

use std::time::{Duration, Instant};

use local_region::services::Service;
use local_region::services::faults::{EntryFault, Failure, Rule};
use sojourn::core::deadline::Deadline;
use sojourn::platform::buffer::{BufferError, Offered};

use crate::stage::{PATIENCE, Stage, ack, assert_empty, deadline, drain, entries, offer};

/// Leases that no test outlasts.
const LONG: (&str, &str) = ("BUFFER_LEASE_SECONDS", "600");

fn fail(positions: &[usize], code: Option<&str>) -> Rule {
    let fault = EntryFault { positions: positions.to_vec(), containing: None, code: code.map(str::to_owned) };
    Rule::fail_entries(fault).service(Service::Sqs).operation("SendMessageBatch")
}

#[tokio::test]
async fn messages_of_a_batch_that_failed_are_sent_again_and_no_others() {
    let stage = Stage::sqs(&[LONG]);
    let batch = entries("e", 500);
    stage.queue().controls.faults.add(fail(&[1, 3], None).times(1));
    stage.queue().controls.faults.add(fail(&[0], Some("ThrottlingException")).times(1));
    offer(&stage.buffer(), &batch).await;
    drain(&stage.buffer(), batch.len()).await.assert_each_once(&batch);
    assert_empty(&stage.buffer()).await;
}

#[tokio::test]
async fn messages_that_fail_to_the_end_are_an_error_and_the_same_offer_again_makes_it_whole() {
    let stage = Stage::sqs(&[LONG]);
    let batch = entries("e", 500);
    let rule = stage.queue().controls.faults.add(fail(&[0], None));
    let offered = stage.buffer().offer(&batch, Deadline::after(Duration::from_millis(700))).await;
    assert!(
        matches!(&offered, Err(BufferError::Entries { failed: 1, .. } | BufferError::Late { .. })),
        "{offered:?}"
    );
    stage.queue().controls.faults.remove(rule);
    offer(&stage.buffer(), &batch).await;
    drain(&stage.buffer(), batch.len()).await.assert_all(&batch);
}

#[tokio::test]
async fn a_message_that_sqs_will_never_take_is_not_sent_again() {
    let stage = Stage::sqs(&[LONG]);
    stage.queue().controls.faults.add(fail(&[0], Some("InvalidMessageContents")));
    stage.queue().controls.usage.record();
    let offered = stage.buffer().offer(&entries("e", 1), deadline()).await;
    assert!(matches!(&offered, Err(BufferError::Entries { failed: 1, .. })), "{offered:?}");
    let sent = stage.queue().controls.usage.snapshot().requests;
    let sent = sent.iter().filter(|asked| asked.operation == "SendMessageBatch").map(|asked| asked.requests);
    assert_eq!(sent.sum::<u64>(), 1);
}

#[tokio::test]
async fn a_queue_that_fails_as_a_whole_is_an_error_and_nothing_is_accepted() {
    let stage = Stage::sqs(&[LONG]);
    let rule = Rule::fail(Failure::InternalServerError).service(Service::Sqs).operation("SendMessageBatch");
    stage.queue().controls.faults.add(rule);
    let offered = stage.buffer().offer(&entries("e", 3), deadline()).await;
    assert!(matches!(&offered, Err(BufferError::Sqs { .. })), "{offered:?}");
    assert_empty(&stage.buffer()).await;
}

#[tokio::test]
async fn a_queue_that_does_not_tell_its_size_refuses_nobody() {
    let stage = Stage::sqs(&[LONG, ("BUFFER_LIMIT", "500")]);
    let rule = Rule::fail(Failure::InternalServerError).service(Service::Sqs).operation("GetQueueAttributes");
    stage.queue().controls.faults.add(rule);
    let offered = stage.buffer().offer(&entries("e", 3), deadline()).await.unwrap();
    assert_eq!(offered, Offered::Accepted);
}

#[tokio::test]
async fn a_message_that_cannot_be_read_goes_to_the_dead_letters() {
    let stage = Stage::sqs(&[("BUFFER_LEASE_SECONDS", "1")]);
    assert!(stage.put("no message").await);
    let buffer = stage.buffer();
    let began = Instant::now();
    while stage.queue().dead_letters() == 0 {
        assert!(began.elapsed() < PATIENCE, "it is never set aside");
        if let Some(leased) = buffer.poll(10, deadline()).await.unwrap() {
            assert!(leased.entries.is_empty());
            ack(&buffer, leased).await;
        }
    }
    assert_eq!(stage.queue().dead_letters(), 1);
}
