//! Who spends the processor's time: the load generator, the region's front and Runtime API, its DynamoDB, the
//! functions.
//!
//! Read from the scheduler's own account, in nanoseconds, per thread (`/proc/<pid>/task/<tid>/schedstat`): the region is
//! one process, but its services have threads of their own, named after them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sojourn_tests::TestRegion;

/// What the threads of the embedded DynamoDB are called.
const DYNAMODB_THREADS: &str = "DynamoDB";

/// Processor time in microseconds, by who spent it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cpu {
    /// This process.
    pub(crate) generator: f64,
    /// The region's process without its DynamoDB.
    pub(crate) front: f64,
    /// Each function process: some end while others are measured.
    functions: BTreeMap<u32, f64>,
    /// The embedded DynamoDB.
    pub(crate) dynamodb: f64,
}

impl Cpu {
    /// All that was spent until now.
    pub(crate) async fn spent(region: &TestRegion) -> Self {
        let own = threads(std::process::id());
        let regions = threads(region.process_id());
        let dynamodb = regions.get(DYNAMODB_THREADS).copied().unwrap_or_default();
        let processes = region.processes().await;
        let pids = processes.iter().filter_map(|process| u32::try_from(process["pid"].as_u64()?).ok());
        let functions = pids.map(|pid| (pid, threads(pid).values().sum())).collect();
        Self {
            generator: own.values().sum(),
            front: regions.values().sum::<f64>() - dynamodb,
            functions,
            dynamodb,
        }
    }

    /// What was spent since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let functions = self.functions.iter().map(|(pid, micros)| {
            let before = earlier.functions.get(pid).copied().unwrap_or_default();
            (*pid, micros - before)
        });
        Self {
            generator: self.generator - earlier.generator,
            front: self.front - earlier.front,
            functions: functions.collect(),
            dynamodb: self.dynamodb - earlier.dynamodb,
        }
    }

    /// All function processes together.
    pub(crate) fn functions(&self) -> f64 {
        self.functions.values().sum()
    }
}

/// Microseconds of a process, by the name of the thread. A thread that ends meanwhile is left out.
fn threads(pid: u32) -> BTreeMap<String, f64> {
    let mut spent = BTreeMap::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for (name, micros) in tasks.filter_map(|task| thread(&task.path())) {
        *spent.entry(name).or_default() += micros;
    }
    spent
}

fn thread(task: &Path) -> Option<(String, f64)> {
    let name = fs::read_to_string(task.join("comm")).ok()?.trim().to_owned();
    let account = fs::read_to_string(task.join("schedstat")).ok()?;
    let nanos: f64 = account.split_whitespace().next()?.parse().ok()?;
    Some((name, nanos / 1_000.0))
}
