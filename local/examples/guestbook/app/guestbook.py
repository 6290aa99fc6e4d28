"""The handlers."""

import base64
import json
import os

import aws


def api(event):
    """POST /entries sends an entry to the queue, GET /entries lists the table."""
    if event["routeKey"] == "POST /entries":
        body = base64.b64decode(event["body"]) if event["isBase64Encoded"] else event["body"]
        text = json.loads(body)["text"]
        sent = aws.call("sqs", "SendMessage", {"QueueUrl": os.environ["QUEUE_URL"], "MessageBody": text})
        return answer(202, {"id": sent["MessageId"]})
    items = aws.call("dynamodb", "Scan", {"TableName": os.environ["TABLE"]})["Items"]
    return answer(200, {"entries": [item["text"]["S"] for item in items]})


def store(event):
    """Writes the entries of the queue to the table."""
    for record in event["Records"]:
        text = f"{os.environ['GREETING']}, {record['body']}"
        item = {"id": {"S": record["messageId"]}, "text": {"S": text}}
        aws.call("dynamodb", "PutItem", {"TableName": os.environ["TABLE"], "Item": item})


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
