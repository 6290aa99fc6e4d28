//! DynamoDB Streams, read with AWS's SDK.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{PutRequest, ReturnValue, WriteRequest};
use aws_sdk_dynamodbstreams::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodbstreams::types::{OperationType, Record, ShardIteratorType};
use local_region::services::Controls;
use local_region::services::access::{Access, Key};
use local_region::services::dynamodb::streams::Position;
use local_region::services::dynamodb::{DynamoDb, Embedded, Storage};
use local_region::template::arn;
use local_region::template::model::Table;
use serde_json::json;

use crate::support::{
    ANYWHERE, available, client, client_of, embedded, function, key, number, order_entry, orders, stack,
    stock, stock_entry, text,
};

fn streams(endpoint: &str, key: &Key) -> aws_sdk_dynamodbstreams::Client {
    let credentials = Credentials::new(&key.access_key_id, &key.secret_access_key, None, None, "test");
    aws_sdk_dynamodbstreams::Client::from_conf(
        aws_sdk_dynamodbstreams::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(arn::local().region().to_owned()))
            .credentials_provider(credentials)
            .endpoint_url(endpoint)
            .build(),
    )
}

pub(crate) fn streams_of(embedded: &Embedded, function: Option<&str>) -> aws_sdk_dynamodbstreams::Client {
    streams(&embedded.endpoint_url(), key(embedded.access(), function))
}

/// All records of all shards, by shard.
async fn records(client: &aws_sdk_dynamodbstreams::Client, table: &str) -> BTreeMap<String, Vec<Record>> {
    let described = client.describe_stream().stream_arn(arn::local().stream(table)).send().await.unwrap();
    let mut records = BTreeMap::new();
    for shard in described.stream_description.unwrap().shards() {
        assert_eq!(
            shard.sequence_number_range().unwrap().ending_sequence_number(),
            None,
            "the shard is open"
        );
        let id = shard.shard_id().unwrap();
        let iterator = iterator(client, table, id, ShardIteratorType::TrimHorizon).await;
        let read = client.get_records().shard_iterator(iterator).send().await.unwrap();
        records.insert(id.to_owned(), read.records().to_vec());
    }
    records
}

async fn iterator(
    client: &aws_sdk_dynamodbstreams::Client,
    table: &str,
    shard: &str,
    kind: ShardIteratorType,
) -> String {
    let request = client.get_shard_iterator().stream_arn(arn::local().stream(table)).shard_id(shard);
    request.shard_iterator_type(kind).send().await.unwrap().shard_iterator.unwrap()
}

pub(crate) async fn all(client: &aws_sdk_dynamodbstreams::Client, table: &str) -> Vec<Record> {
    records(client, table).await.into_values().flatten().collect()
}

fn key_of(record: &Record) -> String {
    record.dynamodb().unwrap().keys().unwrap()["productId"].as_s().unwrap().clone()
}

async fn put(client: &aws_sdk_dynamodb::Client, product: &str, available: i64) {
    let put = client.put_item().table_name("Stock").item("productId", text(product));
    put.item("available", number(available)).send().await.unwrap();
}

/// Orders with a stream of both images.
fn orders_with_stream(view: &str) -> Table {
    let mut table = orders();
    table.create["StreamSpecification"] = json!({"StreamViewType": view});
    table
}

#[tokio::test]
async fn records_of_a_partition_key_are_in_one_shard_and_in_order() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    for round in 1..=3 {
        for product in 0..20 {
            put(&client, &format!("p{product}"), round).await;
        }
    }
    let shards = records(&streams_of(&dynamodb, None), "Stock").await;
    assert!(shards.values().filter(|records| !records.is_empty()).count() > 1, "several shards");
    let mut seen = BTreeMap::<String, Vec<String>>::new();
    for (shard, records) in &shards {
        let numbers: Vec<_> =
            records.iter().map(|record| record.dynamodb().unwrap().sequence_number().unwrap()).collect();
        assert!(numbers.is_sorted(), "{shard}: {numbers:?}");
        for record in records {
            let image = record.dynamodb().unwrap().new_image().unwrap();
            seen.entry(format!("{shard} {}", key_of(record)))
                .or_default()
                .push(image["available"].as_n().unwrap().clone());
        }
    }
    assert_eq!(seen.len(), 20, "no product is in two shards: {seen:?}");
    assert!(seen.values().all(|values| values == &["1", "2", "3"]), "{seen:?}");
}

