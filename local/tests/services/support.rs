//! A small stack and clients of its services.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use local_region::services::access::{Access, Key};
use local_region::services::dynamodb::Embedded;
use local_region::template::arn;
use local_region::template::model::{EventInvoke, Function, Stack, Statement, Table};
use serde_json::json;

/// Any free port of this machine.
pub(crate) const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) fn orders() -> Table {
    Table {
        logical_id: "OrdersTable".to_owned(),
        name: "Orders".to_owned(),
        create: json!({
            "AttributeDefinitions": [
                {"AttributeName": "orderId", "AttributeType": "S"},
                {"AttributeName": "customerId", "AttributeType": "S"},
            ],
            "KeySchema": [{"AttributeName": "orderId", "KeyType": "HASH"}],
            "GlobalSecondaryIndexes": [{
                "IndexName": "byCustomer",
                "KeySchema": [{"AttributeName": "customerId", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }],
            "BillingMode": "PAY_PER_REQUEST",
        }),
        ttl_attribute: None,
    }
}

pub(crate) fn stock() -> Table {
    Table {
        logical_id: "StockTable".to_owned(),
        name: "Stock".to_owned(),
        create: json!({
            "AttributeDefinitions": [{"AttributeName": "productId", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "productId", "KeyType": "HASH"}],
            "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
            "BillingMode": "PAY_PER_REQUEST",
        }),
        ttl_attribute: Some("expiresAt".to_owned()),
    }
}

/// A function that may do `policy`: actions and resources.
pub(crate) fn function(name: &str, policy: &[(&[&str], &[String])]) -> Function {
    Function {
        name: name.to_owned(),
        physical_name: format!("shop-{name}"),
        timeout: Duration::from_secs(10),
        memory_mib: 256,
        code_uri: String::new(),
        handler: "bootstrap".to_owned(),
        environment: BTreeMap::new(),
        policy: policy
            .iter()
            .map(|(actions, resources)| Statement {
                actions: actions.iter().map(|&action| action.to_owned()).collect(),
                resources: resources.to_vec(),
                conditions: Vec::new(),
            })
            .collect(),
        reserved_concurrency: None,
        event_invoke: EventInvoke::default(),
    }
}

/// Both tables and the functions.
pub(crate) fn stack(functions: Vec<Function>) -> Stack {
    Stack { functions, tables: vec![orders(), stock()], ..Stack::default() }
}

/// Both tables, empty, for everybody.
pub(crate) fn embedded() -> Embedded {
    Embedded::start(&[orders(), stock()]).unwrap()
}

pub(crate) fn credentials(key: &Key) -> Credentials {
    Credentials::new(&key.access_key_id, &key.secret_access_key, None, None, "test")
}

/// A client with a function's key, or the operator's.
pub(crate) fn client_of(embedded: &Embedded, function: Option<&str>) -> aws_sdk_dynamodb::Client {
    client(&embedded.endpoint_url(), key(embedded.access(), function))
}

pub(crate) fn key<'a>(access: &'a Access, function: Option<&str>) -> &'a Key {
    function.map_or(access.operator(), |name| access.key_of(name).unwrap())
}

/// A client that retries as functions do, but without waiting long.
pub(crate) fn client(endpoint: &str, key: &Key) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::from_conf(
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(arn::local().region().to_owned()))
            .credentials_provider(credentials(key))
            .retry_config(RetryConfig::standard().with_initial_backoff(Duration::from_millis(5)))
            .endpoint_url(endpoint)
            .build(),
    )
}

pub(crate) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub(crate) fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Puts an order.
pub(crate) fn put_order(client: &aws_sdk_dynamodb::Client, id: &str) -> PutItemFluentBuilder {
    client.put_item().table_name("Orders").item("orderId", text(id)).item("customerId", text("ada"))
}

/// An entry that adds an order which must not exist.
pub(crate) fn order_entry(id: &str) -> TransactWriteItem {
    let put = Put::builder()
        .table_name("Orders")
        .item("orderId", text(id))
        .condition_expression("attribute_not_exists(orderId)")
        .build()
        .unwrap();
    TransactWriteItem::builder().put(put).build()
}

/// An entry that changes a product's stock.
pub(crate) fn stock_entry(product: &str, delta: i64) -> TransactWriteItem {
    let update = Update::builder()
        .table_name("Stock")
        .key("productId", text(product))
        .update_expression("ADD available :delta")
        .expression_attribute_values(":delta", number(delta))
        .build()
        .unwrap();
    TransactWriteItem::builder().update(update).build()
}

/// A product's stock.
pub(crate) async fn available(client: &aws_sdk_dynamodb::Client, product: &str) -> i64 {
    let answer = client.get_item().table_name("Stock").key("productId", text(product)).send().await.unwrap();
    let item = answer.item.unwrap_or_default();
    item.get("available").map_or(0, |value| value.as_n().unwrap().parse().unwrap())
}
