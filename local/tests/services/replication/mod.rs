//! The tables of several regions, joined.

mod concurrent;
mod eventual;
mod random;
mod restarts;
mod strong;
mod strong_race;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use local_region::services::dynamodb::Embedded;
use local_region::services::dynamodb::replication::{RegionTables, Replication, Settings};
use local_region::services::network::Lag;
use local_region::template::model::Table;
use serde_json::json;

use crate::support::{client_of, number, orders, stock, text};

const REGIONS: [&str; 3] = ["singapore", "taiwan", "tokyo"];

/// Long enough that nothing arrives by itself.
const NEVER: Lag = Lag::always(Duration::from_hours(1));

const AT_ONCE: Lag = Lag::always(Duration::ZERO);

type Item = HashMap<String, AttributeValue>;

/// Regions whose tables are joined.
struct Stage {
    // Dropped first: no region sends anything that is gone.
    replication: Replication,
    regions: BTreeMap<&'static str, Embedded>,
}

fn with_stream(mut table: Table) -> Table {
    table.create["StreamSpecification"] = json!({"StreamViewType": "NEW_AND_OLD_IMAGES"});
    table
}

/// Both tables, as global tables are.
fn tables() -> Vec<Table> {
    vec![with_stream(orders()), with_stream(stock())]
}

fn settings(lag: Lag) -> Settings {
    Settings { tables: vec!["Orders".to_owned(), "Stock".to_owned()], lag, ..Settings::default() }
}

fn named(regions: &BTreeMap<&'static str, Embedded>) -> Vec<(String, RegionTables)> {
    regions.iter().map(|(name, region)| ((*name).to_owned(), region.region_tables().unwrap())).collect()
}

impl Stage {
    fn new(lag: Lag) -> Self {
        Self::of(REGIONS.map(|name| (name, Embedded::start(&tables()).unwrap())).into(), &settings(lag))
    }

    fn of(regions: BTreeMap<&'static str, Embedded>, settings: &Settings) -> Self {
        let replication = Replication::start(&named(&regions), settings).unwrap();
        Self { replication, regions }
    }

    fn client(&self, region: &str) -> Client {
        client_of(&self.regions[region], None)
    }

    /// Cuts `region` from all others.
    fn isolate(&self, region: &str) {
        for other in REGIONS.into_iter().filter(|other| *other != region) {
            self.replication.partition(region, other).unwrap();
        }
    }

    fn waiting(&self) -> usize {
        self.replication.pending().unwrap().iter().map(|link| link.changes).sum()
    }

    fn waiting_between(&self, from: &str, to: &str) -> usize {
        let pending = self.replication.pending().unwrap();
        pending.iter().find(|link| link.from == from && link.to == to).unwrap().changes
    }

    /// Waits until nothing is on its way.
    async fn settle(&self) {
        eventually(|| self.waiting() == 0).await;
    }

    /// Whatever waits arrives now.
    async fn deliver(&self) {
        self.replication.heal();
        self.replication.set_lag(AT_ONCE);
        self.settle().await;
    }

    async fn put(&self, region: &str, product: &str, available: i64) {
        put(&self.client(region), product, available).await;
    }

    async fn delete(&self, region: &str, product: &str) {
        let delete = self.client(region).delete_item().table_name("Stock").key("productId", text(product));
        delete.send().await.unwrap();
    }

    /// The product as `region` has it, by a consistent read.
    async fn get(&self, region: &str, product: &str) -> Option<i64> {
        let item = get(&self.client(region), "Stock", "productId", product).await?;
        Some(item["available"].as_n().unwrap().parse().unwrap())
    }

    /// The same in every region.
    async fn everywhere(&self, product: &str) -> Vec<Option<i64>> {
        let mut found = Vec::new();
        for region in REGIONS {
            found.push(self.get(region, product).await);
        }
        found
    }
}

async fn put(client: &Client, product: &str, available: i64) {
    let put = client.put_item().table_name("Stock").item("productId", text(product));
    put.item("available", number(available)).send().await.unwrap();
}

async fn get(client: &Client, table: &str, key: &str, value: &str) -> Option<Item> {
    let get = client.get_item().table_name(table).key(key, text(value)).consistent_read(true);
    get.send().await.unwrap().item
}

/// All items of a table, by their key.
async fn scan(client: &Client, table: &str, key: &str) -> BTreeMap<String, Item> {
    let items = client.scan().table_name(table).send().await.unwrap().items.unwrap_or_default();
    items.into_iter().map(|item| (item[key].as_s().unwrap().clone(), item)).collect()
}

/// Waits until `holds`, ten seconds at most.
async fn eventually(mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it does not come true");
}
