//! Topics, as the SDK sees them.

use aws_sdk_sns::error::ProvideErrorMetadata;
use aws_sdk_sns::primitives::Blob;
use aws_sdk_sns::types::{MessageAttributeValue, PublishBatchRequestEntry};
use local_region::services::Service;
use local_region::services::faults::{EntryFault, Failure, Rule};
use local_region::template::arn;
use serde_json::{Value, json};

use crate::messaging::{Stage, queue};

const SNS: &str = "sns.amazonaws.com";

/// A topic with a raw and an enveloped subscription, and a function that may publish to it.
fn resources() -> String {
    let queues = [queue("Raw", SNS, "!Ref Orders"), queue("Wrapped", SNS, "!Ref Orders")].concat();
    let function = |name: &str, policies: &str| {
        format!(
            "
  {name}Function:
    Type: AWS::Serverless::Function
    Properties: {{CodeUri: target/lambda/{name}, Policies: {policies}}}
"
        )
    };
    let allowed = "[{Statement: [{Effect: Allow, Action: 'sns:Publish', Resource: !Ref Orders}]}]";
    [
        "
  Orders: {Type: AWS::SNS::Topic, Properties: {TopicName: orders}}
  Other: {Type: AWS::SNS::Topic}
  ToRaw:
    Type: AWS::SNS::Subscription
    Properties: {TopicArn: !Ref Orders, Protocol: sqs, Endpoint: !GetAtt Raw.Arn, RawMessageDelivery: true}
  ToWrapped:
    Type: AWS::SNS::Subscription
    Properties: {TopicArn: !Ref Orders, Protocol: sqs, Endpoint: !GetAtt Wrapped.Arn}
"
        .to_owned(),
        queues,
        function("relay", allowed),
        function("other", "[]"),
    ]
    .concat()
}

fn text(value: &str) -> MessageAttributeValue {
    typed("String", value)
}

fn typed(kind: &str, value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder().data_type(kind).string_value(value).build().unwrap()
}

fn entry(id: &str, message: &str) -> PublishBatchRequestEntry {
    PublishBatchRequestEntry::builder().id(id).message(message).build().unwrap()
}

#[tokio::test]
async fn a_message_comes_raw_with_its_attributes_and_in_an_envelope() {
    let stage = Stage::start(&resources());
    let binary = MessageAttributeValue::builder().data_type("Binary").binary_value(Blob::new([1, 2])).build();
    let body = r#"{"n": 123456789012345678901234567890, "t": "ä & <b> \"q\" +%"}"#;
    let sent = stage
        .sns(Some("relay"))
        .publish()
        .topic_arn(arn::local().topic("orders"))
        .message(body)
        .subject("News");
    let sent = sent.message_attributes("type", text("order.placed")).message_attributes("b", binary.unwrap());
    let id = sent.send().await.unwrap().message_id.unwrap();

    let raw = stage.take("Raw");
    assert_eq!(raw.len(), 1);
    assert_eq!(raw[0].body, body);
    assert_eq!(raw[0].text("type"), "order.placed");
    assert_eq!(raw[0].attributes["b"].binary_value.as_deref(), Some("AQI="));
    let wrapped = stage.take("Wrapped");
    assert_eq!(wrapped.len(), 1);
    assert!(wrapped[0].attributes.is_empty());
    let envelope = wrapped[0].json();
    assert_eq!(envelope["Type"], "Notification");
    assert_eq!((&envelope["MessageId"], &envelope["Subject"]), (&json!(id), &json!("News")));
    assert_eq!(envelope["TopicArn"], "arn:aws:sns:local:000000000000:orders");
    assert_eq!(envelope["Message"], body);
    let attributes = json!({
        "type": {"Type": "String", "Value": "order.placed"}, "b": {"Type": "Binary", "Value": "AQI="}
    });
    assert_eq!(envelope["MessageAttributes"], attributes);
    let timestamp = envelope["Timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");
}

