use std::collections::BTreeMap;
use std::time::Duration;

use super::model::{Answers, EventInvoke, EventSource, Queue, Redrive, Stack};
use super::*;

fn context() -> Context {
    Context {
        parameters: BTreeMap::new(),
        http_url: "http://127.0.0.1:3000".to_owned(),
        websocket_url: "ws://127.0.0.1:3001".to_owned(),
        sqs_url: "http://127.0.0.1:3002".to_owned(),
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
  Topics: {Type: AWS::SNS::Topic}
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
        ("api-things", "sojourn-api-things")
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
        ("sojourn-nightly", 4, true)
    );
    assert_eq!(schedule.input, r#"{"scheduledTime":"<aws.scheduler.scheduled-time>"}"#);
    assert_eq!(stack.tables.len(), 1, "a resource whose condition is false does not exist");
    assert_eq!(stack.tables[0].ttl_attribute.as_deref(), Some("expiresAt"));
    assert_eq!(stack.tables[0].create["KeySchema"][0]["AttributeName"], "thingId");
    assert_eq!(stack.not_run, ["Topics (AWS::SNS::Topic)"]);
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
  DeadPolicy: {Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref Dead]}}
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
        redrive: Some(Redrive { dead_letter_queue: "sojourn-dead".to_owned(), maximum_receives: 10 }),
    };
    let dead = Queue {
        name: "sojourn-dead".to_owned(),
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
        batch_size: 100,
        batching_window: seconds(2),
        answers: Answers::ReportFailures,
        maximum_concurrency: Some(4),
        enabled: true,
    };
    let dead = EventSource {
        queue: "sojourn-dead".to_owned(),
        batch_size: 10,
        batching_window: seconds(0),
        answers: Answers::Ignored,
        maximum_concurrency: None,
        enabled: false,
        ..jobs.clone()
    };
    assert_eq!(stack.event_sources.len(), 2);
    assert!(stack.event_sources.contains(&jobs) && stack.event_sources.contains(&dead), "{stack:?}");
    assert_eq!(stack.schedules[0].dead_letter_queue.as_deref(), Some("sojourn-dead"));
    let environment = &stack.functions[0].environment;
    assert_eq!(environment["QUEUE_URL"], "http://127.0.0.1:3002/000000000000/Jobs");
    assert_eq!(environment["SAME_URL"], environment["QUEUE_URL"]);
    assert_eq!(environment["DEAD_ARN"], "arn:aws:sqs:local:000000000000:sojourn-dead");
    assert_eq!(environment["DEAD_NAME"], "sojourn-dead");
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
            "FilterCriteria: {Filters: []}",
            ": Worker: FilterCriteria of an SQS event can't be run locally",
        ),
        (
            "VisibilityTimeout: 60",
            "VisibilityTimeout: 59",
            ": Worker: the property VisibilityTimeout of the queue sojourn-dead must be no less than the Timeout",
        ),
    ] {
        assert!(QUEUES.contains(right), "{right}");
        let problem = problem(&QUEUES.replace(right, wrong));
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
    assert!(function("CodeUri: x, Events: {E: {Type: SNS}}").contains("use HttpApi, ScheduleV2 or SQS"));
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
