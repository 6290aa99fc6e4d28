// POST /node/orders: an order of one or more lines, made once per Idempotency-Key.

import { randomUUID } from "node:crypto";
import { IdempotencyConfig, makeIdempotent } from "@aws-lambda-powertools/idempotency";
import { DynamoDBPersistenceLayer } from "@aws-lambda-powertools/idempotency/dynamodb";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DynamoDBDocumentClient, GetCommand, TransactWriteCommand } from "@aws-sdk/lib-dynamodb";

const { ORDERS_TABLE, PRODUCTS_TABLE, RECORDS_TABLE } = process.env;
const client = new DynamoDBClient();
const tables = DynamoDBDocumentClient.from(client);

async function priced({ productId, quantity }) {
  const { Item: product } = await tables.send(new GetCommand({ TableName: PRODUCTS_TABLE, Key: { productId } }));
  if (product === undefined) throw new Error(`there is no product ${productId}`);
  return { productId, quantity, unitPrice: product.price };
}

async function place(event) {
  const body = event.isBase64Encoded ? Buffer.from(event.body, "base64").toString() : event.body;
  const lines = await Promise.all(JSON.parse(body).lines.map(priced));
  const order = {
    orderId: `ord_${randomUUID()}`,
    status: "PENDING_PAYMENT",
    lines,
    total: lines.reduce((sum, line) => sum + line.quantity * line.unitPrice, 0),
    createdAt: new Date().toISOString(),
  };
  const take = ({ productId, quantity }) => ({
    Update: {
      TableName: PRODUCTS_TABLE,
      Key: { productId },
      UpdateExpression: "SET available = available - :quantity",
      ConditionExpression: "available >= :quantity",
      ExpressionAttributeValues: { ":quantity": quantity },
    },
  });
  const put = { Put: { TableName: ORDERS_TABLE, Item: order, ConditionExpression: "attribute_not_exists(orderId)" } };
  await tables.send(new TransactWriteCommand({ TransactItems: [put, ...lines.map(take)] }));
  return { statusCode: 201, headers: { "content-type": "application/json" }, body: JSON.stringify(order) };
}

export const handler = makeIdempotent(place, {
  persistenceStore: new DynamoDBPersistenceLayer({ tableName: RECORDS_TABLE, awsSdkV3Client: client }),
  config: new IdempotencyConfig({
    eventKeyJmesPath: 'headers."idempotency-key"',
    payloadValidationJmesPath: "body",
    throwOnNoIdempotencyKey: true,
  }),
});
