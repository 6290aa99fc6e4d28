//! What was asked, counted.

use local_region::services::usage::{Capacity, Units};

use crate::support::{available, client_of, embedded, order_entry, put_order, stock_entry};

#[tokio::test]
async fn requests_and_capacity_are_counted_without_the_client_asking() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    put_order(&client, "ord_0").send().await.unwrap();
    dynamodb.usage().record();
    let answer = client
        .transact_write_items()
        .transact_items(order_entry("ord_1"))
        .transact_items(stock_entry("tea", 1))
        .send()
        .await
        .unwrap();
    assert!(answer.consumed_capacity().is_empty(), "the client didn't ask");
    available(&client, "tea").await;
    dynamodb.usage().stop();
    put_order(&client, "ord_2").send().await.unwrap();

    let snapshot = dynamodb.usage().snapshot();
    assert_eq!(snapshot.total(), 2);
    assert_eq!(snapshot.count("TransactWriteItems"), 1);
    let row = |operation: &str, table: &str, read, write| Capacity {
        caller: "operator".to_owned(),
        operation: operation.to_owned(),
        table: table.to_owned(),
        units: Units { read, write },
    };
    assert_eq!(
        snapshot.capacity,
        [
            row("GetItem", "Stock", 0.5, 0.0),
            row("TransactWriteItems", "Orders", 0.0, 2.0),
            row("TransactWriteItems", "Stock", 0.0, 2.0),
        ]
    );
}

#[tokio::test]
async fn a_client_that_asks_for_its_capacity_still_gets_it() {
    let dynamodb = embedded();
    dynamodb.usage().record();
    let answer = put_order(&client_of(&dynamodb, None), "ord_1")
        .return_consumed_capacity(aws_sdk_dynamodb::types::ReturnConsumedCapacity::Total)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.consumed_capacity().unwrap().capacity_units(), Some(2.0));
}

#[tokio::test]
async fn the_snapshot_is_the_documented_json() {
    let dynamodb = embedded();
    dynamodb.usage().record();
    put_order(&client_of(&dynamodb, None), "ord_1").send().await.unwrap();
    let json = serde_json::to_value(dynamodb.usage().snapshot()).unwrap();
    assert_eq!(json["recording"], true);
    assert_eq!(json["unlogged"], 0);
    assert_eq!(
        json["requests"],
        serde_json::json!([{
            "caller": "operator", "service": "dynamodb", "operation": "PutItem", "resources": ["Orders"],
            "requests": 1, "failures": 0,
        }])
    );
    assert_eq!(
        json["capacity"],
        serde_json::json!([
            {"caller": "operator", "operation": "PutItem", "table": "Orders", "read": 0.0, "write": 2.0}
        ])
    );
    let entry = &json["log"][0];
    assert_eq!(entry["sequence"], 1);
    assert_eq!(entry["status"], 200);
    assert!(entry["endMicros"].as_u64() >= entry["startMicros"].as_u64());
}
