//! Uploads on the disk: a folder each, with a file for each part and one that says which they are.
//!
//! That file is replaced as a whole, so a part is there or not; a folder without it is an upload
//! that is over.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use s3s::dto::{Checksum, ChecksumType};
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::description::Description;
use super::staged::{Md5Digest, Staged, internal};
use super::turns::Turns;

/// Says what an upload is, in its folder.
const INDEX: &str = "upload.json";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) description: Description,
    /// Of the checksum that the client announced for its parts.
    pub(super) algorithm: Option<String>,
    /// Whether that is one of the parts' checksums (composite) or one of all bytes.
    pub(super) checksum_type: Option<String>,
    pub(super) initiated: Timestamp,
    pub(super) parts: BTreeMap<i32, StoredPart>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredPart {
    file: String,
    pub(super) md5: Md5Digest,
    pub(super) size_bytes: u64,
    #[serde(with = "StoredChecksum")]
    pub(super) checksum: Checksum,
    pub(super) stored: Timestamp,
}

/// The fields of a [`Checksum`], for `serde`.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Checksum")]
#[expect(clippy::struct_field_names, reason = "as they are named there")]
struct StoredChecksum {
    checksum_crc32: Option<String>,
    checksum_crc32c: Option<String>,
    checksum_crc64nvme: Option<String>,
    checksum_sha1: Option<String>,
    checksum_sha256: Option<String>,
    /// A part is always one whole.
    #[serde(skip)]
    checksum_type: Option<ChecksumType>,
}

#[derive(Debug)]
pub(super) struct Uploads {
    folder: PathBuf,
    /// Changes of an upload are serialized; an upload that has ended is found to have ended then.
    pub(super) turns: Turns,
}

impl Uploads {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, turns: Turns::new() })
    }

    pub(super) fn begin(&self, upload: &Upload) -> S3Result<String> {
        let id = Ulid::generate().to_string();
        std::fs::create_dir(self.folder.join(&id)).map_err(internal)?;
        self.save(&id, upload)?;
        Ok(id)
    }

    /// `NoSuchUpload` unless the upload is under way, and of that object.
    pub(super) fn find(&self, id: &str, bucket: &str, key: &str) -> S3Result<Upload> {
        let upload = self.load(id)?.filter(|upload| upload.bucket == bucket && upload.key == key);
        upload.ok_or_else(|| {
            s3_error!(
                NoSuchUpload,
                "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or \
                 completed."
            )
        })
    }

    fn load(&self, id: &str) -> S3Result<Option<Upload>> {
        // Nothing else names a folder of an upload.
        let Ok(id) = Ulid::from_string(id) else { return Ok(None) };
        match std::fs::read(self.folder.join(id.to_string()).join(INDEX)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| internal(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(internal(error)),
        }
    }

    fn save(&self, id: &str, upload: &Upload) -> S3Result<()> {
        let folder = self.folder.join(id);
        let text = serde_json::to_vec(upload).map_err(|error| internal(error.into()))?;
        let new = folder.join("new.json");
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, folder.join(INDEX))).map_err(internal)
    }

    /// Makes `staged` a part, in the place of one with that number.
    pub(super) fn store(&self, id: &str, mut upload: Upload, number: i32, staged: Staged) -> S3Result<()> {
        let folder = self.folder.join(id);
        let part = StoredPart {
            file: Ulid::generate().to_string(),
            md5: staged.md5,
            size_bytes: staged.size_bytes,
            checksum: staged.checksum.clone(),
            stored: crate::clock::now(),
        };
        staged.keep(&folder.join(&part.file))?;
        let replaced = upload.parts.insert(number, part);
        self.save(id, &upload)?;
        replaced.map_or(Ok(()), |part| std::fs::remove_file(folder.join(part.file)).map_err(internal))
    }

    pub(super) fn path(&self, id: &str, part: &StoredPart) -> PathBuf {
        self.folder.join(id).join(&part.file)
    }

    /// The upload is over: the file that says what it is goes first.
    pub(super) fn end(&self, id: &str) -> S3Result<()> {
        let folder = self.folder.join(id);
        std::fs::remove_file(folder.join(INDEX))
            .and_then(|()| std::fs::remove_dir_all(&folder))
            .map_err(internal)
    }

    /// Those under way in a bucket, under keys with `prefix`, in the order of their keys and then
    /// of their beginnings.
    pub(super) fn under_way(&self, bucket: &str, prefix: &str) -> S3Result<Vec<(String, Upload)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(internal)? {
            let id = entry.map_err(internal)?.file_name().to_string_lossy().into_owned();
            if let Some(upload) = self.load(&id)?
                && upload.bucket == bucket
                && upload.key.starts_with(prefix)
            {
                found.push((id, upload));
            }
        }
        found.sort_by(|(id, upload), (other, rival)| (&upload.key, id).cmp(&(&rival.key, other)));
        Ok(found)
    }
}

/// Empties what a start before this one left behind.
pub(super) fn emptied(folder: PathBuf) -> io::Result<PathBuf> {
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir_all(&folder)?,
    }
    Ok(folder)
}
