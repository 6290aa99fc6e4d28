"""What SAM makes of the template, in the shape in which `cargo dev -- template` prints it."""

import json
import logging
import os

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from cloudformation import Template

# What SAM gives the role of a function that reads a stream.
STREAM_POLICY = "AWSLambdaDynamoDBExecutionRole"
QUEUE_POLICY = "AWSLambdaSQSQueueExecutionRole"
# Half a second, if the template has no window.
KAFKA_WINDOW = {"secs": 0, "nanos": 500_000_000}

# Lambda's, SAM's and SQS's own defaults.
DEFAULT_STREAM_BATCH = 100
DEFAULT_TIMEOUT, DEFAULT_MEMORY, DEFAULT_BATCH, DEFAULT_SCHEDULE_RETRIES = 3, 128, 10, 185
DEFAULT_VISIBILITY, DEFAULT_RETENTION, DEFAULT_MESSAGE_BYTES = 30, 345600, 1048576
# Those of SNS and EventBridge.
DEFAULT_TOPIC_BYTES, DEFAULT_RULE_RETRIES, DEFAULT_RULE_AGE = 262144, 185, 86400
# Who delivers in the local region: permissions of others are in a comparison of their own.
DELIVERING = ("*", "events.amazonaws.com", "sns.amazonaws.com")

# The translator counts what it does for the SAM CLI to send home, and complains that nobody sends it.
logging.getLogger("samtranslator").setLevel(logging.ERROR)


def translate(source, parameters):
    """The CloudFormation template that SAM's transform gives. It asks nobody: no account is needed."""
    template = yaml_parse(source)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            # SAM accepts no folder: `sam deploy` puts the address of the uploaded package here.
            resource["Properties"]["CodeUri"] = "s3://bucket/" + resource["Properties"]["CodeUri"]
    session = boto3.Session(region_name=os.environ.get("AWS_DEFAULT_REGION", "ap-northeast-1"))
    return Translator({}, Parser(), boto_session=session).translate(template, parameters)


def understood(source, parameters, shared=None):
    """The stack of the template `source`. `shared` is the text of global.yaml, if the parameters name its tables."""
    template = Template(translate(source, parameters), parameters)
    names = {"GlobalTables": parameters.get("GlobalTables")}
    # SAM leaves plain CloudFormation as it is.
    templates = [template] + ([Template(yaml_parse(shared), names)] if shared else [])
    functions = Functions(template)
    return {
        "functions": sorted(functions.all, key=lambda function: function["name"]),
        "cloud_settings": functions.settings,
        **apis(template, functions),
        **schedules(template, functions),
        **storage(template),
        "tables": [item for each in templates for item in tables(each)],
        **event_sources(template, templates, functions),
        **messaging(template, functions),
        "permissions": [
            {
                "function": permission["FunctionName"],
                "action": permission["Action"],
                "principal": permission["Principal"],
                "source": permission["SourceArn"],
            }
            for _, permission in template.of_type("AWS::Lambda::Permission")
        ],
        # Nothing may be in the stack that the local region does not know, but subscriptions to topics elsewhere.
        "not_run": sorted(
            f"{logical_id} (AWS::SNS::Subscription, of {subscription['TopicArn']}, which is of another stack or region)"
            for logical_id, subscription in template.of_type("AWS::SNS::Subscription")
            if subscription["TopicArn"] not in topic_arns(template)
        ),
    }


def seconds(number):
    return None if number is None else {"secs": int(number), "nanos": 0}


def as_list(value):
    return value if isinstance(value, list) else [value]


