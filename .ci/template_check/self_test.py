"""Whether the check finds what it is for: the template is broken once for each kind of difference.

SAM reads the broken template and the local region the right one, as if one of the two misunderstood it. Streams are read by
functions that are added here, so that every property is compared whatever the template uses. The last case is one that really
was misunderstood.
"""

import pathlib
import tempfile

import sam

# Where the difference shows, what stands in the template, and what is put in its place (once).
BREAKS = [
    ("http_api.routes.GET /health", " Path: /health", " Path: /healthy"),
    ("http_api.cors.allow_credentials", "AllowCredentials: true", "AllowCredentials: false"),
    ("http_api.cors.allow_methods", "AllowMethods: [GET, POST,", "AllowMethods: [GET,"),
    ("websocket_api.routes.ping.responds", "RouteId: !Ref PingRoute", "RouteId: !Ref SendRoute"),
    ("websocket_api.routes.send.function", "functions/${WsSendFunction.Arn}", "functions/${WsConnectFunction.Arn}"),
    ("functions.ws-connect.environment.TOKEN_AUDIENCE", ": !Ref TokenAudience", ": !Ref TokenIssuer"),
    ("functions.ws-send.timeout.secs", "Timeout: 29", "Timeout: 28"),
    ("functions.ws-connect.reserved_concurrency", "SocketConcurrency, !Ref SocketConcurrency", "SocketConcurrency, !Ref JobConcurrency"),
    ("functions.ws-send.memory_mib", "MemorySize: 1024", "MemorySize: 512"),
    ("functions.ws-disconnect.policy", "Action: [dynamodb:DeleteItem]", "Action: [dynamodb:PutItem]"),
    ("functions.ws-connect.policy", "dynamodb:Attributes: [sessionId, lastActivity]", "dynamodb:Attributes: [sessionId]"),
    ("cloud_settings.ws-send.log_group", "LogGroup: !Ref WsSendLogGroup", "LogGroup: !Ref WsConnectLogGroup"),
    ("cloud_settings.ws-send.maximum_event_age_seconds", "MaximumEventAgeInSeconds: 300\n", "MaximumEventAgeInSeconds: 60\n"),
    ("cloud_settings.ws-connect.subnets", "SubnetIds: !Ref VpcSubnetIds", "SubnetIds: !Ref VpcSecurityGroupIds"),
    ("cloud_settings.api-health.kms_key", "[HasKmsKey, !Ref KmsKeyArn,", "[HasKmsKey, !Ref AlarmTopicArn,"),
    ("event_sources.ExportsQueue export-worker.maximum_concurrency", "MaximumConcurrency: 10", "MaximumConcurrency: 11"),
    ("event_sources.SocketMessagesQueue ws-deliver.answers", "FunctionResponseTypes: [ReportBatchItemFailures]", "Enabled: true"),
    ("schedules.sojourn-order-cleanup.expression", "rate(1 hour)", "rate(2 hours)"),
    ("schedule_settings.sojourn-daily-report.time_zone", "Timezone: UTC", "Timezone: Asia/Tokyo"),
    ("permissions.sojourn-ws-connect", "${WebSocketApi}/*/$connect", "${WebSocketApi}/*/$disconnect"),
    ("queues.ExportsQueue.redrive.maximum_receives", "maxReceiveCount: 10", "maxReceiveCount: 9"),
    ("tables.ConnectionsTable.create", "AttributeName: connectionId, KeyType: HASH", "AttributeName: userId, KeyType: HASH"),
    ("buckets.filesbucket.cors", "AllowedMethods: [GET, HEAD, PUT]", "AllowedMethods: [GET]"),
]

