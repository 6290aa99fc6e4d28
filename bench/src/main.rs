//! `cargo measure`: benchmarks of the functions and the local region.
//!
//! Builds in release, starts a region, measures, prints a table and writes `target/bench.json`. The
//! load generator runs on the same machine, so throughput includes it; compare ratios within one
//! run, not numbers across machines.

#![expect(clippy::print_stdout, reason = "the table is the product")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot set its stage stops there"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Parser;
use serde_json::json;
use sojourn_tests::{MANY_ORDERS, Options, TestRegion, binary};

mod activity;
mod broadcast;
mod buffer;
mod cache;
mod cold_start;
mod cost;
mod cpu;
mod events;
mod exports;
mod files;
mod load;
mod machine;
mod peers;
mod session_check;
mod size;
mod stage;

/// Measures Sojourn.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Arguments {
    /// Also build every function as it is deployed (fat LTO, minutes), measure the packages, and
    /// run those
    #[arg(long)]
    size: bool,
    /// Measure nothing but the write-behind buffers, alone and behind the API
    #[arg(long)]
    buffer: bool,
    /// Measure nothing but the cache
    #[arg(long)]
    cache: bool,
    /// Measure nothing but an order, beside the same in Node.js and in Python
    #[arg(long)]
    peers: bool,
    /// Seconds of load for each throughput figure
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Figures by name.
type Figures = BTreeMap<String, serde_json::Value>;

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let mut report: BTreeMap<&str, Figures> = BTreeMap::new();
    let mut options = Options::default();

    if arguments.peers {
        peers::measure(arguments.seconds).await;
        return;
    }
    if arguments.cache {
        cache::measure(arguments.seconds).await;
        return;
    }
    if arguments.buffer {
        buffer::measure(arguments.seconds).await;
        activity::measure(arguments.seconds, None).await;
        return;
    }
    if arguments.size {
        report.insert("packages", size::measure());
        options.profile = Some(size::PROFILE.to_owned());
    }
    report.insert("machine", machine::describe());
    // Load places more orders a customer than a shop allows, and pays none.
    let more = MANY_ORDERS.iter().flat_map(|setting| ["--parameter", *setting]);
    options.arguments.extend(more.map(str::to_owned));
    let profile = options.profile.clone();
    let region = TestRegion::start_with(options).await;
    let stage = stage::set(&region).await;
    report.insert("cold start and memory", cold_start::measure(&region, &stage).await);
    report.insert("cost per operation", cost::measure(&region, &stage).await);
    report.insert("events", events::measure(&region, &stage).await);
    report.insert("cache", cache::measure(arguments.seconds).await);
    report.insert("throughput", load::measure(&region, &stage, arguments.seconds).await);
    report.insert("session check", session_check::measure(&region, &stage).await);
    report.insert("links", tokio::task::spawn_blocking(files::measure).await.unwrap());
    report.insert("export", exports::measure(&region).await);
    report.insert("buffer", buffer::measure(arguments.seconds).await);
    report.insert("activity", activity::measure(arguments.seconds, profile.as_deref()).await);
    report.insert("broadcast", broadcast::measure(&region, &stage).await);

    let path = target_folder().join("bench.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&json!(report)).unwrap()).unwrap();
    println!("\nwritten to {}", path.display());
}

/// Cargo's target folder.
fn target_folder() -> PathBuf {
    binary("sojourn-bench").ancestors().nth(2).unwrap().to_owned()
}

/// Prints a heading.
fn section(title: &str, columns: &[&str]) {
    println!("\n{title}");
    row("", columns);
}

/// Prints a line of the table.
fn row(name: &str, cells: &[impl AsRef<str>]) {
    print!("  {name:<26}");
    for cell in cells {
        print!("{:>14}", cell.as_ref());
    }
    println!();
}

/// The given numbers in order.
fn sorted(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The percentile.
fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}
