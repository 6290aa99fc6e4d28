"""What SAM makes of the template, in the shape in which `cargo dev -- template` prints it."""

import logging
import os

import boto3
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from cloudformation import Template

# Lambda's, SAM's and SQS's own defaults.
DEFAULT_TIMEOUT, DEFAULT_MEMORY, DEFAULT_BATCH, DEFAULT_SCHEDULE_RETRIES = 3, 128, 10, 185
DEFAULT_VISIBILITY, DEFAULT_RETENTION, DEFAULT_MESSAGE_BYTES = 30, 345600, 1048576

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


def understood(source, parameters):
    template = Template(translate(source, parameters), parameters)
    functions = Functions(template)
    return {
        "functions": sorted(functions.all, key=lambda function: function["name"]),
        "cloud_settings": functions.settings,
        **apis(template, functions),
        **schedules(template, functions),
        **storage(template),
        "event_sources": event_sources(template, functions),
        "permissions": [
            {
                "function": permission["FunctionName"],
                "action": permission["Action"],
                "principal": permission["Principal"],
                "source": permission["SourceArn"],
            }
            for _, permission in template.of_type("AWS::Lambda::Permission")
        ],
        # Nothing may be in the stack that the local region does not know.
        "not_run": [],
    }


def seconds(number):
    return None if number is None else {"secs": int(number), "nanos": 0}


def as_list(value):
    return value if isinstance(value, list) else [value]


class Functions:
    def __init__(self, template):
        self.all, self.settings, self.names = [], {}, {}
        roles = dict(template.of_type("AWS::IAM::Role"))
        invoke = {config["FunctionName"]: config for _, config in template.of_type("AWS::Lambda::EventInvokeConfig")}
        for logical_id, function in template.of_type("AWS::Lambda::Function"):
            name = function["Code"]["S3Key"].rsplit("/", 1)[1]
            physical_name = template.physical_name(logical_id)
            self.names[physical_name] = self.names[template.attribute(logical_id, "Arn")] = name
            policies = roles[logical_id + "Role"].get("Policies", [])
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
        "tables": [table(template, *item) for item in template.of_type("AWS::DynamoDB::Table")],
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


def event_sources(template, functions):
    queues = queue_names(template)
    return [
        {
            "queue": queues[mapping["EventSourceArn"]],
            "function": functions.named(mapping["FunctionName"]),
            "batch_size": mapping.get("BatchSize", DEFAULT_BATCH),
            "batching_window": seconds(mapping.get("MaximumBatchingWindowInSeconds", 0)),
            "answers": "ReportFailures" if mapping.get("FunctionResponseTypes") else "Ignored",
            "maximum_concurrency": mapping.get("ScalingConfig", {}).get("MaximumConcurrency"),
            "enabled": mapping.get("Enabled", True),
        }
        for _, mapping in template.of_type("AWS::Lambda::EventSourceMapping")
    ]
