//! Finds the executable of a function.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::template::BOOTSTRAP;
use crate::template::model::Function;

/// Any of the three may run the file.
const EXECUTABLE: u32 = 0o111;

/// Where the executables of the functions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// Where Lambda finds them: each is `bootstrap` in the function's `CodeUri`.
    CodeUri,
    /// In one folder, each under the short name of its function.
    Folder(PathBuf),
}

/// A function that can't be run.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// The executable is missing.
    #[error("the function {function} has no executable {}; {hint}", path.display())]
    Missing {
        /// Short name.
        function: String,
        /// Where it was looked for.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// The file has no permission to be executed, which Lambda refuses, too.
    #[error("the function {function} can't run {}: the file is not executable (chmod +x)", path.display())]
    NotExecutable {
        /// Short name.
        function: String,
        /// The file.
        path: PathBuf,
    },
}

impl Code {
    /// The executable of `function`, of a template in the folder `beside`.
    pub(super) fn executable(&self, function: &Function, beside: &Path) -> Result<PathBuf, CodeError> {
        let (path, hint) = match self {
            Self::CodeUri => (
                beside.join(&function.code_uri).join(BOOTSTRAP),
                "build the function first (--build), correct its CodeUri, or name a folder of executables with --binaries",
            ),
            Self::Folder(folder) => {
                (folder.join(&function.name), "build it first, or name the folder that holds it")
            }
        };
        let function = function.name.clone();
        // Processes start in another folder than this one.
        let absolute = path.canonicalize();
        let Some((path, metadata)) = absolute
            .and_then(|path| Ok((path.clone(), path.metadata()?)))
            .ok()
            .filter(|(_, file)| file.is_file())
        else {
            return Err(CodeError::Missing { function, path, hint });
        };
        if metadata.permissions().mode() & EXECUTABLE == 0 {
            return Err(CodeError::NotExecutable { function, path });
        }
        Ok(path)
    }
}
