//! What a request may be, who may make it, and how it fails.

use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::types::{
    MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry, SendMessageBatchResultEntry,
};
use local_region::services::Service;
use local_region::services::faults::{Effect, EntryFault, Failure, Rule};
use local_region::template::arn;

use super::{MIB, Stage, bodies, code};

fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
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
async fn what_no_message_may_have_is_refused() {
    let stage = Stage::start();
    let client = stage.client(None);
    let send = || client.send_message().queue_url(stage.url("Jobs")).message_body("m");
    let attribute = |data_type: &str, value: &str| {
        MessageAttributeValue::builder().data_type(data_type).string_value(value).build().unwrap()
    };
    let too_long = format!("String.{}", "x".repeat(250));
    for (name, data_type, value) in [
        (".a", "String", "x"),
        ("a.", "String", "x"),
        ("a..b", "String", "x"),
        ("a b", "String", "x"),
        ("AWS.a", "String", "x"),
        ("amazon.a", "String", "x"),
        ("a", "String", ""),
        ("a", "Text", "x"),
        ("a", too_long.as_str(), "x"),
        ("a", "Number", "NaN"),
        ("a", "Number", "infinity"),
        ("a", "Number", "1e127"),
        ("a", "Number", "1e-129"),
        ("a", "Number", "123456789012345678901234567890123456789"),
    ] {
        let refused = send().message_attributes(name, attribute(data_type, value)).send().await;
        assert_eq!(code(&refused.unwrap_err()), "InvalidParameterValue", "{name} {data_type} {value}");
    }
    for number in ["-1.5e125", "0.00012345678901234567890123456789012345678", "+7"] {
        let accepted = send().message_attributes("a.b", attribute("Number.of-things", number)).send().await;
        assert!(accepted.is_ok(), "{number}");
    }
    let of_fifo = send().message_deduplication_id("d").send().await;
    assert_eq!(code(&of_fifo.unwrap_err()), "InvalidParameterValue");
    let unknown = stage.receiving("Jobs").message_system_attribute_names("Priority".into()).send().await;
    assert_eq!(code(&unknown.unwrap_err()), "InvalidAttributeName");
    for messages in [0, 11] {
        let refused = stage.receiving("Jobs").max_number_of_messages(messages).send().await;
        assert_eq!(code(&refused.unwrap_err()), "InvalidParameterValue");
    }
    for seconds in [-1, 21] {
        let refused = stage.receiving("Jobs").wait_time_seconds(seconds).send().await;
        assert_eq!(code(&refused.unwrap_err()), "InvalidParameterValue");
    }
}

#[tokio::test]
async fn a_queue_is_found_by_its_name_and_describes_itself() {
    let stage = Stage::start();
    let client = stage.client(None);
    let url = client.get_queue_url().queue_name("Jobs").send().await.unwrap();
    assert_eq!(url.queue_url(), Some(stage.url("Jobs").as_str()));
    assert_eq!(stage.attribute("Jobs", QueueAttributeName::QueueArn).await, arn::local().queue("Jobs"));
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
async fn a_fault_rule_has_single_entries_of_a_batch_fail() {
    let stage = Stage::start();
    let fault = EntryFault { positions: vec![1], ..EntryFault::default() };
    stage.controls.faults.add(Rule::fail_entries(fault).service(Service::Sqs).operation("SendMessageBatch"));
    let batch = stage.client(None).send_message_batch().queue_url(stage.url("Jobs"));
    let answer = batch.entries(entry("a", "a")).entries(entry("b", "b")).send().await.unwrap();
    let failed: Vec<_> = answer.failed().iter().map(|entry| (entry.id(), entry.sender_fault())).collect();
    assert_eq!(failed, [("b", false)]);
    assert_eq!(bodies(&stage.receive("Jobs").await), ["a"]);
}