class Functions:
    def __init__(self, template):
        self.all, self.settings, self.names = [], {}, {}
        self.stream_readers, self.queue_readers = set(), set()
        roles = dict(template.of_type("AWS::IAM::Role"))
        invoke = {config["FunctionName"]: config for _, config in template.of_type("AWS::Lambda::EventInvokeConfig")}
        for logical_id, function in template.of_type("AWS::Lambda::Function"):
            name = function["Code"]["S3Key"].rsplit("/", 1)[1]
            physical_name = template.physical_name(logical_id)
            self.names[physical_name] = self.names[template.attribute(logical_id, "Arn")] = name
            role = roles[logical_id + "Role"]
            policies = role.get("Policies", [])
            if any(policy.endswith("/" + STREAM_POLICY) for policy in role.get("ManagedPolicyArns", [])):
                self.stream_readers.add(name)
            if any(policy.endswith("/" + QUEUE_POLICY) for policy in role.get("ManagedPolicyArns", [])):
                self.queue_readers.add(name)
            self.all.append(
                {
                    "name": name,
                    "physical_name": physical_name,
                    "timeout": seconds(function.get("Timeout", DEFAULT_TIMEOUT)),
                    "memory_mib": function.get("MemorySize", DEFAULT_MEMORY),
                    "environment": function.get("Environment", {}).get("Variables", {}),
                    "policy": self._statements(policies),
                    "reserved_concurrency": number(function.get("ReservedConcurrentExecutions")),
                }
            )
            self.settings[name] = self._settings(function, invoke.get(physical_name, {}))

    def named(self, reference):
        """The short name for a physical name, an ARN, or the address of an integration."""
        reference = reference.rsplit("/functions/", 1)[-1].removesuffix("/invocations")
        return self.names.get(reference, f"no function: {reference}")

    @staticmethod
    def _statements(policies):
        """Those of the template, and those that SAM adds for the destination of failed events."""
        statements = []
        for policy in policies:
            for statement in as_list(policy["PolicyDocument"]["Statement"]):
                statements.append(
                    {
                        "actions": as_list(statement["Action"]),
                        "resources": as_list(statement["Resource"]),
                        "conditions": conditions(statement.get("Condition", {})),
                    }
                )
        return statements

    @staticmethod
    def _settings(function, invoke):
        vpc = function.get("VpcConfig", {})
        on_failure = invoke.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        return {
            "log_group": function.get("LoggingConfig", {}).get("LogGroup"),
            "subnets": vpc.get("SubnetIds", []),
            "security_groups": vpc.get("SecurityGroupIds", []),
            "kms_key": function.get("KmsKeyArn"),
            "maximum_event_age_seconds": invoke.get("MaximumEventAgeInSeconds"),
            "maximum_retry_attempts": invoke.get("MaximumRetryAttempts"),
            "on_failure": on_failure,
        }


def number(value):
    return None if value is None else int(value)


def conditions(operators):
    names = {
        ("ForAllValues:StringEquals", "dynamodb:Attributes"): "Attributes",
        ("StringEquals", "dynamodb:ReturnValues"): "ReturnValues",
        ("StringEqualsIfExists", "dynamodb:ReturnValues"): "ReturnValuesIfExists",
    }
    return [
        {names.get((operator, key), f"{operator} {key}"): sorted(as_list(values))}
        for operator, keys in sorted(operators.items())
        for key, values in sorted(keys.items())
    ]


def apis(template, functions):
    found = {"http_api": None, "websocket_api": None}
    for logical_id, api in template.of_type("AWS::ApiGatewayV2::Api"):
        if api.get("ProtocolType") == "WEBSOCKET":
            found["websocket_api"] = websocket_api(template, api, functions)
        else:
            found["http_api"] = http_api(api["Body"], functions)
    return found


def http_api(document, functions):
    routes = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            integration = operation["x-amazon-apigateway-integration"]
            function = functions.named(integration["uri"])
            if (integration["type"], integration["payloadFormatVersion"]) != ("aws_proxy", "2.0"):
                function += " in another format than aws_proxy 2.0"
            routes.append({"method": method.upper(), "path": path, "function": function})
    return {"routes": routes, "cors": cors(document.get("x-amazon-apigateway-cors"))}


