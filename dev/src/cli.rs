//! The command line: that of the local region, with cargo's options and the commands about keys.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use local_region::cli::{self, CliError, ServeArgs, StackArgs, Target, print};
use local_region::region::{Code, DataError};
use serde::Deserialize;

use crate::cargo::{Workspace, WorkspaceError};
use crate::keys::KeyError;
use crate::regions::{self, PeerError};
use crate::secrets::{self, JWKS_PARAMETER};
use crate::token_keys;

/// The public keys of a region that has not started.
const NO_KEYS: &str = r#"{"keys":[]}"#;

/// Sojourn regions on this machine.
///
/// Without a command it builds the functions, serves the region that template.yaml describes, and
/// runs until Ctrl-C. With --regions it serves several.
#[derive(Debug, Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev --", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    cargo: CargoArgs,
}

/// How cargo builds the functions.
#[derive(Debug, Args)]
struct CargoArgs {
    /// Build and run the functions with the release profile
    #[arg(long, conflicts_with = "profile")]
    release: bool,
    /// Build and run the functions with this cargo profile
    #[arg(long, default_value = "dev", value_name = "NAME")]
    profile: String,
    /// Run what is already built
    #[arg(long)]
    no_build: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load several regions, kill one, and check every promise (drill --help)
    #[command(disable_help_flag = true)]
    Drill {
        /// What the drill is given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        arguments: Vec<OsString>,
    },
    #[command(flatten)]
    Region(cli::Command),
    /// Make a token signing key for a region in the cloud and print both halves
    Keygen,
    /// Have a region that is stopped sign with a new key from its next start on; tokens of the
    /// earlier ones stay good
    RotateKey {
        /// Where it keeps its data
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Have a region that is stopped refuse, from its next start on, tokens of the keys before the
    /// present one
    DropKeys {
        /// Where it keeps its data
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
    },
    /// Have a running region seal session payloads with a new key; the earlier ones still open what
    /// they sealed
    RotateSealingKey {
        #[command(flatten)]
        target: Target,
    },
    /// Remove the sealing keys before the present one from a running region
    DropSealingKeys {
        #[command(flatten)]
        target: Target,
    },
}

/// Why a command fails. Each is a sentence for whoever typed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    #[error(transparent)]
    Region(#[from] CliError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Peers(#[from] PeerError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("cargo can't be run: {0}")]
    Drill(std::io::Error),
}

impl DevError {
    /// Whether the reader of the output has closed it (`| head`).
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Region(error) if error.is_closed_pipe())
    }
}

#[derive(Deserialize)]
struct SealingKeys {
    kids: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(Cli { command, serve, cargo }: Cli) -> Result<(), DevError> {
    match command {
        None => Box::pin(serve_regions(serve, cargo)).await?,
        Some(Command::Drill { arguments }) => return Err(DevError::Drill(drill(arguments))),
        Some(Command::Region(cli::Command::Template { stack })) => {
            let stack = with_keys_and_tables(stack)?;
            Box::pin(cli::run_command(cli::Command::Template { stack })).await?;
        }
        Some(Command::Region(command)) => Box::pin(cli::run_command(command)).await?,
        Some(Command::Keygen) => token_keys::generate()?,
        Some(Command::RotateKey { data }) => token_keys::rotate(&data)?,
        Some(Command::DropKeys { data }) => token_keys::drop_earlier(&data)?,
        Some(Command::RotateSealingKey { target }) => {
            let kids = sealing_keys(&target, "rotate").await?;
            print(&format!(
                "session payloads are sealed with the first key, and opened with all: {}",
                kids.join(", ")
            ))?;
        }
        Some(Command::DropSealingKeys { target }) => {
            let kids = sealing_keys(&target, "drop").await?;
            print(&format!("session payloads are sealed and opened with {}", kids.join(", ")))?;
        }
    }
    Ok(())
}

async fn serve_regions(serve: ServeArgs, cargo: CargoArgs) -> Result<(), DevError> {
    regions::check(&serve.regions)?;
    let profile = if cargo.release { "release" } else { &cargo.profile };
    let workspace = Workspace::find(&folder_of(&serve.stack.path()?), profile).await?;
    let build = (!cargo.no_build).then(|| workspace.build());
    let format = serve.format();
    let mut options = serve.options(build, Code::Folder(workspace.binaries().to_owned()))?;
    regions::introduce(&mut options)?;
    secrets::add(&mut options)?;
    Ok(cli::serve(options, format).await?)
}

/// The template as a region would run it that has no keys yet.
fn with_keys_and_tables(mut stack: StackArgs) -> Result<StackArgs, DevError> {
    // First, so that a given value wins.
    stack.parameters.insert(0, (JWKS_PARAMETER.to_owned(), NO_KEYS.to_owned()));
    if stack.global_template.is_none()
        && let Some(global) = regions::global_template(&stack.path()?, &stack.values()?)
    {
        stack.global_template = Some(global.path);
        stack.global_parameters = global.parameters.into_iter().collect();
    }
    Ok(stack)
}

async fn sealing_keys(target: &Target, change: &str) -> Result<Vec<String>, CliError> {
    let SealingKeys { kids } = cli::post(target, &format!("/sealing-keys/{change}")).await?;
    Ok(kids)
}

fn folder_of(template: &Path) -> PathBuf {
    let folder = template.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// Becomes the drill, which is a program of its own. Returns only if that fails.
fn drill(arguments: Vec<OsString>) -> std::io::Error {
    use std::os::unix::process::CommandExt;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["run", "--quiet", "--bin", "sojourn-drill", "--"]).args(arguments);
    command.exec()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_functions_are_built_with_the_development_profile_unless_told_otherwise() {
        let cargo = |arguments: &[&str]| Cli::try_parse_from(arguments).map(|cli| cli.cargo);
        let default = cargo(&["cargo dev"]).unwrap();
        assert_eq!((default.profile.as_str(), default.release, default.no_build), ("dev", false, false));
        assert!(cargo(&["cargo dev", "--release", "--profile", "deploy"]).is_err());
    }

    #[test]
    fn commands_of_the_local_region_and_those_about_keys_are_one_list() {
        let command = |name: &str| Cli::try_parse_from(["cargo dev", name]).unwrap().command.unwrap();
        assert!(matches!(command("ps"), Command::Region(cli::Command::Ps { .. })));
        assert!(matches!(command("rotate-sealing-key"), Command::RotateSealingKey { .. }));
    }
}