#[tokio::test]
async fn entries_of_a_batch_fail_one_by_one() {
    let stage = Stage::start(&resources());
    let batch = stage.sns(Some("relay")).publish_batch().topic_arn(arn::local().topic("orders"));
    let bad = PublishBatchRequestEntry::builder()
        .id("bad")
        .message("x")
        .message_attributes("n", typed("Number", "no number"))
        .build()
        .unwrap();
    let batch = batch.publish_batch_request_entries(entry("a", "first")).publish_batch_request_entries(bad);
    let answer = batch.publish_batch_request_entries(entry("b", "second")).send().await.unwrap();
    let successful: Vec<_> = answer.successful().iter().map(|entry| entry.id.as_deref().unwrap()).collect();
    assert_eq!(successful, ["a", "b"]);
    let [failed] = answer.failed() else { panic!("{:?}", answer.failed()) };
    assert_eq!(
        (failed.id.as_str(), failed.code.as_str(), failed.sender_fault),
        ("bad", "ParameterValueInvalid", true)
    );
    assert_eq!(stage.bodies("Raw"), ["first", "second"]);
}

#[tokio::test]
async fn a_batch_that_breaks_a_limit_is_refused_whole() {
    let stage = Stage::start(&resources());
    let long = "x".repeat(100 * 1024);
    for (entries, code) in [
        (vec![], "EmptyBatchRequest"),
        ((0..11).map(|n| entry(&n.to_string(), "x")).collect(), "TooManyEntriesInBatchRequest"),
        (vec![entry("a", "x"), entry("a", "y")], "BatchEntryIdsNotDistinct"),
        (vec![entry("a b", "x")], "InvalidBatchEntryId"),
        (vec![entry("a", &long), entry("b", &long), entry("c", &long)], "BatchRequestTooLong"),
    ] {
        let batch = stage.sns(None).publish_batch().topic_arn(arn::local().topic("orders"));
        let error = batch.set_publish_batch_request_entries(Some(entries)).send().await.unwrap_err();
        assert_eq!(error.as_service_error().and_then(ProvideErrorMetadata::code), Some(code));
    }
    assert!(stage.bodies("Raw").is_empty());
}

#[tokio::test]
async fn what_sns_does_not_take_is_refused_with_its_codes() {
    let stage = Stage::start(&resources());
    let limit = 256 * 1024;
    let publish = |topic: &str, message: &str| stage.sns(None).publish().topic_arn(topic).message(message);
    let orders = arn::local().topic("orders");
    assert!(publish(&orders, &"x".repeat(limit)).send().await.is_ok());
    let long = "s".repeat(101);
    for (request, code) in [
        (publish(&orders, &"x".repeat(limit + 1)), "InvalidParameter"),
        (publish(&orders, &"x".repeat(limit)).message_attributes("a", text("b")), "InvalidParameter"),
        (publish(&orders, ""), "InvalidParameter"),
        (publish(&orders, "x").subject(&long), "InvalidParameter"),
        (publish(&orders, "x").message_structure("json"), "InvalidParameter"),
        (publish(&orders, "x").message_attributes("a", text("")), "ParameterValueInvalid"),
        (
            publish(&orders, "x").message_attributes("a", typed("String.Array", "no list")),
            "ParameterValueInvalid",
        ),
        (publish(&arn::local().topic("nowhere"), "x"), "NotFound"),
        (publish("arn:aws:sns:elsewhere:000000000000:orders", "x"), "InvalidParameter"),
        (stage.sns(None).publish().phone_number("+1").message("x"), "InvalidParameter"),
    ] {
        let error = request.send().await.unwrap_err();
        let found = error.as_service_error().and_then(ProvideErrorMetadata::code);
        assert_eq!(found, Some(code), "{error:?}");
    }
}

#[tokio::test]
async fn a_function_publishes_where_its_policy_lets_it() {
    let stage = Stage::start(&resources());
    for (function, topic) in [("relay", "Other"), ("other", "orders")] {
        let publish = stage.sns(Some(function)).publish().topic_arn(arn::local().topic(topic)).message("x");
        let error = publish.send().await.unwrap_err();
        assert_eq!(error.as_service_error().and_then(ProvideErrorMetadata::code), Some("AuthorizationError"));
    }
    assert!(stage.bodies("Raw").is_empty());
    assert_eq!(stage.controls.access.denied().len(), 2);
}

