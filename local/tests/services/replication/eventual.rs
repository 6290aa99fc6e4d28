//! Eventually consistent tables.

use std::time::Instant;

use aws_sdk_dynamodb::types::ReturnValue;
use aws_sdk_dynamodbstreams::types::{OperationType, Record};
use local_region::services::dynamodb::replication::ReplicationError;

use super::*;
use crate::streams::{all, streams_of};
use crate::support::{order_entry, put_order, stock_entry};

async fn records(stage: &Stage, region: &str, table: &str) -> Vec<Record> {
    all(&streams_of(&stage.regions[region], None), table).await
}

/// The regions cannot reach each other.
fn cut_all(stage: &Stage) {
    for region in REGIONS {
        stage.isolate(region);
    }
}

#[tokio::test]
async fn a_write_arrives_in_every_region_after_the_lag_and_a_consistent_read_sees_the_local_copy() {
    let stage = Stage::new(NEVER);
    stage.put("tokyo", "tea", 7).await;
    assert_eq!(stage.get("tokyo", "tea").await, Some(7));
    assert_eq!(stage.get("taiwan", "tea").await, None);
    assert_eq!(stage.waiting(), 2, "one for each other region");
    let lag = Duration::from_millis(300);
    let start = Instant::now();
    stage.replication.set_lag(Lag::always(lag));
    stage.put("tokyo", "milk", 7).await;
    stage.settle().await;
    assert!(start.elapsed() >= lag);
    assert_eq!(stage.everywhere("tea").await, [Some(7); 3]);
}

#[tokio::test]
async fn of_two_writes_of_an_item_the_later_one_stands_everywhere() {
    let stage = Stage::new(AT_ONCE);
    cut_all(&stage);
    stage.put("tokyo", "tea", 1).await;
    stage.put("taiwan", "tea", 2).await;
    stage.put("taiwan", "milk", 1).await;
    stage.put("tokyo", "milk", 2).await;
    stage.deliver().await;
    assert_eq!(stage.everywhere("tea").await, [Some(2); 3]);
    assert_eq!(stage.everywhere("milk").await, [Some(2); 3]);
}

#[tokio::test]
async fn the_last_writer_wins_the_whole_item_and_not_an_attribute() {
    let stage = Stage::new(AT_ONCE);
    put_order(&stage.client("tokyo"), "ord_1").send().await.unwrap();
    stage.deliver().await;
    cut_all(&stage);
    for (region, attribute) in [("tokyo", "paid"), ("taiwan", "sent")] {
        let update = stage.client(region).update_item().table_name("Orders").key("orderId", text("ord_1"));
        let update = update.update_expression("SET #it = :one").expression_attribute_names("#it", attribute);
        update.expression_attribute_values(":one", number(1)).send().await.unwrap();
    }
    stage.deliver().await;
    for region in REGIONS {
        let order = get(&stage.client(region), "Orders", "orderId", "ord_1").await.unwrap();
        assert!(order.contains_key("sent") && !order.contains_key("paid"), "{region}: {order:?}");
    }
}

#[tokio::test]
async fn a_deletion_stands_against_an_older_write_that_arrives_after_it() {
    let stage = Stage::new(AT_ONCE);
    stage.replication.partition("taiwan", "tokyo").unwrap();
    stage.put("taiwan", "tea", 1).await;
    eventually(|| stage.waiting_between("taiwan", "singapore") == 0).await;
    stage.delete("singapore", "tea").await;
    eventually(|| stage.waiting_between("singapore", "tokyo") == 0).await;
    assert_eq!(stage.waiting_between("taiwan", "tokyo"), 1, "the write is still on its way");
    stage.deliver().await;
    assert_eq!(stage.everywhere("tea").await, [None; 3]);
}

