//! Deleting: step 4 of the protocol.

use super::read::present;
use super::store::Transition;
use super::{Upload, UploadError, UploadFiles, UploadRows, Uploads};
use crate::deadline::Deadline;
use crate::ids::{UploadId, UserId};
use crate::retry::Backoff;
use crate::telemetry::{self, Metric, chain};

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
                Transition::Done(deleted) => {
                    self.give_up(&deleted).await;
                    return Ok(());
                }
                Transition::Refused(stands) => seen = stands,
                Transition::Busy => {
                    telemetry::count(Metric::TransactionConflicts, 1);
                    seen = Some(upload);
                }
            }
            if !backoff.wait().await {
                return Err(UploadError::Contended);
            }
        }
    }

    /// Removes what S3 has of an upload. What fails here, the bucket's lifecycle or the clean-up does later.
    pub(super) async fn give_up(&self, upload: &Upload) {
        if let Err(error) = self.files.remove(upload).await {
            tracing::warn!(upload = %upload.upload_id, error = chain(&error), "objects are left for the clean-up");
        }
    }
}
