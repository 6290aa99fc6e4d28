//! Which versions of which keys there are, and which of them are still to be copied to other
//! buckets: in a database beside the files, so that it outlives a restart.
//!
//! The versions of a key are in the order in which they were written, whatever the region and
//! whenever they arrived; two of the same microsecond are in the order of their ids. So all regions
//! have the same current version in the end.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use crate::services::sqlite;

/// A row of `versions` without a file is a delete marker.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS versions (
        number INTEGER PRIMARY KEY,
        bucket TEXT NOT NULL,
        key TEXT NOT NULL,
        version_id TEXT NOT NULL,
        written_us INTEGER NOT NULL,
        file TEXT,
        size_bytes INTEGER NOT NULL,
        e_tag TEXT NOT NULL,
        replication TEXT,
        UNIQUE (bucket, key, version_id)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS versions_in_order ON versions (bucket, key, written_us, version_id);
    CREATE TABLE IF NOT EXISTS copies (
        number INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        destination TEXT NOT NULL,
        luck REAL NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS copies_of_version ON copies (version);";

const INSERT: &str = "INSERT INTO versions (bucket, key, version_id, written_us, file, size_bytes, e_tag, replication) \
     VALUES (:bucket, :key, :version_id, :written_us, :file, :size_bytes, :e_tag, :replication)";

const COPY: &str = "INSERT INTO copies (version, destination, luck) VALUES (:version, :destination, :luck)";

const LATEST: &str = "SELECT *, EXISTS (SELECT 1 FROM copies WHERE version = versions.number) AS waits FROM versions \
     WHERE bucket = :bucket AND key = :key ORDER BY written_us DESC, version_id DESC LIMIT 1";

const FIND: &str = "SELECT *, EXISTS (SELECT 1 FROM copies WHERE version = versions.number) AS waits FROM versions \
     WHERE bucket = :bucket AND key = :key AND version_id = :version_id";

const ALL: &str = "SELECT *, FALSE AS waits FROM versions WHERE bucket = :bucket \
     ORDER BY key, written_us DESC, version_id DESC";

const KEYS: &str = "SELECT DISTINCT bucket, key FROM versions";

const WAITING: &str = "SELECT versions.*, TRUE AS waits, copies.number AS copy, destination, luck \
     FROM copies JOIN versions ON versions.number = copies.version ORDER BY copies.number";

const COUNT: &str = "SELECT count(*) FROM copies";

/// Where a version comes from, as far as replication cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::services::s3) enum Replicated {
    /// It is to be copied by a rule, or was.
    Source,
    /// A copy could not be made.
    Failed,
    /// It is a copy.
    Replica,
}

impl Replicated {
    fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Failed => "failed",
            Self::Replica => "replica",
        }
    }

    fn of(text: &str) -> Option<Self> {
        [Self::Source, Self::Failed, Self::Replica].into_iter().find(|own| own.as_str() == text)
    }
}

/// A version of an object, or a delete marker.
#[derive(Debug, Clone)]
pub(in crate::services::s3) struct Version {
    pub(in crate::services::s3) bucket: String,
    pub(in crate::services::s3) key: String,
    pub(in crate::services::s3) id: String,
    /// In microseconds since 1970.
    pub(in crate::services::s3) written_us: i64,
    /// `None` for a delete marker.
    pub(in crate::services::s3) content: Option<Content>,
    pub(in crate::services::s3) replicated: Option<Replicated>,
    /// Whether a copy of it is still to be made.
    pub(super) waits: bool,
}

/// The bytes of a version.
#[derive(Debug, Clone)]
pub(in crate::services::s3) struct Content {
    /// The name of the file.
    pub(super) file: String,
    pub(super) size_bytes: i64,
    pub(super) e_tag: String,
}

/// A copy that is still to be made.
#[derive(Debug, Clone)]
pub(in crate::services::s3) struct Waiting {
    pub(in crate::services::s3) number: i64,
    pub(in crate::services::s3) destination: String,
    /// From 0 to 1: how long it takes within the lag.
    pub(in crate::services::s3) luck: f64,
    pub(in crate::services::s3) version: Version,
}

#[derive(Debug)]
pub(super) struct Index(Mutex<Connection>);

impl Index {
    pub(super) fn open(file: &Path) -> rusqlite::Result<Self> {
        Ok(Self(Mutex::new(sqlite::open(Some(file), SCHEMA)?)))
    }

    /// The current version of a key.
    pub(super) fn latest(&self, bucket: &str, key: &str) -> rusqlite::Result<Option<Version>> {
        let connection = self.lock();
        let parameters = named_params! {":bucket": bucket, ":key": key};
        connection.prepare_cached(LATEST)?.query_row(parameters, version).optional()
    }

