//! Several running regions in one process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Answer, Call};
use crate::process::{LocalProcess, Options};
use crate::region::{Ready, TestRegion, plain_http};

/// Longest wait for replication, which takes a second: every test of the workspace shares the
/// machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What they write when all are up.
#[derive(Debug, Deserialize)]
struct ReadyFile {
    front: String,
    control: String,
    regions: BTreeMap<String, Ready>,
}

/// Regions of this test's own, by the names of samconfig.toml. Stopped, with all their processes,
/// when dropped.
#[derive(Debug)]
pub struct TestRegions {
    process: Arc<LocalProcess>,
    front: String,
    control: String,
    regions: BTreeMap<String, TestRegion>,
    http: reqwest::Client,
}

impl TestRegions {
    /// Regions with empty tables, in memory.
    pub async fn start(names: &[&str]) -> Self {
        Self::start_with(names, Options::default()).await
    }

    /// Regions started in a particular way.
    pub async fn start_with(names: &[&str], mut options: Options) -> Self {
        options.arguments.extend(["--regions".to_owned(), names.join(",")]);
        let process = Arc::new(LocalProcess::start(options).await);
        let ReadyFile { front, control, regions } =
            serde_json::from_str(process.ready()).expect("several regions");
        let region = |(name, ready)| (name, TestRegion::of(Arc::clone(&process), ready));
        let regions = regions.into_iter().map(region).collect();
        Self { process, front, control, regions, http: plain_http() }
    }

    /// The front door's HTTP URL.
    pub fn front(&self) -> &str {
        &self.front
    }

    /// One of them.
    pub fn region(&self, name: &str) -> &TestRegion {
        &self.regions[name]
    }

    /// All of them, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = (&str, &TestRegion)> {
        self.regions.iter().map(|(name, region)| (name.as_str(), region))
    }

    /// A call of the API that controls them all, by what follows `/_local-region/regions`.
    pub fn control(&self, method: &str, path: &str) -> Call {
        Call::new(&self.http, method, &format!("{}/_local-region/regions{path}", self.control))
    }

    /// Has a region fail: its endpoints refuse, its processes die.
    pub async fn down(&self, name: &str) -> Answer {
        self.control("POST", &format!("/{name}/down")).send().await.expect(200)
    }

    /// Brings a region back.
    pub async fn up(&self, name: &str) -> Answer {
        self.control("POST", &format!("/{name}/up")).send().await.expect(200)
    }

    /// Cuts a region from all others. It goes on serving.
    pub async fn isolate(&self, name: &str) {
        for other in self.regions.keys().filter(|other| *other != name) {
            let cut = json!({"between": [name, other]});
            self.control("POST", "/partition").json(&cut).send().await.expect(204);
        }
    }

    /// Has all regions reach each other again, and waits until nothing is on its way between them.
    pub async fn heal(&self) {
        self.control("POST", "/heal").send().await.expect(204);
        let began = Instant::now();
        while self.pending().await > 0 {
            assert!(began.elapsed() < PATIENCE, "replication does not end");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Changes that have not arrived in another region.
    async fn pending(&self) -> u64 {
        let overview = self.overview().await;
        let links = overview["links"].as_array().expect("a list of links");
        links.iter().filter_map(|link| link["pending"].as_u64()).sum()
    }

    /// All that is told of them.
    pub async fn overview(&self) -> Value {
        self.control("GET", "").send().await.expect(200).body
    }

    /// What each is, as `cargo dev -- region ls` lists them.
    pub async fn list(&self) -> Vec<Value> {
        self.overview().await["regions"].as_array().expect("a list of regions").clone()
    }

    /// Process id of all of them.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// All that they and their functions have logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The file that tells where they are.
    pub fn ready_file(&self) -> std::path::PathBuf {
        self.process.ready_file()
    }

    /// Stops them.
    pub fn end(&self) {
        self.process.end();
    }
}