#[tokio::test]
async fn a_deletion_loses_against_a_later_write() {
    let stage = Stage::new(AT_ONCE);
    stage.put("tokyo", "tea", 1).await;
    stage.settle().await;
    cut_all(&stage);
    stage.delete("tokyo", "tea").await;
    stage.put("taiwan", "tea", 2).await;
    stage.deliver().await;
    assert_eq!(stage.everywhere("tea").await, [Some(2); 3]);
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_a_write() {
    let stage = Stage::new(AT_ONCE);
    stage.put("tokyo", "tea", 1).await;
    stage.settle().await;
    cut_all(&stage);
    stage.put("taiwan", "tea", 2).await;
    stage.put("tokyo", "tea", 1).await;
    stage.deliver().await;
    assert_eq!(stage.everywhere("tea").await, [Some(1); 3]);
}

#[tokio::test]
async fn a_transaction_arrives_item_by_item() {
    let stage = Stage::new(Lag { min: Duration::ZERO, max: Duration::from_millis(500) });
    let products: Vec<_> = (0..20).map(|product| format!("p{product}")).collect();
    let mut transaction = stage.client("tokyo").transact_write_items();
    for product in &products {
        transaction = transaction.transact_items(stock_entry(product, 1));
    }
    transaction.send().await.unwrap();
    let taiwan = stage.client("taiwan");
    let mut counts = Vec::new();
    while counts.last() != Some(&20) {
        counts.push(scan(&taiwan, "Stock", "productId").await.len());
    }
    assert!(counts.is_sorted());
    assert!(counts.iter().any(|count| (1..20).contains(count)), "{counts:?}");
}

#[tokio::test]
async fn a_condition_sees_the_local_copy_only() {
    let stage = Stage::new(NEVER);
    for region in ["tokyo", "taiwan"] {
        let transaction = stage.client(region).transact_write_items().transact_items(order_entry("ord_1"));
        transaction.send().await.unwrap();
    }
    stage.deliver().await;
    let again = stage.client("singapore").transact_write_items().transact_items(order_entry("ord_1"));
    assert!(again.send().await.is_err(), "it has arrived");
}

#[tokio::test]
async fn updates_of_an_item_coalesce_and_the_last_one_arrives() {
    let stage = Stage::new(AT_ONCE);
    stage.isolate("tokyo");
    for available in 1..=50 {
        stage.put("tokyo", "tea", available).await;
    }
    stage.deliver().await;
    assert_eq!(stage.everywhere("tea").await, [Some(50); 3]);
    assert!(records(&stage, "taiwan", "Stock").await.len() < 50);
    let pending = stage.replication.pending().unwrap();
    let link = pending.iter().find(|link| link.from == "tokyo" && link.to == "taiwan").unwrap();
    assert_eq!(link.applied + link.superseded, 50);
    assert_eq!(link.write_units, link.applied, "the items are small");
}

#[tokio::test]
async fn a_replicated_write_is_a_record_in_the_replicas_stream_and_nothing_marks_it() {
    let stage = Stage::new(AT_ONCE);
    put_order(&stage.client("tokyo"), "ord_1").send().await.unwrap();
    stage.settle().await;
    let update = stage.client("tokyo").update_item().table_name("Orders").key("orderId", text("ord_1"));
    let update = update.update_expression("SET paid = :one").expression_attribute_values(":one", number(1));
    update.send().await.unwrap();
    stage.settle().await;
    let (own, replicas) =
        (records(&stage, "tokyo", "Orders").await, records(&stage, "taiwan", "Orders").await);
    let seen = |records: &[Record]| {
        let seen = |record: &Record| {
            assert_eq!(record.user_identity(), None);
            let change = record.dynamodb().unwrap().clone();
            (record.event_name().unwrap().clone(), change.new_image, change.old_image)
        };
        records.iter().map(seen).collect::<Vec<_>>()
    };
    assert_eq!(seen(&own), seen(&replicas));
    let names: Vec<_> = seen(&own).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [OperationType::Insert, OperationType::Modify]);
}

#[tokio::test]
async fn what_ttl_deletes_is_deleted_everywhere_and_marked_only_where_ttl_did() {
    let stage = Stage::new(AT_ONCE);
    let an_hour_ago = i64::try_from(ulid::Ulid::generate().timestamp_ms() / 1_000).unwrap() - 3_600;
    let put = stage.client("tokyo").put_item().table_name("Stock").item("productId", text("tea"));
    let put = put.item("available", number(1)).item("expiresAt", number(an_hour_ago));
    put.send().await.unwrap();
    stage.settle().await;
    assert_eq!(stage.everywhere("tea").await, [Some(1); 3]);
    assert_eq!(stage.regions["taiwan"].sweep_ttl().unwrap(), 1);
    stage.settle().await;
    assert_eq!(stage.everywhere("tea").await, [None; 3]);
    for region in REGIONS {
        let removed = records(&stage, region, "Stock").await.pop().unwrap();
        assert_eq!(removed.event_name(), Some(&OperationType::Remove));
        assert_eq!(removed.user_identity().is_some(), region == "taiwan", "{region}");
    }
}

