//! The checks report the faults of a broken build, and nothing else.
//!
//! Fault rules change the functions of one region: an effect happens twice, a message is lost. No
//! region dies, and there is only one, so that replication faults cannot hide the result.

#![expect(clippy::unwrap_used, reason = "a drill that cannot be run fails its test there")]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use sojourn_drill::{LocalRegions, Report, Settings, run};
use tokio::sync::Mutex;

/// Two concurrent drills would compete for the processors, and their clients would wait.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A short drill under fault rules. Returns how often the last of them was applied, and the broken
/// promises.
async fn broken_under(rules: &[Value]) -> (u64, BTreeSet<&'static str>) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let regions = LocalRegions::start("tokyo").await.unwrap();
    let region = &regions.world.regions["tokyo"];
    let faults = format!("{}/_local-region/faults", region.lambda);
    for rule in rules {
        post(&faults, rule).await;
    }
    let settings = Settings { duration: Duration::from_secs(6), customers: 8, outage: None };
    let report = run(&regions.world, &settings, |_| {}).await.unwrap();
    let applied = applied(&faults).await;
    regions.stop().await;
    (applied, broken(&report))
}

#[expect(clippy::print_stdout, reason = "the output of a failed test is what its reader has")]
fn broken(report: &Report) -> BTreeSet<&'static str> {
    println!("{}", report.table());
    let broken = report.promises.iter().filter(|promise| !promise.is_kept());
    broken.map(|promise| promise.name).collect()
}

async fn post(url: &str, body: &Value) {
    let answer = reqwest::Client::new().post(url).json(body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn applied(faults: &str) -> u64 {
    let statuses: Value = reqwest::get(faults).await.unwrap().json().await.unwrap();
    let last = statuses["rules"].as_array().and_then(|rules| rules.last());
    last.and_then(|last| last["applied"].as_u64()).unwrap_or_default()
}

#[tokio::test]
async fn a_build_that_is_right_breaks_no_promise() {
    let (_, broken) = broken_under(&[]).await;
    assert_eq!(broken, BTreeSet::new());
}

#[tokio::test]
async fn an_effect_that_is_applied_twice_is_reported_as_stock_that_does_not_add_up() {
    let twice = json!({
        "match": {"service": "dynamodb", "operation": "TransactWriteItems", "resource": "*-stock", "caller": "api-orders"},
        "times": 1, "effect": {"kind": "repeat"},
    });
    let (applied, broken) = broken_under(&[twice]).await;
    assert!(applied > 0);
    assert_eq!(broken, BTreeSet::from(["stock that does not add up"]));
}

#[tokio::test]
async fn a_message_that_is_not_stored_is_reported_as_lost() {
    // No socket accepts anything, so that every message goes to an inbox. Acknowledgements are
    // answers and not posts.
    let full = json!({
        "match": {"service": "connections", "caller": "ws-*"},
        "effect": {"kind": "error", "error": "LimitExceeded"},
    });
    let forgotten = json!({
        "match": {"service": "dynamodb", "operation": "TransactWriteItems", "resource": "*nbox*", "caller": "ws-*"},
        "effect": {"kind": "forget", "only": "Put"},
    });
    let (applied, broken) = broken_under(&[full, forgotten]).await;
    assert!(applied > 0);
    assert_eq!(broken, BTreeSet::from(["messages acknowledged and lost"]));
}