/// A topic with subscriptions `Good` and `Bad`: the policy of the queue of `Bad` is for another
/// topic.
fn with_dead_letters(dead_letters_for: &str) -> String {
    [
        "
  Orders: {Type: AWS::SNS::Topic}
  Other: {Type: AWS::SNS::Topic}
  ToGood:
    Type: AWS::SNS::Subscription
    Properties: {TopicArn: !Ref Orders, Protocol: sqs, Endpoint: !GetAtt Good.Arn, RawMessageDelivery: true}
  ToBad:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: !Ref Orders
      Protocol: sqs
      Endpoint: !GetAtt Bad.Arn
      RawMessageDelivery: true
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn}
"
        .to_owned(),
        queue("Good", SNS, "!Ref Orders"),
        queue("Bad", SNS, "!Ref Other"),
        queue("Dead", SNS, dead_letters_for),
    ]
    .concat()
}

#[tokio::test]
async fn a_queue_without_a_policy_for_the_topic_gets_nothing_and_its_dead_letter_queue_does() {
    let stage = Stage::start(&with_dead_letters("!Ref Orders"));
    stage.sns(None).publish().topic_arn(arn::local().topic("Orders")).message("m").send().await.unwrap();
    assert_eq!(stage.bodies("Good"), ["m"]);
    assert!(stage.bodies("Bad").is_empty());
    assert_eq!(stage.bodies("Dead"), ["m"]);
    let (trail, _) = stage.deliveries.trail.follow();
    let outcomes: Vec<_> = trail[0].deliveries.iter().map(|delivery| delivery.outcome.as_str()).collect();
    assert!(outcomes[0].contains("its policy does not allow that; now in Dead"), "{outcomes:?}");
    assert_eq!(outcomes[1], "delivered");
}

#[tokio::test]
async fn a_dead_letter_queue_needs_a_policy_too() {
    let stage = Stage::start(&with_dead_letters("!Ref Other"));
    stage.sns(None).publish().topic_arn(arn::local().topic("Orders")).message("m").send().await.unwrap();
    assert!(stage.bodies("Dead").is_empty() && stage.bodies("Bad").is_empty());
}

#[tokio::test]
async fn a_raw_message_of_more_than_ten_attributes_is_given_up() {
    let stage = Stage::start(&resources());
    let mut publish = stage.sns(None).publish().topic_arn(arn::local().topic("orders")).message("m");
    for number in 0..11 {
        publish = publish.message_attributes(format!("a{number}"), text("v"));
    }
    publish.send().await.unwrap();
    assert!(stage.bodies("Raw").is_empty());
    assert_eq!(stage.take("Wrapped")[0].json()["MessageAttributes"].as_object().unwrap().len(), 11);
}

/// A topic whose subscriptions have these filter policies and scopes, each with a queue `Q0`,
/// `Q1`...
fn filtered(policies: &[(Value, &str)]) -> String {
    let subscription = |(number, (policy, scope)): (usize, &(Value, &str))| {
        let subscription = format!(
            "
  To{number}:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: !Ref Orders
      Protocol: sqs
      Endpoint: !GetAtt Q{number}.Arn
      RawMessageDelivery: true
      FilterPolicyScope: {scope}
      FilterPolicy: {policy}
"
        );
        [queue(&format!("Q{number}"), SNS, "!Ref Orders"), subscription].concat()
    };
    let subscriptions: String = policies.iter().enumerate().map(subscription).collect();
    ["\n  Orders: {Type: AWS::SNS::Topic}\n", &subscriptions].concat()
}

#[tokio::test]
async fn of_two_subscriptions_with_filters_each_message_comes_to_the_one_it_is_for_once() {
    let region = |name: &str| (json!({"region": [name]}), "MessageAttributes");
    let stage = Stage::start(&filtered(&[region("a"), region("b")]));
    for (number, region) in ["a", "b", "a", "c"].iter().enumerate() {
        let publish =
            stage.sns(None).publish().topic_arn(arn::local().topic("Orders")).message(number.to_string());
        publish.message_attributes("region", text(region)).send().await.unwrap();
    }
    assert_eq!(
        (stage.bodies("Q0"), stage.bodies("Q1")),
        (vec!["0".to_owned(), "2".to_owned()], vec!["1".to_owned()])
    );
}

