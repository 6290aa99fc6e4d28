//! What only Kafka can do: have brokers that refuse or are down, and a group whose members come and
//! go.

use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sojourn::core::deadline::Deadline;
use sojourn::platform::buffer::{BufferError, Offered};

use crate::stage::{
    PATIENCE, Stage, Stored, ack, assert_empty, deadline, drain, entries, offer, poll, poll_all, size,
};

/// Leases that no test outlasts.
const LONG: (&str, &str) = ("BUFFER_LEASE_SECONDS", "600");

fn refuse(cluster: &MockCluster<'static, DefaultProducerContext>, error: RDKafkaRespErr, times: usize) {
    cluster.request_errors(RDKafkaApiKey::Produce, &vec![error; times]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_brokers_refuse_makes_its_offer_an_error() {
    let stage = Stage::kafka(&[LONG]);
    let buffer = stage.buffer();
    offer(&buffer, &entries("before", 3)).await;
    // An error that no retry mends. One request is refused: the rest of the offer may be stored.
    refuse(stage.cluster().mock(), RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 1);
    let offered = buffer.offer(&entries("refused", 20), deadline()).await;
    assert!(matches!(offered, Err(BufferError::Kafka { .. })), "{offered:?}");
    stage.cluster().mock().clear_request_errors(RDKafkaApiKey::Produce);
    let began = Instant::now();
    while !matches!(buffer.offer(&entries("refused", 20), deadline()).await, Ok(Offered::Accepted)) {
        assert!(began.elapsed() < PATIENCE, "it is refused for ever");
    }
    let batch = [entries("before", 3), entries("refused", 20)].concat();
    assert_eq!(drain(&stage.buffer(), batch.len()).await.0.len(), batch.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passing_error_of_the_brokers_is_tried_again_and_nothing_is_doubled() {
    let stage = Stage::kafka(&[LONG]);
    refuse(stage.cluster().mock(), RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, 3);
    let batch = entries("e", 50);
    offer(&stage.buffer(), &batch).await;
    drain(&stage.buffer(), batch.len()).await.assert_each_once(&batch);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_down_make_an_offer_an_error_within_its_deadline_and_are_found_again() {
    let stage = Stage::kafka(&[LONG]);
    let buffer = stage.buffer();
    offer(&buffer, &entries("before", 1)).await;
    stage.cluster().mock().broker_down(-1).unwrap();
    let offered = buffer.offer(&entries("lost", 3), Deadline::after(Duration::from_secs(2))).await;
    assert!(matches!(offered, Err(BufferError::Late { .. } | BufferError::Kafka { .. })), "{offered:?}");
    stage.cluster().mock().broker_up(-1).unwrap();
    let began = Instant::now();
    while !matches!(buffer.offer(&entries("after", 3), deadline()).await, Ok(Offered::Accepted)) {
        assert!(began.elapsed() < PATIENCE, "the brokers are never found again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_committed_only_when_those_before_it_are() {
    let stage = Stage::kafka(&[LONG]);
    let batch = entries("e", 40);
    offer(&stage.buffer(), &batch).await;
    let consumer = stage.buffer();
    let (first, second) = (poll(&consumer, 20).await, poll(&consumer, 40).await);
    let (first_entries, second_entries) = (first.entries.clone(), second.entries.clone());
    ack(&consumer, second).await;
    assert_eq!(size(&consumer).await.entries, 40, "what comes before is not stored yet");
    drop((first, consumer));
    // The consumer is gone with its first batch: both come again, and storing twice is storing
    // once.
    let mut stored = Stored::default();
    stored.store(second_entries);
    for (id, entry) in drain(&stage.buffer(), batch.len()).await.0 {
        stored.0.insert(id, entry);
    }
    stored.assert_all(&batch);
    assert!(first_entries.iter().all(|entry| stored.0.contains_key(&entry.id)));
    assert_empty(&stage.buffer()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_acknowledges_nothing_gets_the_same_again_from_its_own_process() {
    let stage = Stage::kafka(&[("BUFFER_LEASE_SECONDS", "6")]);
    let batch = entries("e", 10);
    offer(&stage.buffer(), &batch).await;
    let consumer = stage.buffer();
    let late = poll_all(&consumer, batch.len()).await;
    // It polls on, so that it stays in the group; only the lease ends.
    let again = drain(&consumer, batch.len()).await;
    again.assert_each_once(&batch);
    for late in late {
        ack(&consumer, late).await;
    }
    assert_empty(&consumer).await;
}
