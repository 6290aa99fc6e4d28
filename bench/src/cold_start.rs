//! Process spawned to first answer, and what a process weighs afterwards.
//!
//! The functions are invoked through the region's Invoke API, so a figure includes that hop (the warm figure beside
//! it shows how much that is). The event is one of `events/` that makes the function ask DynamoDB where it has any
//! reason to.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use sojourn_tests::TestRegion;

use crate::stage::Stage;
use crate::{Figures, median, row, section};

/// Starts per function.
const ROUNDS: usize = 30;
/// Warm invocations per function.
const WARM_ROUNDS: usize = 200;

/// Function and the event that it is measured with.
const CASES: &[(&str, &str)] = &[
    ("admin-users", "grant"),
    ("api-catalog", "get"),
    ("api-health", "health"),
    ("api-orders", "list"),
    ("api-sessions", "login"),
    ("job-daily-report", "slot"),
    ("job-order-cleanup", "slot"),
    ("ws-connect", "bearer"),
    ("ws-disconnect", "going-away"),
    ("ws-send", "ping"),
];

/// Measures every function.
pub(crate) async fn measure(region: &TestRegion, stage: &Stage) -> Figures {
    section("Cold start and memory", &["cold ms", "warm ms", "MiB resident"]);
    let mut figures = Figures::new();
    for (function, case) in CASES {
        let path: PathBuf = ["events", function, &format!("{case}.json")].iter().collect();
        let event = stage.event(&path);
        let mut cold = Vec::new();
        for _ in 0..ROUNDS {
            region.kill(function).await;
            cold.push(time(region, function, &event).await);
        }
        let mut warm = Vec::new();
        for _ in 0..WARM_ROUNDS {
            warm.push(time(region, function, &event).await);
        }
        let (cold, warm, resident) = (median(cold), median(warm), resident_mib(region, function).await);
        row(function, &[format!("{cold:.1}"), format!("{warm:.2}"), format!("{resident:.1}")]);
        figures.insert((*function).into(), json!({"coldMs": cold, "warmMs": warm, "residentMiB": resident}));
    }
    figures
}

async fn time(region: &TestRegion, function: &str, event: &serde_json::Value) -> f64 {
    let began = Instant::now();
    region.invoke(function, event).await.expect(200);
    began.elapsed().as_secs_f64() * 1_000.0
}

/// Resident memory of the function's process, from the kernel.
async fn resident_mib(region: &TestRegion, function: &str) -> f64 {
    let processes = region.control("GET", "/ps").send().await.expect(200);
    let all = processes.body["processes"].as_array().unwrap();
    let process = all.iter().find(|process| process["function"] == *function).expect("the process is listed");
    let status = std::fs::read_to_string(format!("/proc/{}/status", process["pid"])).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1_024.0
}