# Functions that read a stream: by an event, and by a mapping of its own.
READERS = """\
  CheckReader:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: target/lambda/check-reader
      Events:
        Outbox:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt OutboxTable.StreamArn
            StartingPosition: TRIM_HORIZON
            BatchSize: 7
            MaximumBatchingWindowInSeconds: 3
            MaximumRetryAttempts: 4
            MaximumRecordAgeInSeconds: 600
            BisectBatchOnFunctionError: true
            ParallelizationFactor: 2
            FunctionResponseTypes: [ReportBatchItemFailures]
            DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt ExportsQueue.Arn}}
            FilterCriteria: {Filters: [{Pattern: '{"eventName": ["INSERT"]}'}]}
  CheckMapped:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: target/lambda/check-mapped}
  CheckMapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties: {FunctionName: !Ref CheckMapped, EventSourceArn: !GetAtt OutboxTable.StreamArn, StartingPosition: LATEST}
"""
READER, MAPPED = "stream_sources.OutboxTable check-reader", "stream_sources.OutboxTable check-mapped"
READER_BREAKS = [
    (f"{READER}.starting_position", "StartingPosition: TRIM_HORIZON", "StartingPosition: LATEST"),
    (f"{READER}.batch_size", "BatchSize: 7", "BatchSize: 8"),
    (f"{READER}.batching_window.secs", "WindowInSeconds: 3", "WindowInSeconds: 4"),
    (f"{READER}.maximum_retry_attempts", "RetryAttempts: 4", "RetryAttempts: -1"),
    (f"{READER}.maximum_record_age.secs", "AgeInSeconds: 600", "AgeInSeconds: 601"),
    (f"{READER}.bisect", "FunctionError: true", "FunctionError: false"),
    (f"{READER}.parallelization_factor", "ParallelizationFactor: 2", "ParallelizationFactor: 3"),
    (f"{READER}.answers", "FunctionResponseTypes: [ReportBatchItemFailures]", "Enabled: true"),
    (f"{READER}.on_failure", "Destination: !GetAtt ExportsQueue.Arn", "Destination: !GetAtt OutboxTable.Arn"),
    ("functions.check-reader.policy", "Type: SQS, Destination", "Destination"),
    (f"{READER}.filters", '["INSERT"]', '["MODIFY"]'),
    (f"{READER}.enabled", "ParallelizationFactor: 2\n", "ParallelizationFactor: 2\n            Enabled: false\n"),
    (f"{MAPPED}.starting_position", "StartingPosition: LATEST", "StartingPosition: TRIM_HORIZON"),
    (MAPPED, "FunctionName: !Ref CheckMapped", "FunctionName: !Ref WsSendFunction"),
    (f"{MAPPED}.granted_by", "target/lambda/check-mapped}", "target/lambda/check-mapped, Policies: AWSLambdaDynamoDBExecutionRole}"),
]

# SAM takes a function in AllowOrigins for the whole object.
CORS_THAT_SAM_LOSES = """\
      CorsConfiguration:
        AllowOrigins: !Split [",", !Ref AllowedOrigins]
        AllowMethods: [GET]
        AllowCredentials: true
"""

# Topics, buses and who may deliver, in every form that both sides know. Appended to the template's resources.
MESSAGING = """\
  CheckTopic: { Type: AWS::SNS::Topic, Properties: { TopicName: check, MaximumMessageSize: 4096 } }
  CheckBus: { Type: AWS::Events::EventBus, Properties: { Name: check } }
  CheckDead: { Type: AWS::SQS::Queue }
  CheckDeadPolicy:
    Type: AWS::SQS::QueuePolicy
    Properties:
      Queues: [!Ref CheckDead]
      PolicyDocument:
        Statement:
          - Effect: Allow
            Principal: { Service: [sns.amazonaws.com, events.amazonaws.com] }
            Action: sqs:SendMessage
            Resource: !GetAtt CheckDead.Arn
            Condition:
              ArnLike: { aws:SourceArn: [!Ref CheckTopic, !GetAtt CheckRule.Arn] }
              StringEquals: { aws:SourceAccount: !Ref AWS::AccountId }
  CheckPermission:
    Type: AWS::Lambda::Permission
    Properties:
      Action: lambda:InvokeFunction
      FunctionName: !Ref ApiHealthFunction
      Principal: events.amazonaws.com
      SourceArn: !GetAtt CheckRule.Arn
  CheckSubscription:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: !GetAtt CheckTopic.TopicArn
      Protocol: sqs
      Endpoint: !GetAtt ExportsQueue.Arn
      RawMessageDelivery: true
      FilterPolicyScope: MessageBody
      FilterPolicy: { kind: [a, { prefix: b }] }
      RedrivePolicy: { deadLetterTargetArn: !GetAtt CheckDead.Arn }
  CheckElsewhere:
    Type: AWS::SNS::Subscription
    Properties:
      TopicArn: !Sub arn:aws:sns:elsewhere:${AWS::AccountId}:check
      Protocol: sqs
      Endpoint: !GetAtt ExportsQueue.Arn
  CheckRule:
    Type: AWS::Events::Rule
    Properties:
      EventBusName: !Ref CheckBus
      EventPattern: { source: [check], detail: { sum: [{ numeric: [">", 5] }] } }
      Targets:
        - Id: function
          Arn: !GetAtt ApiHealthFunction.Arn
          Input: "{}"
          RetryPolicy: { MaximumRetryAttempts: 3, MaximumEventAgeInSeconds: 600 }
          DeadLetterConfig: { Arn: !GetAtt CheckDead.Arn }
        - Id: queue
          Arn: !GetAtt ExportsQueue.Arn
          InputPath: $.detail.sum
"""

