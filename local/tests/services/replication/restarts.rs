//! Regions whose rows are in files.

use std::path::Path;

use super::strong::{client, put, stage_of, value};
use super::*;

fn region(folder: &Path, name: &str, tables: &[Table]) -> Embedded {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    Embedded::start_in(&folder, tables).unwrap()
}

fn start(folder: &Path) -> Stage {
    let regions = REGIONS.map(|name| (name, region(folder, name, &tables())));
    Stage::of(regions.into(), &settings(AT_ONCE))
}

#[tokio::test]
async fn what_was_not_sent_before_a_restart_is_sent_after_it() {
    let folder = tempfile::tempdir().unwrap();
    {
        let stage = start(folder.path());
        stage.put("taiwan", "milk", 1).await;
        stage.put("taiwan", "bread", 1).await;
        stage.settle().await;
        stage.isolate("tokyo");
        stage.put("tokyo", "tea", 7).await;
        stage.put("tokyo", "milk", 2).await;
        stage.delete("tokyo", "bread").await;
        assert_eq!(stage.get("taiwan", "tea").await, None);
    }
    let stage = start(folder.path());
    stage.settle().await;
    assert_eq!(stage.everywhere("tea").await, [Some(7); 3]);
    assert_eq!(stage.everywhere("milk").await, [Some(2); 3]);
    assert_eq!(stage.everywhere("bread").await, [None; 3]);
}

#[tokio::test]
async fn what_had_arrived_before_a_restart_keeps_the_time_at_which_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    {
        let stage = start(folder.path());
        stage.put("taiwan", "milk", 1).await;
        stage.settle().await;
        stage.replication.set_lag(NEVER);
        stage.replication.stop("singapore").unwrap();
        stage.put("tokyo", "tea", 1).await;
        stage.delete("tokyo", "milk").await;
        stage.put("singapore", "tea", 5).await;
        stage.put("singapore", "milk", 5).await;
        // It arrives after Singapore has written, and is older all the same.
        stage.replication.set_lag(AT_ONCE);
        eventually(|| stage.waiting_between("tokyo", "taiwan") == 0).await;
        assert_eq!(stage.everywhere("tea").await, [Some(5), Some(1), Some(1)]);
    }
    let stage = start(folder.path());
    stage.settle().await;
    assert_eq!(stage.everywhere("tea").await, [Some(5); 3]);
    assert_eq!(stage.everywhere("milk").await, [Some(5); 3]);
}

#[tokio::test]
async fn a_deletion_stands_after_a_restart_against_an_older_write_that_arrives_then() {
    let folder = tempfile::tempdir().unwrap();
    {
        let stage = start(folder.path());
        stage.replication.partition("taiwan", "tokyo").unwrap();
        stage.put("taiwan", "tea", 1).await;
        eventually(|| stage.waiting_between("taiwan", "singapore") == 0).await;
        stage.delete("singapore", "tea").await;
        eventually(|| stage.waiting_between("singapore", "tokyo") == 0).await;
    }
    let stage = start(folder.path());
    stage.replication.stop("singapore").unwrap();
    eventually(|| stage.waiting_between("taiwan", "tokyo") == 0).await;
    assert_eq!(stage.everywhere("tea").await, [None; 3]);
}

#[tokio::test]
async fn strongly_consistent_replicas_are_level_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let start = |round_trip| stage_of(round_trip, |name, tables| region(folder.path(), name, tables));
    {
        let stage = start(Duration::from_millis(200));
        let (tokyo, singapore) = (client(&stage, "tokyo"), client(&stage, "singapore"));
        put(&tokyo, "home", 1).await.unwrap();
        put(&singapore, "home", 2).await.unwrap();
        put(&tokyo, "slot", 3).await.unwrap();
        assert_eq!(value(&singapore, "slot", false).await, None, "it has not arrived");
    }
    let stage = start(Duration::from_millis(5));
    for region in ["tokyo", "singapore"] {
        let client = client(&stage, region);
        assert_eq!(value(&client, "home", false).await, Some(2), "{region}");
        assert_eq!(value(&client, "slot", false).await, Some(3), "{region}");
    }
}
