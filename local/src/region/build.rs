//! Builds the functions with cargo, and says where their binaries are.
//!
//! One `cargo build --workspace --bins`, so that features are unified as in `cargo dev` itself and nothing is
//! compiled twice.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// Why the functions were not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no cargo.
    #[error(
        "cargo was not found; install Rust from https://rustup.rs, or run what is already built with --no-build"
    )]
    NoCargo,
    /// Cargo can't be run.
    #[error("cargo can't be run: {0}")]
    Cargo(#[from] std::io::Error),
    /// The workspace is not one that cargo understands.
    #[error("cargo can't read the workspace:\n{0}")]
    Metadata(String),
    /// The functions don't compile. Holds what cargo printed.
    #[error("the functions don't build:\n{0}")]
    Failed(String),
    /// A function has no binary.
    #[error("the function {function} has no binary {}; is there a package of that name in functions/?", path.display())]
    NoBinary {
        /// Short name.
        function: String,
        /// Where it was looked for.
        path: PathBuf,
    },
}

/// A cargo workspace and a profile to build it with.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    profile: String,
    binaries: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

/// One line of `cargo build --message-format json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

impl Workspace {
    /// The workspace with its root at `root`.
    pub(crate) async fn find(root: &Path, profile: &str) -> Result<Self, BuildError> {
        let output = cargo(root).args(["metadata", "--no-deps", "--format-version", "1"]).output().await;
        let output = output.map_err(no_cargo)?;
        if !output.status.success() {
            return Err(BuildError::Metadata(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .map_err(|error| BuildError::Metadata(error.to_string()))?;
        // The development profile is the one whose folder has another name.
        let folder = if profile == "dev" { "debug" } else { profile };
        Ok(Self {
            root: root.to_owned(),
            profile: profile.to_owned(),
            binaries: metadata.target_directory.join(folder),
        })
    }

    /// Builds every binary. `step` hears of each that is ready.
    pub(crate) async fn build(&self, mut step: impl FnMut(&str)) -> Result<(), BuildError> {
        let mut child = cargo(&self.root)
            .args(["build", "--quiet", "--workspace", "--bins", "--profile", &self.profile])
            .args(["--message-format", "json-render-diagnostics"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(no_cargo)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let messages = async {
            let Some(stdout) = stdout else { return Ok(()) };
            let mut lines = BufReader::new(stdout).lines();
            while let Some(line) = lines.next_line().await? {
                if let Ok(Message { reason, target: Some(target) }) = serde_json::from_str(&line)
                    && reason == "compiler-artifact"
                {
                    step(&target.name);
                }
            }
            Ok::<_, std::io::Error>(())
        };
        let diagnostics = async {
            let mut text = String::new();
            if let Some(mut stderr) = stderr {
                stderr.read_to_string(&mut text).await?;
            }
            Ok::<_, std::io::Error>(text)
        };
        let (read, diagnostics, status) = tokio::join!(messages, diagnostics, child.wait());
        read?;
        let diagnostics = diagnostics?;
        if !status?.success() {
            return Err(BuildError::Failed(diagnostics));
        }
        Ok(())
    }

    /// The binary of `function`.
    pub(crate) fn binary(&self, function: &str) -> Result<PathBuf, BuildError> {
        let path = self.binaries.join(function);
        if path.is_file() {
            return Ok(path);
        }
        Err(BuildError::NoBinary { function: function.to_owned(), path })
    }
}

fn cargo(root: &Path) -> Command {
    // Set by `cargo run`: the same cargo, whatever the PATH says.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // `cargo run` describes this package to us; the build to come must not believe that it is about that package.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name_text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command
}

fn no_cargo(error: std::io::Error) -> BuildError {
    match error.kind() {
        std::io::ErrorKind::NotFound => BuildError::NoCargo,
        _ => BuildError::Cargo(error),
    }
}
