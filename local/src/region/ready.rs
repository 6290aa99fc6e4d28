//! How a running region is found: the ready file, and the list of the user's running regions.
//!
//! Both hold the same JSON, a [`ReadyFile`]. A file is written when everything is up, and renamed
//! into place, so that it is never read in part. Only its owner can read it, because it holds the
//! operator's key. The process removes both when it stops. A killed process leaves them: readers of
//! the list remove its entry, and readers of its ready file get an error that nothing answers.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

/// A listener on this machine accepts at once, or there is none.
const ANSWER_LIMIT: Duration = Duration::from_millis(200);

/// Where a running region is, and the key that may do everything in it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    pub http: String,
    /// The WebSocket API, with its stage.
    pub ws: String,
    /// The Lambda Invoke API, and the region's own control API under `/_local-region/`.
    pub lambda: String,
    pub dynamodb: String,
    /// S3, path-style.
    pub s3: String,
    pub secrets_manager: String,
    pub sqs: String,
    pub sns: String,
    /// `EventBridge`.
    pub eventbridge: String,
    /// AWS's name of the region; `local` for one that runs alone.
    pub region: String,
    /// The tables' names, by their logical ids.
    pub tables: BTreeMap<String, String>,
    pub access_key_id: String,
    /// Its secret; new at every start.
    pub secret_access_key: String,
}

/// Where several running regions are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Several {
    /// The front door's HTTP URL.
    pub front: String,
    /// The front door's WebSocket URL, with the stage.
    pub front_ws: String,
    /// What controls all of them, under `/_local-region/regions`.
    pub control: String,
    pub regions: BTreeMap<String, Ready>,
}

/// What one process runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ReadyFile {
    Several(Several),
    One(Box<Ready>),
}

/// The operator's secret is not for logs.
impl std::fmt::Debug for Ready {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Ready")
            .field("http", &self.http)
            .field("ws", &self.ws)
            .finish_non_exhaustive()
    }
}

/// Why a ready file can't be written, or no region be found.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// The file can't be written.
    #[error("{} can't be written: {source}", path.display())]
    Write {
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file can't be read.
    #[error("{} can't be read: {source}", path.display())]
    Read {
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no such file.
    #[error("{} is not there: its region has not started or has stopped", path.display())]
    Missing { path: PathBuf },
    /// Nothing listens where the file's region was.
    #[error("nothing answers at {address}: the region of {} has ended without removing it", path.display())]
    Ended {
        path: PathBuf,
        /// Where the region was.
        address: String,
    },
    /// The file is not a region's.
    #[error("{} doesn't describe a region: {source}", path.display())]
    Form { path: PathBuf, source: serde_json::Error },
    /// Which of several regions is meant?
    #[error("several regions run; choose one with --region: {known}")]
    Choose { known: String },
    /// None of that name.
    #[error("no region {name} runs; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        known: String,
    },
    /// One region runs, which has no name.
    #[error("one region runs, and has no name; several are started with --regions NAME,NAME")]
    Alone,
    /// No region runs.
    #[error("no region is running; start one, or name its ready file with --region-file")]
    NoRegion,
}

impl ReadyFile {
    /// The region of that name, which may be left out where there is one.
    pub fn region(self, name: Option<&str>) -> Result<Ready, ReadyError> {
        match (self, name) {
            (Self::One(ready), None) => Ok(*ready),
            (Self::One(_), Some(_)) => Err(ReadyError::Alone),
            (Self::Several(mut several), Some(name)) => several
                .regions
                .remove(name)
                .ok_or_else(|| ReadyError::Unknown { name: name.to_owned(), known: several.names() }),
            (Self::Several(several), None) => Err(ReadyError::Choose { known: several.names() }),
        }
    }

    /// What controls all regions, where there are several.
    pub fn control(self) -> Result<String, ReadyError> {
        match self {
            Self::Several(several) => Ok(several.control),
            Self::One(_) => Err(ReadyError::Alone),
        }
    }

    /// What answers for as long as the process runs.
    fn address(&self) -> &str {
        match self {
            Self::Several(several) => &several.control,
            Self::One(ready) => &ready.lambda,
        }
    }

    /// Writes the file at `path`, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), ReadyError> {
        let failed = |source| ReadyError::Write { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let json = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        // A temporary file is made for its owner only, and stays so.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(&json).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ReadyError> {
        let bytes = std::fs::read(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => ReadyError::Missing { path: path.to_owned() },
            _ => ReadyError::Read { path: path.to_owned(), source },
        })?;
        serde_json::from_slice(&bytes).map_err(|source| ReadyError::Form { path: path.to_owned(), source })
    }

    /// Whether the region's address has a listener. A pid may belong to another process by now, a
    /// port rarely does.
    fn answers(&self) -> bool {
        let address = self.address().strip_prefix("http://").and_then(|address| address.parse().ok());
        address.is_some_and(|address| TcpStream::connect_timeout(&address, ANSWER_LIMIT).is_ok())
    }

    /// What the file at `path` describes, if it still runs.
    pub fn running(path: &Path) -> Result<Self, ReadyError> {
        let ready = Self::read(path)?;
        if ready.answers() {
            return Ok(ready);
        }
        Err(ReadyError::Ended { path: path.to_owned(), address: ready.address().to_owned() })
    }

    /// The newest of this user that still runs.
    pub fn newest() -> Result<Self, ReadyError> {
        newest_in(&folder())
    }
}

