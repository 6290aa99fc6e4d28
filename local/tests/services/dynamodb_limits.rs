//! What DynamoDB refuses, by its quotas and the developer guide, "Quotas in Amazon DynamoDB". The
//! engine must refuse the same.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, KeysAndAttributes, Put, PutRequest, TransactWriteItem, WriteRequest,
};
use local_region::services::dynamodb::Embedded;

use crate::support::{client_of, embedded, number, order_entry, put_order, text};

const KIB: usize = 1024;

fn stage() -> (Embedded, Client) {
    let embedded = embedded();
    let client = client_of(&embedded, None);
    (embedded, client)
}

/// The code of a call that must fail.
macro_rules! refused {
    ($request:expr) => {
        match $request.send().await {
            Ok(answer) => format!("accepted: {answer:?}").chars().take(200).collect(),
            Err(error) => error.code().unwrap_or_default().to_owned(),
        }
    };
}

const INVALID: &str = "ValidationException";

/// An order whose note makes it `bytes` long.
fn sized(id: &str, bytes: usize) -> [(String, AttributeValue); 3] {
    let rest = "orderId".len() + id.len() + "customerId".len() + "ada".len() + "note".len();
    [
        ("orderId".to_owned(), text(id)),
        ("customerId".to_owned(), text("ada")),
        ("note".to_owned(), text(&"x".repeat(bytes - rest))),
    ]
}

fn put(item: [(String, AttributeValue); 3]) -> TransactWriteItem {
    let put = Put::builder().table_name("Orders").set_item(Some(item.into())).build().unwrap();
    TransactWriteItem::builder().put(put).build()
}

#[tokio::test]
async fn an_item_has_400_kilobytes_at_most() {
    let (_embedded, client) = stage();
    let write = |bytes| client.put_item().table_name("Orders").set_item(Some(sized("a", bytes).into()));
    write(400 * KIB).send().await.unwrap();
    assert_eq!(refused!(write(400 * KIB + 1)), INVALID);
    let grow = client.update_item().table_name("Orders").key("orderId", text("a"));
    let grow = grow.update_expression("SET more = :more").expression_attribute_values(":more", text("x"));
    assert_eq!(refused!(grow), INVALID);
}

#[tokio::test]
async fn a_transaction_has_100_items_and_4_megabytes_at_most_and_each_item_once() {
    let (_embedded, client) = stage();
    let write = |items: Vec<TransactWriteItem>| client.transact_write_items().set_transact_items(Some(items));
    let items = |count: usize| (0..count).map(|place| order_entry(&format!("o{place}"))).collect();
    assert_eq!(refused!(write(items(101))), INVALID);
    write(items(100)).send().await.unwrap();
    let large = |count: usize| (0..count).map(|place| put(sized(&format!("l{place}"), 390 * KIB))).collect();
    assert_eq!(refused!(write(large(11))), INVALID);
    write(large(10)).send().await.unwrap();
    assert_eq!(refused!(write(vec![order_entry("new"), order_entry("new")])), INVALID);
    let check = ConditionCheck::builder().table_name("Orders").key("orderId", text("new"));
    let check = check.condition_expression("attribute_not_exists(orderId)").build().unwrap();
    let check = TransactWriteItem::builder().condition_check(check).build();
    assert_eq!(refused!(write(vec![order_entry("new"), check])), INVALID);
    assert_eq!(refused!(write(vec![])), INVALID);
}

#[tokio::test]
async fn batches_have_25_writes_and_100_reads_at_most_and_each_key_once() {
    let (_embedded, client) = stage();
    let request = |id: &str| {
        let put = PutRequest::builder().set_item(Some(sized(id, 100).into())).build().unwrap();
        WriteRequest::builder().put_request(put).build()
    };
    let write = |ids: Vec<String>| {
        let requests: Vec<_> = ids.iter().map(|id| request(id)).collect();
        client.batch_write_item().request_items("Orders", requests)
    };
    let ids = |count: usize| (0..count).map(|place| format!("b{place:03}")).collect::<Vec<_>>();
    assert_eq!(refused!(write(ids(26))), INVALID);
    write(ids(25)).send().await.unwrap();
    assert_eq!(refused!(write(vec!["a".to_owned(), "a".to_owned()])), INVALID);

    let read = |ids: Vec<String>| {
        let keys = ids.iter().map(|id| [("orderId".to_owned(), text(id))].into());
        let keys = KeysAndAttributes::builder().set_keys(Some(keys.collect())).build().unwrap();
        client.batch_get_item().request_items("Orders", keys)
    };
    assert_eq!(refused!(read(ids(101))), INVALID);
    assert_eq!(refused!(read(vec!["a".to_owned(), "a".to_owned()])), INVALID);
    assert_eq!(read(ids(100)).send().await.unwrap().responses.unwrap()["Orders"].len(), 25);
}

