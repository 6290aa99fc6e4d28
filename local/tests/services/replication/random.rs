//! Random writes, partitions, stops and lags: in the end every region has the last write of each
//! item.
//!
//! The writes are made one after the other, so the last one is the one with the greatest timestamp.

use aws_sdk_dynamodb::types::{Delete, Put, ReturnValue, TransactWriteItem};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const STEPS: usize = 200;
const PRODUCTS: usize = 6;

/// What each item must be in the end.
type Expected = BTreeMap<String, Item>;

struct Run {
    stage: Stage,
    random: StdRng,
    expected: Expected,
}

fn item(product: &str, available: i64) -> Item {
    Item::from([("productId".to_owned(), text(product)), ("available".to_owned(), number(available))])
}

impl Run {
    fn product(&mut self) -> String {
        format!("p{}", self.random.random_range(0..PRODUCTS))
    }

    async fn put(&mut self, client: &Client, product: String, step: i64) {
        let item = item(&product, step);
        client.put_item().table_name("Stock").set_item(Some(item.clone())).send().await.unwrap();
        self.expected.insert(product, item);
    }

    async fn update(&mut self, client: &Client, product: String, condition: Option<&str>) {
        let update = client.update_item().table_name("Stock").key("productId", text(&product));
        let update = update
            .update_expression("ADD available :one")
            .expression_attribute_values(":one", number(1))
            .set_condition_expression(condition.map(str::to_owned))
            .return_values(ReturnValue::AllNew);
        match update.send().await {
            Ok(answer) => {
                self.expected.insert(product, answer.attributes.unwrap());
            }
            Err(refused) => {
                let refused = refused.into_service_error();
                assert!(
                    condition.is_some() && refused.is_conditional_check_failed_exception(),
                    "{refused:?}"
                );
            }
        }
    }

    async fn delete(&mut self, client: &Client, product: String) {
        let delete = client.delete_item().table_name("Stock").key("productId", text(&product));
        // The deletion of what is not there changes nothing.
        if delete.return_values(ReturnValue::AllOld).send().await.unwrap().attributes.is_some() {
            self.expected.remove(&product);
        }
    }

    /// Puts one product and deletes another one that is there.
    async fn transact(&mut self, client: &Client, step: i64) {
        let put_at = self.random.random_range(0..PRODUCTS);
        let (put, gone) = (format!("p{put_at}"), format!("p{}", (put_at + 1) % PRODUCTS));
        let item = item(&put, step);
        let puts = Put::builder().table_name("Stock").set_item(Some(item.clone())).build().unwrap();
        let deletes = Delete::builder()
            .table_name("Stock")
            .key("productId", text(&gone))
            .condition_expression("attribute_exists(productId)")
            .build()
            .unwrap();
        let entries = [
            TransactWriteItem::builder().put(puts).build(),
            TransactWriteItem::builder().delete(deletes).build(),
        ];
        let sent = client.transact_write_items().set_transact_items(Some(entries.into())).send().await;
        if sent.is_ok() {
            self.expected.insert(put, item);
            self.expected.remove(&gone);
        }
    }

    fn disturb(&mut self) {
        let at = self.random.random_range(0..REGIONS.len());
        let (one, other) = (REGIONS[at], REGIONS[(at + 1) % REGIONS.len()]);
        let replication = &self.stage.replication;
        match self.random.random_range(0..6) {
            0 => replication.partition(one, other).unwrap(),
            1 => replication.heal(),
            2 => replication.stop(one).unwrap(),
            3 => {
                for region in REGIONS {
                    replication.resume(region).unwrap();
                }
            }
            _ => {
                let max = Duration::from_millis(self.random.random_range(0..40));
                replication.set_lag(Lag { min: Duration::ZERO, max });
            }
        }
    }
}

async fn converges(seed: u64) {
    let stage = Stage::new(Lag { min: Duration::ZERO, max: Duration::from_millis(20) });
    let mut run = Run { stage, random: StdRng::seed_from_u64(seed), expected: Expected::new() };
    let clients = REGIONS.map(|region| run.stage.client(region));
    for step in 0..STEPS {
        let client = &clients[run.random.random_range(0..clients.len())];
        let product = run.product();
        let number = i64::try_from(step).unwrap() * 1_000;
        match run.random.random_range(0..12) {
            0..=2 => run.put(client, product, number).await,
            3..=4 => run.update(client, product, None).await,
            5 => run.update(client, product, Some("attribute_exists(productId)")).await,
            6 => run.update(client, product, Some("attribute_not_exists(productId)")).await,
            7..=8 => run.delete(client, product).await,
            9..=10 => run.transact(client, number).await,
            _ => run.disturb(),
        }
    }
    for region in REGIONS {
        run.stage.replication.resume(region).unwrap();
    }
    run.stage.deliver().await;
    for (region, client) in REGIONS.iter().zip(&clients) {
        assert_eq!(scan(client, "Stock", "productId").await, run.expected, "{region}, seed {seed}");
    }
}

#[tokio::test]
async fn regions_converge_to_the_last_write_of_each_item_whatever_happens() {
    for seed in 1..=4 {
        converges(seed).await;
    }
}
