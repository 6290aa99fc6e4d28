use super::model::Stack;
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
