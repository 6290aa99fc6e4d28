//! Failures on purpose, as the SDK sees them.

use std::time::Duration;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use local_region::services::Service;
use local_region::services::faults::{Effect, Failure, Rule, RuleId, When};

use crate::support::{available, client_of, embedded, order_entry, put_order, stock_entry, text};

#[tokio::test]
async fn an_injected_conflict_is_a_cancellation_with_reasons_at_the_given_positions() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    let conflict = Rule::fail(Failure::TransactionConflict { positions: vec![1] });
    let rule = dynamodb.faults().add(conflict.operation("TransactWriteItems").resource("Stock").times(1));
    let send = || {
        client
            .transact_write_items()
            .transact_items(order_entry("ord_1"))
            .transact_items(stock_entry("tea", 1))
            .send()
    };
    let refused = send().await.unwrap_err().into_service_error();
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = refused else {
        panic!("{refused:?}")
    };
    let codes: Vec<_> =
        cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap()).collect();
    assert_eq!(codes, ["None", "TransactionConflict"]);
    send().await.unwrap();
    let status = dynamodb.faults().status(rule).unwrap();
    assert_eq!((status.matched, status.applied), (2, 1));
}

#[tokio::test]
async fn a_conflict_on_a_single_write_is_a_typed_exception() {
    let dynamodb = embedded();
    let conflict = Rule::fail(Failure::TransactionConflictException).operation("PutItem");
    dynamodb.faults().add(conflict);
    let refused = put_order(&client_of(&dynamodb, None), "ord_1").send().await.unwrap_err();
    assert!(matches!(refused.into_service_error(), PutItemError::TransactionConflictException(_)));
}

#[tokio::test]
async fn the_sdk_retries_throttling_and_server_errors() {
    for failure in [
        Failure::ThrottlingException,
        Failure::ProvisionedThroughputExceededException,
        Failure::InternalServerError,
    ] {
        let dynamodb = embedded();
        let rule = dynamodb.faults().add(Rule::fail(failure).times(1));
        put_order(&client_of(&dynamodb, None), "ord_1").send().await.unwrap();
        assert_eq!(dynamodb.faults().status(rule).unwrap().matched, 2);
    }
}

#[tokio::test]
async fn a_transaction_whose_answer_was_lost_is_retried_with_its_token_and_applied_once() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    let lost = Rule::new(Effect::CommitThenReset).operation("TransactWriteItems").times(1);
    let rule = dynamodb.faults().add(lost);
    client.transact_write_items().transact_items(stock_entry("tea", 5)).send().await.unwrap();
    assert_eq!(dynamodb.faults().status(rule).unwrap().matched, 2);
    assert_eq!(available(&client, "tea").await, 5);
}

#[tokio::test]
async fn a_reset_request_has_no_effect() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    let rule = dynamodb.faults().add(Rule::new(Effect::Reset).operation("UpdateItem"));
    let update = client
        .update_item()
        .table_name("Stock")
        .key("productId", text("tea"))
        .update_expression("ADD available :one")
        .expression_attribute_values(":one", crate::support::number(1));
    assert!(update.send().await.is_err());
    assert!(dynamodb.faults().remove(rule).unwrap().applied >= 1);
    assert_eq!(available(&client, "tea").await, 0);
}

#[tokio::test]
async fn a_held_request_waits_until_it_is_released() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    let rule = dynamodb.faults().add(Rule::hold(When::Before).operation("PutItem").times(1));
    let held = tokio::spawn(put_order(&client, "ord_1").send());
    assert!(dynamodb.faults().until_held(rule, 1).await);
    assert!(!exists(&client, "ord_1").await);
    assert!(dynamodb.faults().release(rule));
    held.await.unwrap().unwrap();
    assert!(exists(&client, "ord_1").await);
    assert_eq!(dynamodb.faults().status(rule).unwrap().held, 0);
}