#[tokio::test]
async fn a_record_says_what_happened_and_shows_what_the_view_type_allows() {
    for (view, new, old) in [
        ("KEYS_ONLY", false, false),
        ("NEW_IMAGE", true, false),
        ("OLD_IMAGE", false, true),
        ("NEW_AND_OLD_IMAGES", true, true),
    ] {
        let dynamodb = Embedded::start(&[orders_with_stream(view)]).unwrap();
        let client = client_of(&dynamodb, None);
        let put = |customer: &str| {
            let put = client.put_item().table_name("Orders").item("orderId", text("ord_1"));
            put.item("customerId", text(customer)).send()
        };
        put("ada").await.unwrap();
        put("bob").await.unwrap();
        let delete = client.delete_item().table_name("Orders").key("orderId", text("ord_1"));
        delete.return_values(ReturnValue::AllOld).send().await.unwrap();
        let records = all(&streams_of(&dynamodb, None), "Orders").await;
        let names: Vec<_> = records.iter().map(|record| record.event_name().unwrap().clone()).collect();
        assert_eq!(names, [OperationType::Insert, OperationType::Modify, OperationType::Remove]);
        let modified = records[1].dynamodb().unwrap();
        let customer = |image: Option<&std::collections::HashMap<_, _>>| {
            image.map(|image| format!("{:?}", image["customerId"]))
        };
        assert_eq!(customer(modified.new_image()), new.then(|| "S(\"bob\")".to_owned()), "{view}");
        assert_eq!(customer(modified.old_image()), old.then(|| "S(\"ada\")".to_owned()), "{view}");
        assert_eq!(modified.stream_view_type().unwrap().as_str(), view);
        // Names and values: 12 for the keys, 25 for each image.
        let images = i64::from(new) + i64::from(old);
        assert_eq!(modified.size_bytes(), Some(12 + images * 25), "{view}");
        assert_eq!((records[1].aws_region(), records[1].event_version()), (Some("local"), Some("1.1")));
        assert!(records.iter().all(|record| record.user_identity().is_none()));
        let described = client.describe_table().table_name("Orders").send().await.unwrap().table.unwrap();
        assert_eq!(described.latest_stream_arn(), Some(arn::local().stream("Orders").as_str()));
        let specification = described.stream_specification().unwrap();
        assert_eq!(specification.stream_view_type().unwrap().as_str(), view);
    }
}

#[tokio::test]
async fn only_writes_that_change_an_item_leave_a_record() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    put(&client, "tea", 1).await;
    put(&client, "tea", 1).await;
    let refused = client.put_item().table_name("Stock").item("productId", text("tea"));
    let refused = refused.condition_expression("attribute_not_exists(productId)").send().await;
    assert!(refused.is_err());
    let nothing = client.delete_item().table_name("Stock").key("productId", text("nobody")).send().await;
    nothing.unwrap();
    put(&client, "tea", 2).await;
    let streams = streams_of(&dynamodb, None);
    let names = |records: Vec<Record>| -> Vec<_> {
        records.iter().map(|record| record.event_name().unwrap().clone()).collect()
    };
    // The view is NEW_IMAGE: both images are compared, though one is shown.
    assert_eq!(names(all(&streams, "Stock").await), [OperationType::Insert, OperationType::Modify]);
}

#[tokio::test]
async fn all_writes_of_a_transaction_are_in_the_streams_or_none() {
    let dynamodb = Embedded::start(&[orders_with_stream("NEW_IMAGE"), stock()]).unwrap();
    let (client, streams) = (client_of(&dynamodb, None), streams_of(&dynamodb, None));
    let transaction = |delta| {
        let entries = [stock_entry("tea", delta), stock_entry("milk", delta), order_entry("ord_1")];
        client.transact_write_items().set_transact_items(Some(entries.to_vec())).send()
    };
    transaction(1).await.unwrap();
    assert!(transaction(1).await.is_err(), "the order exists");
    let mut products: Vec<_> = all(&streams, "Stock").await.iter().map(key_of).collect();
    products.sort();
    assert_eq!(products, ["milk", "tea"]);
    assert_eq!(all(&streams, "Orders").await.len(), 1);
}

