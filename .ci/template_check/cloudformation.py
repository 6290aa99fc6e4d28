"""CloudFormation's functions, conditions and names, as far as the template uses them.

Names and ARNs are those of the local region: the same account, region and stack name, and a physical name that follows
from the logical id. So what is resolved here can be compared with what the local region resolved.
"""

import re

REGION, ACCOUNT, STACK = "local", "000000000000", "sojourn"
PSEUDO_PARAMETERS = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::StackName": STACK,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
# The property that names a resource, by its type.
NAME_PROPERTIES = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::DynamoDB::GlobalTable": "TableName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::SecretsManager::Secret": "Name",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::Events::EventBus": "Name",
    "AWS::Events::Rule": "Name",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::ApiGatewayV2::Stage": "StageName",
}
NO_VALUE = object()


def text(scalar):
    """The form in which CloudFormation hands a scalar on."""
    return str(scalar).lower() if isinstance(scalar, bool) else str(scalar)


class Template:
    """A template with its parameters: `resources` holds those whose condition is true, resolved."""

    def __init__(self, template, parameters):
        self.conditions = template.get("Conditions", {})
        self.parameters = {
            name: self._parameter(declaration, parameters.get(name, declaration.get("Default")))
            for name, declaration in template["Parameters"].items()
        }
        self._raw = {
            name: resource
            for name, resource in template["Resources"].items()
            if "Condition" not in resource or self.condition(resource["Condition"])
        }
        # What a laptop does not run is not resolved either: alarms, outputs, roles of other services.
        self.resources = {
            name: (resource["Type"], self.resolve(resource.get("Properties", {})))
            for name, resource in self._raw.items()
            if resource["Type"] != "AWS::CloudWatch::Alarm"
        }

    def of_type(self, kind):
        return [(name, properties) for name, (of, properties) in self.resources.items() if of == kind]

    @staticmethod
    def _parameter(declaration, value):
        if declaration["Type"] == "CommaDelimitedList" or declaration["Type"].startswith("List<"):
            return [item.strip() for item in text(value).split(",")]
        return text(value)

    def condition(self, name):
        return self._holds(self.conditions[name])

    def _holds(self, expression):
        ((function, argument),) = expression.items()
        match function:
            case "Condition":
                return self.condition(argument)
            case "Fn::Equals":
                left, right = (text(self.resolve(side)) for side in argument)
                return left == right
            case "Fn::Not":
                return not self._holds(argument[0])
            case "Fn::And":
                return all([self._holds(item) for item in argument])
            case "Fn::Or":
                return any([self._holds(item) for item in argument])
        raise ValueError(f"{function} is not a condition that this check knows")

    def resolve(self, value):
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self._call(function, argument)
        resolved = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not NO_VALUE}

    def _call(self, function, argument):
        match function:
            case "Ref":
                return self.reference(argument)
            case "Fn::GetAtt":
                resource, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
                return self.attribute(resource, attribute)
            case "Fn::Sub":
                return self._substitute(argument)
            case "Fn::If":
                name, yes, no = argument
                return self.resolve(yes if self.condition(name) else no)
            case "Fn::Join":
                separator, items = argument
                return separator.join(map(text, self.resolve(items)))
            case "Fn::Split":
                separator, whole = argument
                return self.resolve(whole).split(separator)
            case "Fn::Select":
                index, items = argument
                return self.resolve(items)[int(index)]
        raise ValueError(f"{function} is not a function that this check knows")

    def _substitute(self, argument):
        whole, own = argument if isinstance(argument, list) else (argument, {})

        def value_of(found):
            name = found[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in own:
                return text(self.resolve(own[name]))
            return text(self.attribute(*name.split(".", 1)) if "." in name else self.reference(name))

        return re.sub(r"\$\{([^}]+)\}", value_of, whole)

    def reference(self, name):
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in PSEUDO_PARAMETERS:
            return PSEUDO_PARAMETERS[name]
        if name in self.parameters:
            return self.parameters[name]
        match self._raw[name]["Type"]:
            case "AWS::SecretsManager::Secret":
                return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{self.physical_name(name)}"
            case "AWS::SQS::Queue":
                return f"http://sqs/{ACCOUNT}/{self.physical_name(name)}"
            case "AWS::SNS::Topic":
                return f"arn:aws:sns:{REGION}:{ACCOUNT}:{self.physical_name(name)}"
        return self.physical_name(name)

    def attribute(self, resource, attribute):
        name = self.physical_name(resource)
        arn = lambda service, rest: f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"
        match (self._raw[resource]["Type"], attribute):
            case ("AWS::DynamoDB::Table", "Arn"):
                return arn("dynamodb", f"table/{name}")
            case ("AWS::DynamoDB::Table" | "AWS::DynamoDB::GlobalTable", "StreamArn"):
                return arn("dynamodb", f"table/{name}/stream/local")
            case ("AWS::S3::Bucket", "Arn"):
                return f"arn:aws:s3:::{name}"
            case ("AWS::Lambda::Function", "Arn"):
                return arn("lambda", f"function:{name}")
            case ("AWS::SQS::Queue", "Arn"):
                return arn("sqs", name)
            case ("AWS::SNS::Topic", "TopicArn"):
                return arn("sns", name)
            case ("AWS::SNS::Topic", "TopicName") | ("AWS::Events::EventBus", "Name") | ("AWS::SQS::Queue", "QueueName"):
                return name
            case ("AWS::Events::EventBus", "Arn"):
                return arn("events", f"event-bus/{name}")
            case ("AWS::Events::Rule", "Arn"):
                bus = self.resolve(self._raw[resource]["Properties"].get("EventBusName", "default"))
                bus = bus.rsplit("event-bus/", 1)[-1]
                return arn("events", f"rule/{name}" if bus == "default" else f"rule/{bus}/{name}")
            case ("AWS::Logs::LogGroup", "Arn"):
                return arn("logs", f"log-group:{name}:*")
            case ("AWS::IAM::Role", "Arn"):
                return f"arn:aws:iam::{ACCOUNT}:role/{name}"
            case ("AWS::ApiGatewayV2::Api", "ApiEndpoint"):
                return "ws://websocket-api"
        # Of what the local region does not read.
        return f"{resource}.{attribute}"

    def physical_name(self, name):
        resource = self._raw[name]
        given = resource.get("Properties", {}).get(NAME_PROPERTIES.get(resource["Type"]))
        if given is not None:
            return self.resolve(given)
        match resource["Type"]:
            case "AWS::S3::Bucket":
                return name.lower()
            case "AWS::Lambda::Function":
                return f"{STACK}-{name}"
        return name
