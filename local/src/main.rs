//! `cargo dev`. See [`sojourn_local::cli`].

use std::process::ExitCode;

use clap::Parser;
use sojourn_local::cli::{Cli, run};
use tracing_subscriber::EnvFilter;

#[tokio::main]
#[expect(clippy::print_stderr, reason = "the last word of a command that failed is for whoever typed it")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // The region's own trouble; what functions write is printed by the log.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")))
        .init();
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
