//! The stores of several regions. Global tables replicate between them as on AWS: asynchronously,
//! item by item, and the last writer of an item wins. Conditions and consistent reads see the copy
//! of their own region.
//!
//! ```text
//! let regions = Regions::start(["tokyo", "taiwan"]);
//! regions.cut();
//! // What is written through `regions.store("tokyo").client` now stays in Tokyo.
//! regions.heal();
//! regions.settle().await;
//! // Now Taiwan has it too.
//! ```
//!
//! The first two regions and a witness agree on the agreement table. Other regions do not have it.

use std::collections::BTreeMap;
use std::time::Duration;

use local_region::services::dynamodb::Embedded;
use local_region::services::dynamodb::replication::{Replication, Settings, StrongTables};
use local_region::services::network::Lag;
use local_region::template::model::Table;
use sojourn::platform::tables::{self, TableScope};

use crate::Store;
use crate::store::definition;

/// Longest that [`Regions::settle`] waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Polling interval.
const LOOK: Duration = Duration::from_millis(2);

/// How many regions have the agreement table.
const AGREED_REPLICAS: usize = 2;

/// Regions whose global tables are joined.
pub struct Regions {
    /// Lags, cuts between two regions, and stops.
    // Dropped first: it reads the stores.
    pub replication: Replication,
    stores: BTreeMap<&'static str, Store>,
}

impl Regions {
    /// Starts empty regions that replicate without a lag.
    pub fn start<const N: usize>(names: [&'static str; N]) -> Self {
        let agreed = &names[..AGREED_REPLICAS];
        let start = |name: &'static str| {
            let tables = tables_of(agreed.contains(&name));
            let peers: Vec<&str> = names.into_iter().filter(|peer| *peer != name).collect();
            (name, Store::of(Embedded::start(&tables).unwrap(), name, &peers))
        };
        let stores: BTreeMap<_, _> = names.into_iter().map(start).collect();
        let regions: Vec<_> = stores
            .iter()
            .map(|(name, store)| ((*name).to_owned(), store.embedded.region_tables().unwrap()))
            .collect();
        let settings = Settings {
            tables: of_scope(TableScope::Global),
            strong: Some(StrongTables {
                tables: of_scope(TableScope::Agreed),
                replicas: agreed.iter().map(|name| (*name).to_owned()).collect(),
                witness: Some("witness".to_owned()),
            }),
            lag: Lag::always(Duration::ZERO),
            round_trip: Duration::from_millis(1),
        };
        Self { replication: Replication::start(&regions, &settings).unwrap(), stores }
    }

    /// The store of a region.
    pub fn store(&self, region: &str) -> &Store {
        &self.stores[region]
    }

    /// The names of the regions.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.stores.keys().copied()
    }

    /// Disconnects all regions from each other. Changes wait.
    pub fn cut(&self) {
        for (position, one) in self.names().enumerate() {
            for other in self.names().skip(position + 1) {
                self.replication.partition(one, other).unwrap();
            }
        }
    }

    /// Reconnects all regions.
    pub fn heal(&self) {
        self.replication.heal();
    }

    /// From now on every change takes this long, also pending ones.
    pub fn lag(&self, lag: Duration) {
        self.replication.set_lag(Lag::always(lag));
    }

    /// Waits until every region has every change.
    pub async fn settle(&self) {
        let arrived = async {
            while self.replication.pending().unwrap().iter().any(|link| link.changes > 0) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, arrived).await.unwrap();
    }
}

/// The tables of a region: global ones have the stream that replication reads.
fn tables_of(agrees: bool) -> Vec<Table> {
    let of_region = tables::ALL.iter().filter(|table| agrees || table.scope != TableScope::Agreed);
    let create = |table: &tables::Table| {
        let mut definition = definition(table);
        if table.scope == TableScope::Global {
            let both_images = serde_json::json!({"StreamViewType": "NEW_AND_OLD_IMAGES"});
            definition.create["StreamSpecification"] = both_images;
        }
        definition
    };
    of_region.map(create).collect()
}

fn of_scope(scope: TableScope) -> Vec<String> {
    let tables = tables::ALL.iter().filter(|table| table.scope == scope);
    tables.map(|table| table.logical_id.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use sojourn::platform::dynamo::text;

    use super::*;

    async fn put(regions: &Regions, region: &str, table: &str, key: &str, name: &str) {
        let put = regions.store(region).client.put_item().table_name(table).item(key, text("tea"));
        put.item("name", text(name)).send().await.unwrap();
    }

    /// The name that the item has in each region, by a consistent read.
    async fn names(regions: &Regions, table: &str, key: &str) -> Vec<Option<String>> {
        let mut names = Vec::new();
        for region in regions.names() {
            let get = regions.store(region).client.get_item().table_name(table).key(key, text("tea"));
            let item = get.consistent_read(true).send().await.unwrap().item;
            names.push(item.map(|item| item["name"].as_s().unwrap().clone()));
        }
        names
    }

    fn of<const N: usize>(names: [&str; N]) -> Vec<Option<String>> {
        names.map(|name| Some(name.to_owned())).into()
    }

    #[tokio::test]
    async fn the_last_writer_of_an_item_wins_once_the_cut_has_healed() {
        let regions = Regions::start(["tokyo", "taiwan", "singapore"]);
        regions.cut();
        put(&regions, "tokyo", "ProductsTable", "productId", "first").await;
        put(&regions, "taiwan", "ProductsTable", "productId", "second").await;
        let before = [None, Some("second".to_owned()), Some("first".to_owned())];
        assert_eq!(names(&regions, "ProductsTable", "productId").await, before);
        regions.heal();
        regions.settle().await;
        assert_eq!(names(&regions, "ProductsTable", "productId").await, of(["second"; 3]));
    }

    #[tokio::test]
    async fn a_change_waits_for_the_lag() {
        let regions = Regions::start(["tokyo", "taiwan"]);
        regions.lag(Duration::from_hours(1));
        put(&regions, "tokyo", "ProductsTable", "productId", "tea").await;
        assert_eq!(names(&regions, "ProductsTable", "productId").await[0], None);
        regions.lag(Duration::ZERO);
        regions.settle().await;
        assert_eq!(names(&regions, "ProductsTable", "productId").await, of(["tea"; 2]));
    }

    #[tokio::test]
    async fn regional_tables_stay_apart_and_the_agreement_table_is_one() {
        let regions = Regions::start(["tokyo", "taiwan"]);
        put(&regions, "tokyo", "LocksTable", "lockName", "tokyo").await;
        put(&regions, "tokyo", "AgreementTable", "subject", "tokyo").await;
        regions.settle().await;
        assert_eq!(names(&regions, "LocksTable", "lockName").await, [None, Some("tokyo".to_owned())]);
        assert_eq!(names(&regions, "AgreementTable", "subject").await, of(["tokyo"; 2]));
    }
}
