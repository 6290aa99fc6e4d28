//! The functions' policies, enforced.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{ConditionCheck, Get, KeysAndAttributes, TransactGetItem, TransactWriteItem};
use local_region::services::access::Key;
use local_region::services::dynamodb::Embedded;
use local_region::template::arn;

use crate::support::{client, client_of, function, order_entry, put_order, stack, stock_entry, text};

fn with(policy: &[(&[&str], &[String])]) -> Embedded {
    Embedded::start_guarded(&stack(vec![function("api-orders", policy)])).unwrap()
}

fn code<E: ProvideErrorMetadata, R>(result: Result<impl Sized, SdkError<E, R>>) -> Option<String> {
    match result {
        Ok(_) => None,
        Err(error) => error.as_service_error().and_then(|error| error.code()).map(str::to_owned),
    }
}

const DENIED: Option<&str> = Some("AccessDeniedException");

#[tokio::test]
async fn a_function_may_do_what_its_policy_says_and_nothing_else() {
    let dynamodb = with(&[(&["dynamodb:PutItem"], &[arn::local().table("Orders")])]);
    let client = client_of(&dynamodb, Some("api-orders"));
    put_order(&client, "ord_1").send().await.unwrap();
    let read = client.get_item().table_name("Orders").key("orderId", text("ord_1")).send().await;
    let denied = read.unwrap_err().into_service_error();
    assert_eq!(denied.code(), DENIED);
    assert_eq!(
        denied.message(),
        Some(
            "User: arn:aws:sts::000000000000:assumed-role/shop-api-orders/shop-api-orders is not authorized to \
             perform: dynamodb:GetItem on resource: arn:aws:dynamodb:local:000000000000:table/Orders because no \
             identity-based policy allows the dynamodb:GetItem action"
        )
    );
}

#[tokio::test]
async fn a_query_on_an_index_needs_the_index() {
    let query = async |dynamodb: &Embedded| {
        let answer = client_of(dynamodb, Some("api-orders"))
            .query()
            .table_name("Orders")
            .index_name("byCustomer")
            .key_condition_expression("customerId = :customer")
            .expression_attribute_values(":customer", text("ada"))
            .send()
            .await;
        code(answer)
    };
    let table_only = with(&[(&["dynamodb:Query"], &[arn::local().table("Orders")])]);
    assert_eq!(query(&table_only).await.as_deref(), DENIED);
    let index = with(&[(&["dynamodb:Query"], &[arn::local().index("Orders", "byCustomer")])]);
    assert_eq!(query(&index).await, None);
}

#[tokio::test]
async fn a_transaction_is_refused_for_the_one_entry_that_is_not_allowed() {
    let dynamodb = with(&[
        (&["dynamodb:PutItem"], &[arn::local().table("Orders")]),
        (&["dynamodb:UpdateItem"], &[arn::local().table("Stock")]),
    ]);
    let client = client_of(&dynamodb, Some("api-orders"));
    let both = client
        .transact_write_items()
        .transact_items(order_entry("ord_1"))
        .transact_items(stock_entry("tea", 1));
    assert_eq!(code(both.send().await), None);

    let check = ConditionCheck::builder()
        .table_name("Stock")
        .key("productId", text("tea"))
        .condition_expression("attribute_exists(productId)")
        .build()
        .unwrap();
    let with_check = client
        .transact_write_items()
        .transact_items(order_entry("ord_2"))
        .transact_items(TransactWriteItem::builder().condition_check(check).build());
    let denied = with_check.send().await.unwrap_err().into_service_error();
    assert!(denied.message().unwrap().contains("dynamodb:ConditionCheckItem on resource"), "{denied:?}");
}

#[tokio::test]
async fn a_batch_read_is_not_covered_by_get_item_and_a_transactional_read_is() {
    let dynamodb = with(&[(&["dynamodb:GetItem"], &[arn::local().table("Orders")])]);
    let client = client_of(&dynamodb, Some("api-orders"));
    let keys =
        KeysAndAttributes::builder().keys([("orderId".to_owned(), text("ord_1"))].into()).build().unwrap();
    let batch = client.batch_get_item().request_items("Orders", keys).send().await;
    assert_eq!(code(batch).as_deref(), DENIED);

    let get = Get::builder().table_name("Orders").key("orderId", text("ord_1")).build().unwrap();
    let transaction =
        client.transact_get_items().transact_items(TransactGetItem::builder().get(get).build()).send().await;
    assert_eq!(code(transaction), None);
}

#[tokio::test]
async fn what_a_function_used_of_its_policy_is_remembered() {
    let dynamodb = with(&[(&["dynamodb:PutItem", "dynamodb:DeleteItem"], &[arn::local().table("Orders")])]);
    put_order(&client_of(&dynamodb, Some("api-orders")), "ord_1").send().await.unwrap();
    let actions = |grants: Vec<local_region::services::access::Grant>| -> Vec<_> {
        grants.into_iter().map(|grant| (grant.function, grant.action)).collect()
    };
    let of = |action: &str| vec![("api-orders".to_owned(), action.to_owned())];
    assert_eq!(actions(dynamodb.access().used()), of("dynamodb:PutItem"));
    assert_eq!(actions(dynamodb.access().unused()), of("dynamodb:DeleteItem"));
}

#[tokio::test]
async fn an_unknown_key_is_refused_and_the_operator_is_not() {
    let dynamodb = with(&[]);
    let stranger =
        Key { access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(), secret_access_key: "guessed".to_owned() };
    let refused = client(&dynamodb.endpoint_url(), &stranger).list_tables().send().await;
    assert_eq!(code(refused).as_deref(), Some("UnrecognizedClientException"));
    let tables = client_of(&dynamodb, None).list_tables().send().await.unwrap();
    assert_eq!(tables.table_names(), ["Orders", "Stock"]);
}
