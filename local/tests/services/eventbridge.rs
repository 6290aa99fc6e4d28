//! Event buses, as the SDK sees them.

use aws_sdk_eventbridge::error::ProvideErrorMetadata;
use aws_sdk_eventbridge::primitives::DateTime;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_eventbridge::types::builders::PutEventsRequestEntryBuilder;
use local_region::services::Service;
use local_region::services::faults::{EntryFault, Rule};
use local_region::template::arn;
use serde_json::json;

use crate::messaging::{Stage, queue};

const EVENTS: &str = "events.amazonaws.com";

/// A bus with a rule for orders to a queue, one for a part of them, and a function that may put
/// events.
fn resources() -> String {
    [
        "
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: shop}}
  Old: {Type: AWS::Events::Archive, Properties: {SourceArn: !GetAtt Bus.Arn}}
  Orders:
    Type: AWS::Events::Rule
    Properties:
      EventBusName: !Ref Bus
      EventPattern: {source: [shop], detail-type: [{prefix: order.}]}
      Targets:
        - {Id: all, Arn: !GetAtt Whole.Arn}
        - {Id: part, Arn: !GetAtt Part.Arn, InputPath: $.detail.order}
        - {Id: constant, Arn: !GetAtt Constant.Arn, Input: '{\"hello\": 1}'}
  Disabled:
    Type: AWS::Events::Rule
    Properties:
      EventBusName: !Ref Bus
      State: DISABLED
      EventPattern: {source: [shop]}
      Targets: [{Id: all, Arn: !GetAtt Constant.Arn}]
  RelayFunction:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: target/lambda/relay
      Policies: [{Statement: [{Effect: Allow, Action: 'events:PutEvents', Resource: !GetAtt Bus.Arn}]}]
"
        .to_owned(),
        queue("Whole", EVENTS, "!GetAtt Orders.Arn"),
        queue("Part", EVENTS, "!GetAtt Orders.Arn"),
        queue("Constant", EVENTS, "!GetAtt Orders.Arn"),
    ]
    .concat()
}

fn entry(detail_type: &str, detail: &str) -> PutEventsRequestEntryBuilder {
    PutEventsRequestEntry::builder()
        .source("shop")
        .detail_type(detail_type)
        .detail(detail)
        .event_bus_name("shop")
}