impl Several {
    fn names(&self) -> String {
        self.regions.keys().cloned().collect::<Vec<_>>().join(", ")
    }
}

/// A file that says where this process's regions are. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Published {
    path: PathBuf,
    /// The process's own address: what was written to the path since by another process stays.
    address: String,
}

impl Published {
    /// The ready file.
    pub(crate) fn at(path: &Path, ready: &ReadyFile) -> Result<Self, ReadyError> {
        ready.write(path)?;
        Ok(Self { path: path.to_owned(), address: ready.address().to_owned() })
    }

    /// The entry in the list of running regions.
    pub(crate) fn in_list(ready: &ReadyFile) -> Result<Self, ReadyError> {
        let folder = folder();
        let failed = |source| ReadyError::Write { path: folder.clone(), source };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        Self::at(&folder.join(format!("region-{}.json", std::process::id())), ready)
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if ReadyFile::read(&self.path).is_ok_and(|ready| ready.address() == self.address) {
            remove(&self.path);
        }
    }
}

fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) => PathBuf::from(folder).join("local-region"),
        None => std::env::temp_dir().join(format!("local-region-{}", Uid::current())),
    }
}

fn newest_in(folder: &Path) -> Result<ReadyFile, ReadyError> {
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !is_entry(&entry.path()) {
            continue;
        }
        if !ReadyFile::read(&entry.path()).is_ok_and(|ready| ready.answers()) {
            remove(&entry.path());
            continue;
        }
        let written =
            entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        if newest.as_ref().is_none_or(|(other, _)| written > *other) {
            newest = Some((written, entry.path()));
        }
    }
    ReadyFile::read(&newest.ok_or(ReadyError::NoRegion)?.1)
}

/// Whether a file of the folder is an entry of the list.
fn is_entry(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("region-").and_then(|rest| rest.strip_suffix(".json")).is_some()
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "the file of a region is gone already");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn ready(http: &str, lambda: &str) -> ReadyFile {
        let text = || "x".to_owned();
        ReadyFile::One(Box::new(Ready {
            http: http.to_owned(),
            ws: text(),
            lambda: format!("http://{lambda}"),
            dynamodb: text(),
            s3: text(),
            secrets_manager: text(),
            sqs: text(),
            sns: text(),
            eventbridge: text(),
            region: text(),
            tables: BTreeMap::new(),
            access_key_id: text(),
            secret_access_key: "do not show".to_owned(),
        }))
    }

    fn http(ready: ReadyFile) -> String {
        ready.region(None).unwrap().http
    }

    #[test]
    fn one_of_several_regions_has_to_be_named() {
        let region = |http| ready(http, "x").region(None).unwrap();
        let regions = [("tokyo", "there"), ("taiwan", "here")];
        let regions = regions.map(|(name, http)| (name.to_owned(), region(http))).into();
        let written = ReadyFile::Several(Several {
            front: "http://127.0.0.1:2".to_owned(),
            front_ws: "ws://127.0.0.1:3/local".to_owned(),
            control: "http://127.0.0.1:1".to_owned(),
            regions,
        });
        let several =
            || serde_json::from_value::<ReadyFile>(serde_json::to_value(&written).unwrap()).unwrap();
        assert_eq!(several().region(Some("taiwan")).unwrap().http, "here");
        let refused = |name| several().region(name).unwrap_err().to_string();
        assert!(refused(None).ends_with("choose one with --region: taiwan, tokyo"));
        assert!(refused(Some("kyoto")).ends_with("no region kyoto runs; there are: taiwan, tokyo"));
        assert!(matches!(ready("here", "x").region(Some("taiwan")), Err(ReadyError::Alone)));
    }

    #[test]
    fn the_entry_of_a_killed_region_is_not_found_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let path = folder.path().join("region-1.json");
        ready("here", &address).write(&path).unwrap();
        assert_eq!(http(newest_in(folder.path()).unwrap()), "here");
        drop(listener);
        assert!(matches!(newest_in(folder.path()), Err(ReadyError::NoRegion)));
        assert!(!path.exists());
    }

    #[test]
    fn a_region_removes_the_ready_file_that_it_wrote_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let own = Published::at(&path, &ready("own", "127.0.0.1:1")).unwrap();
        drop(own);
        assert!(matches!(ReadyFile::running(&path), Err(ReadyError::Missing { .. })));

        let own = Published::at(&path, &ready("own", "127.0.0.1:1")).unwrap();
        ready("other", "127.0.0.1:2").write(&path).unwrap();
        drop(own);
        assert_eq!(http(ReadyFile::read(&path).unwrap()), "other");
    }

    #[test]
    fn a_ready_file_whose_region_was_killed_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        ready("here", &listener.local_addr().unwrap().to_string()).write(&path).unwrap();
        assert_eq!(http(ReadyFile::running(&path).unwrap()), "here");
        drop(listener);
        assert!(matches!(ReadyFile::running(&path), Err(ReadyError::Ended { .. })));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert!(!format!("{:?}", ready("http", "x")).contains("do not show"));
    }
}