    pub(super) fn find(
        &self,
        bucket: &str,
        key: &str,
        version_id: &str,
    ) -> rusqlite::Result<Option<Version>> {
        let connection = self.lock();
        let parameters = named_params! {":bucket": bucket, ":key": key, ":version_id": version_id};
        connection.prepare_cached(FIND)?.query_row(parameters, version).optional()
    }

    /// All versions in a bucket, in the order of their keys, the current one of a key first.
    pub(super) fn all(&self, bucket: &str) -> rusqlite::Result<Vec<Version>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(ALL)?;
        let rows = statement.query_map(named_params! {":bucket": bucket}, version)?;
        rows.collect()
    }

    /// Every bucket and key that has versions.
    pub(super) fn keys(&self) -> rusqlite::Result<Vec<(String, String)>> {
        let connection = self.lock();
        let mut statement = connection.prepare(KEYS)?;
        let rows = statement.query_map([], |row| Ok((row.get("bucket")?, row.get("key")?)))?;
        rows.collect()
    }

    /// Adds a version that is to be copied to `destinations`.
    pub(super) fn add(&self, version: &Version, destinations: &[&str]) -> rusqlite::Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let content = version.content.as_ref();
        transaction.prepare_cached(INSERT)?.execute(named_params! {
            ":bucket": version.bucket,
            ":key": version.key,
            ":version_id": version.id,
            ":written_us": version.written_us,
            ":file": content.map(|content| &content.file),
            ":size_bytes": content.map_or(0, |content| content.size_bytes),
            ":e_tag": content.map_or("", |content| content.e_tag.as_str()),
            ":replication": version.replicated.map(Replicated::as_str),
        })?;
        let number = transaction.last_insert_rowid();
        for destination in destinations {
            let luck: f64 = rand::random();
            transaction.prepare_cached(COPY)?.execute(named_params! {
                ":version": number, ":destination": destination, ":luck": luck,
            })?;
        }
        transaction.commit()
    }

    /// Removes a version, and the copies of it that wait.
    pub(super) fn remove(&self, version: &Version) -> rusqlite::Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let of = "bucket = :bucket AND key = :key AND version_id = :version_id";
        let parameters = named_params! {
            ":bucket": version.bucket, ":key": version.key, ":version_id": version.id,
        };
        let copies = format!("DELETE FROM copies WHERE version IN (SELECT number FROM versions WHERE {of})");
        transaction.execute(&copies, parameters)?;
        transaction.execute(&format!("DELETE FROM versions WHERE {of}"), parameters)?;
        transaction.commit()
    }

    /// The copies that are still to be made, in the order of the writes.
    pub(super) fn waiting(&self) -> rusqlite::Result<Vec<Waiting>> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(WAITING)?;
        let rows = statement.query_map([], |row| {
            Ok(Waiting {
                number: row.get("copy")?,
                destination: row.get("destination")?,
                luck: row.get("luck")?,
                version: version(row)?,
            })
        })?;
        rows.collect()
    }

    /// How many copies are still to be made.
    pub(super) fn count_waiting(&self) -> rusqlite::Result<usize> {
        self.lock().prepare_cached(COUNT)?.query_row([], |row| row.get(0))
    }

    /// A copy was made.
    pub(super) fn copied(&self, copy: &Waiting) -> rusqlite::Result<()> {
        let connection = self.lock();
        let parameters = named_params! {":number": copy.number};
        connection.prepare_cached("DELETE FROM copies WHERE number = :number")?.execute(parameters).map(drop)
    }

    /// A copy can't be made.
    pub(super) fn failed(&self, copy: &Waiting) -> rusqlite::Result<()> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let parameters = named_params! {":number": copy.number, ":failed": Replicated::Failed.as_str()};
        transaction.execute(
            "UPDATE versions SET replication = :failed WHERE number = (SELECT version FROM copies WHERE number = :number)",
            parameters,
        )?;
        transaction
            .execute("DELETE FROM copies WHERE number = :number", named_params! {":number": copy.number})?;
        transaction.commit()
    }

    /// A panic elsewhere leaves no half-written transaction.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(row: &Row<'_>) -> rusqlite::Result<Version> {
    let file: Option<String> = row.get("file")?;
    let (size_bytes, e_tag) = (row.get("size_bytes")?, row.get("e_tag")?);
    let replication: Option<String> = row.get("replication")?;
    Ok(Version {
        bucket: row.get("bucket")?,
        key: row.get("key")?,
        id: row.get("version_id")?,
        written_us: row.get("written_us")?,
        content: file.map(|file| Content { file, size_bytes, e_tag }),
        replicated: replication.as_deref().and_then(Replicated::of),
        waits: row.get("waits")?,
    })
}
