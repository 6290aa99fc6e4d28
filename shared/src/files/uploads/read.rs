//! Telling what there is, with links to read what is READY.

use jiff::Timestamp;
use serde_json::Value;

use super::store::UploadLinks;
use super::{Upload, UploadError, UploadFiles, UploadRows, UploadStatus, Uploads};
use crate::core::cursor::Page;
use crate::core::date_time::rfc3339;
use crate::core::ids::{UploadId, UserId};
use crate::files::links::SignedUrl;
use crate::files::links::disposition::Disposition;

/// An upload, and a link to read it if it is READY.
#[derive(Debug)]
pub struct Readable {
    /// The upload.
    pub upload: Upload,
    /// The link and its end.
    pub download: Option<(SignedUrl, Timestamp)>,
}

impl Readable {
    /// The answer to its owner, who is the one to see the link.
    pub fn document(&self) -> Value {
        let mut document = self.upload.document();
        if let Some((url, expires_at)) = &self.download {
            document["downloadUrl"] = url.expose().into();
            document["downloadExpiresAt"] = rfc3339(*expires_at).into();
        }
        document
    }
}

/// The upload, if clients see one.
pub(super) fn present(upload: Option<Upload>, upload_id: &UploadId) -> Result<Upload, UploadError> {
    upload
        .filter(|upload| upload.status != UploadStatus::Deleted)
        .ok_or_else(|| UploadError::NotFound(upload_id.clone()))
}

impl<R: UploadRows, F: UploadFiles> Uploads<R, F> {
    /// The caller's upload, as it was read.
    pub async fn get(
        &self,
        upload: Option<Upload>,
        upload_id: &UploadId,
        disposition: Disposition,
    ) -> Result<Readable, UploadError> {
        self.readable(present(upload, upload_id)?, disposition).await
    }

    /// The caller's uploads behind `cursor`, newest first. A page may have fewer than `limit`, or none, and still a next
    /// one.
    pub async fn list(
        &self,
        owner: &UserId,
        cursor: Option<&str>,
        limit: u32,
        disposition: Disposition,
    ) -> Result<Page<Readable>, UploadError> {
        let Page { items: uploads, next_cursor } = self.rows.list(owner, cursor, limit).await?;
        let links = self.files.links().await?;
        let mut items = Vec::with_capacity(uploads.len());
        for upload in uploads {
            items.push(with_link(&links, upload, disposition).await?);
        }
        Ok(Page { items, next_cursor })
    }

    /// An upload with its link.
    pub async fn readable(&self, upload: Upload, disposition: Disposition) -> Result<Readable, UploadError> {
        with_link(&self.files.links().await?, upload, disposition).await
    }
}

async fn with_link(
    links: &impl UploadLinks,
    upload: Upload,
    disposition: Disposition,
) -> Result<Readable, UploadError> {
    let download = match upload.status {
        UploadStatus::Ready => Some((links.download(&upload, disposition).await?, links.expires_at())),
        _ => None,
    };
    Ok(Readable { upload, download })
}