def cors(settings):
    if settings is None:
        return None
    if not isinstance(settings, dict):
        return f"not an object: {settings}"
    # API Gateway knows these names and no others.
    return {
        "allow_origins": settings.get("allowOrigins", []),
        "allow_methods": settings.get("allowMethods", []),
        "allow_headers": settings.get("allowHeaders", []),
        "expose_headers": settings.get("exposeHeaders", []),
        "allow_credentials": settings.get("allowCredentials", False),
        "max_age": seconds(settings.get("maxAge")),
    }


def websocket_api(template, api, functions):
    integrations = dict(template.of_type("AWS::ApiGatewayV2::Integration"))
    answered = {response["RouteId"] for _, response in template.of_type("AWS::ApiGatewayV2::RouteResponse")}
    stages = [stage for _, stage in template.of_type("AWS::ApiGatewayV2::Stage") if stage["StageName"] != "$default"]
    return {
        "route_selection_expression": api["RouteSelectionExpression"],
        "routes": {
            route["RouteKey"]: {
                "function": functions.named(
                    integrations[route["Target"].removeprefix("integrations/")]["IntegrationUri"]
                ),
                # A route response needs the selection expression on its route.
                "responds": logical_id in answered and route.get("RouteResponseSelectionExpression") == "$default",
            }
            for logical_id, route in template.of_type("AWS::ApiGatewayV2::Route")
        },
        "stage": stages[0]["StageName"],
    }


def schedules(template, functions):
    run, settings = [], {}
    queues = queue_names(template)
    for logical_id, schedule in template.of_type("AWS::Scheduler::Schedule"):
        target, name = schedule["Target"], schedule.get("Name", logical_id)
        retry = target.get("RetryPolicy", {})
        run.append(
            {
                "name": name,
                "expression": schedule["ScheduleExpression"],
                "function": functions.named(target["Arn"]),
                "input": target.get("Input", "{}"),
                "maximum_retry_attempts": retry.get("MaximumRetryAttempts", DEFAULT_SCHEDULE_RETRIES),
                "enabled": schedule.get("State") != "DISABLED",
                "dead_letter_queue": queues.get(target.get("DeadLetterConfig", {}).get("Arn")),
            }
        )
        settings[name] = {
            "time_zone": schedule.get("ScheduleExpressionTimezone"),
            "maximum_event_age_seconds": retry.get("MaximumEventAgeInSeconds"),
            "role": target["RoleArn"],
        }
    return {"schedules": run, "schedule_settings": settings}


def queue_names(template):
    return {
        template.attribute(logical_id, "Arn"): template.physical_name(logical_id)
        for logical_id, _ in template.of_type("AWS::SQS::Queue")
    }


def storage(template):
    queues = queue_names(template)
    return {
        "buckets": [
            {
                "name": template.physical_name(logical_id),
                "cors": [cors_rule(rule) for rule in bucket.get("CorsConfiguration", {}).get("CorsRules", [])],
            }
            for logical_id, bucket in template.of_type("AWS::S3::Bucket")
        ],
        "secrets": sorted(
            template.physical_name(logical_id) for logical_id, _ in template.of_type("AWS::SecretsManager::Secret")
        ),
        "queues": [queue(template, queues, *item) for item in template.of_type("AWS::SQS::Queue")],
    }


def tables(template):
    """Those of a region that stands for all of them."""
    return [
        table(template, logical_id, properties)
        for kind in ("AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable")
        for logical_id, properties in template.of_type(kind)
    ]


def table(template, logical_id, properties):
    ttl = properties.get("TimeToLiveSpecification", {})
    return {
        "logical_id": logical_id,
        "name": template.physical_name(logical_id),
        "create": properties,
        "ttl_attribute": ttl.get("AttributeName") if ttl.get("Enabled") else None,
    }


def cors_rule(rule):
    return {
        "allowed_origins": rule["AllowedOrigins"],
        "allowed_methods": rule["AllowedMethods"],
        "allowed_headers": rule.get("AllowedHeaders", []),
        "exposed_headers": rule.get("ExposedHeaders", []),
        "max_age": seconds(rule.get("MaxAge")),
    }


