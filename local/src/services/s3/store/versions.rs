//! Versioned buckets (user guide, "Retaining multiple versions of objects with S3 Versioning" and
//! "Working with delete markers").
//!
//! 1. A write adds a version with an id of its own and replaces nothing. A deletion without an id
//!    adds a delete marker: the object is 404 from then on, with `x-amz-delete-marker: true`, and
//!    in no list of objects.
//! 2. A version is read and deleted by its id. A delete marker that is read so is 405. When the
//!    current version is deleted, the one before it is the current one again.
//! 3. What was there before the bucket had versions is the version `null`.
//!
//! The bytes of every version are a file of its own, under a name that is used once. `index` says
//! which versions there are, and is believed. The bucket's own folder has a link to the bytes of
//! each current version, so that objects are listed as in other buckets. What a crash left undone
//! there is done at the next start.
//!
//! Limits: a bucket with versions keeps making them, also when the template says `Suspended`. No
//! `MFADelete`; no change of a bucket's versioning at run time.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{ALLOW, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED};
use s3s::dto::{
    ETag, GetObjectInput, HeadObjectInput, PutObjectInput, PutObjectOutput, ReplicationStatus, Timestamp,
    TimestampFormat,
};
use s3s::{S3, S3Error, S3Result, s3_error};
use s3s_fs::FileSystem;
use ulid::Ulid;

use super::description::{Description, take_e_tag};
use super::index::{Content, Replicated, Version};
use super::staged::internal;
use super::{Store, internal_request};
use crate::clock;

/// The id of a version that was written without one.
pub(super) const NULL: &str = "null";

const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");

/// Where an object is.
pub(super) struct Place<'a> {
    pub(super) files: &'a FileSystem,
    /// What it is called there.
    pub(super) key: String,
    version: Option<Version>,
    is_versioned: bool,
}

impl Place<'_> {
    /// What `x-amz-version-id` says.
    pub(super) fn version_id(&self) -> Option<String> {
        let id = self.version.as_ref().map(|version| version.id.clone());
        id.or_else(|| self.is_versioned.then(|| NULL.to_owned()))
    }

    /// What `x-amz-replication-status` says (user guide, "Getting replication status information").
    pub(super) fn replication_status(&self) -> Option<ReplicationStatus> {
        let version = self.version.as_ref()?;
        let status = match version.replicated? {
            Replicated::Source if version.waits => ReplicationStatus::PENDING,
            Replicated::Source => ReplicationStatus::COMPLETED,
            Replicated::Failed => ReplicationStatus::FAILED,
            Replicated::Replica => ReplicationStatus::REPLICA,
        };
        Some(ReplicationStatus::from_static(status))
    }
}

impl Store {
    /// Whether writes add versions to a bucket.
    pub(super) fn is_versioned(&self, bucket: &str) -> bool {
        self.versioned.contains(bucket)
    }