#[tokio::test]
async fn an_event_comes_whole_in_part_or_as_a_constant() {
    let stage = Stage::start(&resources());
    let detail = r#"{"order": {"n": 117.63331139400017, "b": 1.0, "a": 2}, "t": "ä"}"#;
    let first =
        entry("order.placed", detail).time(DateTime::from_secs_f64(1_794_000_000.7)).resources("r1").build();
    let other = entry("export.ready", "{}").build();
    let put = stage.events(Some("relay")).put_events().entries(first).entries(other).send().await.unwrap();
    assert_eq!(put.failed_entry_count, 0);
    let id = put.entries()[0].event_id.as_deref().unwrap();

    let whole = stage.bodies("Whole");
    let expected = format!(
        r#"{{"version":"0","id":"{id}","detail-type":"order.placed","source":"shop","account":"000000000000","time":"2026-11-06T21:20:00Z","region":"local","resources":["r1"],"detail":{detail}}}"#
    );
    assert_eq!(whole, [expected]);
    assert_eq!(stage.bodies("Part"), [r#"{"a":2,"b":1.0,"n":117.63331139400017}"#]);
    assert_eq!(stage.bodies("Constant"), [r#"{"hello": 1}"#], "the rule that is disabled sends nothing");
}

#[tokio::test]
async fn entries_fail_one_by_one_and_in_their_places() {
    let stage = Stage::start(&resources());
    let bare = || PutEventsRequestEntry::builder().event_bus_name("shop");
    let cases = [
        (entry("order.placed", "{}").build(), None),
        (bare().detail_type("t").detail("{}").build(), Some("InvalidArgument")),
        (bare().source("s").detail("{}").build(), Some("InvalidArgument")),
        (bare().source("s").detail_type("t").build(), Some("InvalidArgument")),
        (entry("order.placed", "no json").build(), Some("MalformedDetail")),
        (entry("order.placed", "[1]").build(), Some("MalformedDetail")),
        (entry("order.placed", r#"{"n": 9223372036854775808}"#).build(), Some("MalformedDetail")),
        (entry("order.placed", "{}").source("aws.s3").build(), Some("NotAuthorizedForSourceException")),
        (entry("order.placed", "{}").event_bus_name("nowhere").build(), Some("InvalidArgument")),
        (
            entry("order.placed", r#"{"n": 9223372036854775807}"#)
                .event_bus_name(arn::local().event_bus("shop"))
                .build(),
            None,
        ),
    ];
    let (entries, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let put = stage.events(None).put_events().set_entries(Some(entries)).send().await.unwrap();
    let codes: Vec<_> = put.entries().iter().map(|entry| entry.error_code.as_deref()).collect();
    assert_eq!(codes, expected);
    assert_eq!(put.failed_entry_count, 8);
    assert!(put.entries().iter().all(|entry| entry.event_id.is_some() != entry.error_code.is_some()));
    assert_eq!(stage.bodies("Whole").len(), 2);
}

#[tokio::test]
async fn a_call_that_breaks_a_limit_is_refused_whole() {
    let stage = Stage::start(&resources());
    let sized = |bytes: usize| {
        // `{"p":""}` is 8 bytes, source and detail type are 16.
        entry("order.placed", &format!(r#"{{"p":"{}"}}"#, "x".repeat(bytes - 8 - 16))).build()
    };
    let limit = 1024 * 1024;
    for entries in [
        vec![],
        (0..11).map(|_| entry("order.placed", "{}").build()).collect(),
        vec![sized(limit + 1)],
        vec![sized(limit / 2), sized(limit / 2 + 1)],
    ] {
        let error = stage.events(None).put_events().set_entries(Some(entries)).send().await.unwrap_err();
        assert_eq!(
            error.as_service_error().and_then(ProvideErrorMetadata::code),
            Some("ValidationException")
        );
    }
    assert!(stage.bodies("Whole").is_empty());
    let put = stage.events(None).put_events().entries(sized(limit / 2)).entries(sized(limit / 2));
    assert_eq!(put.send().await.unwrap().failed_entry_count, 0);
    assert_eq!(stage.bodies("Whole").len(), 2);
}

#[tokio::test]
async fn a_function_puts_events_where_its_policy_lets_it() {
    let stage = Stage::start(&resources());
    let allowed = entry("order.placed", "{}").build();
    let put = stage.events(Some("relay")).put_events().entries(allowed.clone());
    put.clone().send().await.unwrap();
    // One bus that it may not is enough.
    let default = PutEventsRequestEntry::builder().source("s").detail_type("t").detail("{}").build();
    let error = put.entries(default).send().await.unwrap_err();
    assert_eq!(error.as_service_error().and_then(ProvideErrorMetadata::code), Some("AccessDeniedException"));
    assert_eq!(stage.bodies("Whole").len(), 1);
}

/// A rule whose queue `Bad` lets another rule send, with a dead-letter queue.
fn with_dead_letters() -> String {
    [
        "
  Orders:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {source: [shop]}
      Targets: [{Id: bad, Arn: !GetAtt Bad.Arn, Input: '1', DeadLetterConfig: {Arn: !GetAtt Dead.Arn}}]
  Other:
    Type: AWS::Events::Rule
    Properties: {EventPattern: {source: [other]}}
"
        .to_owned(),
        queue("Bad", EVENTS, "!GetAtt Other.Arn"),
        queue("Dead", EVENTS, "!GetAtt Orders.Arn"),
    ]
    .concat()
}

#[tokio::test]
async fn an_event_whose_target_lets_the_rule_not_send_is_a_dead_letter_with_the_reason() {
    let stage = Stage::start(&with_dead_letters());
    let event = PutEventsRequestEntry::builder().source("shop").detail_type("t").detail(r#"{"a":1}"#).build();
    stage.events(None).put_events().entries(event).send().await.unwrap();
    assert!(stage.bodies("Bad").is_empty());
    let dead = stage.take("Dead");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].json()["detail"], json!({"a": 1}), "the event, not the input of the target");
    assert_eq!(dead[0].text("ERROR_CODE"), "NO_PERMISSIONS");
    assert_eq!(dead[0].text("RULE_ARN"), "arn:aws:events:local:000000000000:rule/Orders");
    assert_eq!(dead[0].text("TARGET_ARN"), arn::local().queue("Bad"));
    assert_eq!(dead[0].text("RETRY_ATTEMPTS"), "0");
}

#[tokio::test]
async fn buses_and_rules_are_listed() {
    let stage = Stage::start(&resources());
    let buses = stage.events(None).list_event_buses().send().await.unwrap();
    let names: Vec<_> = buses.event_buses().iter().map(|bus| bus.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["shop", "default"]);
    let rules = stage.events(None).list_rules().event_bus_name("shop").send().await.unwrap();
    let arns: Vec<_> = rules.rules().iter().map(|rule| rule.arn.as_deref().unwrap()).collect();
    assert_eq!(arns, [arn::local().rule("shop", "Disabled"), arn::local().rule("shop", "Orders")]);
}

#[tokio::test]
async fn a_fault_rule_has_the_entries_fail_that_contain_a_text() {
    let stage = Stage::start(&resources());
    let fault = EntryFault {
        containing: Some("ord_1".to_owned()),
        code: Some("ThrottlingException".to_owned()),
        ..EntryFault::default()
    };
    stage.controls.faults.add(Rule::fail_entries(fault).service(Service::EventBridge).resource("shop"));
    let entries =
        ["ord_0", "ord_1", "ord_2"].map(|id| entry("order.placed", &json!({"id": id}).to_string()).build());
    let put = stage.events(None).put_events().set_entries(Some(entries.to_vec())).send().await.unwrap();
    assert_eq!(put.failed_entry_count, 1);
    assert_eq!(put.entries()[1].error_code.as_deref(), Some("ThrottlingException"));
    let events = stage.take("Whole");
    let ids: Vec<_> = events.iter().map(|event| event.json()["detail"]["id"].clone()).collect();
    assert_eq!(ids, ["ord_0", "ord_2"]);
}

/// A rule whose target is a function, with a retry policy.
fn with_function(retry: &str) -> String {
    format!(
        "
  WorkerFunction: {{Type: AWS::Serverless::Function, Properties: {{CodeUri: target/lambda/worker}}}}
  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      Action: lambda:InvokeFunction
      FunctionName: !GetAtt WorkerFunction.Arn
      Principal: events.amazonaws.com
      SourceArn: !GetAtt Orders.Arn
  Orders:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {{source: [shop]}}
      Targets:
        - Id: worker
          Arn: !GetAtt WorkerFunction.Arn
          RetryPolicy: {retry}
          DeadLetterConfig: {{Arn: !GetAtt Dead.Arn}}
"
    ) + &queue("Dead", EVENTS, "!GetAtt Orders.Arn")
}

#[tokio::test]
async fn a_function_that_is_throttled_gets_the_event_later() {
    let stage = Stage::start(&with_function("{MaximumRetryAttempts: 2}"));
    stage.invoked.lock().unwrap().throttled = 1;
    let event = PutEventsRequestEntry::builder().source("shop").detail_type("t").detail(r#"{"a":1}"#).build();
    let put = stage.events(None).put_events().entries(event).send().await.unwrap();
    let (function, event) = stage.until_invoked().await;
    assert_eq!((function.as_str(), &event["detail"]), ("worker", &json!({"a": 1})));
    assert_eq!(event["id"], put.entries()[0].event_id.as_deref().unwrap());
    assert!(stage.bodies("Dead").is_empty());
}

#[tokio::test]
async fn an_event_whose_retries_are_used_up_is_a_dead_letter() {
    for (retry, throttled, attempts) in
        [("{MaximumRetryAttempts: 0}", 1, "0"), ("{MaximumRetryAttempts: 1}", 2, "1")]
    {
        let stage = Stage::start(&with_function(retry));
        stage.invoked.lock().unwrap().throttled = throttled;
        let event = PutEventsRequestEntry::builder().source("shop").detail_type("t").detail("{}").build();
        stage.events(None).put_events().entries(event).send().await.unwrap();
        let dead = stage.until_any("Dead").await;
        assert_eq!(dead[0].text("ERROR_CODE"), "THROTTLING");
        assert_eq!(dead[0].text("RETRY_ATTEMPTS"), attempts);
        assert_eq!(dead[0].text("EXHAUSTED_RETRY_CONDITION"), "MaximumRetryAttempts");
        assert_eq!(
            dead[0].text("TARGET_ARN"),
            "arn:aws:lambda:local:000000000000:function:sam-app-WorkerFunction"
        );
        assert!(stage.invoked.lock().unwrap().payloads.is_empty());
    }
}