def queue(template, names, logical_id, properties):
    redrive = properties.get("RedrivePolicy")
    return {
        "name": template.physical_name(logical_id),
        "visibility_timeout": seconds(properties.get("VisibilityTimeout", DEFAULT_VISIBILITY)),
        "delay": seconds(properties.get("DelaySeconds", 0)),
        "retention": seconds(properties.get("MessageRetentionPeriod", DEFAULT_RETENTION)),
        "receive_wait": seconds(properties.get("ReceiveMessageWaitTimeSeconds", 0)),
        "maximum_message_bytes": properties.get("MaximumMessageSize", DEFAULT_MESSAGE_BYTES),
        "redrive": redrive
        and {
            "dead_letter_queue": names[redrive["deadLetterTargetArn"]],
            "maximum_receives": redrive["maxReceiveCount"],
        },
    }


def event_sources(template, templates, functions):
    queues = queue_names(template)
    streams = {
        each.attribute(table["logical_id"], "StreamArn"): table["name"]
        for each in templates
        for table in tables(each)
        if "StreamSpecification" in table["create"]
    }
    found = {"event_sources": [], "stream_sources": [], "kafka_sources": []}
    for _, mapping in template.of_type("AWS::Lambda::EventSourceMapping"):
        function = functions.named(mapping["FunctionName"])
        if "SelfManagedEventSource" in mapping:
            found["kafka_sources"].append(kafka_source(function, mapping))
            continue
        source = mapping["EventSourceArn"]
        both = {
            "function": function,
            "batching_window": seconds(mapping.get("MaximumBatchingWindowInSeconds", 0)),
            "answers": "ReportFailures" if mapping.get("FunctionResponseTypes") else "Ignored",
            "filters": [
                json.loads(pattern["Pattern"]) for pattern in mapping.get("FilterCriteria", {}).get("Filters", [])
            ],
            "enabled": mapping.get("Enabled", True),
        }
        if source in streams:
            reads = function in functions.stream_readers
            found["stream_sources"].append(stream_source(streams[source], mapping, reads, queues) | both)
        else:
            reads = function in functions.queue_readers
            found["event_sources"].append(queue_source(queues[source], mapping, reads) | both)
    return found


def kafka_source(function, mapping):
    window = mapping.get("MaximumBatchingWindowInSeconds")
    return {
        "bootstrap_servers": mapping["SelfManagedEventSource"]["Endpoints"]["KafkaBootstrapServers"],
        "topic": mapping["Topics"][0],
        "consumer_group": mapping["SelfManagedKafkaEventSourceConfig"]["ConsumerGroupId"],
        "function": function,
        "starting_position": mapping["StartingPosition"],
        "batch_size": mapping.get("BatchSize", DEFAULT_STREAM_BATCH),
        "batching_window": KAFKA_WINDOW if window is None else seconds(window),
        "enabled": mapping.get("Enabled", True),
    }


def queue_source(queue, mapping, reads):
    return {
        "queue": queue,
        "granted_by": "Event" if reads else "Policies",
        "batch_size": mapping.get("BatchSize", DEFAULT_BATCH),
        "maximum_concurrency": mapping.get("ScalingConfig", {}).get("MaximumConcurrency"),
    }


def stream_source(table, mapping, reads, queues):
    unbounded = lambda name: None if mapping.get(name, -1) == -1 else mapping[name]
    on_failure = mapping.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    return {
        "table": table,
        "granted_by": "Event" if reads else "Policies",
        "starting_position": mapping["StartingPosition"],
        "batch_size": mapping.get("BatchSize", DEFAULT_STREAM_BATCH),
        "bisect": mapping.get("BisectBatchOnFunctionError", False),
        "maximum_retry_attempts": unbounded("MaximumRetryAttempts"),
        "maximum_record_age": seconds(unbounded("MaximumRecordAgeInSeconds")),
        "parallelization_factor": mapping.get("ParallelizationFactor", 1),
        "on_failure": queues.get(on_failure),
    }


