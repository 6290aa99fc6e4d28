//! The tables.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::dynamodb::{DynamoDb, Storage};
use serde_json::json;

use crate::support::{
    ANYWHERE, available, client, client_of, embedded, number, order_entry, orders, put_order, stock,
    stock_entry, text,
};

#[tokio::test]
async fn a_failed_condition_returns_the_old_item() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    put_order(&client, "ord_1").send().await.unwrap();
    let refused = put_order(&client, "ord_1")
        .condition_expression("attribute_not_exists(orderId)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    let PutItemError::ConditionalCheckFailedException(failed) = refused else { panic!("{refused:?}") };
    assert_eq!(failed.item.unwrap()["customerId"], text("ada"));
}

#[tokio::test]
async fn a_cancelled_transaction_gives_a_reason_for_every_entry_and_changes_nothing() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    put_order(&client, "ord_1").send().await.unwrap();
    let cancelled = client
        .transact_write_items()
        .transact_items(stock_entry("tea", -1))
        .transact_items(order_entry("ord_1"))
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = cancelled else {
        panic!("{cancelled:?}")
    };
    let codes: Vec<_> =
        cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap()).collect();
    assert_eq!(codes, ["None", "ConditionalCheckFailed"]);
    assert_eq!(available(&client, "tea").await, 0);
}

#[tokio::test]
async fn an_index_answers_queries() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    put_order(&client, "ord_1").send().await.unwrap();
    let found = client
        .query()
        .table_name("Orders")
        .index_name("byCustomer")
        .key_condition_expression("customerId = :customer")
        .expression_attribute_values(":customer", text("ada"))
        .send()
        .await
        .unwrap();
    assert_eq!(found.items()[0]["orderId"], text("ord_1"));
}

#[tokio::test]
async fn an_expired_item_is_gone_after_a_sweep() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    let item = |product: &str, expires_at| {
        client
            .put_item()
            .table_name("Stock")
            .item("productId", text(product))
            .item("available", number(1))
            .item("expiresAt", number(expires_at))
            .send()
    };
    let year_2100 = 4_102_444_800;
    // TTL leaves items alone that expired more than five years ago, so it is an hour ago.
    let now = i64::try_from(ulid::Ulid::generate().timestamp_ms() / 1_000).unwrap();
    item("old", now - 3_600).await.unwrap();
    item("new", year_2100).await.unwrap();
    assert_eq!(dynamodb.sweep_ttl().unwrap(), 1);
    assert_eq!(available(&client, "old").await, 0);
    assert_eq!(available(&client, "new").await, 1);
}

#[tokio::test]
async fn data_survives_a_restart_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let controls = Controls::new(Access::unrestricted());
        let dynamodb =
            DynamoDb::start(ANYWHERE, Storage::Folder(folder.path()), &[orders(), stock()], controls.clone());
        (dynamodb.unwrap(), controls)
    };
    {
        let (dynamodb, controls) = start();
        let client = client(&dynamodb.endpoint_url(), controls.access.operator());
        client.transact_write_items().transact_items(stock_entry("tea", 7)).send().await.unwrap();
    }
    let (dynamodb, controls) = start();
    let client = client(&dynamodb.endpoint_url(), controls.access.operator());
    assert_eq!(available(&client, "tea").await, 7);
}

#[tokio::test]
async fn a_kept_table_that_differs_from_the_template_is_named_with_its_difference() {
    let folder = tempfile::tempdir().unwrap();
    let start = |table| {
        let controls = Controls::new(Access::unrestricted());
        DynamoDb::start(ANYWHERE, Storage::Folder(folder.path()), &[table], controls)
    };
    drop(start(orders()).unwrap());
    let mut changed = orders();
    changed.create["GlobalSecondaryIndexes"][0]["Projection"] = json!({"ProjectionType": "KEYS_ONLY"});
    let refused = start(changed).unwrap_err().to_string();
    assert_eq!(
        refused,
        "table Orders was kept from an earlier start and differs from the template in its index byCustomer: start \
         with another data folder, or move this one away"
    );
    start(orders()).unwrap();
}

#[tokio::test]
async fn a_taken_port_is_one_clear_sentence() {
    let taken = std::net::TcpListener::bind(ANYWHERE).unwrap();
    let address = taken.local_addr().unwrap();
    let controls = Controls::new(Access::unrestricted());
    let refused = DynamoDb::start(address, Storage::Memory, &[], controls).unwrap_err();
    assert_eq!(refused.to_string(), format!("DynamoDB can't listen on {address}"));
}
