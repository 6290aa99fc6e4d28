//! The folder that keeps a region's data across restarts. A lock gives it to one region at a time:
//! two regions that write to the same files would damage them.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Locked while a region uses the folder. The system releases the lock when the process ends.
const LOCK_FILE: &str = "region.lock";

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It can't be made or written to.
    #[error("the data folder {} can't be used: {source}", path.display())]
    Refused {
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another region has it.
    #[error("the data folder {} belongs to a region that still runs; stop it, or choose another with --data", path.display())]
    InUse { path: PathBuf },
}

/// A folder that belongs to this process alone until it is dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Open for its lock.
    _lock: File,
}

impl DataFolder {
    /// Makes the folder, if it isn't there, and locks it.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let refused = |source| DataError::Refused { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(refused)?;
        let lock = File::create(path.join(LOCK_FILE)).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(refused(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_region_until_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataFolder::open(&path).unwrap();
        assert!(matches!(DataFolder::open(&path), Err(DataError::InUse { .. })));
        drop(first);
        DataFolder::open(&path).unwrap();
    }
}
