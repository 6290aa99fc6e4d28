//! Strongly consistent tables: replicas in Tokyo and Singapore, and a witness.

use std::time::Instant;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::get_item::{GetItemError, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::{PutItemError, PutItemOutput};
use aws_sdk_dynamodb::types::{
    DeleteRequest, KeysAndAttributes, PutRequest, TimeToLiveSpecification, WriteRequest,
};
use local_region::services::dynamodb::replication::StrongTables;

use super::*;
use crate::streams::{all, streams_of};

pub(super) const WITNESS: &str = "osaka";

/// Long enough to look at what happens meanwhile.
const SLOW: Duration = Duration::from_millis(400);

fn agreement() -> Table {
    Table {
        logical_id: "AgreementTable".to_owned(),
        name: "Agreement".to_owned(),
        create: json!({
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
        }),
        ttl_attribute: None,
    }
}

fn group() -> StrongTables {
    StrongTables {
        tables: vec!["Agreement".to_owned()],
        replicas: vec!["tokyo".to_owned(), "singapore".to_owned()],
        witness: Some(WITNESS.to_owned()),
    }
}

/// All three regions; Taiwan is no replica.
pub(super) fn stage(round_trip: Duration) -> Stage {
    stage_of(round_trip, |_, tables| Embedded::start(tables).unwrap())
}

/// The same with regions that `start` starts.
pub(super) fn stage_of(round_trip: Duration, start: impl Fn(&str, &[Table]) -> Embedded) -> Stage {
    let region = |name| {
        let mut tables = tables();
        tables.extend((name != "taiwan").then(agreement));
        (name, start(name, &tables))
    };
    let settings = Settings { strong: Some(group()), round_trip, ..settings(AT_ONCE) };
    Stage::of(REGIONS.map(region).into(), &settings)
}

/// A client that does not try again.
pub(super) fn client(stage: &Stage, region: &str) -> Client {
    let config = stage.client(region).config().to_builder().retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
}

pub(super) async fn put(
    client: &Client,
    id: &str,
    value: i64,
) -> Result<PutItemOutput, SdkError<PutItemError>> {
    let put = client.put_item().table_name("Agreement").item("id", text(id));
    put.item("value", number(value)).send().await
}

pub(super) async fn read(
    client: &Client,
    id: &str,
    consistent: bool,
) -> Result<GetItemOutput, SdkError<GetItemError>> {
    let get = client.get_item().table_name("Agreement").key("id", text(id));
    get.consistent_read(consistent).send().await
}

pub(super) async fn value(client: &Client, id: &str, consistent: bool) -> Option<i64> {
    let item = read(client, id, consistent).await.unwrap().item?;
    Some(item["value"].as_n().unwrap().parse().unwrap())
}

fn is_isolated<O, E: ProvideErrorMetadata>(answer: &Result<O, SdkError<E>>) -> bool {
    let Err(SdkError::ServiceError(refused)) = answer else { return false };
    refused.raw().status().as_u16() == 500 && refused.err().code() == Some("InternalServerError")
}

#[tokio::test]
async fn what_one_region_wrote_the_other_reads_and_conditions_see_it() {
    let stage = stage(Duration::from_millis(5));
    let (tokyo, singapore) = (client(&stage, "tokyo"), client(&stage, "singapore"));
    for round in 1..=20 {
        put(&tokyo, "home", round).await.unwrap();
        assert_eq!(value(&singapore, "home", true).await, Some(round));
        put(&singapore, "home", -round).await.unwrap();
        assert_eq!(value(&tokyo, "home", true).await, Some(-round));
    }
    let claim = |client: &Client| {
        let put = client.put_item().table_name("Agreement").item("id", text("slot"));
        put.condition_expression("attribute_not_exists(id)").send()
    };
    claim(&tokyo).await.unwrap();
    let refused = claim(&singapore).await.unwrap_err().into_service_error();
    assert!(refused.is_conditional_check_failed_exception(), "{refused:?}");
}

#[tokio::test]
async fn an_eventually_consistent_read_sees_the_local_copy_and_pays_no_round_trip() {
    let stage = stage(SLOW);
    let (tokyo, singapore) = (client(&stage, "tokyo"), client(&stage, "singapore"));
    let start = Instant::now();
    put(&tokyo, "home", 1).await.unwrap();
    assert!(start.elapsed() >= SLOW, "a write pays");
    assert_eq!(value(&singapore, "home", false).await, None, "stale");
    let start = Instant::now();
    assert_eq!(value(&tokyo, "home", true).await, Some(1));
    assert!(start.elapsed() >= SLOW, "a strongly consistent read pays");
    for _ in 0..100 {
        if value(&singapore, "home", false).await == Some(1) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the write never arrives");
}

#[tokio::test]
async fn a_region_that_reaches_no_majority_is_refused_and_still_reads_its_own_copy() {
    let stage = stage(Duration::from_millis(5));
    let (tokyo, singapore) = (client(&stage, "tokyo"), client(&stage, "singapore"));
    put(&tokyo, "home", 1).await.unwrap();
    stage.replication.partition("tokyo", "singapore").unwrap();
    stage.replication.partition("tokyo", WITNESS).unwrap();
    assert!(is_isolated(&put(&tokyo, "home", 2).await));
    assert!(is_isolated(&read(&tokyo, "home", true).await));
    assert_eq!(value(&tokyo, "home", false).await, Some(1));
    put(&singapore, "home", 3).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(value(&tokyo, "home", false).await, Some(1), "nothing arrives");
    stage.replication.heal();
    assert_eq!(value(&tokyo, "home", true).await, Some(3));
}

#[tokio::test]
async fn a_region_that_is_cut_off_while_it_writes_is_refused_and_has_not_written() {
    let stage = stage(SLOW);
    let tokyo = client(&stage, "tokyo");
    let writing = tokio::spawn({
        let tokyo = tokyo.clone();
        async move { put(&tokyo, "home", 1).await }
    });
    tokio::time::sleep(SLOW / 2).await;
    stage.isolate("tokyo");
    stage.replication.partition("tokyo", WITNESS).unwrap();
    assert!(is_isolated(&writing.await.unwrap()));
    assert_eq!(value(&tokyo, "home", false).await, None);
}

#[tokio::test]
async fn two_regions_that_reach_only_the_witness_still_agree() {
    let stage = stage(Duration::from_millis(5));
    let (tokyo, singapore) = (client(&stage, "tokyo"), client(&stage, "singapore"));
    stage.replication.partition("tokyo", "singapore").unwrap();
    put(&tokyo, "home", 1).await.unwrap();
    assert_eq!(value(&singapore, "home", true).await, Some(1));
    put(&singapore, "home", 2).await.unwrap();
    assert_eq!(value(&tokyo, "home", true).await, Some(2));
}

#[tokio::test]
async fn a_lost_witness_or_a_lost_region_stops_nobody_and_the_region_catches_up() {
    let stage = stage(Duration::from_millis(5));
    let (tokyo, singapore) = (client(&stage, "tokyo"), client(&stage, "singapore"));
    stage.replication.stop(WITNESS).unwrap();
    put(&tokyo, "home", 1).await.unwrap();
    stage.replication.resume(WITNESS).unwrap();
    stage.replication.stop("tokyo").unwrap();
    put(&singapore, "home", 2).await.unwrap();
    assert!(is_isolated(&read(&tokyo, "home", true).await));
    stage.replication.resume("tokyo").unwrap();
    assert_eq!(value(&tokyo, "home", true).await, Some(2));
}

#[tokio::test]
async fn a_write_of_an_item_that_another_region_is_writing_is_a_conflict() {
    let stage = stage(SLOW);
    let (tokyo, singapore) = (client(&stage, "tokyo"), client(&stage, "singapore"));
    let first = tokio::spawn({
        let tokyo = tokyo.clone();
        async move { put(&tokyo, "home", 1).await }
    });
    tokio::time::sleep(SLOW / 4).await;
    let refused = put(&singapore, "home", 2).await.unwrap_err().into_service_error();
    assert!(refused.is_replicated_write_conflict_exception(), "{refused:?}");
    let (same_region, other_item) = tokio::join!(put(&tokyo, "home", 3), put(&singapore, "slot", 1));
    same_region.unwrap();
    other_item.unwrap();
    first.await.unwrap().unwrap();
    put(&singapore, "home", 4).await.unwrap();
    assert_eq!(value(&tokyo, "home", true).await, Some(4));
}

#[tokio::test]
async fn an_sdk_tries_a_conflict_again_by_itself() {
    let stage = stage(Duration::from_millis(200));
    let write = |region: &'static str, value| {
        let patient =
            RetryConfig::standard().with_max_attempts(20).with_initial_backoff(Duration::from_millis(50));
        let client =
            Client::from_conf(stage.client(region).config().to_builder().retry_config(patient).build());
        async move {
            tokio::time::sleep(Duration::from_millis(if region == "tokyo" { 0 } else { 50 })).await;
            put(&client, "home", value).await
        }
    };
    let (one, other) = tokio::join!(write("tokyo", 1), write("singapore", 2));
    one.unwrap();
    other.unwrap();
    assert_eq!(value(&client(&stage, "tokyo"), "home", true).await, Some(2));
}

#[tokio::test]
async fn batches_deletions_and_streams_reach_the_other_replica() {
    let stage = stage(Duration::from_millis(5));
    let (tokyo, singapore) = (client(&stage, "tokyo"), client(&stage, "singapore"));
    put(&tokyo, "old", 1).await.unwrap();
    let new = PutRequest::builder().item("id", text("new")).item("value", number(1)).build().unwrap();
    let old = DeleteRequest::builder().key("id", text("old")).build().unwrap();
    let requests = [
        WriteRequest::builder().put_request(new).build(),
        WriteRequest::builder().delete_request(old).build(),
    ];
    tokyo.batch_write_item().request_items("Agreement", requests.into()).send().await.unwrap();
    let keys = ["old", "new"].map(|id| Item::from([("id".to_owned(), text(id))]));
    let wanted =
        KeysAndAttributes::builder().set_keys(Some(keys.into())).consistent_read(true).build().unwrap();
    let read = singapore.batch_get_item().request_items("Agreement", wanted).send().await.unwrap();
    let found = &read.responses.unwrap()["Agreement"];
    assert!(found.len() == 1 && found[0]["id"] == text("new"), "{found:?}");
    let records = all(&streams_of(&stage.regions["singapore"], None), "Agreement").await;
    assert_eq!(records.len(), 3, "{records:?}");
}

#[tokio::test]
async fn transactions_time_to_live_and_statements_that_write_are_refused() {
    let stage = stage(Duration::from_millis(5));
    let tokyo = client(&stage, "tokyo");
    put(&tokyo, "home", 1).await.unwrap();
    let put = aws_sdk_dynamodb::types::Put::builder().table_name("Agreement").item("id", text("slot"));
    let entry = aws_sdk_dynamodb::types::TransactWriteItem::builder().put(put.build().unwrap()).build();
    let transaction = tokyo.transact_write_items().transact_items(entry).send().await.unwrap_err();
    let specification =
        TimeToLiveSpecification::builder().enabled(true).attribute_name("ends").build().unwrap();
    let time_to_live = tokyo.update_time_to_live().table_name("Agreement");
    let time_to_live = time_to_live.time_to_live_specification(specification).send().await.unwrap_err();
    let statement = |text: &str| tokyo.execute_statement().statement(text).send();
    let write = statement("DELETE FROM \"Agreement\" WHERE id = 'home'").await.unwrap_err();
    for code in [transaction.code(), time_to_live.code(), write.code()] {
        assert_eq!(code, Some("ValidationException"));
    }
    let read = statement("SELECT * FROM \"Agreement\"").await.unwrap();
    assert_eq!(read.items().len(), 1);
}

#[tokio::test]
async fn a_region_that_is_no_replica_has_no_such_table() {
    let stage = stage(Duration::from_millis(5));
    let refused = read(&client(&stage, "taiwan"), "home", true).await.unwrap_err().into_service_error();
    assert!(refused.is_resource_not_found_exception(), "{refused:?}");
}

#[tokio::test]
async fn tables_and_groups_that_cannot_be_strongly_consistent_are_refused() {
    let join = |table: Table, group: StrongTables| {
        let region = |name| (name, Embedded::start(std::slice::from_ref(&table)).unwrap());
        let regions = ["tokyo", "singapore"].map(region).into();
        let settings = Settings { strong: Some(group), ..Settings::default() };
        Replication::start(&named(&regions), &settings).unwrap_err().to_string()
    };
    let mut expiring = agreement();
    expiring.ttl_attribute = Some("ends".to_owned());
    assert_eq!(
        join(expiring, group()),
        "Agreement can't be replicated: strongly consistent tables have no Time to Live"
    );
    let mut indexed = agreement();
    indexed.create = json!({
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "at", "AttributeType": "S"},
            {"AttributeName": "by", "AttributeType": "S"},
        ],
        "KeySchema": [
            {"AttributeName": "id", "KeyType": "HASH"},
            {"AttributeName": "at", "KeyType": "RANGE"},
        ],
        "LocalSecondaryIndexes": [{
            "IndexName": "byOwner",
            "KeySchema": [
                {"AttributeName": "id", "KeyType": "HASH"},
                {"AttributeName": "by", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        }],
    });
    assert_eq!(
        join(indexed, group()),
        "Agreement can't be replicated: strongly consistent tables have no local secondary indexes"
    );
    assert_eq!(
        join(agreement(), StrongTables { witness: None, ..group() }),
        "tokyo, singapore can't be replicated: strong consistency needs three replicas, or two and a witness"
    );
    let alone = StrongTables { replicas: vec!["tokyo".to_owned(), "osaka".to_owned()], ..group() };
    assert_eq!(
        join(agreement(), StrongTables { witness: Some("seoul".to_owned()), ..alone }),
        "Agreement can't be replicated: singapore has it and is no replica"
    );
}