#[tokio::test]
async fn a_batch_read_leaves_what_is_beyond_16_megabytes_for_the_next() {
    let (_embedded, client) = stage();
    for place in 0..45 {
        let item = sized(&format!("l{place:02}"), 390 * KIB).into();
        client.put_item().table_name("Orders").set_item(Some(item)).send().await.unwrap();
    }
    let keys = (0..45).map(|place| [("orderId".to_owned(), text(&format!("l{place:02}")))].into());
    let keys = KeysAndAttributes::builder().set_keys(Some(keys.collect())).build().unwrap();
    let answer = client.batch_get_item().request_items("Orders", keys).send().await.unwrap();
    let read = answer.responses.unwrap()["Orders"].len();
    let left = answer.unprocessed_keys.unwrap().get("Orders").map_or(0, |keys| keys.keys().len());
    assert!(read < 45 && read + left == 45, "{read} read, {left} left");
    // A page has one megabyte.
    let page = client.scan().table_name("Orders").send().await.unwrap();
    assert!(page.count() <= 3 && page.last_evaluated_key().is_some(), "{}", page.count());
}

#[tokio::test]
async fn keys_are_neither_empty_nor_long_nor_of_another_type() {
    let (_embedded, client) = stage();
    for id in [String::new(), "x".repeat(2_049)] {
        assert_eq!(refused!(put_order(&client, &id)), INVALID);
        assert_eq!(refused!(client.get_item().table_name("Orders").key("orderId", text(&id))), INVALID);
    }
    put_order(&client, &"x".repeat(2_048)).send().await.unwrap();
    // A key of an index too.
    assert_eq!(refused!(put_order(&client, "a").item("customerId", text(""))), INVALID);
    assert_eq!(refused!(put_order(&client, "a").item("customerId", number(1))), INVALID);
    assert_eq!(refused!(put_order(&client, "a").item("orderId", number(1))), INVALID);
    let partial = client.get_item().table_name("Orders").key("customerId", text("ada"));
    assert_eq!(refused!(partial), INVALID);
    assert_eq!(refused!(client.put_item().table_name("Orders").item("customerId", text("ada"))), INVALID);
}

#[tokio::test]
async fn expressions_are_checked_before_anything_is_done() {
    let (_embedded, client) = stage();
    let update = || client.update_item().table_name("Orders").key("orderId", text("a"));
    let with = |expression: &str| {
        update().update_expression(expression).expression_attribute_values(":x", text("x"))
    };
    for expression in [
        // Reserved words.
        "SET status = :x",
        "SET name = :x",
        "SET items = :x",
        "SET a.region = :x",
        // The same attribute twice, and one within another.
        "SET a = :x, a = :x",
        "SET a = :x, a.b = :x",
        // The key.
        "SET orderId = :x",
        // Values that are not given, and clauses that come twice.
        "SET a = :y",
        "SET a = :x SET b = :x",
        "SET a = :x,",
        "",
    ] {
        assert_eq!(refused!(with(expression)), INVALID, "{expression}");
    }
    let unused = update().update_expression("SET a = :x").expression_attribute_values(":x", text("x"));
    assert_eq!(refused!(unused.clone().expression_attribute_values(":y", text("y"))), INVALID);
    assert_eq!(refused!(unused.clone().expression_attribute_names("#b", "b")), INVALID);
    assert_eq!(refused!(unused.clone().condition_expression("status = :x")), INVALID);
    assert_eq!(refused!(unused.clone().condition_expression("#b = :x")), INVALID);
    let long = format!("SET a = :x{}", " ".repeat(4_097));
    assert_eq!(refused!(with(&long)), INVALID);
    let operand = client.query().table_name("Orders").key_condition_expression("orderId > :x");
    assert_eq!(refused!(operand.expression_attribute_values(":x", text("x"))), INVALID);
    let scan = client.scan().table_name("Orders");
    assert_eq!(refused!(scan.clone().limit(0)), INVALID);
    assert_eq!(refused!(scan.filter_expression("size(a) > b AND")), INVALID);
    let read = client.get_item().table_name("Orders").key("orderId", text("a"));
    assert_eq!(refused!(read.projection_expression("status")), INVALID);
    assert!(client.scan().table_name("Orders").send().await.unwrap().items().is_empty());
}

#[tokio::test]
async fn values_are_those_that_dynamodb_has() {
    let (_embedded, client) = stage();
    let write = |value: AttributeValue| put_order(&client, "a").item("value", value);
    let of = |digits: &str| AttributeValue::N(digits.to_owned());
    for digits in ["", "x", "NaN", "1e126", "1e-131", "123456789012345678901234567890123456789"] {
        assert_eq!(refused!(write(of(digits))), INVALID, "{digits}");
    }
    for digits in ["9.9999999999999999999999999999999999999e125", "-1e-130", "0"] {
        assert!(write(of(digits)).send().await.is_ok(), "{digits}");
    }
    assert_eq!(refused!(write(AttributeValue::Ss(vec![]))), INVALID);
    assert_eq!(refused!(write(AttributeValue::Ss(vec!["a".to_owned(), "a".to_owned()]))), INVALID);
    assert_eq!(refused!(write(AttributeValue::Ns(vec!["1".to_owned(), "1.0".to_owned()]))), INVALID);
    let nested = |levels: usize| (0..levels).fold(text("x"), |value, _| AttributeValue::L(vec![value]));
    write(nested(31)).send().await.unwrap();
    assert_eq!(refused!(write(nested(33))), INVALID);
}
