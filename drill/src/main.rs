//! `cargo dev -- drill`: starts regions, runs the drill, prints the table, writes the report.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sojourn_drill::{DrillError, LocalRegions, Outage, Report, Settings, run};

/// Loads regions as customers do, kills one in the middle or cuts it off, and checks every promise
/// by reading the regions' data.
///
/// Starts the regions itself and stops them at the end. Exits 1 when a promise was broken, 2 when
/// the drill could not be run.
#[derive(Debug, Parser)]
#[command(name = "cargo dev -- drill")]
struct Arguments {
    /// How long the load lasts
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..=3_600), value_name = "N")]
    seconds: u64,
    /// Customers, each with a phone and a tablet
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000), value_name = "N")]
    customers: u32,
    /// The region that goes down after a third of the time, and comes back after two; none to only
    /// load
    #[arg(long, default_value = "taiwan", value_name = "NAME")]
    kill: String,
    /// The region that is cut off from the others for that time instead, and goes on serving
    #[arg(long, conflicts_with = "kill", value_name = "NAME")]
    cut_off: Option<String>,
    /// The regions to start, by the names of samconfig.toml
    #[arg(long, default_value = "taiwan,tokyo,singapore", value_name = "NAMES")]
    regions: String,
    /// Where report.json and report.html go
    #[arg(long, default_value = "target/drill", value_name = "DIR")]
    report: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match drill(&arguments).await {
        Ok(report) if report.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            say(&format!("the drill could not be run: {error}"));
            ExitCode::from(2)
        }
    }
}

async fn drill(arguments: &Arguments) -> Result<Report, DrillError> {
    let settings = Settings {
        duration: Duration::from_secs(arguments.seconds),
        customers: usize::try_from(arguments.customers).unwrap_or(usize::MAX),
        outage: match &arguments.cut_off {
            Some(region) => Some(Outage::CutOff(region.clone())),
            None => (arguments.kill != "none").then(|| Outage::Kill(arguments.kill.clone())),
        },
    };
    say("starting the regions");
    let regions = LocalRegions::start(&arguments.regions).await?;
    let report = run(&regions.world, &settings, say).await;
    regions.stop().await;
    let report = report?;
    say(&report.table());
    report.write(&arguments.report).map_err(DrillError::Report)?;
    say(&format!("the report is in {}", arguments.report.join("report.html").display()));
    Ok(report)
}

#[expect(clippy::print_stdout, reason = "the progress and the table are for people")]
fn say(text: &str) {
    println!("{text}");
}