MESSAGING_BREAKS = [
    ("topics.check.maximum_message_bytes", "MaximumMessageSize: 4096", "MaximumMessageSize: 4097"),
    ("event_buses", "Properties: { Name: check }", "Properties: { Name: checks }"),
    ("service_permissions", "ArnLike: { aws:SourceArn: [!Ref CheckTopic,", "ArnLike: { aws:SourceArn: [!Ref CheckBus,"),
    ("service_permissions", "Principal: events.amazonaws.com", "Principal: sns.amazonaws.com"),
    ("subscriptions.CheckSubscription.raw", "RawMessageDelivery: true", "RawMessageDelivery: false"),
    ("subscriptions.CheckSubscription.filter.policy", "kind: [a, {", "kind: [c, {"),
    ("subscriptions.CheckSubscription.filter.scope", "FilterPolicyScope: MessageBody", "FilterPolicyScope: MessageAttributes"),
    ("subscriptions.CheckElsewhere.topic_arn", "arn:aws:sns:elsewhere:", "arn:aws:sns:nowhere:"),
    ("rules.CheckRule.event_pattern.source", "source: [check]", "source: [checks]"),
    ("rules.CheckRule.targets.function.maximum_retry_attempts", "MaximumRetryAttempts: 3,", "MaximumRetryAttempts: 2,"),
    ("rules.CheckRule.targets.function.target", "Arn: !GetAtt ApiHealthFunction.Arn\n", "Arn: !GetAtt WsSendFunction.Arn\n"),
    ("rules.CheckRule.targets.function.dead_letter_queue", "DeadLetterConfig: { Arn: !GetAtt CheckDead.Arn }", "DeadLetterConfig: { Arn: !GetAtt ExportsQueue.Arn }"),
    ("rules.CheckRule.targets.queue.input", "InputPath: $.detail.sum", "InputPath: $.detail"),
]


def run(source, parameters, local, local_region, differences):
    """The differences that were not found."""
    failures = not_found(BREAKS, source, parameters, local, differences)
    failures += streams(source, parameters, local_region, differences)
    failures += messaging(source, parameters, local_region, differences)
    return failures + lost_cors(source, parameters, local_region, differences)


def not_found(breaks, source, parameters, local, differences):
    failures = []
    for place, right, wrong in breaks:
        if right not in source:
            failures.append(f"{place}: the template no longer has {right!r}; correct the self-test")
            continue
        found = differences(local, sam.understood(source.replace(right, wrong, 1), parameters))
        if not any(line.startswith(place) for line in found):
            failures.append(f"{place}: {wrong!r} for {right!r} is not found, but {found}")
    return failures


def understood_locally(source, parameters, local_region):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "template.yaml")
        path.write_text(source)
        return local_region(path, parameters)


def streams(source, parameters, local_region, differences):
    source = source.replace("Resources:\n", "Resources:\n" + READERS, 1)
    local = understood_locally(source, parameters, local_region)
    right = [f"streams: {line}" for line in differences(local, sam.understood(source, parameters))]
    return right + not_found(READER_BREAKS, source, parameters, local, differences)


def lost_cors(source, parameters, local_region, differences):
    start = source.index("      CorsConfiguration: !If\n")
    end = source.index("      DefaultRouteSettings:\n", start)
    broken = source[:start] + CORS_THAT_SAM_LOSES + source[end:]
    local = understood_locally(broken, parameters, local_region)
    found = differences(local, sam.understood(broken, parameters))
    lost = any(line.startswith("http_api.cors") for line in found)
    return [] if lost else [f"http_api.cors: a block that SAM loses is not found, but {found}"]


def messaging(source, parameters, local_region, differences):
    """Both sides agree on topics, buses and permissions, and each break of them is found."""
    right = source.replace("\nOutputs:\n", f"\n{MESSAGING}\nOutputs:\n", 1)
    local = understood_locally(right, parameters, local_region)
    failures = differences(local, sam.understood(right, parameters))
    for place, whole, wrong in MESSAGING_BREAKS:
        broken = source.replace("\nOutputs:\n", f"\n{MESSAGING.replace(whole, wrong, 1)}\nOutputs:\n", 1)
        found = differences(local, sam.understood(broken, parameters))
        if broken == right or not any(line.startswith(place) for line in found):
            failures.append(f"{place}: {wrong!r} for {whole!r} is not found, but {found}")
    return failures
