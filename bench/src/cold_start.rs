//! Time from spawning a process to its first answer, the same invocation warm, and the memory of
//! the process afterwards.
//!
//! The functions are invoked through the region's Invoke API, so a figure includes that hop (the
//! warm figure beside it shows how much that is). The event is one of `events/` that makes the
//! function call DynamoDB if it ever does. Signing in is listed separately: its time and memory are
//! those of the password hash.

use std::time::Instant;

use serde_json::{Value, json};
use sojourn_tests::TestRegion;

use crate::stage::Stage;
use crate::{Figures, at, row, section, sorted};

/// Starts per function.
const ROUNDS: usize = 30;
/// Warm invocations per function.
const WARM_ROUNDS: usize = 200;

/// Functions and their events. Those of a socket are in the order of its life.
const CASES: &[(&str, &str)] = &[
    ("admin-users", "grant"),
    ("api-catalog", "get"),
    ("api-health", "health"),
    ("api-orders", "list"),
    ("api-sessions", "jwks"),
    ("api-sessions", "login"),
    ("job-daily-report", "slot"),
    ("api-uploads", "list"),
    ("job-order-cleanup", "slot"),
    ("job-upload-cleanup", "slot"),
    ("ws-connect", "bearer"),
    ("ws-send", "ping"),
    ("ws-disconnect", "going-away"),
];

/// Measures every function.
pub(crate) async fn measure(region: &TestRegion, stage: &Stage) -> Figures {
    section("Cold start and memory", &["cold ms", "cold p90 ms", "warm ms", "MiB resident"]);
    let mut figures = Figures::new();
    for (function, case) in CASES {
        let event = stage.event(function, case);
        // Creates what the event needs; the second time differs from the first (a job's slot is
        // done).
        time(region, function, &event).await;
        let mut cold = Vec::new();
        for _ in 0..ROUNDS {
            region.kill(function).await;
            cold.push(time(region, function, &event).await);
        }
        let mut warm = Vec::new();
        for _ in 0..WARM_ROUNDS {
            warm.push(time(region, function, &event).await);
        }
        let (cold, warm) = (sorted(cold), sorted(warm));
        let (middle, p90, warm) = (at(&cold, 50), at(&cold, 90), at(&warm, 50));
        let resident = resident_mib(region, function).await;
        let name = format!("{function} {case}");
        row(
            &name,
            &[format!("{middle:.1}"), format!("{p90:.1}"), format!("{warm:.2}"), format!("{resident:.1}")],
        );
        let figure = json!({"coldMs": middle, "coldP90Ms": p90, "warmMs": warm, "residentMiB": resident});
        figures.insert(name, figure);
    }
    figures
}

/// Milliseconds of one invocation, which must succeed.
async fn time(region: &TestRegion, function: &str, event: &Value) -> f64 {
    let began = Instant::now();
    let answer = region.invoke(function, event).await.expect(200);
    let elapsed = began.elapsed().as_secs_f64() * 1_000.0;
    let failed = answer.header("x-amz-function-error").is_some()
        || answer.body["statusCode"].as_u64().is_some_and(|status| status >= 300);
    assert!(!failed, "{function}: {}", answer.text);
    elapsed
}

/// Resident memory of the function's process, from the kernel.
async fn resident_mib(region: &TestRegion, function: &str) -> f64 {
    let processes = region.processes().await;
    let process = processes.iter().find(|process| process["function"] == *function);
    let bytes = process.and_then(|process| process["residentBytes"].as_f64());
    bytes.expect("the function has a process") / 1_048_576.0
}
