//! Reading uploads, with links to download those that are READY.

use jiff::Timestamp;
use serde_json::Value;

use super::{Upload, UploadError, UploadStatus, Uploads};
use crate::core::cursor::Page;
use crate::core::date_time::rfc3339;
use crate::core::ids::{UploadId, UserId};
use crate::files::links::SignedUrl;
use crate::files::links::disposition::Disposition;
use crate::files::links::s3::Signer;
use crate::platform::dynamo::RowRead;

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
pub(super) fn visible(upload: Option<Upload>, upload_id: &UploadId) -> Result<Upload, UploadError> {
    upload
        .filter(|upload| upload.status != UploadStatus::Deleted)
        .ok_or_else(|| UploadError::NotFound(upload_id.clone()))
}

impl Uploads {
    /// Reads the upload of that id. Consistent.
    pub fn upload(&self, owner: &UserId, upload_id: &UploadId) -> RowRead<'_, Option<Upload>> {
        self.rows.row_read(owner, upload_id)
    }

    /// The caller's upload, as it was read.
    pub async fn get(
        &self,
        upload: Option<Upload>,
        upload_id: &UploadId,
        disposition: Disposition,
    ) -> Result<Readable, UploadError> {
        self.readable(visible(upload, upload_id)?, disposition).await
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
        let signer = self.files.signer().await?;
        let mut items = Vec::with_capacity(uploads.len());
        for upload in uploads {
            items.push(with_link(&signer, upload, disposition).await?);
        }
        Ok(Page { items, next_cursor })
    }

    /// An upload with its link.
    pub async fn readable(&self, upload: Upload, disposition: Disposition) -> Result<Readable, UploadError> {
        with_link(&self.files.signer().await?, upload, disposition).await
    }
}

async fn with_link(
    signer: &Signer,
    upload: Upload,
    disposition: Disposition,
) -> Result<Readable, UploadError> {
    let download = match upload.status {
        UploadStatus::Ready => Some((upload.link_to_read(signer, disposition).await?, signer.expires_at())),
        _ => None,
    };
    Ok(Readable { upload, download })
}
