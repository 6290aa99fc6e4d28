//! Deleting: step 4 of the protocol.

use super::read::present;
use super::store::Transition;
use super::{Ending, Upload, UploadError, UploadFiles, UploadRows, Uploads};
use crate::core::deadline::Deadline;
use crate::core::ids::{UploadId, UserId};
use crate::core::retry::Backoff;
use crate::platform::telemetry::{self, Metric, chain};

impl<R: UploadRows, F: UploadFiles> Uploads<R, F> {
    /// Deletes the caller's upload, whatever has become of it. If nothing can write its objects any more, it is given back to
    /// the quota; else the clean-up does that later. One that is deleted already is none.
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
                    if self.give_up(&deleted).await {
                        self.forget(&deleted, backoff).await;
                    }
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

    /// The end of step 4, if its time has come. What fails here, the clean-up does later.
    async fn forget(&self, deleted: &Upload, mut backoff: Backoff) {
        let now = self.clock.now();
        if deleted.settled_at(now) >= now {
            return;
        }
        loop {
            match self.rows.forget(deleted, now).await {
                Ok(Ending::Busy) if backoff.wait().await => {
                    telemetry::count(Metric::TransactionConflicts, 1);
                }
                Ok(_) => return,
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(upload = %deleted.upload_id, error, "a row is left for the clean-up");
                    return;
                }
            }
        }
    }

    /// Removes what S3 has of an upload, and tells whether that is done. What fails here, the bucket's lifecycle or the
    /// clean-up does later.
    pub(super) async fn give_up(&self, upload: &Upload) -> bool {
        match self.files.remove(upload).await {
            Ok(()) => true,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(upload = %upload.upload_id, error, "objects are left for the clean-up");
                false
            }
        }
    }
}