#[tokio::test]
async fn a_deletion_by_ttl_says_so() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    let now = i64::try_from(ulid::Ulid::generate().timestamp_ms() / 1_000).unwrap();
    let put = client.put_item().table_name("Stock").item("productId", text("old"));
    put.item("expiresAt", number(now - 3_600)).send().await.unwrap();
    let mut news = dynamodb.streams().unwrap().watch("Stock").unwrap();
    news.mark_unchanged();
    assert_eq!(dynamodb.sweep_ttl().unwrap(), 1);
    assert!(news.has_changed().unwrap(), "readers are woken");
    let records = all(&streams_of(&dynamodb, None), "Stock").await;
    assert_eq!(records[1].event_name(), Some(&OperationType::Remove));
    let identity = records[1].user_identity().unwrap();
    assert_eq!(identity.principal_id(), Some("dynamodb.amazonaws.com"));
    assert_eq!(identity.r#type(), Some("Service"));
}

#[tokio::test]
async fn an_iterator_starts_where_it_is_told_to() {
    let dynamodb = embedded();
    let (client, streams) = (client_of(&dynamodb, None), streams_of(&dynamodb, None));
    put(&client, "tea", 1).await;
    put(&client, "tea", 2).await;
    let shards = records(&streams, "Stock").await;
    let (shard, written) = shards.iter().find(|(_, records)| !records.is_empty()).unwrap();
    let latest = iterator(&streams, "Stock", shard, ShardIteratorType::Latest).await;
    put(&client, "tea", 3).await;
    let values = |iterator: String| async {
        let read = streams.get_records().shard_iterator(iterator).limit(1).send().await.unwrap();
        let next = read.next_shard_iterator.clone().unwrap();
        let value = |record: &Record| {
            record.dynamodb().unwrap().new_image().unwrap()["available"].as_n().unwrap().clone()
        };
        (read.records().iter().map(value).collect::<Vec<_>>(), next)
    };
    let (read, next) = values(latest).await;
    assert_eq!(read, ["3"]);
    assert!(values(next).await.0.is_empty());
    let number = written[0].dynamodb().unwrap().sequence_number().unwrap();
    for (kind, expected) in
        [(ShardIteratorType::AtSequenceNumber, "1"), (ShardIteratorType::AfterSequenceNumber, "2")]
    {
        let request = streams.get_shard_iterator().stream_arn(arn::local().stream("Stock")).shard_id(shard);
        let iterator = request.shard_iterator_type(kind).sequence_number(number).send().await.unwrap();
        assert_eq!(values(iterator.shard_iterator.unwrap()).await.0, [expected]);
    }
}

/// More than is kept for readers that are not behind.
const MANY: usize = 1_500;

#[tokio::test]
async fn a_reader_far_behind_and_one_at_the_end_see_every_record_once() {
    let dynamodb = embedded();
    let client = client_of(&dynamodb, None);
    let streams = dynamodb.streams().unwrap();
    let read = |after: Position, limit: usize| streams.read("Stock", after, limit, |_| true).unwrap();
    // The first look: what is written from now on is kept.
    let mut at_the_end = read(Position::TRIM_HORIZON, 1).end;
    let mut seen_at_the_end = Vec::new();
    for chunk in (0..MANY).collect::<Vec<_>>().chunks(25) {
        let puts = chunk.iter().map(|number| {
            let put = PutRequest::builder().item("productId", text(&format!("p{number}")));
            WriteRequest::builder().put_request(put.build().unwrap()).build()
        });
        let puts: Vec<_> = puts.collect();
        client.batch_write_item().request_items("Stock", puts).send().await.unwrap();
        let page = read(at_the_end, MANY);
        assert!(page.exhausted);
        seen_at_the_end.extend(page.records.iter().map(|record| record.position));
        at_the_end = page.end;
    }
    for limit in [1, 30, 400, MANY] {
        let (mut position, mut seen, mut exhausted) = (Position::TRIM_HORIZON, Vec::new(), false);
        while !exhausted {
            let page = read(position, limit);
            assert!(page.records.len() <= limit);
            seen.extend(page.records.iter().map(|record| record.position));
            (position, exhausted) = (page.end, page.exhausted);
        }
        assert_eq!(seen.len(), MANY, "{limit} at a time");
        assert_eq!((&seen, position), (&seen_at_the_end, at_the_end), "{limit} at a time");
    }
    let third = |record: &local_region::services::dynamodb::streams::Record| record.shard == 2;
    let page = streams.read("Stock", seen_at_the_end[MANY - 500], MANY, third).unwrap();
    assert!(page.exhausted && page.end == at_the_end, "what is not wanted is passed over");
    assert!(!page.records.is_empty() && page.records.iter().all(|record| record.shard == 2));
}

