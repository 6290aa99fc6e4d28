"""Holds what the local region understands of template.yaml against what SAM makes of it.

    python .ci/template_check              compare, with and without every optional part, and with the tables of global.yaml
    python .ci/template_check --self-test  break the template once for each kind of difference; each must be found

The local region prints its side (`cargo dev -- template`). SAM's own translator gives the other side; CloudFormation's
functions are resolved here. It asks no account, and needs aws-sam-cli installed beside this Python.
"""

import json
import pathlib
import subprocess
import sys

import cloudformation
import sam
import self_test

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
SHARED = ROOT / "global.yaml"

# As it is deployed by default, with everything optional, and beside other regions.
KEYS = {"TokenJwks": '{"keys":[]}', "Architecture": "arm64"}
PARAMETERS = {
    "defaults": {"Stage": "dev", **KEYS},
    "every option": {
        "Stage": "live",
        "AllowedOrigins": "https://shop.example,https://desk.example",
        "SessionStore": "redis",
        "RedisUrl": "rediss://user:password@redis.example:6379",
        "VpcSubnetIds": "subnet-1,subnet-2",
        "VpcSecurityGroupIds": "sg-1",
        "KmsKeyArn": "arn:aws:kms:ap-northeast-1:000000000000:key/1",
        "FileVersions": "on",
        "FirstPeerBucket": "files-of-singapore",
        "SecondPeerBucket": "files-of-taiwan",
        "HttpConcurrency": "100",
        "SignInConcurrency": "50",
        "SocketConcurrency": "80",
        "JobConcurrency": "12",
        "Buffer": "kafka",
        "KafkaBootstrapServers": "one.kafka.example:9096,two.kafka.example:9096",
        "HttpDomainName": "api.shop.example",
        "WebSocketDomainName": "sockets.shop.example",
        "DomainCertificateArn": "arn:aws:acm:ap-northeast-1:000000000000:certificate/1",
        "DomainHostedZoneId": "Z1",
        "ApiGatewayLogRole": "existing",
        "AlarmTopicArn": "arn:aws:sns:local:000000000000:alarms",
        **KEYS,
    },
    "global tables": {
        "Stage": "live",
        "GlobalTables": "sojourn-live",
        "OrdersStreamLabel": "local",
        "ProductsStreamLabel": "local",
        "OutboxStreamLabel": "local",
        **KEYS,
    },
}


def local_region(template, parameters):
    """The local region's side."""
    command = ["cargo", "run", "--quiet", "--bin", "sojourn-dev", "--", "template", "--stack-name", cloudformation.STACK, "--template", str(template)]
    for name, value in parameters.items():
        command += ["--parameter", f"{name}={value}"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def cloud(source, parameters):
    """SAM's side."""
    return sam.understood(source, parameters, SHARED.read_text() if "GlobalTables" in parameters else None)


# What tells the items of a list apart, so that a difference names the item and not its position.
IDENTITIES = (
    ("method", "path"), ("queue", "function"), ("table", "function"), ("topic", "function"), ("function", "principal", "source"), ("name",), ("id",),
)


def keyed(items):
    """A list of objects by what tells them apart."""
    for names in IDENTITIES:
        if items and all(isinstance(item, dict) and set(names) <= set(item) for item in items):
            by_name = {" ".join(str(item[name]) for name in names): item for item in items}
            return by_name if len(by_name) == len(items) else None
    return None


def differences(local, cloud, place=""):
    """A line for each place at which the two sides differ."""
    if isinstance(local, list) and isinstance(cloud, list):
        named = [keyed(side) if side else {} for side in (local, cloud)]
        if None not in named:
            local, cloud = named
        elif all(isinstance(item, dict) for item in local + cloud):
            # Statements of a policy, or filters of a source: neither their order nor a repetition means anything.
            texts = [{json.dumps(item, sort_keys=True): item for item in side} for side in (local, cloud)]
            local, cloud = (sorted(side.items()) for side in texts)
            local, cloud = ([item for _, item in side] for side in (local, cloud))
    if isinstance(local, dict) and isinstance(cloud, dict):
        absent = "absent"
        return [
            line
            for key in sorted(local.keys() | cloud.keys())
            for line in differences(local.get(key, absent), cloud.get(key, absent), f"{place}.{key}".lstrip("."))
        ]
    if local == cloud:
        return []
    return [f"{place}: the local region reads {json.dumps(local)}, SAM makes {json.dumps(cloud)}"]


def main():
    source = TEMPLATE.read_text()
    if "--self-test" in sys.argv:
        local = local_region(TEMPLATE, PARAMETERS["every option"])
        failures = self_test.run(source, PARAMETERS["every option"], local, local_region, differences)
    else:
        failures = [
            f"with {title}: {line}"
            for title, parameters in PARAMETERS.items()
            for line in differences(local_region(TEMPLATE, parameters), cloud(source, parameters))
        ]
    print("\n".join(failures) or "ok")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
