"""Calls DynamoDB and SQS with nothing but Python's own library. A function with boto3 in its folder needs none of this."""

import datetime
import hashlib
import hmac
import json
import os
import urllib.parse
import urllib.request

PROTOCOLS = {
    "dynamodb": ("application/x-amz-json-1.0", "DynamoDB_20120810"),
    "sqs": ("application/x-amz-json-1.0", "AmazonSQS"),
}


def call(service, operation, body):
    """The answer of an operation; raises for an error."""
    region = os.environ["AWS_REGION"]
    default = f"https://{service}.{region}.amazonaws.com"
    url = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}", default) + "/"
    content_type, target = PROTOCOLS[service]
    payload = json.dumps(body).encode()
    headers = {
        "content-type": content_type,
        "host": urllib.parse.urlsplit(url).netloc,
        "x-amz-date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ"),
        "x-amz-target": f"{target}.{operation}",
    }
    if "AWS_SESSION_TOKEN" in os.environ:
        headers["x-amz-security-token"] = os.environ["AWS_SESSION_TOKEN"]
    headers["authorization"] = signature(service, region, headers, payload)
    with urllib.request.urlopen(urllib.request.Request(url, payload, headers)) as response:
        return json.load(response)


def signature(service, region, headers, payload):
    """AWS Signature Version 4 of a POST to /."""
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(payload).hexdigest()}"
    date = headers["x-amz-date"][:8]
    scope = f"{date}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}"
    key = f"AWS4{os.environ['AWS_SECRET_ACCESS_KEY']}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signed = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signed}"