#[tokio::test]
async fn streams_are_listed_and_unknown_ones_are_not_found() {
    let dynamodb = embedded();
    let streams = streams_of(&dynamodb, None);
    let listed = streams.list_streams().send().await.unwrap();
    let arns: Vec<_> = listed.streams().iter().map(|stream| stream.stream_arn().unwrap()).collect();
    assert_eq!(arns, ["arn:aws:dynamodb:local:000000000000:table/Stock/stream/local"]);
    for unknown in ["Orders", "Nothing"] {
        let refused =
            streams.describe_stream().stream_arn(arn::local().stream(unknown)).send().await.unwrap_err();
        assert!(refused.into_service_error().is_resource_not_found_exception(), "{unknown}");
    }
    let other_label = "arn:aws:dynamodb:local:000000000000:table/Stock/stream/2026-01-01T00:00:00.000";
    let refused = streams.describe_stream().stream_arn(other_label).send().await.unwrap_err();
    assert!(refused.into_service_error().is_resource_not_found_exception());
}

#[tokio::test]
async fn a_function_reads_the_streams_that_its_policy_names_and_no_others() {
    let reads: &[&str] = &["dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"];
    let relay = function("relay", &[(reads, &[format!("{}/stream/*", arn::local().table("Stock"))])]);
    let other = function("other", &[(reads, &[format!("{}/stream/*", arn::local().table("Orders"))])]);
    let dynamodb = Embedded::start_guarded(&stack(vec![relay, other])).unwrap();
    let [relay, other] = [Some("relay"), Some("other")].map(|name| streams_of(&dynamodb, name));
    assert_eq!(all(&relay, "Stock").await.len(), 0);
    let refused = relay.list_streams().send().await.unwrap_err();
    assert!(format!("{refused:?}").contains("AccessDenied"), "{refused:?}");
    let refused = other.describe_stream().stream_arn(arn::local().stream("Stock")).send().await.unwrap_err();
    assert!(format!("{refused:?}").contains("AccessDenied"), "{refused:?}");
    // An iterator of somebody else opens nothing.
    let shard = local_region::services::dynamodb::streams::shard_id(0);
    let iterator = iterator(&relay, "Stock", &shard, ShardIteratorType::Latest).await;
    let refused = other.get_records().shard_iterator(iterator).send().await.unwrap_err();
    assert!(format!("{refused:?}").contains("AccessDenied"), "{refused:?}");
}

#[tokio::test]
async fn records_survive_a_restart_in_a_folder_and_the_view_may_change() {
    let folder = tempfile::tempdir().unwrap();
    let start = |view: &str| {
        let controls = Controls::new(Access::unrestricted());
        let tables = [orders_with_stream(view), stock()];
        let dynamodb = DynamoDb::start(ANYWHERE, Storage::Folder(folder.path()), &tables, controls.clone());
        (dynamodb.unwrap(), controls)
    };
    {
        let (dynamodb, controls) = start("KEYS_ONLY");
        let client = client(&dynamodb.endpoint_url(), controls.access.operator());
        client.transact_write_items().transact_items(order_entry("ord_1")).send().await.unwrap();
        put(&client, "tea", 7).await;
        assert_eq!(available(&client, "tea").await, 7);
    }
    let (dynamodb, controls) = start("NEW_IMAGE");
    let streams = streams(&dynamodb.endpoint_url(), controls.access.operator());
    let records = all(&streams, "Orders").await;
    assert_eq!(records.len(), 1);
    assert!(records[0].dynamodb().unwrap().new_image().is_some());
    assert_eq!(all(&streams, "Stock").await.len(), 1);
}
