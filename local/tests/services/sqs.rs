//! Queues, as the SDK sees them.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Region};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::receive_message::builders::ReceiveMessageFluentBuilder;
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    Message, MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry, SendMessageBatchResultEntry,
};
use jiff::{SignedDuration, Timestamp};
use sojourn_local::clock::Clock;
use sojourn_local::services::access::{Access, arn};
use sojourn_local::services::faults::{Effect, Failure, Rule};
use sojourn_local::services::sqs::{Queues, Sqs};
use sojourn_local::services::{Controls, Service};
use sojourn_local::template::model::{Queue, Redrive, Stack};

use crate::support::{ANYWHERE, credentials, function, key};

const MIB: usize = 1024 * 1024;

/// Stands still until the test moves it.
#[derive(Clone, Default)]
struct HandClock(Arc<AtomicI64>);

impl HandClock {
    fn pass(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        "2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap()
            + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

struct Stage {
    sqs: Sqs,
    controls: Controls,
    clock: HandClock,
}

fn queue(name: &str, redrive: Option<Redrive>) -> Queue {
    Queue {
        name: name.to_owned(),
        visibility_timeout: Duration::from_secs(30),
        delay: Duration::ZERO,
        retention: Duration::from_hours(96),
        receive_wait: Duration::ZERO,
        maximum_message_bytes: MIB,
        redrive,
    }
}

impl Stage {
    fn start() -> Self {
        Self::on(None, HandClock::default())
    }

    fn on(file: Option<&Path>, clock: HandClock) -> Self {
        let redrive = Redrive { dead_letter_queue: "Dead".to_owned(), maximum_receives: 2 };
        let queues = [queue("Jobs", Some(redrive)), queue("Dead", None)];
        let sender = function("api-exports", &[(&["sqs:SendMessage"], &[arn::queue("Jobs")])]);
        let stack = Stack { functions: vec![sender], ..Stack::default() };
        let controls = Controls::new(Access::new(&stack));
        let queues = Arc::new(Queues::open(file, &queues, clock.clone()).unwrap());
        let sqs = Sqs::start(TcpListener::bind(ANYWHERE).unwrap(), queues, controls.clone()).unwrap();
        Self { sqs, controls, clock }
    }

    fn client(&self, function: Option<&str>) -> Client {
        Client::from_conf(
            aws_sdk_sqs::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(arn::REGION))
                .credentials_provider(credentials(key(&self.controls.access, function)))
                .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(5)))
                .endpoint_url(self.sqs.endpoint_url())
                .build(),
        )
    }

    fn url(&self, queue: &str) -> String {
        format!("{}/000000000000/{queue}", self.sqs.endpoint_url())
    }

    async fn send(&self, body: &str) -> String {
        let sent = self.client(None).send_message().queue_url(self.url("Jobs")).message_body(body);
        sent.send().await.unwrap().message_id.unwrap()
    }

    fn receiving(&self, queue: &str) -> ReceiveMessageFluentBuilder {
        self.client(None)
            .receive_message()
            .queue_url(self.url(queue))
            .max_number_of_messages(10)
            .message_system_attribute_names(MessageSystemAttributeName::All)
    }

    async fn receive(&self, queue: &str) -> Vec<Message> {
        self.receiving(queue).send().await.unwrap().messages.unwrap_or_default()
    }

    async fn delete(&self, message: &Message) {
        let delete = self.client(None).delete_message().queue_url(self.url("Jobs"));
        delete.receipt_handle(message.receipt_handle().unwrap()).send().await.unwrap();
    }

    async fn attribute(&self, queue: &str, name: QueueAttributeName) -> String {
        let asked = self.client(None).get_queue_attributes().queue_url(self.url(queue));
        let answer = asked.attribute_names(QueueAttributeName::All).send().await.unwrap();
        answer.attributes.unwrap()[&name].clone()
    }
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body().unwrap()).collect()
}

fn system<'a>(message: &'a Message, name: &MessageSystemAttributeName) -> &'a str {
    &message.attributes().unwrap()[name]
}

fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap().to_owned()
}

fn text(data_type: &str, value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder().data_type(data_type).string_value(value).build().unwrap()
}

fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
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
async fn a_batch_is_answered_entry_by_entry() {
    let stage = Stage::start();
    let batch = stage.client(None).send_message_batch().queue_url(stage.url("Jobs"));
    let answer = batch
        .entries(entry("first", "one"))
        .entries(entry("broken", "\u{1}"))
        .entries(entry("last", "two"))
        .send()
        .await
        .unwrap();
    let ids: Vec<_> = answer.successful().iter().map(SendMessageBatchResultEntry::id).collect();
    assert_eq!(ids, ["first", "last"]);
    let [failed] = answer.failed() else { panic!("{:?}", answer.failed()) };
    assert_eq!(
        (failed.id(), failed.code(), failed.sender_fault()),
        ("broken", "InvalidMessageContents", true)
    );
    assert_eq!(bodies(&stage.receive("Jobs").await), ["one", "two"]);
}

