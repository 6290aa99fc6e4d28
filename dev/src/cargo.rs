//! Builds the functions with cargo, and says where their binaries are.
//!
//! One `cargo build --workspace --bins`, so that features are unified as in `cargo dev` itself and
//! nothing is compiled twice.

use std::path::{Path, PathBuf};

use local_region::region::Build;
use serde::Deserialize;
use tokio::process::Command;

/// A folder whose functions can't be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    #[error("cargo was not found; install Rust from https://rustup.rs, which also brings cargo dev")]
    NoCargo,
    #[error("cargo can't be run: {0}")]
    Cargo(std::io::Error),
    #[error("cargo can't read the workspace:\n{0}")]
    Metadata(String),
}

/// A cargo workspace and a profile to build it with.
#[derive(Debug)]
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
    pub(crate) async fn find(root: &Path, profile: &str) -> Result<Self, WorkspaceError> {
        let output = cargo(root).args(["metadata", "--no-deps", "--format-version", "1"]).output().await;
        let output = output.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => WorkspaceError::NoCargo,
            _ => WorkspaceError::Cargo(error),
        })?;
        if !output.status.success() {
            return Err(WorkspaceError::Metadata(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .map_err(|error| WorkspaceError::Metadata(error.to_string()))?;
        // The development profile is the one whose folder has another name.
        let folder = if profile == "dev" { "debug" } else { profile };
        Ok(Self {
            root: root.to_owned(),
            profile: profile.to_owned(),
            binaries: metadata.target_directory.join(folder),
        })
    }

    /// Builds every binary. Each that is ready is a step.
    pub(crate) fn build(&self) -> Build {
        let mut command = cargo(&self.root);
        command
            .args(["build", "--quiet", "--workspace", "--bins", "--profile", &self.profile])
            .args(["--message-format", "json-render-diagnostics"]);
        Build { command, step: built, what: self.profile.clone() }
    }

    /// Where the binaries are.
    pub(crate) fn binaries(&self) -> &Path {
        &self.binaries
    }
}

/// What a line of cargo's output says was built.
fn built(line: &str) -> Option<String> {
    let Message { reason, target } = serde_json::from_str(line).ok()?;
    target.filter(|_| reason == "compiler-artifact").map(|target| target.name)
}

fn cargo(root: &Path) -> Command {
    // Set by `cargo run`: the same cargo, whatever the PATH says.
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // `cargo run` describes this package to us; the build to come is not about that package.
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| name_text.starts_with(prefix))
        {
            command.env_remove(&name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_are_the_steps_of_a_build() {
        let artifact = r#"{"reason":"compiler-artifact","target":{"name":"api-orders"}}"#;
        assert_eq!(built(artifact).as_deref(), Some("api-orders"));
        assert_eq!(built(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(built("warning: of a build script"), None);
    }
}
