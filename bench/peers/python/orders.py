"""POST /python/orders: an order of one or more lines, made once per Idempotency-Key."""

import base64
import datetime
import json
import os
import uuid

import boto3
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent

client = boto3.client("dynamodb")
PRODUCTS, ORDERS = os.environ["PRODUCTS_TABLE"], os.environ["ORDERS_TABLE"]
records = DynamoDBPersistenceLayer(table_name=os.environ["RECORDS_TABLE"])
config = IdempotencyConfig(
    event_key_jmespath='headers."idempotency-key"',
    payload_validation_jmespath="body",
    raise_on_no_idempotency_key=True,
)


def priced(line):
    product_id, quantity = line["productId"], int(line["quantity"])
    product = client.get_item(TableName=PRODUCTS, Key={"productId": {"S": product_id}})["Item"]
    return {"productId": product_id, "quantity": quantity, "unitPrice": int(product["price"]["N"])}


def stored(line):
    return {
        "M": {
            "productId": {"S": line["productId"]},
            "quantity": {"N": str(line["quantity"])},
            "unitPrice": {"N": str(line["unitPrice"])},
        }
    }


@idempotent(persistence_store=records, config=config)
def handler(event, context):
    body = base64.b64decode(event["body"]) if event["isBase64Encoded"] else event["body"]
    lines = [priced(line) for line in json.loads(body)["lines"]]
    order = {
        "orderId": f"ord_{uuid.uuid4()}",
        "status": "PENDING_PAYMENT",
        "lines": lines,
        "total": sum(line["quantity"] * line["unitPrice"] for line in lines),
        "createdAt": datetime.datetime.now(datetime.timezone.utc).isoformat(),
    }
    item = {
        "orderId": {"S": order["orderId"]},
        "status": {"S": order["status"]},
        "lines": {"L": [stored(line) for line in lines]},
        "total": {"N": str(order["total"])},
        "createdAt": {"S": order["createdAt"]},
    }
    put = {"TableName": ORDERS, "Item": item, "ConditionExpression": "attribute_not_exists(orderId)"}
    take = [
        {
            "Update": {
                "TableName": PRODUCTS,
                "Key": {"productId": {"S": line["productId"]}},
                "UpdateExpression": "SET available = available - :quantity",
                "ConditionExpression": "available >= :quantity",
                "ExpressionAttributeValues": {":quantity": {"N": str(line["quantity"])}},
            }
        }
        for line in lines
    ]
    client.transact_write_items(TransactItems=[{"Put": put}, *take])
    return {"statusCode": 201, "headers": {"content-type": "application/json"}, "body": json.dumps(order)}
