//! Strongly consistent tables are linearizable, whatever the network does.
//!
//! Tasks in both replicas' regions count up one register by compare-and-set. Each success is
//! acknowledged once, so the register ends at their number. What was acknowledged before a read
//! began is a bound below what it may return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::strong::{WITNESS, client, read, stage, value};
use super::*;

const INCREMENTS: i64 = 120;

const PAIRS: [(&str, &str); 3] = [("tokyo", "singapore"), ("tokyo", WITNESS), ("singapore", WITNESS)];

#[derive(Default)]
struct Seen {
    successes: AtomicI64,
    /// The greatest value that anybody knows of.
    acknowledged: AtomicI64,
    refused: AtomicUsize,
    conflicts: AtomicUsize,
    enough: AtomicBool,
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    error.code().unwrap_or("none").to_owned()
}

async fn count_up(client: Client, seen: Arc<Seen>) {
    while !seen.enough.load(Ordering::SeqCst) {
        let bound = seen.acknowledged.load(Ordering::SeqCst);
        let item = match read(&client, "register", true).await {
            Ok(answer) => answer.item,
            Err(refused) => {
                assert_eq!(code(&refused), "InternalServerError");
                seen.refused.fetch_add(1, Ordering::SeqCst);
                continue;
            }
        };
        let found = item.map_or(0, |item| item["value"].as_n().unwrap().parse().unwrap());
        assert!(found >= bound, "a read returned {found} after {bound} was acknowledged");
        seen.acknowledged.fetch_max(found, Ordering::SeqCst);
        let put = client.put_item().table_name("Agreement").item("id", text("register"));
        let put = put.item("value", number(found + 1));
        let put = if found == 0 {
            put.condition_expression("attribute_not_exists(id)")
        } else {
            let put =
                put.condition_expression("#value = :found").expression_attribute_names("#value", "value");
            put.expression_attribute_values(":found", number(found))
        };
        match put.send().await {
            Ok(_) => {
                seen.acknowledged.fetch_max(found + 1, Ordering::SeqCst);
                let successes = seen.successes.fetch_add(1, Ordering::SeqCst) + 1;
                seen.enough.fetch_or(successes >= INCREMENTS, Ordering::SeqCst);
            }
            Err(refused) => match code(&refused).as_str() {
                "ConditionalCheckFailedException" => {}
                "ReplicatedWriteConflictException" => {
                    seen.conflicts.fetch_add(1, Ordering::SeqCst);
                }
                "InternalServerError" => {
                    seen.refused.fetch_add(1, Ordering::SeqCst);
                }
                other => panic!("{other}: {refused:?}"),
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_register_is_linearizable_through_partitions() {
    let stage = stage(Duration::from_millis(3));
    let seen = Arc::new(Seen::default());
    let tasks: Vec<_> = ["tokyo", "singapore", "tokyo", "singapore"]
        .map(|region| tokio::spawn(count_up(client(&stage, region), Arc::clone(&seen))))
        .into();
    let mut random = StdRng::seed_from_u64(7);
    while !tasks.iter().any(tokio::task::JoinHandle::is_finished) {
        let (a, b) = PAIRS[random.random_range(0..PAIRS.len())];
        stage.replication.partition(a, b).unwrap();
        if random.random_bool(0.4) {
            stage.replication.heal();
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(1..20))).await;
    }
    // A task ends when there is enough, or by a panic, which shows here.
    stage.replication.heal();
    for task in tasks {
        task.await.unwrap();
    }
    let successes = seen.successes.load(Ordering::SeqCst);
    for region in ["tokyo", "singapore"] {
        assert_eq!(value(&client(&stage, region), "register", true).await, Some(successes), "{region}");
    }
    assert!(seen.refused.load(Ordering::SeqCst) > 0, "somebody was without a majority");
    assert!(seen.conflicts.load(Ordering::SeqCst) > 0, "the regions met");
}