#[tokio::test]
async fn filter_policies_see_attributes_by_their_types_and_bodies_as_json() {
    let attributes = |policy: Value| (policy, "MessageAttributes");
    let body = |policy: Value| (policy, "MessageBody");
    let cases = [
        (attributes(json!({"k": ["rugby"]})), "String", "rugby", true),
        (attributes(json!({"k": ["rugby"]})), "String", "Rugby", false),
        (attributes(json!({"k": ["rugby"]})), "String.Array", r#"["tennis", "rugby"]"#, true),
        (attributes(json!({"k": [{"anything-but": ["rugby"]}]})), "String.Array", r#"["rugby"]"#, false),
        (attributes(json!({"k": [{"prefix": "ru"}]})), "String", "rugby", true),
        (attributes(json!({"k": [{"numeric": [">", 5, "<=", 10]}]})), "Number", "10", true),
        (attributes(json!({"k": [{"numeric": [">", 5, "<=", 10]}]})), "String", "10", false),
        (attributes(json!({"k": [100]})), "Number", "100.0", true),
        (attributes(json!({"k": [{"anything-but": [100]}]})), "Number", "1e2", false),
        (attributes(json!({"k": [5]})), "Number", "+5", true),
        (attributes(json!({"k": [{"exists": true}]})), "Number", "1", true),
        (attributes(json!({"other": [{"exists": false}]})), "String", "x", true),
        (attributes(json!({"other": [{"exists": true}]})), "String", "x", false),
        (body(json!({"order": {"state": ["PAID"]}})), "String", "x", true),
        (body(json!({"order": {"state": ["OPEN"]}})), "String", "x", false),
        (body(json!({"order": {"lines": [2]}})), "String", "x", true),
        (body(json!({"k": [{"exists": true}]})), "String", "x", false),
    ];
    for (filter, kind, value, expected) in cases {
        let stage = Stage::start(&filtered(std::slice::from_ref(&filter)));
        let message = r#"{"order": {"state": "PAID", "lines": [1, 2]}}"#;
        let publish = stage.sns(None).publish().topic_arn(arn::local().topic("Orders")).message(message);
        publish.message_attributes("k", typed(kind, value)).send().await.unwrap();
        assert_eq!(stage.bodies("Q0").len() == 1, expected, "{filter:?} {kind} {value}");
    }
}

#[tokio::test]
async fn a_message_without_attributes_passes_no_policy_for_attributes() {
    let stage = Stage::start(&filtered(&[(json!({"k": [{"exists": false}]}), "MessageAttributes")]));
    stage.sns(None).publish().topic_arn(arn::local().topic("Orders")).message("bare").send().await.unwrap();
    assert_eq!(stage.bodies("Q0"), [""; 0]);
}

#[tokio::test]
async fn a_body_that_is_no_json_object_passes_no_policy_for_bodies() {
    let stage = Stage::start(&filtered(&[(json!({"k": [{"exists": false}]}), "MessageBody")]));
    for message in ["text", "[1]", "\"k\""] {
        stage
            .sns(None)
            .publish()
            .topic_arn(arn::local().topic("Orders"))
            .message(message)
            .send()
            .await
            .unwrap();
    }
    assert!(stage.bodies("Q0").is_empty());
}

#[tokio::test]
async fn topics_are_listed_and_other_operations_refused() {
    let stage = Stage::start(&resources());
    let topics = stage.sns(None).list_topics().send().await.unwrap();
    let arns: Vec<_> = topics.topics().iter().map(|topic| topic.topic_arn.as_deref().unwrap()).collect();
    assert_eq!(arns, [arn::local().topic("orders"), arn::local().topic("Other")]);
    let error = stage.sns(None).create_topic().name("x").send().await.unwrap_err();
    assert_eq!(error.as_service_error().and_then(ProvideErrorMetadata::code), Some("InvalidAction"));
}

#[tokio::test]
async fn fault_rules_match_the_topic_by_its_name() {
    let stage = Stage::start(&resources());
    let rule = Rule::fail(Failure::ThrottlingException)
        .service(Service::Sns)
        .operation("Publish")
        .resource("orders");
    stage.controls.faults.add(rule.times(1));
    let publish = || stage.sns(None).publish().topic_arn(arn::local().topic("orders")).message("m").send();
    let error = publish().await.unwrap_err();
    assert_eq!(error.as_service_error().and_then(ProvideErrorMetadata::code), Some("Throttling"));
    publish().await.unwrap();
    assert_eq!(stage.bodies("Raw"), ["m"]);
}

#[tokio::test]
async fn a_fault_rule_has_single_entries_of_a_batch_fail_once() {
    let stage = Stage::start(&resources());
    let fault = EntryFault { positions: vec![0, 2], ..EntryFault::default() };
    stage.controls.faults.add(Rule::fail_entries(fault).service(Service::Sns).times(1));
    let batch = || {
        let batch = stage.sns(None).publish_batch().topic_arn(arn::local().topic("orders"));
        batch
            .set_publish_batch_request_entries(Some(vec![entry("a", "1"), entry("b", "2"), entry("c", "3")]))
            .send()
    };
    let answer = batch().await.unwrap();
    let failed: Vec<_> =
        answer.failed().iter().map(|entry| (entry.id.as_str(), entry.sender_fault)).collect();
    assert_eq!(failed, [("a", false), ("c", false)]);
    assert_eq!(answer.failed()[0].code, "InternalError");
    assert_eq!(stage.bodies("Raw"), ["2"]);
    assert!(batch().await.unwrap().failed().is_empty());
    assert_eq!(stage.bodies("Raw"), ["1", "2", "3"]);
}

/// A topic that a function subscribes to; `permission` has the source that its policy is for.
fn with_function(permission: &str) -> String {
    format!(
        "
  Orders: {{Type: AWS::SNS::Topic}}
  Other: {{Type: AWS::SNS::Topic}}
  WorkerFunction: {{Type: AWS::Serverless::Function, Properties: {{CodeUri: target/lambda/worker}}}}
  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      Action: lambda:InvokeFunction
      FunctionName: !Ref WorkerFunction
      Principal: sns.amazonaws.com
      SourceArn: {permission}
  ToWorker:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: !Ref Orders
      Protocol: lambda
      Endpoint: !GetAtt WorkerFunction.Arn
      RedrivePolicy: {{deadLetterTargetArn: !GetAtt Dead.Arn}}
"
    ) + &queue("Dead", SNS, "!Ref Orders")
}

#[tokio::test]
async fn a_function_gets_a_record_of_sns_also_if_it_is_throttled_at_first() {
    let stage = Stage::start(&with_function("!Ref Orders"));
    stage.invoked.lock().unwrap().throttled = 2;
    let publish = stage.sns(None).publish().topic_arn(arn::local().topic("Orders")).message("m");
    let id = publish.message_attributes("type", text("t")).send().await.unwrap().message_id.unwrap();
    let (function, event) = stage.until_invoked().await;
    assert_eq!(function, "worker");
    let record = &event["Records"][0];
    assert_eq!(record["EventSource"], "aws:sns");
    assert_eq!(record["EventSubscriptionArn"], "arn:aws:sns:local:000000000000:Orders:ToWorker");
    assert_eq!((&record["Sns"]["MessageId"], &record["Sns"]["Message"]), (&json!(id), &json!("m")));
    assert_eq!(record["Sns"]["MessageAttributes"], json!({"type": {"Type": "String", "Value": "t"}}));
    assert_eq!(record["Sns"]["Subject"], Value::Null);
}

#[tokio::test]
async fn a_function_without_a_permission_for_the_topic_is_not_invoked() {
    let stage = Stage::start(&with_function("!Ref Other"));
    stage.sns(None).publish().topic_arn(arn::local().topic("Orders")).message("m").send().await.unwrap();
    let dead = stage.take("Dead");
    assert_eq!(dead[0].json()["Records"][0]["Sns"]["Message"], "m");
    assert!(stage.invoked.lock().unwrap().payloads.is_empty());
}
