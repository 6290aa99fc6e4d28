//! Deleting: step 4 of the protocol.

use super::store::Change;
use super::{Upload, UploadError, UploadFiles, UploadRows, UploadStatus, Uploads};
use crate::deadline::Deadline;
use crate::ids::{UploadId, UserId};
use crate::retry::Backoff;
use crate::telemetry::{self, Metric};

impl<R: UploadRows, F: UploadFiles> Uploads<R, F> {
    /// Deletes the caller's upload, whatever has become of it, and gives it back to the quota. One that is deleted already
    /// is none.
    pub async fn delete(
        &self,
        owner: &UserId,
        upload_id: &UploadId,
        deadline: Deadline,
    ) -> Result<(), UploadError> {
        let mut seen = self.rows.read(owner, upload_id).await?;
        let mut backoff = Backoff::within(deadline);
        loop {
            let upload = present(seen, upload_id)?;
            match self.rows.delete(&upload, self.clock.now()).await? {
                Change::Done(deleted) => {
                    self.give_up(&deleted).await;
                    return Ok(());
                }
                Change::Refused(stands) => seen = stands,
                Change::Busy => {
                    telemetry::count(Metric::TransactionConflicts, 1);
                    seen = Some(upload);
                }
            }
            if !backoff.wait().await {
                return Err(UploadError::Contended);
            }
        }
    }
}

/// The upload, if clients see one.
pub(super) fn present(upload: Option<Upload>, upload_id: &UploadId) -> Result<Upload, UploadError> {
    upload
        .filter(|upload| upload.status != UploadStatus::Deleted)
        .ok_or_else(|| UploadError::NotFound(upload_id.clone()))
}
