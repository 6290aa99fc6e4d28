//! The embedded DynamoDB, asked by the real AWS SDK.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use serde_json::json;
use sojourn_local::services::dynamodb::Embedded;
use sojourn_local::template::model::Table;

fn table(name: &str) -> Table {
    Table {
        logical_id: name.to_owned(),
        name: name.to_owned(),
        create: json!({
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
            "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
        }),
        ttl_attribute: Some("expiresAt".to_owned()),
    }
}

fn client(endpoint: &str) -> Client {
    Client::from_conf(
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("local"))
            .credentials_provider(Credentials::new("any", "any", None, None, "test"))
            .endpoint_url(endpoint)
            .build(),
    )
}

#[tokio::test]
async fn a_failed_condition_returns_the_old_item() {
    let dynamodb = Embedded::start(&[table("Things")]).unwrap();
    let client = client(&dynamodb.endpoint_url());
    let put = || {
        client
            .put_item()
            .table_name("Things")
            .item("id", AttributeValue::S("a".into()))
            .item("n", AttributeValue::N("1".into()))
            .condition_expression("attribute_not_exists(id)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
    };
    put().await.unwrap();
    let error = put().await.unwrap_err().into_service_error();
    match error {
        aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(failed) => {
            assert_eq!(failed.item.unwrap()["n"], AttributeValue::N("1".into()));
        }
        other => panic!("{other:?}"),
    }
}
