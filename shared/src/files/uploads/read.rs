//! Reading uploads, with links to download those that are READY.

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde_json::Value;

use super::{Upload, UploadError, UploadStatus, Uploads};
use crate::core::cursor::Page;
use crate::core::date_time::rfc3339;
use crate::core::ids::{UploadId, UserId};
use crate::files::links::SignedUrl;
use crate::files::links::disposition::Disposition;
use crate::files::links::s3::{Download, Signer};
use crate::platform::dynamo::RowRead;

/// How many links of a page are made concurrently. Those to files of other regions need a call
/// each, which takes milliseconds: a full page of them takes seven times as long as one.
const LINKS_AT_ONCE: usize = 16;

/// An upload, and a download link if it is READY.
#[derive(Debug)]
pub struct Readable {
    pub upload: Upload,
    /// The link and its end.
    pub download: Option<(SignedUrl, Timestamp)>,
}

impl Readable {
    /// The answer to its owner, who may see the link.
    pub fn document(&self) -> Value {
        let mut document = self.upload.document();
        if let Some((url, expires_at)) = &self.download {
            document["downloadUrl"] = url.expose().into();
            document["downloadExpiresAt"] = rfc3339(*expires_at).into();
        }
        document
    }
}

/// The upload, unless it is deleted.
pub(super) fn visible(upload: Option<Upload>, upload_id: &UploadId) -> Result<Upload, UploadError> {
    upload
        .filter(|upload| upload.status != UploadStatus::Deleted)
        .ok_or_else(|| UploadError::NotFound(upload_id.clone()))
}

impl Uploads {
    /// Reads the upload of that id. Consistent.
    pub fn upload(&self, owner: &UserId, upload_id: &UploadId) -> RowRead<'_, Option<Upload>> {
        self.own.rows.row_read(owner, upload_id)
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

    /// The caller's uploads after `cursor`, newest first. A page may have fewer than `limit`, or
    /// none, and still a next one.
    pub async fn list(
        &self,
        owner: &UserId,
        cursor: Option<&str>,
        limit: u32,
        disposition: Disposition,
    ) -> Result<Page<Readable>, UploadError> {
        let Page { items: uploads, next_cursor } = self.own.rows.list(owner, cursor, limit).await?;
        let signer = &self.downloads.signer(None).await?;
        let linked = uploads.into_iter().map(|upload| self.with_link(signer, upload, disposition));
        let items = stream::iter(linked).buffered(LINKS_AT_ONCE).try_collect().await?;
        Ok(Page { items, next_cursor })
    }

    /// An upload with its link.
    pub async fn readable(&self, upload: Upload, disposition: Disposition) -> Result<Readable, UploadError> {
        self.with_link(&self.downloads.signer(None).await?, upload, disposition).await
    }

    async fn with_link(
        &self,
        signer: &Signer,
        upload: Upload,
        disposition: Disposition,
    ) -> Result<Readable, UploadError> {
        if upload.status != UploadStatus::Ready {
            return Ok(Readable { upload, download: None });
        }
        let download = Download {
            key: &upload.final_key(),
            file_name: upload.file_name.as_str(),
            content_type: upload.content_type.as_str(),
            disposition,
        };
        let url = self.downloads.link(signer, &upload.region, download).await?;
        Ok(Readable { upload, download: Some((url, signer.expires_at())) })
    }
}
