//! The program `local-region`, started as anybody starts it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use local_region::region::{Ready, ReadyFile};
use tempfile::TempDir;

/// Longest wait for the region to be up.
const START_LIMIT: Duration = Duration::from_mins(1);

pub(crate) struct Program {
    child: Child,
    /// The region, or the first of several.
    pub(crate) ready: Ready,
    directory: TempDir,
}

/// The template's folder of the example.
pub(crate) fn guestbook() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/guestbook")
}

/// A copy of an example, to be changed.
pub(crate) fn copy(example: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(example.join(".")).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    folder
}

fn command(template: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_local-region"));
    command.args(["--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--log", "json"]).args(arguments);
    command.current_dir(template).stdin(Stdio::null());
    command
}

/// A start that fails: what it says.
pub(crate) fn refused(template: &Path, arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = command(template, arguments).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

impl Program {
    /// Starts it in the folder of a template, and waits until the region is up.
    pub(crate) async fn start(template: &Path, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ready, log) = (directory.path().join("ready.json"), directory.path().join("log"));
        let output = std::fs::File::create(&log).unwrap();
        let mut command = command(template, arguments);
        command.arg("--ready-file").arg(&ready).stdout(output.try_clone().unwrap()).stderr(output);
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        while !ready.exists() {
            let ended = child.try_wait().unwrap();
            let log = || std::fs::read_to_string(&log).unwrap();
            assert!(ended.is_none() && began.elapsed() < START_LIMIT, "no region ({ended:?}):\n{}", log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ready = ReadyFile::read(&ready).unwrap();
        let first = match &ready {
            ReadyFile::Several(several) => several.regions.keys().next().cloned(),
            ReadyFile::One(_) => None,
        };
        let ready = ready.region(first.as_deref()).unwrap();
        Self { child, ready, directory }
    }

    /// What it and its functions have printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// The operator's.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(&self.ready.access_key_id, &self.ready.secret_access_key, None, None, "test")
    }

    /// What a command prints that asks this region.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let file = self.directory.path().join("ready.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_local-region"));
        let output = command.args(arguments).arg("--region-file").arg(file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SIGTERM, so that the region stops its functions.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let ended = asked.unwrap().success() && self.child.wait().unwrap().success();
        assert!(ended || std::thread::panicking(), "the region did not stop");
    }
}
