use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{
    Answers, EventInvoke, EventSource, Filter, GrantedBy, KafkaSource, Queue, Redrive, Stack,
    StartingPosition, StreamSource, Target,
};
use super::*;
use crate::patterns::Pattern;

fn context() -> Context {
    Context {
        arns: arn::local(),
        parameters: BTreeMap::new(),
        http_url: "http://127.0.0.1:3000".to_owned(),
        websocket_url: "ws://127.0.0.1:3001".to_owned(),
        sqs_url: "http://127.0.0.1:3002".to_owned(),
        global_tables: Vec::new(),
    }
}

fn load_with(template: &str, context: &Context) -> Result<Stack, TemplateError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.yaml");
    std::fs::write(&path, template).unwrap();
    load(&path, context)
}

fn load_text(template: &str) -> Stack {
    load_with(template, &context()).unwrap()
}

/// The error without the folder, which differs from run to run.
fn problem(template: &str) -> String {
    let error = load_with(template, &context()).unwrap_err().to_string();
    error.split_once("template.yaml").unwrap().1.to_owned()
}

const FUNCTION: &str = r#"
Parameters:
  Stage: {Type: String, Default: dev}
  Hours: {Type: Number, Default: 24}
  Origins: {Type: CommaDelimitedList, Default: "http://a, http://b"}
  Topic: {Type: String, Default: ""}
Conditions:
  HasTopic: !Not [!Equals [!Ref Topic, ""]]
  IsDev: {"Fn::Equals": [{Ref: Stage}, dev]}
  Both: !And [!Condition IsDev, !Not [!Condition HasTopic]]
Globals:
  Function:
    MemorySize: 256
    Timeout: 10
    Environment: {Variables: {STAGE: !Ref Stage, LOG_LEVEL: info}}
