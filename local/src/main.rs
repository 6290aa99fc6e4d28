//! The program `local-region`. See [`local_region::cli`].

use std::process::ExitCode;

use clap::Parser;
use local_region::cli::{Cli, exit, log_to_stderr, run};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    exit(run(cli).await)
}