#[tokio::test]
async fn a_batch_that_breaks_the_rules_of_batches_is_refused_as_a_whole() {
    let stage = Stage::start();
    let send = async |entries: Vec<SendMessageBatchRequestEntry>| {
        let batch = stage.client(None).send_message_batch().queue_url(stage.url("Jobs"));
        batch.set_entries(Some(entries)).send().await.map(drop).map_err(|error| code(&error))
    };
    let refused = |code: &str| Err(format!("AWS.SimpleQueueService.{code}"));
    assert_eq!(send(vec![]).await, refused("EmptyBatchRequest"));
    let eleven = (0..11).map(|number| entry(&number.to_string(), "m")).collect();
    assert_eq!(send(eleven).await, refused("TooManyEntriesInBatchRequest"));
    assert_eq!(send(vec![entry("a", "m"), entry("a", "m")]).await, refused("BatchEntryIdsNotDistinct"));
    assert_eq!(send(vec![entry("a b", "m")]).await, refused("InvalidBatchEntryId"));
    let half = "x".repeat(MIB / 2);
    assert_eq!(
        send(vec![entry("a", &half), entry("b", &format!("{half}x"))]).await,
        refused("BatchRequestTooLong")
    );
    assert!(stage.receive("Jobs").await.is_empty());
    assert_eq!(send(vec![entry("a", &half), entry("b", &half)]).await, Ok(()));
}

#[tokio::test]
async fn a_message_of_one_mebibyte_is_taken_and_no_longer_one() {
    let stage = Stage::start();
    let client = stage.client(None);
    let send =
        |bytes| client.send_message().queue_url(stage.url("Jobs")).message_body("x".repeat(bytes)).send();
    send(MIB).await.unwrap();
    assert_eq!(code(&send(MIB + 1).await.unwrap_err()), "InvalidParameterValue");
    assert_eq!(code(&send(0).await.unwrap_err()), "MissingParameter");
    assert_eq!(stage.receive("Jobs").await[0].body().unwrap().len(), MIB);
}

#[tokio::test]
async fn a_queue_is_found_by_its_name_and_describes_itself() {
    let stage = Stage::start();
    let client = stage.client(None);
    let url = client.get_queue_url().queue_name("Jobs").send().await.unwrap();
    assert_eq!(url.queue_url(), Some(stage.url("Jobs").as_str()));
    assert_eq!(stage.attribute("Jobs", QueueAttributeName::QueueArn).await, arn::queue("Jobs"));
    assert_eq!(
        stage.attribute("Jobs", QueueAttributeName::RedrivePolicy).await,
        r#"{"deadLetterTargetArn":"arn:aws:sqs:local:000000000000:Dead","maxReceiveCount":2}"#
    );
    let nobody = client.send_message().queue_url(stage.url("Nobody")).message_body("m").send().await;
    let error = nobody.unwrap_err().into_service_error();
    assert!(matches!(error, SendMessageError::QueueDoesNotExist(_)), "{error:?}");
    assert_eq!(error.code(), Some("AWS.SimpleQueueService.NonExistentQueue"));
}

#[tokio::test]
async fn a_function_sends_to_the_queues_of_its_policy_and_does_nothing_else() {
    let stage = Stage::start();
    let client = stage.client(Some("api-exports"));
    stage.controls.usage.record();
    let send = |queue: &str| client.send_message().queue_url(stage.url(queue)).message_body("m").send();
    send("Jobs").await.unwrap();
    // The same action covers a batch.
    let batch = client.send_message_batch().queue_url(stage.url("Jobs")).entries(entry("a", "m"));
    assert_eq!(batch.send().await.unwrap().successful().len(), 1);
    assert_eq!(code(&send("Dead").await.unwrap_err()), "AccessDenied");
    let received = client.receive_message().queue_url(stage.url("Jobs")).send().await;
    assert_eq!(code(&received.unwrap_err()), "AccessDenied");

    let usage = stage.controls.usage.snapshot();
    let rows: Vec<_> =
        usage.log.iter().map(|row| (row.operation.as_str(), row.resources[0].as_str(), row.status)).collect();
    assert_eq!(
        rows,
        [
            ("SendMessage", "Jobs", Some(200)),
            ("SendMessageBatch", "Jobs", Some(200)),
            ("SendMessage", "Dead", Some(400)),
            ("ReceiveMessage", "Jobs", Some(400)),
        ]
    );
    assert!(usage.log.iter().all(|row| row.service == Service::Sqs && row.caller == "api-exports"));
    assert!(stage.controls.access.unused().is_empty());
    assert_eq!(stage.controls.access.denied().len(), 2);
}

#[tokio::test]
async fn a_send_whose_answer_is_lost_is_repeated_and_may_be_there_twice() {
    let stage = Stage::start();
    let lost = Rule::new(Effect::CommitThenReset).service(Service::Sqs).operation("SendMessage").times(1);
    let rule = stage.controls.faults.add(lost);
    stage.send("one").await;
    assert_eq!(stage.controls.faults.status(rule).unwrap().matched, 2);
    assert_eq!(bodies(&stage.receive("Jobs").await), ["one", "one"]);
}

#[tokio::test]
async fn the_sdk_retries_throttling_and_server_errors_of_sqs() {
    for failure in [Failure::ThrottlingException, Failure::InternalServerError] {
        let stage = Stage::start();
        let rule = stage.controls.faults.add(Rule::fail(failure).resource("Jobs").times(1));
        stage.send("one").await;
        assert_eq!(stage.controls.faults.status(rule).unwrap().matched, 2);
        assert_eq!(stage.receive("Jobs").await.len(), 1);
    }
}

#[tokio::test]
async fn a_receiver_waits_for_a_message_that_is_sent_later() {
    let stage = Stage::start();
    stage.controls.usage.record();
    let waiting = tokio::spawn(stage.receiving("Jobs").wait_time_seconds(20).send());
    // Nothing tells when the request has arrived; if the message is there before it, the answer is the same.
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