def messaging(template, functions):
    queues = queue_names(template)

    def target(arn):
        return {"queue": queues[arn]} if arn in queues else {"function": functions.named(arn)}

    def subscription(logical_id, properties):
        policy, redrive = properties.get("FilterPolicy"), properties.get("RedrivePolicy")
        return {
            "id": logical_id,
            "topic_arn": properties["TopicArn"],
            "target": target(properties["Endpoint"]),
            "raw": properties.get("RawMessageDelivery", False),
            "filter": policy and {"policy": policy, "scope": properties.get("FilterPolicyScope", "MessageAttributes")},
            "dead_letter_queue": redrive and queues[redrive["deadLetterTargetArn"]],
        }

    def rule_target(properties):
        retry = properties.get("RetryPolicy", {})
        given = {"constant": properties.get("Input"), "path": json_path(properties.get("InputPath"))}
        return {
            "id": properties["Id"],
            "target": target(properties["Arn"]),
            "input": {name: value for name, value in given.items() if value is not None} or "event",
            "maximum_retry_attempts": retry.get("MaximumRetryAttempts", DEFAULT_RULE_RETRIES),
            "maximum_event_age": seconds(retry.get("MaximumEventAgeInSeconds", DEFAULT_RULE_AGE)),
            "dead_letter_queue": queues.get(properties.get("DeadLetterConfig", {}).get("Arn")),
        }

    return {
        "topics": [
            {
                "name": template.physical_name(logical_id),
                "maximum_message_bytes": int(topic.get("MaximumMessageSize", DEFAULT_TOPIC_BYTES)),
            }
            for logical_id, topic in template.of_type("AWS::SNS::Topic")
        ],
        "subscriptions": [subscription(*item) for item in template.of_type("AWS::SNS::Subscription")],
        "event_buses": sorted(
            template.physical_name(logical_id) for logical_id, _ in template.of_type("AWS::Events::EventBus")
        ),
        "rules": [
            {
                "name": template.physical_name(logical_id),
                "bus": rule.get("EventBusName", "default").rsplit("event-bus/", 1)[-1],
                "event_pattern": rule["EventPattern"],
                "enabled": rule.get("State") != "DISABLED",
                "targets": [rule_target(properties) for properties in rule.get("Targets", [])],
            }
            for logical_id, rule in template.of_type("AWS::Events::Rule")
        ],
        "service_permissions": queue_permissions(template) + function_permissions(template, functions),
    }


def topic_arns(template):
    return {template.reference(logical_id) for logical_id, _ in template.of_type("AWS::SNS::Topic")}


def json_path(path):
    return path and [name for name in path.removeprefix("$").split(".") if name]


def queue_permissions(template):
    names = {template.reference(logical_id): template.physical_name(logical_id) for logical_id, _ in template.of_type("AWS::SQS::Queue")}
    return [
        {"principal": principal, "target": {"queue": names[url]}, "sources": sources(statement.get("Condition", {}))}
        for _, policy in template.of_type("AWS::SQS::QueuePolicy")
        for statement in as_list(policy["PolicyDocument"]["Statement"])
        if statement["Effect"] == "Allow"
        for url in policy["Queues"]
        for principal in principals(statement["Principal"])
        if principal in DELIVERING
    ]


def principals(principal):
    return [principal] if principal == "*" else as_list(principal.get("Service", []))


def sources(condition):
    """The ARNs that a statement is for. Its account is this one."""
    arns = [
        arn
        for keys in condition.values()
        for key, values in keys.items()
        if key.lower() == "aws:sourcearn"
        for arn in as_list(values)
    ]
    return arns or None


def function_permissions(template, functions):
    return [
        {
            "principal": permission["Principal"],
            "target": {"function": functions.named(permission["FunctionName"])},
            "sources": [permission["SourceArn"]] if "SourceArn" in permission else None,
        }
        for _, permission in template.of_type("AWS::Lambda::Permission")
        if permission["Principal"] in DELIVERING
    ]
