//! Builds the functions with a command of the caller, if there is one.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// Why the functions were not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The command's program is missing.
    #[error("the build command can't be run: {program} was not found")]
    NoProgram { program: String },
    /// The command can't be run.
    #[error("the build command can't be run: {0}")]
    Io(#[from] std::io::Error),
    /// The command failed. Holds what it printed.
    #[error("the functions don't build ({status}):\n{printed}")]
    Failed { status: String, printed: String },
}

/// A command that builds the functions, run after the template is read and before anything starts.
#[derive(Debug)]
pub struct Build {
    /// The program with its arguments, folder and environment.
    pub command: Command,
    /// The step of the build, if a line of the standard output names one. Other lines are not
    /// shown.
    pub step: fn(&str) -> Option<String>,
    /// What the command builds, for the line that is printed when it is done: `debug`.
    pub what: String,
}

impl Build {
    /// `command` for the shell, in the folder of the template.
    pub fn shell(command: &str, folder: &std::path::Path) -> Self {
        let mut shell = Command::new("sh");
        // Compilers and scripts complain on either output; both are shown when the build fails.
        shell.arg("-c").arg(format!("exec 1>&2\n{command}")).current_dir(folder);
        Self { command: shell, step: |_| None, what: command.to_owned() }
    }

    /// Runs the command. `step` is called for each step.
    pub(crate) async fn run(self, mut step: impl FnMut(&str)) -> Result<(), BuildError> {
        let Self { mut command, step: step_of, .. } = self;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| not_started(&command, error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let steps = async {
            let Some(stdout) = stdout else { return Ok(()) };
            let mut lines = BufReader::new(stdout).lines();
            while let Some(line) = lines.next_line().await? {
                if let Some(name) = step_of(&line) {
                    step(&name);
                }
            }
            Ok::<_, std::io::Error>(())
        };
        let printed = async {
            let mut printed = Vec::new();
            if let Some(mut stderr) = stderr {
                stderr.read_to_end(&mut printed).await?;
            }
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&printed).into_owned())
        };
        let (read, printed, status) = tokio::join!(steps, printed, child.wait());
        read?;
        let (printed, status) = (printed?, status?);
        if !status.success() {
            return Err(BuildError::Failed { status: status.to_string(), printed });
        }
        Ok(())
    }
}

fn not_started(command: &Command, error: std::io::Error) -> BuildError {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            BuildError::NoProgram { program: command.as_std().get_program().to_string_lossy().into_owned() }
        }
        _ => BuildError::Io(error),
    }
}