Resources:
  ThingsTable:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: thingId, AttributeType: S}]
      KeySchema: [{AttributeName: thingId, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: expiresAt, Enabled: true}
  FilesBucket: {Type: AWS::S3::Bucket}
  Key: {Type: AWS::SecretsManager::Secret}
  Alarm: {Type: AWS::CloudWatch::Alarm, Properties: {Whatever: !Ref NoSuchThing}}
  Gone: {Type: AWS::DynamoDB::Table, Condition: HasTopic}
  Mail: {Type: AWS::SES::Template}
  ThingFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: !Sub ${AWS::StackName}-api-things
      CodeUri: target/lambda/api-things
      Timeout: 29
      Environment:
        Variables:
          LOG_LEVEL: debug
          TABLE: !Ref ThingsTable
          BUCKET: !Ref FilesBucket
          KEY: !Ref Key
          HOURS: !Ref Hours
          ORIGINS: !Join ["|", !Ref Origins]
          SECOND: !Select [1, !Split ["/", "a/b/c"]]
          CHOSEN: !If [Both, yes-value, no-value]
          TOPIC: !If [HasTopic, !Ref Topic, !Ref AWS::NoValue]
          LITERAL: !Sub "${!NotMe} ${Mine} ${AWS::Region}"
          MAPPED: !Sub ["${Own}-${Stage}", {Own: !Ref Hours}]
      Policies:
        - Version: "2012-10-17"
          Statement:
            - Effect: Allow
              Action: dynamodb:GetItem
              Resource: !GetAtt ThingsTable.Arn
            - Effect: Allow
              Action: [s3:PutObject]
              Resource: !Sub ${FilesBucket.Arn}/reports/*
      Events:
        Read: {Type: HttpApi, Properties: {Method: get, Path: "/things/{thingId}"}}
        Nightly:
          Type: ScheduleV2
          Properties:
            Name: !Sub ${AWS::StackName}-nightly
            ScheduleExpression: cron(0 2 * * ? *)
            Input: '{"scheduledTime":"<aws.scheduler.scheduled-time>"}'
            RetryPolicy: {MaximumRetryAttempts: 4}
"#;

/// [`FUNCTION`] with the one expression that is wrong on purpose put right.
fn function_template() -> String {
    FUNCTION.replace(" ${Mine}", "")
}

#[test]
fn intrinsic_functions_conditions_and_globals_end_in_the_functions_environment() {
    let stack = load_text(&function_template());
    let function = &stack.functions[0];
    assert_eq!(
        (function.name.as_str(), function.physical_name.as_str()),
        ("api-things", "sam-app-api-things")
    );
    assert_eq!((function.timeout.as_secs(), function.memory_mib), (29, 256));
    let expected = [
        ("BUCKET", "filesbucket"),
        ("CHOSEN", "yes-value"),
        ("HOURS", "24"),
        ("KEY", "arn:aws:secretsmanager:local:000000000000:secret:Key"),
        ("LITERAL", "${NotMe} local"),
        ("LOG_LEVEL", "debug"),
        ("MAPPED", "24-dev"),
        ("ORIGINS", "http://a|http://b"),
        ("SECOND", "b"),
        ("STAGE", "dev"),
        ("TABLE", "ThingsTable"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(function.environment, BTreeMap::from(expected));
}

#[test]
fn statements_routes_schedules_tables_and_what_is_not_run_are_read() {
    let stack = load_text(&function_template());
    let policy = &stack.functions[0].policy;
    assert_eq!(policy[0].actions, ["dynamodb:GetItem"]);
    assert_eq!(policy[0].resources, ["arn:aws:dynamodb:local:000000000000:table/ThingsTable"]);
    assert_eq!(policy[1].resources, ["arn:aws:s3:::filesbucket/reports/*"]);
    let route = &stack.http_api.unwrap().routes[0];
    assert_eq!((route.method.as_str(), route.path.as_str()), ("GET", "/things/{thingId}"));
    let schedule = &stack.schedules[0];
    assert_eq!(
        (schedule.name.as_str(), schedule.maximum_retry_attempts, schedule.enabled),
        ("sam-app-nightly", 4, true)
    );
    assert_eq!(schedule.input, r#"{"scheduledTime":"<aws.scheduler.scheduled-time>"}"#);
    assert_eq!(stack.tables.len(), 1, "a resource whose condition is false does not exist");
    assert_eq!(stack.tables[0].ttl_attribute.as_deref(), Some("expiresAt"));
    assert_eq!(stack.tables[0].create["KeySchema"][0]["AttributeName"], "thingId");
    assert_eq!(stack.not_run, ["Mail (AWS::SES::Template)"]);
}

#[test]
fn a_parameter_given_wins_over_its_default() {
    let mut context = context();
    context.parameters.insert("Stage".to_owned(), "local".to_owned());
    let stack = load_with(&function_template(), &context).unwrap();
    assert_eq!(stack.functions[0].environment["STAGE"], "local");
    assert_eq!(stack.functions[0].environment["CHOSEN"], "no-value");
}

#[test]
fn a_value_for_a_parameter_that_is_not_declared_is_an_error() {
    let mut context = context();
    context.parameters.insert("Stgae".to_owned(), "local".to_owned());
    let error = load_with(&function_template(), &context).unwrap_err().to_string();
    assert!(error.contains("Parameters.Stgae") && error.contains("no such parameter"), "{error}");
}

#[test]
fn a_websocket_api_is_put_together_from_its_resources() {
    let stack = load_text(
        r#"
Resources:
  Api: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.action}}
  Stage: {Type: AWS::ApiGatewayV2::Stage, Properties: {StageName: live, ApiId: !Ref Api}}
  Connect: {Type: AWS::ApiGatewayV2::Route, Properties: {RouteKey: $connect, Target: !Sub "integrations/${Integration}"}}
  Send: {Type: AWS::ApiGatewayV2::Route, Properties: {RouteKey: send, Target: !Join [/, [integrations, !Ref Integration]]}}
  Answer: {Type: AWS::ApiGatewayV2::RouteResponse, Properties: {RouteId: !Ref Send, RouteResponseKey: $default}}
  Integration:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      IntegrationType: AWS_PROXY
      IntegrationUri: !Sub arn:aws:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Socket.Arn}/invocations
  Socket:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: target/lambda/ws-all, Environment: {Variables: {ENDPOINT: !Sub "${Api.ApiEndpoint}/live"}}}
"#,
    );
    let api = stack.websocket_api.unwrap();
    assert_eq!(
        (api.stage.as_str(), api.route_selection_expression.as_str()),
        ("live", "$request.body.action")
    );
    assert_eq!(
        (api.routes["$connect"].function.as_str(), api.routes["$connect"].responds),
        ("ws-all", false)
    );
    assert!(api.routes["send"].responds);
    assert_eq!(stack.functions[0].environment["ENDPOINT"], "ws://127.0.0.1:3001/live");
}

const QUEUES: &str = r#"
Resources:
  Jobs:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 360
      DelaySeconds: 5
      MessageRetentionPeriod: 3600
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 10}
      SqsManagedSseEnabled: true
  Dead: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub "${AWS::StackName}-dead", VisibilityTimeout: 60}}
  DeadPolicy: {Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref Dead], PolicyDocument: {Statement: []}}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: target/lambda/export-worker
      Timeout: 60
      Environment:
        Variables:
          QUEUE_URL: !Ref Jobs
          SAME_URL: !GetAtt Jobs.QueueUrl
          DEAD_ARN: !GetAtt Dead.Arn
          DEAD_NAME: !GetAtt Dead.QueueName
      Events:
        Jobs:
          Type: SQS
          Properties:
            Queue: !GetAtt Jobs.Arn
            BatchSize: 100
            MaximumBatchingWindowInSeconds: 2
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: 4}
        Dead: {Type: SQS, Properties: {Queue: !GetAtt Dead.Arn, Enabled: false}}
        Nightly:
          Type: ScheduleV2
          Properties: {ScheduleExpression: rate(1 day), DeadLetterConfig: {Arn: !GetAtt Dead.Arn}}
"#;

#[test]
fn queues_and_the_functions_that_read_them_are_read() {
    let stack = load_text(QUEUES);
    let seconds = Duration::from_secs;
    let jobs = Queue {
        name: "Jobs".to_owned(),
        visibility_timeout: seconds(360),
        delay: seconds(5),
        retention: seconds(3600),
        receive_wait: seconds(0),
        maximum_message_bytes: 1024 * 1024,
        redrive: Some(Redrive { dead_letter_queue: "sam-app-dead".to_owned(), maximum_receives: 10 }),
    };
    let dead = Queue {
        name: "sam-app-dead".to_owned(),
        visibility_timeout: seconds(60),
        delay: seconds(0),
        retention: seconds(4 * 24 * 3600),
        redrive: None,
        ..jobs.clone()
    };
    assert_eq!(stack.queues, [dead, jobs]);
    let jobs = EventSource {
        queue: "Jobs".to_owned(),
        function: "export-worker".to_owned(),
        granted_by: GrantedBy::Event,
        batch_size: 100,
        batching_window: seconds(2),
        answers: Answers::ReportFailures,
        maximum_concurrency: Some(4),
        filters: Vec::new(),
        enabled: true,
    };
    let dead = EventSource {
        queue: "sam-app-dead".to_owned(),
        batch_size: 10,
        batching_window: seconds(0),
        answers: Answers::Ignored,
        maximum_concurrency: None,
        enabled: false,
        ..jobs.clone()
    };
    assert_eq!(stack.event_sources.len(), 2);
    assert!(stack.event_sources.contains(&jobs) && stack.event_sources.contains(&dead), "{stack:?}");
    assert_eq!(stack.schedules[0].dead_letter_queue.as_deref(), Some("sam-app-dead"));
    let environment = &stack.functions[0].environment;
    assert_eq!(environment["QUEUE_URL"], "http://127.0.0.1:3002/000000000000/Jobs");
    assert_eq!(environment["SAME_URL"], environment["QUEUE_URL"]);
    assert_eq!(environment["DEAD_ARN"], "arn:aws:sqs:local:000000000000:sam-app-dead");
    assert_eq!(environment["DEAD_NAME"], "sam-app-dead");
    assert!(stack.not_run.is_empty(), "{:?}", stack.not_run);
}

#[test]
fn what_the_cloud_refuses_of_queues_is_refused() {
    for (right, wrong, says) in [
        (
            "DelaySeconds: 5",
            "DelaySeconds: 901",
            ": Jobs: the property DelaySeconds (901) must be within the range",
        ),
        (
            "DelaySeconds: 5",
            "FifoQueue: true",
            ": Jobs: a FIFO queue can't be run locally; use a standard queue",
        ),
        (
            "maxReceiveCount: 10",
            "maxReceiveCount: 0",
            ": Jobs: the property RedrivePolicy.maxReceiveCount must be 1 to 1000",
        ),
        (", maxReceiveCount: 10", "", ": Jobs: the property RedrivePolicy.maxReceiveCount is missing"),
        (
            "!GetAtt Dead.Arn, maxReceiveCount",
            "arn:aws:sqs:x:1:Other, maxReceiveCount",
            ": Jobs: the queue arn:aws:sqs:x:1:Other, which is not of this template, can't be run",
        ),
        ("BatchSize: 100", "BatchSize: 0", ": Worker: the property BatchSize (0) must be within the range"),
        (
            "MaximumBatchingWindowInSeconds: 2",
            "Enabled: true",
            ": Worker: the property BatchSize must be 10 or less, or come with",
        ),
        (
            "MaximumConcurrency: 4",
            "MaximumConcurrency: 1",
            ": Worker: the property ScalingConfig.MaximumConcurrency must be 2 to 1000",
        ),
        (
            "[ReportBatchItemFailures]",
            "[ReportSuccess]",
            ": Worker: the property FunctionResponseTypes must be [ReportBatchItemFailures]",
        ),
        (
            "BatchSize: 100",
            "FilterCriteria: {Filters: [{Pattern: '{\"messageAttributes\": {\"a\": [1]}}'}]}",
            ": Worker: a filter by messageAttributes can't be run locally; filter by body",
        ),
        (
            "VisibilityTimeout: 60",
            "VisibilityTimeout: 59",
            ": Worker: the property VisibilityTimeout of the queue sam-app-dead must be no less than the Timeout",
        ),
    ] {
        assert!(QUEUES.contains(right), "{right}");
        let problem = problem(&QUEUES.replace(right, wrong));
        assert!(problem.starts_with(says), "{problem}");
    }
}

const STREAMS: &str = r#"
Resources:
  Notes:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      StreamSpecification: {StreamViewType: NEW_IMAGE}
  Still:
    Type: AWS::DynamoDB::Table
    Properties:
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
  Dead: {Type: AWS::SQS::Queue}
  Relay:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: target/lambda/outbox-relay
      Events:
        Notes:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt Notes.StreamArn
            StartingPosition: TRIM_HORIZON
            BatchSize: 50
            MaximumBatchingWindowInSeconds: 2
            MaximumRetryAttempts: 3
            MaximumRecordAgeInSeconds: 3600
            BisectBatchOnFunctionError: true
            ParallelizationFactor: 4
            FunctionResponseTypes: [ReportBatchItemFailures]
            DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Dead.Arn}}
            FilterCriteria: {Filters: [{Pattern: '{"eventName": ["INSERT"]}'}]}
  Plain: {Type: AWS::Serverless::Function, Properties: {CodeUri: target/lambda/plain}}
  PlainNotes:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Plain
      EventSourceArn: !GetAtt Notes.StreamArn
      StartingPosition: LATEST
      MaximumRetryAttempts: -1
      DestinationConfig: {OnFailure: {Destination: !GetAtt Dead.Arn}}
"#;

#[test]
fn streams_and_the_functions_that_read_them_are_read() {
    let stack = load_text(STREAMS);
    let document = serde_json::json!({"eventName": ["INSERT"]});
    let relay = StreamSource {
        table: "Notes".to_owned(),
        function: "outbox-relay".to_owned(),
        function_arn: "arn:aws:lambda:local:000000000000:function:sam-app-Relay".to_owned(),
        granted_by: GrantedBy::Event,
        starting_position: StartingPosition::TrimHorizon,
        batch_size: 50,
        batching_window: Duration::from_secs(2),
        bisect: true,
        maximum_retry_attempts: Some(3),
        maximum_record_age: Some(Duration::from_hours(1)),
        parallelization_factor: 4,
        on_failure: Some("Dead".to_owned()),
        filters: vec![Filter { pattern: Pattern::parse(&document).unwrap(), document }],
        answers: Answers::ReportFailures,
        enabled: true,
    };
    let plain = StreamSource {
        function: "plain".to_owned(),
        function_arn: "arn:aws:lambda:local:000000000000:function:sam-app-Plain".to_owned(),
        granted_by: GrantedBy::Policies,
        starting_position: StartingPosition::Latest,
        batch_size: 100,
        batching_window: Duration::ZERO,
        bisect: false,
        maximum_retry_attempts: None,
        maximum_record_age: None,
        parallelization_factor: 1,
        filters: Vec::new(),
        answers: Answers::Ignored,
        ..relay.clone()
    };
    assert_eq!(stack.stream_sources, [relay, plain]);
    // SAM adds a statement for the event. Nobody adds one for a mapping.
    let policies: Vec<_> = stack.functions.iter().map(|function| function.policy.len()).collect();
    assert_eq!(policies, [0, 1]);
    assert_eq!(stack.functions[1].policy[0].resources, ["arn:aws:sqs:local:000000000000:Dead"]);
    assert!(stack.not_run.is_empty(), "{:?}", stack.not_run);
    let by_arn = STREAMS.replace("FunctionName: !Ref Plain", "FunctionName: !GetAtt Plain.Arn");
    assert_eq!(load_text(&by_arn).stream_sources, stack.stream_sources);
}

#[test]
fn what_the_cloud_refuses_of_streams_is_refused() {
    let filter = r#"'{"eventName": ["INSERT"]}'"#;
    for (right, wrong, says) in [
        (
            "Position: TRIM_HORIZON",
            "Position: AT_TIMESTAMP",
            ": Relay: the property StartingPosition must be TRIM_HORIZON or LATEST",
        ),
        ("StartingPosition: LATEST\n", "\n", ": PlainNotes: the property StartingPosition is missing"),
        ("BatchSize: 50", "BatchSize: 10001", ": Relay: the property BatchSize (10001) must be within"),
        (
            "InSeconds: 2\n",
            "InSeconds: 301\n",
            ": Relay: the property MaximumBatchingWindowInSeconds (301) must be within",
        ),
        (
            "Attempts: 3\n",
            "Attempts: 10001\n",
            ": Relay: the property MaximumRetryAttempts (10001) must be within",
        ),
        (
            "AgeInSeconds: 3600",
            "AgeInSeconds: 59",
            ": Relay: the property MaximumRecordAgeInSeconds (59) must be within",
        ),
        ("Factor: 4", "Factor: 11", ": Relay: the property ParallelizationFactor (11) must be within"),
        (
            "Factor: 4",
            "Factor: 4\n            TumblingWindowInSeconds: 60",
            ": Relay: TumblingWindowInSeconds of a DynamoDB event can't be run locally",
        ),
        (
            "MaximumRetryAttempts: -1",
            "TumblingWindowInSeconds: 1",
            ": PlainNotes: TumblingWindowInSeconds of AWS::Lambda::EventSourceMapping can't be run locally",
        ),
        ("Type: SQS, Dest", "Type: SNS, Dest", ": Relay: an OnFailure destination other than a queue"),
        (
            "Stream: !GetAtt Notes.StreamArn",
            "Stream: !GetAtt Still.StreamArn",
            ": Relay: the property StreamSpecification of Still is missing",
        ),
        (
            "EventSourceArn: !GetAtt Notes.StreamArn",
            "EventSourceArn: !GetAtt Dead.Arn",
            ": PlainNotes: DestinationConfig of AWS::Lambda::EventSourceMapping can't be run locally",
        ),
        (
            "FunctionName: !Ref Plain",
            "FunctionName: other",
            ": PlainNotes: a mapping for other, which is no function of this template,",
        ),
        (
            "FunctionName: !Ref Plain",
            "FunctionName: !Ref Relay",
            ": outbox-relay: the property Stream of Notes must be read by one event of a function only",
        ),
        (
            "Type: NEW_IMAGE",
            "Type: NEW_IMAGES",
            ": Notes: the property StreamSpecification.StreamViewType must be KEYS_ONLY,",
        ),
        (
            filter,
            r#"'{"eventName": "INSERT"}'"#,
            ": Relay: Event pattern is not valid. Reason: \"eventName\"",
        ),
        (filter, r#"'{"eventID": ["1"]}'"#, ": Relay: a filter by eventID can't be run locally"),
        (
            filter,
            r#"'{"dynamodb": ["text"]}'"#,
            ": Relay: the property FilterCriteria must be patterns whose dynamodb is an object",
        ),
        (
            filter,
            "'no JSON'",
            ": Relay: the property FilterCriteria.Filters must be a list of objects with a Pattern",
        ),
        (
            "FilterCriteria: {Filters: [",
            "FilterCriteria: {Filters: [1, 2, 3, 4, 5, ",
            ": Relay: the property FilterCriteria.Filters must be a list of five filters at most",
        ),
    ] {
        assert!(STREAMS.contains(right), "{right}");
        let problem = problem(&STREAMS.replacen(right, wrong, 1));
        assert!(problem.starts_with(says), "{problem}");
    }
}

const DESTINATION: &str = r"
Resources:
  Dead: {Type: AWS::SQS::Queue}
  Job:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: target/lambda/job
      EventInvokeConfig:
        MaximumEventAgeInSeconds: 300
        MaximumRetryAttempts: 1
        DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Dead.Arn}}
";

const MAPPINGS: &str = r#"
Parameters:
  Kind: {Type: String, Default: kafka}
  Brokers: {Type: String, Default: "one.example:9092,127.0.0.1:9093"}
Conditions:
  IsKafka: !Equals [!Ref Kind, kafka]
Resources:
  Jobs: {Type: AWS::SQS::Queue, Properties: {VisibilityTimeout: 360}}
  Worker:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: target/lambda/worker, Timeout: 60}
  OfQueue:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Worker
      EventSourceArn: !GetAtt Jobs.Arn
      BatchSize: 5
      ScalingConfig: {MaximumConcurrency: 3}
      FunctionResponseTypes: [ReportBatchItemFailures]
  OfTopic:
    Type: AWS::Lambda::EventSourceMapping
    Condition: IsKafka
    Properties:
      FunctionName: !GetAtt Worker.Arn
      SelfManagedEventSource:
        Endpoints:
          KafkaBootstrapServers: !Split [",", !Ref Brokers]
      SelfManagedKafkaEventSourceConfig: {ConsumerGroupId: !Sub "${AWS::StackName}-group"}
      Topics: [activity]
      StartingPosition: TRIM_HORIZON
      BatchSize: 500
      SourceAccessConfigurations:
        - {Type: VPC_SUBNET, URI: "subnet:subnet-1"}
"#;

#[test]
fn mappings_of_queues_and_of_topics_are_read() {
    let stack = load_text(MAPPINGS);
    let jobs = EventSource {
        queue: "Jobs".to_owned(),
        function: "worker".to_owned(),
        granted_by: GrantedBy::Policies,
        batch_size: 5,
        batching_window: Duration::ZERO,
        answers: Answers::ReportFailures,
        maximum_concurrency: Some(3),
        filters: Vec::new(),
        enabled: true,
    };
    assert_eq!(stack.event_sources, std::slice::from_ref(&jobs));
    let activity = KafkaSource {
        bootstrap_servers: vec!["one.example:9092".to_owned(), "127.0.0.1:9093".to_owned()],
        topic: "activity".to_owned(),
        consumer_group: "sam-app-group".to_owned(),
        function: "worker".to_owned(),
        starting_position: StartingPosition::TrimHorizon,
        batch_size: 500,
        batching_window: Duration::from_millis(500),
        enabled: true,
    };
    assert_eq!(stack.kafka_sources, [activity]);
    assert!(stack.not_run.is_empty(), "{:?}", stack.not_run);
    let mut other = context();
    other.parameters.insert("Kind".to_owned(), "sqs".to_owned());
    let without = load_with(MAPPINGS, &other).unwrap();
    assert_eq!((without.event_sources, without.kafka_sources), (vec![jobs], vec![]));
}

#[test]
fn what_the_cloud_refuses_of_mappings_is_refused() {
    let second = MAPPINGS.split_once("  OfTopic:\n").unwrap().1;
    for (right, wrong, says) in [
        (
            "VisibilityTimeout: 360",
            "VisibilityTimeout: 30",
            ": OfQueue: the property VisibilityTimeout of the queue",
        ),
        ("BatchSize: 5\n", "BatchSize: 11\n", ": OfQueue: the property BatchSize must be 10 or less"),
        (
            "BatchSize: 5\n",
            "MaximumRetryAttempts: 3\n",
            ": OfQueue: MaximumRetryAttempts of AWS::Lambda::EventSourceMapping can't be run locally",
        ),
        (
            "EventSourceArn: !GetAtt Jobs.Arn",
            "EventSourceArn: arn:aws:sqs:local:000000000000:Other",
            ": OfQueue: the queue arn:aws:sqs:local:000000000000:Other, which is not of this template,",
        ),
        (
            "Topics: [activity]",
            "Topics: [a, b]",
            ": OfTopic: the property Topics must be a list of one topic",
        ),
        (
            "Topics: [activity]",
            "Topics: ['a b']",
            ": OfTopic: the property Topics must be a list of one topic",
        ),
        (
            "Position: TRIM_HORIZON",
            "Position: AT_TIMESTAMP",
            ": OfTopic: the property StartingPosition must be TRIM_HORIZON or LATEST",
        ),
        ("BatchSize: 500", "BatchSize: 10001", ": OfTopic: the property BatchSize (10001) must be within"),
        (
            "one.example:9092",
            "one.example",
            ": OfTopic: the property SelfManagedEventSource must be Endpoints",
        ),
        ("one.example:9092", "-one.example:9092", ": OfTopic: the property SelfManagedEventSource must be"),
        (
            "KafkaBootstrapServers:",
            "KAFKA_SERVERS:",
            ": OfTopic: the property SelfManagedEventSource must be",
        ),
        (
            "${AWS::StackName}-group",
            "a group",
            ": OfTopic: the property SelfManagedKafkaEventSourceConfig.Consumer",
        ),
        (
            "{ConsumerGroupId: !Sub \"${AWS::StackName}-group\"}",
            "{}",
            ": OfTopic: the property SelfManagedKafkaEventSourceConfig.ConsumerGroupId is missing",
        ),
        (
            "Type: VPC_SUBNET",
            "Type: BASIC_AUTH",
            ": OfTopic: SourceAccessConfigurations of type BASIC_AUTH can't be run locally",
        ),
        (
            "BatchSize: 500",
            "FunctionResponseTypes: [ReportBatchItemFailures]",
            ": OfTopic: FunctionResponseTypes of AWS::Lambda::EventSourceMapping can't be run locally",
        ),
        (
            "FunctionName: !GetAtt Worker.Arn",
            "FunctionName: other",
            ": OfTopic: a mapping for other, which is no function of this template,",
        ),
    ] {
        assert_eq!(MAPPINGS.matches(right).count(), 1, "{right}");
        let found = problem(&MAPPINGS.replace(right, wrong));
        assert!(found.starts_with(says), "{found}");
    }
    let two = format!("{MAPPINGS}  Another:\n{second}");
    assert!(
        problem(&two).starts_with(": worker: the property ConsumerGroupId must be another one"),
        "{}",
        problem(&two)
    );
}

#[test]
fn an_event_invoke_config_is_read_and_its_queue_allowed_to_the_role_as_sam_allows_it() {
    let function = load_text(DESTINATION).functions.remove(0);
    let expected = EventInvoke {
        maximum_retry_attempts: 1,
        maximum_event_age: Duration::from_mins(5),
        on_failure: Some("Dead".to_owned()),
    };
    assert_eq!(function.event_invoke, expected);
    let [statement] = function.policy.as_slice() else { panic!("{:?}", function.policy) };
    assert_eq!(statement.actions, ["sqs:SendMessage"]);
    assert_eq!(statement.resources, ["arn:aws:sqs:local:000000000000:Dead"]);
    for (right, wrong, says) in [
        (
            "Attempts: 1",
            "Attempts: 3",
            ": Job: the property EventInvokeConfig.MaximumRetryAttempts must be 0 to 2",
        ),
        (
            "Seconds: 300",
            "Seconds: 30",
            ": Job: the property EventInvokeConfig.MaximumEventAgeInSeconds must be 60",
        ),
        ("Type: SQS", "Type: SNS", ": Job: an OnFailure destination other than a queue"),
        ("OnFailure", "OnSuccess", ": Job: a destination OnSuccess can't be run locally"),
    ] {
        assert!(DESTINATION.contains(right), "{right}");
        let problem = problem(&DESTINATION.replace(right, wrong));
        assert!(problem.starts_with(says), "{problem}");
    }
}

#[test]
fn cors_is_read_from_the_http_api() {
    let stack = load_text(
        r#"
Parameters: {Origins: {Type: CommaDelimitedList, Default: "http://a,http://b"}}
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties: {CorsConfiguration: {AllowOrigins: !Ref Origins, AllowMethods: [GET], AllowCredentials: true, MaxAge: 60}}
"#,
    );
    let cors = stack.http_api.unwrap().cors.unwrap();
    assert_eq!(cors.allow_origins, ["http://a", "http://b"]);
    assert_eq!((cors.allow_credentials, cors.max_age.unwrap().as_secs()), (true, 60));
}

#[test]
fn what_stands_behind_a_condition_is_there_when_the_condition_holds() {
    const TEMPLATE: &str = r#"
Parameters: {Key: {Type: String, Default: ""}}
Conditions: {HasKey: !Not [!Equals [!Ref Key, ""]]}
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties: {CorsConfiguration: !If [HasKey, {AllowOrigins: ["http://a"]}, !Ref AWS::NoValue]}
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: x
      Policies:
        - Statement:
            - {Effect: Allow, Action: [s3:GetObject], Resource: "*"}
            - !If [HasKey, {Effect: Allow, Action: [kms:Decrypt], Resource: !Ref Key}, !Ref AWS::NoValue]
"#;
    let read = |stack: Stack| (stack.functions[0].policy.len(), stack.http_api.unwrap().cors.is_some());
    assert_eq!(read(load_text(TEMPLATE)), (1, false));
    let mut context = context();
    context.parameters.insert("Key".to_owned(), "arn".to_owned());
    assert_eq!(read(load_with(TEMPLATE, &context).unwrap()), (2, true));
}

#[test]
fn the_description_has_what_runs_and_what_only_the_cloud_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("template.yaml");
    let template = r#"
Resources:
  Log: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /things}}
  Dead: {Type: AWS::SQS::Queue}
  Api: {Type: AWS::Serverless::HttpApi}
  Things:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: target/lambda/api-things
      ReservedConcurrentExecutions: "7"
      LoggingConfig: {LogGroup: !Ref Log}
      VpcConfig: {SubnetIds: [subnet-1], SecurityGroupIds: [sg-1]}
      KmsKeyArn: key
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Dead.Arn}}
      Events:
        Get: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: get, Path: "/things/{thingId}/parts"}}
        Daily:
          Type: ScheduleV2
          Properties: {Name: daily, ScheduleExpression: rate(1 day), ScheduleExpressionTimezone: UTC, RoleArn: role}
  Socket:
    Type: AWS::Lambda::Permission
    Properties: {Action: lambda:InvokeFunction, FunctionName: !Ref Things, Principal: apigateway.amazonaws.com, SourceArn: !Sub "${Dead.Arn}/x"}
"#;
    std::fs::write(&path, template).unwrap();
    let description = serde_json::to_value(describe(&path, &context()).unwrap()).unwrap();
    let function = &description["functions"][0];
    assert_eq!((&function["name"], &function["reserved_concurrency"]), (&"api-things".into(), &7.into()));
    let expected = serde_json::json!({
        "log_group": "/things", "subnets": ["subnet-1"], "security_groups": ["sg-1"], "kms_key": "key",
        "maximum_event_age_seconds": null, "maximum_retry_attempts": 1,
        "on_failure": "arn:aws:sqs:local:000000000000:Dead",
    });
    assert_eq!(description["cloud_settings"]["api-things"], expected);
    let expected = serde_json::json!({"time_zone": "UTC", "maximum_event_age_seconds": null, "role": "role"});
    assert_eq!(description["schedule_settings"]["daily"], expected);
    let sources: Vec<_> =
        description["permissions"].as_array().unwrap().iter().map(|p| &p["source"]).collect();
    let route = "arn:aws:execute-api:local:000000000000:Api/*/GET/things/*/parts";
    assert_eq!(sources, [route, "arn:aws:sqs:local:000000000000:Dead/x"]);
}

#[test]
fn cors_rules_are_read_from_a_bucket() {
    let stack = load_text(
        r#"
Parameters: {Origins: {Type: String, Default: "http://a,http://b"}}
Resources:
  Plain: {Type: AWS::S3::Bucket}
  Shared:
    Type: AWS::S3::Bucket
    Properties:
      CorsConfiguration:
        CorsRules:
          - {AllowedOrigins: !Split [",", !Ref Origins], AllowedMethods: [GET, PUT], AllowedHeaders: ["*"], MaxAge: 60}
"#,
    );
    let [plain, shared] = stack.buckets.as_slice() else { panic!("{:?}", stack.buckets) };
    assert!(plain.cors.is_empty());
    let rule = &shared.cors[0];
    assert_eq!(rule.allowed_origins, ["http://a", "http://b"]);
    assert_eq!(
        (&rule.allowed_methods[..], &rule.allowed_headers[..]),
        (&["GET".to_owned(), "PUT".to_owned()][..], &["*".to_owned()][..])
    );
    assert_eq!((rule.exposed_headers.len(), rule.max_age.unwrap().as_secs()), (0, 60));
}

#[test]
fn every_mistake_is_one_sentence_that_names_file_place_and_remedy() {
    assert_eq!(
        problem(FUNCTION),
        ": ThingFunction: Mine is referred to, but no parameter, resource or condition has that name; add it or correct the name"
    );
    let function = |properties: &str| {
        problem(&format!(
            "Resources:\n  F: {{Type: AWS::Serverless::Function, Properties: {{{properties}}}}}"
        ))
    };
    assert_eq!(function(""), ": F: the property CodeUri is missing; add it");
    assert_eq!(function("CodeUri: x, Timeout: soon"), ": F: the property Timeout must be a whole number");
    assert!(
        function("CodeUri: !ImportValue x")
            .starts_with(": F: the intrinsic function Fn::ImportValue is not supported")
    );
    assert!(function("CodeUri: x, Policies: [AWSLambdaExecute]").contains("write its statements inline"));
    let condition = |action: &str, condition: &str| {
        function(&format!(
            "CodeUri: x, Policies: [{{Statement: {{Effect: Allow, Action: '{action}', Resource: '*', Condition: {condition}}}}}]"
        ))
    };
    for unknown in ["{StringLike: {'dynamodb:Attributes': a}}", "{StringEquals: {'aws:SourceIp': a}}"] {
        let problem = condition("dynamodb:UpdateItem", unknown);
        assert!(problem.contains("can't be run locally; use ForAllValues:StringEquals of"), "{problem}");
    }
    assert!(
        condition("dynamodb:GetItem", "{StringEquals: {'dynamodb:ReturnValues': NONE}}")
            .ends_with("a Condition for dynamodb:GetItem in Policies can't be run locally; give dynamodb:UpdateItem a statement of its own, and others none")
    );
    let element = |element: &str| {
        function(&format!(
            "CodeUri: x, Policies: [{{Statement: {{Effect: Allow, Action: a, Resource: 'r', {element}}}}}]"
        ))
    };
    assert!(
        element("NotResource: x").contains("NotResource in a statement of Policies can't be run locally")
    );
    assert!(element("Principal: '*'").contains("Principal in a statement of Policies can't be run locally"));
    assert!(
        function(
            "CodeUri: x, Policies: [{Statement: {Effect: Allow, Action: a, Resource: 'u/${aws:userid}'}}]"
        )
        .contains("the policy variable in u/${aws:userid}")
    );
    assert!(condition("dynamodb:UpdateItem", "[]").ends_with("the property Condition must be an object"));
    assert!(
        function("CodeUri: x, Events: {E: {Type: SNS}}").contains("use HttpApi, ScheduleV2, SQS or DynamoDB")
    );
    assert!(function("CodeUri: !GetAtt F.Colour").contains("F has no attribute Colour"));
    assert!(function("CodeUri: !Select [5, [a]]").contains("Select is written wrongly"));
    assert!(
        problem("Parameters: {Keys: {Type: AWS::SSM::Parameter::Value<String>, Default: /k}}")
            .starts_with(": Parameters.Keys: the parameter is read from SSM")
    );
    assert!(problem("Parameters: {P: {Type: String}}").contains("parameter_overrides"));
    assert!(
        problem("Parameters: {P: {Type: String, Default: x, AllowedValues: [a, b]}}")
            .contains("AllowedValues (a, b)")
    );
    assert!(
        problem("Conditions: {C: !Condition C}\nResources: {T: {Type: AWS::DynamoDB::Table, Condition: C}}")
            .contains("C refers to itself")
    );
    assert!(problem("Resources: [}").contains("is not valid YAML"));
    assert!(
        load(Path::new("/nowhere/template.yaml"), &context())
            .unwrap_err()
            .to_string()
            .contains("can't be read")
    );
}

/// A topic with a subscription, a bus with a rule, and a queue that both may send to.
const MESSAGING: &str = r#"
Parameters: {Elsewhere: {Type: String, Default: "arn:aws:sns:eu-west-1:000000000000:Orders"}}
Resources:
  Orders: {Type: AWS::SNS::Topic, Properties: {MaximumMessageSize: 2048}}
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: shop}}
  Archive: {Type: AWS::Events::Archive, Properties: {SourceArn: !GetAtt Bus.Arn}}
  Inbox: {Type: AWS::SQS::Queue}
  InboxPolicy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref Inbox]
      PolicyDocument:
        Statement:
          - Effect: Allow
            Principal: {Service: [sns.amazonaws.com, events.amazonaws.com]}
            Action: [sqs:SendMessage]
            Resource: !GetAtt Inbox.Arn
            Condition: {ArnEquals: {aws:SourceArn: [!Ref Orders, !GetAtt Placed.Arn]}}
  Own:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: !Ref Orders
      Protocol: sqs
      Endpoint: !GetAtt Inbox.Arn
      FilterPolicy: {kind: [a]}
  Foreign:
    Type: AWS::SNS::Subscription
    Properties: {TopicArn: !Ref Elsewhere, Protocol: sqs, Endpoint: !GetAtt Inbox.Arn, RawMessageDelivery: true}
  Placed:
    Type: AWS::Events::Rule
    Properties:
      EventBusName: !GetAtt Bus.Arn
      EventPattern: {detail-type: [order.placed]}
      Targets:
        - {Id: inbox, Arn: !GetAtt Inbox.Arn, RetryPolicy: {MaximumEventAgeInSeconds: 60}}
"#;

#[test]
fn topics_buses_rules_and_who_may_send_to_a_queue_are_read() {
    let stack = load_text(MESSAGING);
    assert_eq!((stack.topics[0].name.as_str(), stack.topics[0].maximum_message_bytes), ("Orders", 2048));
    assert_eq!(stack.event_buses, ["shop"]);
    let [foreign, own] = stack.subscriptions.as_slice() else { panic!("{:?}", stack.subscriptions) };
    assert_eq!((foreign.raw, own.raw), (true, false));
    assert_eq!(own.topic_arn, "arn:aws:sns:local:000000000000:Orders");
    assert!(own.filter.is_some() && foreign.filter.is_none());
    let [unserved] = stack.not_run.as_slice() else { panic!("{:?}", stack.not_run) };
    assert!(
        unserved.starts_with("Foreign (") && unserved.contains("of another stack or region"),
        "{unserved}"
    );
    let rule = &stack.rules[0];
    assert_eq!((rule.bus.as_str(), rule.enabled), ("shop", true));
    assert_eq!(rule.targets[0].target, Target::Queue("Inbox".to_owned()));
    assert_eq!(rule.targets[0].maximum_event_age, Duration::from_mins(1));
    assert_eq!(rule.targets[0].maximum_retry_attempts, 185);
    let principals: Vec<_> = stack.service_permissions.iter().map(|one| one.principal.as_str()).collect();
    assert_eq!(principals, ["sns.amazonaws.com", "events.amazonaws.com"]);
    let sources =
        ["arn:aws:sns:local:000000000000:Orders", "arn:aws:events:local:000000000000:rule/shop/Placed"];
    assert_eq!(stack.service_permissions[0].sources.as_deref(), Some(sources.map(str::to_owned).as_slice()));
}

#[test]
fn what_is_wrong_with_topics_buses_and_policies_is_refused() {
    for (right, wrong, said) in [
        ("MaximumMessageSize: 2048", "FifoTopic: true", "a FIFO topic can't be run locally"),
        ("MaximumMessageSize: 2048", "MaximumMessageSize: 100", "MaximumMessageSize must be 1024 to 1048576"),
        ("Protocol: sqs", "Protocol: email", "the protocol email can't be run locally"),
        ("FilterPolicy: {kind: [a]}", "FilterPolicy: {kind: a}", "must be an object or an array"),
        ("FilterPolicy: {kind: [a]}", "FilterPolicy: {kind: {inner: [a]}}", "does not support nested"),
        ("{kind: [a]}", "{kind: [a]}\n      DeliveryPolicy: {}", "DeliveryPolicy of a subscription"),
        ("{detail-type: [order.placed]}", "{detail-type: [{like: x}]}", "unrecognized match type like"),
        (
            "EventBusName: !GetAtt Bus.Arn",
            "EventBusName: other",
            "the bus other, which is not of this template",
        ),
        (
            "EventPattern:",
            "ScheduleExpression: rate(1 day)\n      EventPattern:",
            "ScheduleExpression of a rule",
        ),
        ("Id: inbox,", "Id: inbox, InputTransformer: {},", "InputTransformer of a rule's target"),
        ("Id: inbox,", "Id: inbox, InputPath: '$.a[0]',", "InputPath must be a path of member names"),
        ("InSeconds: 60}", "InSeconds: 59}", "must be 60 to 86400"),
        (
            "Arn: !GetAtt Inbox.Arn, Retry",
            "Arn: 'arn:aws:lambda:x:y:function:z', Retry",
            "which is not of this template",
        ),
        ("Effect: Allow", "Effect: Deny", "a Deny statement in a queue's policy"),
        ("ArnEquals:", "StringLike:", "the condition StringLike of aws:SourceArn"),
        ("Queues: [!Ref Inbox]", "Queues: [!Ref Inbox, !Ref Inbox]", "a second policy of the queue Inbox"),
    ] {
        assert!(MESSAGING.contains(right), "{right}");
        let problem = problem(&MESSAGING.replacen(right, wrong, 1));
        assert!(problem.contains(said), "{wrong}: {problem}");
    }
}
