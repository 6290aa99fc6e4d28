//! The regions that a drill starts itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::run::DrillError;
use crate::world::World;

/// Longest wait for the regions: the functions are built first.
const START_LIMIT: Duration = Duration::from_mins(20);
/// How often the drill looks for the ready file.
const LOOK: Duration = Duration::from_millis(100);
/// The shop's default would stop customers who order every second.
const PARAMETER: &str = "UnpaidOrdersPerCustomer=1000";

/// Regions in a process of their own.
#[derive(Debug)]
pub struct LocalRegions {
    pub world: World,
    process: Child,
    folder: PathBuf,
}

impl LocalRegions {
    /// Starts regions with these names, separated by commas, and waits until they serve.
    pub async fn start(names: &str) -> Result<Self, DrillError> {
        let own = std::env::current_exe().map_err(DrillError::Start)?;
        // A test's program is in a folder of its own beside the binaries.
        let beside = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap_or(&own);
        let binary = beside.join("sojourn-dev");
        let folder = std::env::temp_dir().join(format!("sojourn-drill-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(DrillError::Start)?;
        let ready_file = folder.join("ready.json");
        let log = std::fs::File::create(folder.join("regions.log")).map_err(DrillError::Start)?;
        let mut command = Command::new(binary);
        command.args(["--regions", names, "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0"]);
        command.arg("--ready-file").arg(&ready_file);
        command.args(["--parameter", PARAMETER]);
        let output = log.try_clone().map_err(DrillError::Start)?;
        command.stdin(Stdio::null()).stdout(output).stderr(log).kill_on_drop(true);
        let mut process = command.spawn().map_err(DrillError::Start)?;
        let world = ready(&mut process, &ready_file).await?;
        Ok(Self { world, process, folder })
    }

    /// Stops them. Their log is kept.
    pub async fn stop(mut self) {
        // Without an id, the process has ended.
        if let Some(id) = self.process.id() {
            let interrupted = Command::new("kill").arg("-INT").arg(id.to_string()).status().await;
            if interrupted.is_ok() {
                self.process.wait().await.ok();
            }
        }
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

async fn ready(process: &mut Child, file: &Path) -> Result<World, DrillError> {
    let began = Instant::now();
    loop {
        // The file is written atomically.
        if let Ok(text) = std::fs::read_to_string(file) {
            return serde_json::from_str(&text).map_err(DrillError::ReadyFile);
        }
        let log = || file.with_file_name("regions.log");
        if let Ok(Some(status)) = process.try_wait() {
            let said = std::fs::read_to_string(log()).unwrap_or_default();
            return Err(DrillError::NotStarted { status: status.to_string(), said });
        }
        if began.elapsed() > START_LIMIT {
            return Err(DrillError::NotStarted { status: "too slow".to_owned(), said: String::new() });
        }
        tokio::time::sleep(LOOK).await;
    }
}
