//! Creating an upload, with the links to send its file.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Creation, MAX_FILES, Upload, UploadError, UploadRequest, UploadStatus, Uploads, Usage, UsageByRegion,
    part_size, parts,
};
use crate::core::date_time::rfc3339;
use crate::core::deadline::Deadline;
use crate::core::ids::UserId;
use crate::core::retry::Backoff;
use crate::files::links::SignedUrl;
use crate::platform::telemetry::{self, Metric};

/// A new upload, and how to send its file.
#[derive(Debug)]
pub struct Offer {
    pub upload: Upload,
    pub method: Method,
    /// When the links end.
    pub expires_at: Timestamp,
}

/// How a file is sent.
#[derive(Debug)]
pub enum Method {
    /// Whole, by one `PUT`.
    Whole(SignedUrl),
    /// In parts, by a `PUT` each, in any order.
    Parts {
        /// The size of all parts but the last, in bytes.
        part_size_bytes: u64,
        /// The parts: number, size in bytes, link.
        links: Vec<(i32, u64, SignedUrl)>,
    },
}

impl Offer {
    /// The answer to its user, who may see the links.
    pub fn document(&self) -> Value {
        let mut document = json!({
            "uploadId": self.upload.upload_id,
            "status": self.upload.status,
            "expiresAt": rfc3339(self.expires_at),
        });
        match &self.method {
            Method::Whole(url) => {
                document["method"] = "put".into();
                document["url"] = url.expose().into();
                // `Content-Length` is signed as well. Every client sends it, and browsers do not
                // let pages set it.
                document["headers"] = json!({
                    "content-type": self.upload.content_type,
                    "x-amz-checksum-sha256": self.upload.sha256.base64(),
                });
            }
            Method::Parts { part_size_bytes, links } => {
                document["method"] = "multipart".into();
                document["partSizeBytes"] = (*part_size_bytes).into();
                document["parts"] = links
                    .iter()
                    .map(|(number, size, url)| {
                        json!({"partNumber": number, "sizeBytes": size, "url": url.expose()})
                    })
                    .collect();
            }
        }
        document
    }
}

impl Uploads {
    /// The usage of the user's uploads, for [`create`](Self::create). A single region makes no
    /// call: the row that counts them is part of the transaction.
    pub async fn usage(&self, owner: &UserId) -> Result<UsageByRegion, UploadError> {
        match self.peers[..] {
            [] => Ok(UsageByRegion::default()),
            _ => Ok(self.own.rows.usage(owner).await?),
        }
    }

    /// Creates an upload: reserves its quota, and returns how to send it. The row is written last,
    /// so that nothing can fail between the row and the answer.
    pub async fn create(
        &self,
        owner: &UserId,
        request: UploadRequest,
        usage: UsageByRegion,
        deadline: Deadline,
    ) -> Result<Offer, UploadError> {
        let file = self.limits.admit(request)?;
        let quota_bytes = self.limits.quota_bytes;
        if file.size_bytes > quota_bytes {
            return Err(UploadError::QuotaExceeded { used: None, quota_bytes });
        }
        let with_file = usage.elsewhere + Usage { bytes: file.size_bytes, files: 1 };
        if with_file.bytes > quota_bytes || with_file.files > MAX_FILES {
            let used = Some(usage.here + usage.elsewhere);
            return Err(UploadError::QuotaExceeded { used, quota_bytes });
        }
        let mut upload = Upload {
            owner_id: owner.clone(),
            upload_id: self.ids.next(),
            file_name: file.file_name,
            content_type: file.content_type,
            part_size_bytes: part_size(file.size_bytes),
            size_bytes: file.size_bytes,
            sha256: file.sha256,
            status: UploadStatus::Pending,
            region: self.own.rows.region().to_owned(),
            created_at: self.own.clock.now(),
            ready_at: None,
            rejection: None,
            s3_upload_id: None,
        };
        if upload.part_size_bytes.is_some() {
            upload.s3_upload_id = Some(self.own.files.begin(&upload).await?);
        }
        match self.offer_and_record(&upload, usage.elsewhere, deadline).await {
            Ok((method, expires_at)) => Ok(Offer { upload, method, expires_at }),
            Err(error) => {
                if upload.s3_upload_id.is_some() {
                    self.own.delete_objects(&upload).await;
                }
                Err(error)
            }
        }
    }

    async fn offer_and_record(
        &self,
        upload: &Upload,
        elsewhere: Usage,
        deadline: Deadline,
    ) -> Result<(Method, Timestamp), UploadError> {
        let signer = self.own.files.signer().await?;
        let method = match (&upload.s3_upload_id, upload.part_size_bytes) {
            (Some(s3_upload_id), Some(part_size_bytes)) => {
                let mut links = Vec::new();
                for (number, size) in parts(upload.size_bytes, part_size_bytes) {
                    let url = signer.part(&upload.incoming_key(), s3_upload_id, number, size).await?;
                    links.push((number, size, url));
                }
                Method::Parts { part_size_bytes, links }
            }
            _ => Method::Whole(upload.link_to_send(&signer).await?),
        };
        let mut backoff = Backoff::within(deadline);
        loop {
            match self.own.rows.create(upload, &self.limits, elsewhere).await? {
                Creation::Created => return Ok((method, signer.expires_at())),
                Creation::QuotaExceeded(here) => {
                    let (used, quota_bytes) = (Some(here + elsewhere), self.limits.quota_bytes);
                    return Err(UploadError::QuotaExceeded { used, quota_bytes });
                }
                Creation::Conflict => telemetry::count(Metric::TransactionConflicts, 1),
            }
            if !backoff.wait().await {
                return Err(UploadError::Contended);
            }
        }
    }
}