    /// The object, or a version of it.
    pub(super) fn place(&self, bucket: &str, key: &str, version_id: Option<&str>) -> S3Result<Place<'_>> {
        let version_id = version_id.map(check_id).transpose()?;
        let is_versioned = self.is_versioned(bucket);
        let version = match version_id {
            _ if !is_versioned => Ok(None),
            None => self.index.latest(bucket, key),
            Some(id) => self.index.find(bucket, key, id),
        };
        match version.map_err(unreadable)? {
            Some(version) => match &version.content {
                Some(content) => {
                    let key = content.file.clone();
                    Ok(Place { files: &self.versions, key, version: Some(version), is_versioned })
                }
                None => Err(marker(&version, version_id)),
            },
            None if version_id.is_none_or(|id| id == NULL && !self.has_versions(bucket, key)) => {
                Ok(Place { files: &self.files, key: key.to_owned(), version: None, is_versioned })
            }
            None => Err(s3_error!(NoSuchVersion, "The specified version does not exist.")),
        }
    }

    /// Whether the index knows the key.
    pub(super) fn has_versions(&self, bucket: &str, key: &str) -> bool {
        self.index.latest(bucket, key).is_ok_and(|latest| latest.is_some())
    }

    /// Makes `object` the current version of its key, in its turn.
    pub(super) async fn add(&self, object: PutObjectInput) -> S3Result<PutObjectOutput> {
        let (bucket, key) = (object.bucket.clone(), object.key.clone());
        self.check_room(&bucket, &key)?;
        self.adopt(&bucket, &key).await?;
        let id = Ulid::generate().to_string();
        let file = PutObjectInput { key: id.clone(), ..object };
        let mut output = self.versions.put_object(internal_request(file)).await?.output;
        let content = self.content(&bucket, &id).await?;
        let version = self.next(&bucket, &key, Some((id, content)))?;
        self.keep(&version, &self.destinations(&version))?;
        output.version_id = Some(version.id);
        Ok(output)
    }

    /// Makes a delete marker the current version of a key, in its turn. Returns its id.
    pub(super) async fn mark_deleted(&self, bucket: &str, key: &str) -> S3Result<String> {
        self.adopt(bucket, key).await?;
        let marker = self.next(bucket, key, None)?;
        self.keep(&marker, &self.destinations(&marker))?;
        Ok(marker.id)
    }

    /// Deletes a version for good, in its turn; what it was, if it was there.
    pub(super) fn remove_version(
        &self,
        bucket: &str,
        key: &str,
        version_id: &str,
    ) -> S3Result<Option<Version>> {
        let found = self.index.find(bucket, key, check_id(version_id)?).map_err(unreadable)?;
        let Some(version) = found else { return Ok(None) };
        self.index.remove(&version).map_err(unreadable)?;
        self.show(bucket, key)?;
        if let Some(content) = &version.content {
            self.discard(bucket, content)?;
        }
        Ok(Some(version))
    }

    /// A version that is written now: later than all others of its key.
    fn next(&self, bucket: &str, key: &str, content: Option<(String, Content)>) -> S3Result<Version> {
        let latest = self.index.latest(bucket, key).map_err(unreadable)?;
        let now_us = clock::now().as_microsecond();
        let written_us = latest.map_or(now_us, |latest| now_us.max(latest.written_us + 1));
        let (id, content) =
            content.map_or_else(|| (Ulid::generate().to_string(), None), |(id, content)| (id, Some(content)));
        Ok(Version {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            id,
            written_us,
            content,
            replicated: None,
            waits: false,
        })
    }

    /// Enters a version whose bytes are there, and which is to be copied to `destinations`.
    pub(super) fn keep(&self, version: &Version, destinations: &[&str]) -> S3Result<()> {
        if let Some(content) = &version.content {
            // Its own age, also of a copy (user guide, "What does Amazon S3 replicate?").
            let age = Duration::from_micros(u64::try_from(version.written_us).unwrap_or_default());
            let file = std::fs::File::options().append(true).open(self.path(&version.bucket, content));
            file.and_then(|file| file.set_modified(UNIX_EPOCH + age)).map_err(internal)?;
        }
        let replicated = if destinations.is_empty() { version.replicated } else { Some(Replicated::Source) };
        let version = Version { replicated, ..version.clone() };
        self.index.add(&version, destinations).map_err(unreadable)?;
        self.show(&version.bucket, &version.key)
    }

    /// Has the bucket's folder show the current version of a key.
    pub(super) fn show(&self, bucket: &str, key: &str) -> S3Result<()> {
        let path = self.root.join(bucket).join(key);
        let latest = self.index.latest(bucket, key).map_err(unreadable)?;
        let Some(content) = latest.and_then(|latest| latest.content) else {
            let removed =
                if key.ends_with('/') { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) };
            return match removed {
                // A folder that others are in stays.
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                    Err(internal(error))
                }
                _ => Ok(()),
            };
        };
        if key.ends_with('/') {
            return std::fs::create_dir_all(&path).map_err(internal);
        }
        let link = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
            let link = self.staging.join(Ulid::generate().to_string());
            std::fs::hard_link(self.path(bucket, &content), &link)?;
            std::fs::rename(&link, &path)?;
            // A link that is there already is not replaced, and the new one stays.
            match std::fs::remove_file(&link) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        link().map_err(internal)
    }

    /// A file can't be where a folder is, nor a folder where a file is.
    pub(super) fn check_room(&self, bucket: &str, key: &str) -> S3Result<()> {
        let root = self.root.join(bucket);
        let path = root.join(key);
        let is_taken = !key.ends_with('/') && path.is_dir();
        let mut above = path.ancestors().skip(1).take_while(|folder| *folder != root);
        if is_taken || above.any(std::path::Path::is_file) {
            return Err(s3_error!(
                NotImplemented,
                "A key that is the beginning of another key and a slash can't be kept on this machine."
            ));
        }
        Ok(())
    }

    /// Makes what was there before the bucket had versions one of them.
    pub(super) async fn adopt(&self, bucket: &str, key: &str) -> S3Result<()> {
        let path = self.root.join(bucket).join(key);
        if !path.is_file() || self.has_versions(bucket, key) {
            return Ok(());
        }
        let file = Ulid::generate().to_string();
        carry((&self.files, bucket, key), (&self.versions, bucket, &file)).await?;
        let content = self.content(bucket, &file).await?;
        let modified = path.metadata().and_then(|metadata| metadata.modified()).map_err(internal)?;
        let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let version = Version {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            id: NULL.to_owned(),
            written_us: i64::try_from(age.as_micros()).unwrap_or(i64::MAX),
            content: Some(content),
            replicated: None,
            waits: false,
        };
        self.keep(&version, &[])
    }

    /// What there is to know of a file of a version.
    async fn content(&self, bucket: &str, file: &str) -> S3Result<Content> {
        let head = HeadObjectInput { bucket: bucket.to_owned(), key: file.to_owned(), ..Default::default() };
        let mut head = self.versions.head_object(internal_request(head)).await?.output;
        let e_tag = take_e_tag(&mut head.metadata).or(head.e_tag);
        Ok(Content {
            file: file.to_owned(),
            size_bytes: head.content_length.unwrap_or_default(),
            e_tag: e_tag.map(ETag::into_value).unwrap_or_default(),
        })
    }

    fn path(&self, bucket: &str, content: &Content) -> PathBuf {
        self.root.join(super::VERSIONS).join(bucket).join(&content.file)
    }

    /// Deletes the bytes of a version.
    pub(super) fn discard(&self, bucket: &str, content: &Content) -> S3Result<()> {
        std::fs::remove_file(self.path(bucket, content)).map_err(internal)
    }
}