#[tokio::test]
async fn a_partitioned_region_keeps_its_writes_and_sends_them_when_healed() {
    let stage = Stage::new(AT_ONCE);
    stage.isolate("tokyo");
    stage.put("tokyo", "tea", 1).await;
    stage.put("taiwan", "milk", 2).await;
    eventually(|| stage.waiting_between("taiwan", "singapore") == 0).await;
    assert_eq!(stage.everywhere("milk").await, [Some(2), Some(2), None], "the others go on");
    assert_eq!(stage.everywhere("tea").await, [None, None, Some(1)]);
    let pending = stage.replication.pending().unwrap();
    let link = pending.iter().find(|link| link.from == "tokyo" && link.to == "taiwan").unwrap();
    assert!(link.changes == 1 && link.oldest.is_some(), "{link:?}");
    stage.deliver().await;
    assert_eq!(stage.everywhere("milk").await, [Some(2); 3]);
    assert_eq!(stage.everywhere("tea").await, [Some(1); 3]);
}

#[tokio::test]
async fn a_region_that_is_stopped_neither_sends_nor_receives_and_catches_up() {
    let stage = Stage::new(NEVER);
    stage.put("tokyo", "tea", 1).await;
    stage.replication.stop("tokyo").unwrap();
    stage.replication.set_lag(AT_ONCE);
    stage.put("taiwan", "milk", 2).await;
    eventually(|| stage.waiting_between("taiwan", "singapore") == 0).await;
    assert_eq!(stage.everywhere("tea").await, [None, None, Some(1)]);
    assert_eq!(stage.everywhere("milk").await, [Some(2), Some(2), None]);
    stage.replication.resume("tokyo").unwrap();
    stage.settle().await;
    assert_eq!(stage.everywhere("tea").await, [Some(1); 3]);
    assert_eq!(stage.everywhere("milk").await, [Some(2); 3]);
}

#[tokio::test]
async fn a_changed_lag_holds_for_what_is_on_its_way_and_for_one_pair_alone_if_asked() {
    let stage = Stage::new(NEVER);
    stage.put("tokyo", "tea", 1).await;
    stage.replication.set_lag_between("taiwan", "tokyo", AT_ONCE).unwrap();
    eventually(|| stage.waiting_between("tokyo", "taiwan") == 0).await;
    assert_eq!(stage.everywhere("tea").await, [None, Some(1), Some(1)]);
    stage.replication.set_lag(AT_ONCE);
    stage.settle().await;
    assert_eq!(stage.everywhere("tea").await, [Some(1); 3]);
}

#[tokio::test]
async fn what_arrived_is_not_sent_on() {
    let stage = Stage::new(AT_ONCE);
    stage.put("tokyo", "tea", 1).await;
    stage.settle().await;
    let sent = |from: &str| -> u64 {
        let pending = stage.replication.pending().unwrap();
        pending.iter().filter(|link| link.from == from).map(|link| link.applied + link.superseded).sum()
    };
    assert_eq!([sent("tokyo"), sent("taiwan"), sent("singapore")], [2, 0, 0]);
}

#[tokio::test]
async fn a_deletion_of_what_was_written_elsewhere_returns_the_local_copy() {
    let stage = Stage::new(AT_ONCE);
    stage.put("tokyo", "tea", 1).await;
    stage.settle().await;
    stage.isolate("taiwan");
    stage.put("tokyo", "tea", 2).await;
    let delete = stage.client("taiwan").delete_item().table_name("Stock").key("productId", text("tea"));
    let old = delete.return_values(ReturnValue::AllOld).send().await.unwrap().attributes.unwrap();
    assert_eq!(old["available"], number(1));
    stage.deliver().await;
    assert_eq!(stage.everywhere("tea").await, [None; 3]);
}

#[tokio::test]
async fn a_table_without_both_images_in_its_stream_is_refused() {
    let join = |table: Table| {
        let regions =
            ["tokyo", "taiwan"].map(|name| (name, Embedded::start(std::slice::from_ref(&table)).unwrap()));
        let settings = Settings { tables: vec![table.name.clone()], ..Settings::default() };
        Replication::start(&named(&regions.into()), &settings).unwrap_err().to_string()
    };
    assert_eq!(join(stock()), "Stock can't be replicated: its StreamViewType must be NEW_AND_OLD_IMAGES");
    assert_eq!(join(orders()), "Orders can't be replicated: it is not in every region, or has no stream");
}

#[tokio::test]
async fn a_region_that_nobody_knows_is_refused() {
    let stage = Stage::new(AT_ONCE);
    let refused = stage.replication.partition("tokyo", "atlantis").unwrap_err();
    assert!(matches!(refused, ReplicationError::UnknownRegion(name) if name == "atlantis"));
    let again = Replication::start(&named(&stage.regions), &settings(AT_ONCE)).unwrap_err();
    assert_eq!(again.to_string(), "singapore can't be replicated: it has joined others before");
}
