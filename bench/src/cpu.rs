//! Processor time by consumer: the load generator, the region's front and Runtime API, its
//! DynamoDB, the functions.
//!
//! Read from the scheduler's statistics, in nanoseconds, per thread
//! (`/proc/<pid>/task/<tid>/schedstat`): the region is one process, but its services have threads
//! of their own, named after them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sojourn_tests::TestRegion;

/// Name prefix of the threads of the embedded DynamoDB.
const DYNAMODB_THREADS: &str = "DynamoDB";

/// The threads of all measured processes, by id, at one moment.
#[derive(Debug)]
pub(crate) struct Threads(BTreeMap<u64, Thread>);

#[derive(Debug)]
struct Thread {
    part: Part,
    micros: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Client,
    Front,
    Functions,
    DynamoDb,
}

/// Processor time in microseconds, by consumer.
#[derive(Debug, Clone, Copy, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cpu {
    /// The load generator: this process.
    pub(crate) client: f64,
    /// The region's process without its DynamoDB.
    pub(crate) front: f64,
    pub(crate) functions: f64,
    pub(crate) dynamodb: f64,
}

impl Threads {
    /// The current totals of every thread.
    pub(crate) async fn now(region: &TestRegion) -> Self {
        let mut threads = of_process(std::process::id().into(), |_| Part::Client);
        threads.extend(of_process(region.process_id().into(), |name| {
            if name == DYNAMODB_THREADS { Part::DynamoDb } else { Part::Front }
        }));
        let processes = region.processes().await;
        for pid in processes.iter().filter_map(|process| process["pid"].as_u64()) {
            threads.extend(of_process(pid, |_| Part::Functions));
        }
        Self(threads)
    }

    /// Time spent since `earlier`, per request. Threads that have ended meanwhile are left out:
    /// they belonged to idle functions.
    pub(crate) fn spent_since(&self, earlier: &Self, requests: f64) -> Cpu {
        let of_part = |part| {
            let threads = self.0.iter().filter(|(_, thread)| thread.part == part);
            let micros = threads
                .map(|(id, thread)| thread.micros - earlier.0.get(id).map_or(0.0, |thread| thread.micros));
            micros.sum::<f64>() / requests
        };
        Cpu {
            client: of_part(Part::Client),
            front: of_part(Part::Front),
            functions: of_part(Part::Functions),
            dynamodb: of_part(Part::DynamoDb),
        }
    }
}

fn of_process(pid: u64, part: impl Fn(&str) -> Part) -> BTreeMap<u64, Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| of_thread(&task.path(), &part)).collect()
}

/// A thread that ends meanwhile has no statistics.
fn of_thread(task: &Path, part: impl Fn(&str) -> Part) -> Option<(u64, Thread)> {
    let id = task.file_name()?.to_str()?.parse().ok()?;
    let name = fs::read_to_string(task.join("comm")).ok()?;
    let account = fs::read_to_string(task.join("schedstat")).ok()?;
    let nanos: f64 = account.split_whitespace().next()?.parse().ok()?;
    Some((id, Thread { part: part(name.trim()), micros: nanos / 1_000.0 }))
}
