//! `cargo dev`: the local region with what Sojourn adds to it.
//!
//! - The functions are built with cargo (`cargo`), and run from cargo's target folder.
//! - Access tokens are signed with a key of the region. The parameter `TokenJwks` has the public
//!   keys of all regions that run together, and the stack's secrets have the private ones (`keys`).
//! - Regions know each other by parameters of the template, and share the tables of global.yaml
//!   (`regions`).
//! - Commands change keys, and start the drill (`cli`).

mod cargo;
mod cli;
mod keys;
mod regions;
mod secrets;
mod token_keys;

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
#[expect(clippy::print_stderr, reason = "the last line of a command that failed")]
async fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    local_region::cli::log_to_stderr();
    match cli::run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
