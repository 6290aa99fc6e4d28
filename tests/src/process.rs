//! The process of a region, or of several: started with the functions that are built already, and
//! stopped when dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest wait for a region to be up. It takes well under a second; a loaded CI machine may take
/// its time.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Longest wait for a region to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Lines of a failed test's region that are shown.
const LOG_LINES: usize = 60;

/// How a region is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Another template than that of the workspace, with its functions built beside it.
    pub template: Option<PathBuf>,
    /// Further arguments of the program.
    pub arguments: Vec<String>,
    /// Cargo's profile of the functions, which are built already; that of this test if absent.
    pub profile: Option<String>,
    /// Where it keeps its data; a temporary directory that goes with the region if absent.
    pub data: Option<PathBuf>,
}

/// `sojourn-dev`, or `local-region` for another template, ready.
#[derive(Debug)]
pub(crate) struct LocalProcess {
    child: Mutex<Child>,
    ready: String,
    directory: TempDir,
}

impl LocalProcess {
    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(options: Options) -> Self {
        build_functions();
        let directory = tempfile::tempdir().unwrap();
        let ready_file = directory.path().join("ready.json");
        let log = std::fs::File::create(directory.path().join("region.log")).unwrap();
        let mut command = program(options.template.as_deref());
        command
            .args(["--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--log", "json"])
            .args(["--ready-file".as_ref(), ready_file.as_os_str()])
            .args(&options.arguments)
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(data) = &options.data {
            command.args(["--data".as_ref(), data.as_os_str()]);
        }
        let profile = options.profile.as_deref().or(is_release().then_some("release"));
        if let Some(profile) = profile.filter(|_| options.template.is_none()) {
            command.args(["--profile", profile]);
        }
        let mut child = command.spawn().expect("the region's program starts");

        let began = Instant::now();
        let ready = loop {
            if let Ok(text) = std::fs::read_to_string(&ready_file) {
                break text;
            }
            let ended = child.try_wait().unwrap();
            if ended.is_some() || began.elapsed() > START_LIMIT {
                let log = std::fs::read_to_string(directory.path().join("region.log")).unwrap();
                panic!("the region did not start ({ended:?}):\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        Self { child: Mutex::new(child), ready, directory }
    }

    /// What the ready file held at the start.
    pub(crate) fn ready(&self) -> &str {
        &self.ready
    }

    /// Where it is.
    pub(crate) fn ready_file(&self) -> PathBuf {
        self.directory.path().join("ready.json")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child().id()
    }

    /// All that it and its functions have logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("region.log")).unwrap()
    }

    /// Asks it to stop and waits.
    pub(crate) fn end(&self) {
        let mut child = self.child();
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let began = Instant::now();
        while asked.is_ok() && began.elapsed() < STOP_LIMIT {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "drop is not async, and the region is another process"
            )]
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().and_then(|()| child.wait()).expect("the region ends");
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the end of the log, for whoever reads why a test failed.
    #[expect(clippy::print_stdout, reason = "the output of a failed test is what its reader has")]
    fn show_log(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        println!("--- end of the region's log ---");
        lines[lines.len().saturating_sub(LOG_LINES)..].iter().for_each(|line| println!("{line}"));
    }
}

/// What runs the workspace's template, or another one.
fn program(template: Option<&Path>) -> Command {
    let Some(template) = template else {
        let mut command = Command::new(binaries().join("sojourn-dev"));
        command
            .arg("--no-build")
            // Everybody here signs up from one address. A test of that limit sets it anew: the last
            // value counts.
            .args(["--parameter", "SignUpsPerAddress=1000000"])
            // A test sees at once what another process wrote. Tests of the cache set it anew.
            .args(["--parameter", "Cache=none"]);
        return command;
    };
    let mut command = Command::new(binaries().join("local-region"));
    command.args(["--template".as_ref(), template.as_os_str()]);
    command
}

impl Drop for LocalProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
        }
        self.end();
    }
}

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Where cargo puts binaries of the profile that this test was built with.
fn binaries() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.parent().unwrap();
    if directory.ends_with("deps") { directory.parent().unwrap().to_owned() } else { directory.to_owned() }
}

/// A binary of the workspace. Built once a `TestRegion` has been started.
pub fn binary(name: &str) -> PathBuf {
    binaries().join(name)
}

fn is_release() -> bool {
    binaries().ends_with("release")
}

/// Builds all binaries, once a process: `cargo test` alone does not build those of other packages.
fn build_functions() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(workspace());
        if is_release() {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo starts").success(), "the functions do not build");
    });
}
