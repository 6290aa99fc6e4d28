//! Writes of one item in all regions at the same time, while those of other regions arrive.

use std::sync::Arc;

use local_region::services::dynamodb::Embedded;
use tokio::sync::Barrier;

use super::*;
use crate::streams::{all, streams_of};

const PRODUCTS: usize = 120;

/// How often each region writes a product. Its last write meets those of the others as they arrive.
const WRITES: usize = 4;

/// Which number the region's own writes got, by the tags of the writes.
async fn written(region: &Embedded, name: &str) -> BTreeMap<String, u128> {
    let records = all(&streams_of(region, None), "Stock").await;
    let change = |record: &aws_sdk_dynamodbstreams::types::Record| {
        let change = record.dynamodb()?.clone();
        let tag = change.new_image.as_ref()?.get("tag")?.as_s().ok()?.clone();
        let number = change.sequence_number?.parse().ok()?;
        tag.starts_with(name).then_some((tag, number))
    };
    records.iter().filter_map(change).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remote_write_never_overwrites_a_later_local_one_also_if_that_is_made_meanwhile() {
    let stage = Stage::new(AT_ONCE);
    let together = Arc::new(Barrier::new(REGIONS.len()));
    let tasks: Vec<_> = REGIONS
        .into_iter()
        .map(|region| {
            let (client, together) = (stage.client(region), Arc::clone(&together));
            tokio::spawn(async move {
                for product in 0..PRODUCTS {
                    together.wait().await;
                    for write in 0..WRITES {
                        tokio::time::sleep(Duration::from_micros(rand::random_range(0..4_000))).await;
                        let put = client.put_item().table_name("Stock");
                        let put = put.item("productId", text(&format!("p{product}")));
                        put.item("tag", text(&format!("{region}#{write}#{product}"))).send().await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    stage.settle().await;
    let mut numbers = BTreeMap::new();
    for (name, region) in &stage.regions {
        let own = written(region, name).await;
        assert_eq!(own.len(), PRODUCTS * WRITES, "the stream of {name} has all of its writes");
        numbers.extend(own);
    }
    let mut expected = BTreeMap::new();
    for (tag, number) in numbers {
        let product = format!("p{}", tag.rsplit('#').next().unwrap());
        // Tags begin with the region's name: of two numbers that are equal, the greater name is the
        // later write.
        let last = expected.entry(product).or_insert((number, tag.clone()));
        *last = (number, tag).max(last.clone());
    }
    for region in REGIONS {
        let items = scan(&stage.client(region), "Stock", "productId").await;
        let found = items.into_iter().map(|(product, item)| (product, item["tag"].as_s().unwrap().clone()));
        let expected = expected.iter().map(|(product, (_, tag))| (product.clone(), tag.clone()));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected.collect(), "{region}");
    }
}