/// Copies an object with all that is known of it.
pub(super) async fn carry(
    (from, bucket, key): (&FileSystem, &str, &str),
    (to, to_bucket, to_key): (&FileSystem, &str, &str),
) -> S3Result<()> {
    let get = GetObjectInput { bucket: bucket.to_owned(), key: key.to_owned(), ..Default::default() };
    let mut object = from.get_object(internal_request(get)).await?.output;
    let put = PutObjectInput {
        body: object.body.take(),
        checksum_crc32: object.checksum_crc32.clone(),
        checksum_crc32c: object.checksum_crc32c.clone(),
        checksum_crc64nvme: object.checksum_crc64nvme.clone(),
        checksum_sha1: object.checksum_sha1.clone(),
        checksum_sha256: object.checksum_sha256.clone(),
        ..Description::from(&object).object(to_bucket.to_owned(), to_key.to_owned())
    };
    to.put_object(internal_request(put)).await.map(drop)
}

/// An id that S3 could have given.
fn check_id(id: &str) -> S3Result<&str> {
    if id == NULL || Ulid::from_string(id).is_ok() {
        return Ok(id);
    }
    Err(s3_error!(InvalidArgument, "Invalid version id specified"))
}

/// The answer for a delete marker, requested by its id or as the current version.
fn marker(marker: &Version, asked: Option<&str>) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.insert(DELETE_MARKER, HeaderValue::from_static("true"));
    headers.extend(HeaderValue::from_str(&marker.id).ok().map(|id| (VERSION_ID, id)));
    let mut error = if asked.is_some() {
        headers.insert(ALLOW, HeaderValue::from_static("DELETE"));
        let mut date = Vec::new();
        let written = written(marker).format(TimestampFormat::HttpDate, &mut date);
        let date = written.ok().and_then(|()| HeaderValue::from_bytes(&date).ok());
        headers.extend(date.map(|date| (LAST_MODIFIED, date)));
        s3_error!(MethodNotAllowed, "The specified method is not allowed against this resource.")
    } else {
        s3_error!(NoSuchKey, "The specified key does not exist.")
    };
    error.set_headers(headers);
    error
}

/// When a version was written.
pub(super) fn written(version: &Version) -> Timestamp {
    let age = Duration::from_micros(u64::try_from(version.written_us).unwrap_or_default());
    Timestamp::from(UNIX_EPOCH + age)
}

/// The disk failed.
pub(super) fn unreadable(error: rusqlite::Error) -> S3Error {
    S3Error::internal_error(error)
}
