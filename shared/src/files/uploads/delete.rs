//! Deletion: step 4 of the protocol.

use super::read::visible;
use super::{EndOutcome, Home, Transition, Upload, UploadError, Uploads};
use crate::core::deadline::Deadline;
use crate::core::ids::{UploadId, UserId};
use crate::core::retry::Backoff;
use crate::platform::telemetry::{self, Metric, chain};

impl Uploads {
    /// Deletes the caller's upload, whatever its status. If nothing can write its objects any more,
    /// its quota is released at once; otherwise the clean-up does that later. A deleted upload is
    /// not found. If another region is its home, this happens there.
    pub async fn delete(
        &self,
        owner: &UserId,
        upload_id: &UploadId,
        deadline: Deadline,
    ) -> Result<(), UploadError> {
        let seen = visible(self.own.rows.read(owner, upload_id).await?, upload_id)?;
        if seen.region == self.own.rows.region() {
            return self.own.delete(seen, deadline).await;
        }
        let home = self.peer(&seen.region)?;
        let deleted = async {
            let at_home = home.rows.read(owner, upload_id).await?;
            home.delete(visible(at_home, upload_id)?, deadline).await
        };
        Box::pin(deleted).await.map_err(|error| error.at_home(&seen.region))
    }
}

impl Home {
    /// The deletion of an upload whose home this is, as it was read.
    async fn delete(&self, seen: Upload, deadline: Deadline) -> Result<(), UploadError> {
        let upload_id = seen.upload_id.clone();
        let mut seen = Some(seen);
        let mut backoff = Backoff::within(deadline);
        loop {
            let upload = visible(seen, &upload_id)?;
            match self.rows.delete(&upload, self.clock.now()).await? {
                Transition::Done(deleted) => {
                    if self.delete_objects(&deleted).await {
                        self.remove_row(&deleted, backoff).await;
                    }
                    return Ok(());
                }
                Transition::Refused(row) => seen = row,
                Transition::Conflict => {
                    telemetry::count(Metric::TransactionConflicts, 1);
                    seen = Some(upload);
                }
            }
            if !backoff.wait().await {
                return Err(UploadError::Contended);
            }
        }
    }

    /// The end of step 4, if it is due. If it fails, the clean-up does it later.
    async fn remove_row(&self, deleted: &Upload, mut backoff: Backoff) {
        let now = self.clock.now();
        if deleted.settled_at(now) >= now {
            return;
        }
        loop {
            match self.rows.remove(deleted, now).await {
                Ok(EndOutcome::Conflict) if backoff.wait().await => {
                    telemetry::count(Metric::TransactionConflicts, 1);
                }
                Ok(_) => return,
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(upload = %deleted.upload_id, error, "a row could not be removed and is left to the clean-up");
                    return;
                }
            }
        }
    }

    /// Deletes the objects of an upload, and returns whether that succeeded. Failures are left to
    /// the bucket's lifecycle or the clean-up.
    pub(super) async fn delete_objects(&self, upload: &Upload) -> bool {
        match self.files.delete_all(upload).await {
            Ok(()) => true,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(upload = %upload.upload_id, error, "objects could not be deleted and are left to the clean-up");
                false
            }
        }
    }
}