#[tokio::test]
async fn a_request_held_before_its_effect_never_has_one_when_its_client_is_gone() {
    let dynamodb = embedded();
    let (dying, living) = (client_of(&dynamodb, None), client_of(&dynamodb, None));
    let rule = dynamodb.faults().add(Rule::hold(When::Before).operation("PutItem").times(1));
    let held = tokio::spawn(put_order(&dying, "ord_1").send());
    assert!(dynamodb.faults().until_held(rule, 1).await);
    held.abort();
    // The connection is closed with the request; the server sees it a moment later.
    let gone = async {
        while dynamodb.faults().status(rule).unwrap().held > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    dynamodb.faults().release(rule);
    assert!(!exists(&living, "ord_1").await);
}

#[tokio::test]
async fn a_request_held_after_its_effect_has_it_although_nobody_was_told() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    let rule = dynamodb.faults().add(Rule::hold(When::After).operation("PutItem").times(1));
    let held = tokio::spawn(put_order(&client, "ord_1").send());
    assert!(dynamodb.faults().until_held(rule, 1).await);
    assert!(!held.is_finished());
    assert!(exists(&client, "ord_1").await);
    dynamodb.faults().clear();
    held.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_rule_lets_the_first_ones_pass_and_matches_only_what_it_names() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    let second_order = Rule::fail(Failure::TransactionConflictException)
        .service(Service::DynamoDb)
        .resource("Orders")
        .caller("operator")
        .skip(1)
        .times(1);
    dynamodb.faults().add(second_order);
    let mut outcomes = Vec::new();
    for id in ["ord_1", "ord_2", "ord_3"] {
        client.transact_write_items().transact_items(stock_entry("tea", 1)).send().await.unwrap();
        outcomes.push(put_order(&client, id).send().await.is_ok());
    }
    assert_eq!(outcomes, [true, false, true]);
}

#[tokio::test]
async fn an_unknown_rule_is_told_from_a_known_one() {
    let dynamodb = embedded();
    let nobody = RuleId(7);
    assert!(!dynamodb.faults().release(nobody));
    assert!(!dynamodb.faults().until_held(nobody, 1).await);
    assert!(dynamodb.faults().status(nobody).is_none());
    assert!(dynamodb.faults().remove(nobody).is_none());
}

async fn exists(client: &aws_sdk_dynamodb::Client, id: &str) -> bool {
    client.get_item().table_name("Orders").key("orderId", text(id)).send().await.unwrap().item.is_some()
}

#[tokio::test]
async fn a_forgotten_entry_of_a_transaction_has_no_effect_and_its_condition_still_counts() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    client.transact_write_items().transact_items(stock_entry("tea", 5)).send().await.unwrap();
    dynamodb.faults().add(Rule::new(Effect::Forget { only: None }).resource("Stock"));
    let send = || {
        let order = client.transact_write_items().transact_items(order_entry("ord_1"));
        order.transact_items(stock_entry("tea", 3)).send()
    };
    send().await.unwrap();
    assert_eq!(available(&client, "tea").await, 5);
    // The order is there, so its own condition refuses a second one.
    send().await.unwrap_err();
    client
        .update_item()
        .table_name("Stock")
        .key("productId", text("tea"))
        .update_expression("REMOVE available")
        .send()
        .await
        .unwrap();
    assert_eq!(available(&client, "tea").await, 5, "a write alone is forgotten too");
}

#[tokio::test]
async fn a_repeated_update_has_its_effect_twice_and_a_refused_one_none() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    dynamodb.faults().add(Rule::new(Effect::Repeat).resource("Stock"));
    let send = || {
        let order = client.transact_write_items().transact_items(order_entry("ord_1"));
        order.transact_items(stock_entry("tea", 3)).send()
    };
    send().await.unwrap();
    assert_eq!(available(&client, "tea").await, 6);
    send().await.unwrap_err();
    assert_eq!(available(&client, "tea").await, 6);
}
