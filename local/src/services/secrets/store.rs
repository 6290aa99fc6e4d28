//! The values, in memory and, if there is a data folder, one file each.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ulid::Ulid;

/// Only the owner reads and writes.
const FILE_MODE: u32 = 0o600;
/// Only the owner enters.
const FOLDER_MODE: u32 = 0o700;

/// Why a secret could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file system refused.
    #[error("the secrets in {path} can't be {doing}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// `read` or `written`.
        doing: &'static str,
        source: io::Error,
    },
}

/// One value.
#[derive(Clone)]
pub(super) struct Secret {
    pub(super) value: String,
    /// Holds the time of its creation as well.
    version: Ulid,
}

impl Secret {
    /// The API wants 32 characters or more.
    pub(super) fn version_id(&self) -> String {
        format!("version-{}", self.version)
    }

    /// Seconds since 1970, as the API writes time.
    pub(super) fn created_epoch_seconds(&self) -> f64 {
        self.version.datetime().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
    }
}

/// All values. Not `Debug` by derivation: nothing prints a secret.
pub(super) struct Store {
    folder: Option<PathBuf>,
    secrets: RwLock<BTreeMap<String, Secret>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn file_error<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> SecretError + 'a {
    move |source| SecretError::File { path: path.to_owned(), doing, source }
}

impl Store {
    /// Reads what was kept in `folder`, which is made if it isn't there.
    pub(super) fn open(folder: Option<&Path>) -> Result<Self, SecretError> {
        let mut secrets = BTreeMap::new();
        if let Some(folder) = folder {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(folder)
                .map_err(file_error(folder, "written"))?;
            for entry in fs::read_dir(folder).map_err(file_error(folder, "read"))? {
                let path = entry.map_err(file_error(folder, "read"))?.path();
                // Anything else (a half-written temporary file) was not put by us.
                let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(name_of) else {
                    continue;
                };
                secrets.insert(name, read(&path)?);
            }
        }
        Ok(Self { folder: folder.map(Path::to_owned), secrets: RwLock::new(secrets) })
    }

    pub(super) fn put(&self, name: &str, value: &str) -> Result<(), SecretError> {
        if let Some(folder) = &self.folder {
            let path = folder.join(file_name(name));
            write(folder, &path, value).map_err(file_error(&path, "written"))?;
        }
        let secret = Secret { value: value.to_owned(), version: Ulid::generate() };
        self.secrets.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), secret);
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<Secret> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Names hold slashes (`shop/token-key`), file names can't.
fn file_name(name: &str) -> String {
    format!("{}.secret", URL_SAFE_NO_PAD.encode(name))
}

fn name_of(file_name: &str) -> Option<String> {
    let encoded = file_name.strip_suffix(".secret")?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

fn read(path: &Path) -> Result<Secret, SecretError> {
    let value = fs::read_to_string(path).map_err(file_error(path, "read"))?;
    let metadata = fs::metadata(path).map_err(file_error(path, "read"))?;
    let written = metadata.modified().map_err(file_error(path, "read"))?;
    // The same after every start.
    let millis = written.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis();
    let version = Ulid::from_parts(u64::try_from(millis).unwrap_or(0), 0);
    Ok(Secret { value, version })
}

/// Whole or not at all: a crash between the two leaves the old value.
fn write(folder: &Path, path: &Path, value: &str) -> io::Result<()> {
    let temporary = folder.join(format!("{}.new", Ulid::generate()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
    file.write_all(value.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
