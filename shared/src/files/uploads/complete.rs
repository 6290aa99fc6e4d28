//! Completion: step 3 of the protocol.

use super::s3::{AssembleOutcome, CopyOutcome};
use super::{CompletionRequest, Home, Rejection, Transition, Upload, UploadError, UploadStatus, Uploads};
use crate::core::deadline::Deadline;
use crate::core::ids::{UploadId, UserId};
use crate::core::retry::Backoff;
use crate::platform::telemetry::{self, Metric, chain};

/// The objects of an upload.
enum BucketState {
    /// The final object exists and matches the declaration.
    Right,
    /// The file does not match the declaration.
    Wrong(Rejection),
    /// The incoming object was replaced or deleted during the check.
    Replaced,
    /// No valid final object, and no incoming one.
    Nothing,
}

/// The result of a completion.
enum Completion {
    /// The upload is READY.
    Ready(Upload),
    /// The upload is PENDING, and its home is another region. Nothing was changed.
    Elsewhere(Upload),
}

impl Uploads {
    /// Makes the caller's upload READY if its file matches the declaration, and returns it. If
    /// another region is its home, this happens there.
    pub async fn complete(
        &self,
        owner: &UserId,
        upload_id: &UploadId,
        sent: &CompletionRequest,
        deadline: Deadline,
    ) -> Result<Upload, UploadError> {
        let region = match self.own.complete(owner, upload_id, sent, deadline).await? {
            Completion::Ready(ready) => return Ok(ready),
            Completion::Elsewhere(upload) => upload.region,
        };
        let home = self.peer(&region)?;
        let completed = Box::pin(home.complete(owner, upload_id, sent, deadline)).await;
        match completed.map_err(|error| error.at_home(&region))? {
            Completion::Ready(ready) => Ok(ready),
            // The home of an upload never changes.
            Completion::Elsewhere(_) => Err(UploadError::Contended),
        }
    }
}

impl Home {
    /// The completion of an upload whose home this is.
    async fn complete(
        &self,
        owner: &UserId,
        upload_id: &UploadId,
        sent: &CompletionRequest,
        deadline: Deadline,
    ) -> Result<Completion, UploadError> {
        let mut backoff = Backoff::within(deadline);
        let upload = match self.count_try(owner, upload_id, &mut backoff).await? {
            RowDecision::Pending(upload) if upload.region != self.rows.region() => {
                return Ok(Completion::Elsewhere(upload));
            }
            RowDecision::Pending(upload) => upload,
            RowDecision::Ended(outcome) => return outcome.map(Completion::Ready),
        };
        sent.check(&upload)?;
        if let Some(s3_upload_id) = &upload.s3_upload_id {
            match self.files.assemble(&upload, s3_upload_id, sent).await? {
                AssembleOutcome::Assembled | AssembleOutcome::Over => {}
                AssembleOutcome::Invalid(parts) => return Err(parts.into()),
            }
        }
        let found = loop {
            match self.examine(&upload).await? {
                BucketState::Replaced if backoff.wait().await => {}
                found => break found,
            }
        };
        match found {
            BucketState::Right => self.finish(&upload, &mut backoff).await,
            BucketState::Wrong(rejection) => self.reject(&upload, rejection, &mut backoff).await,
            BucketState::Replaced => Err(UploadError::Contended),
            BucketState::Nothing => self.not_sent(&upload).await,
        }
        .map(Completion::Ready)
    }

    /// Step 3.1. A try of an upload of another region is not counted.
    async fn count_try(
        &self,
        owner: &UserId,
        upload_id: &UploadId,
        backoff: &mut Backoff,
    ) -> Result<RowDecision, UploadError> {
        loop {
            match self.rows.count_try(owner, upload_id).await? {
                Transition::Done(upload) => return Ok(RowDecision::Pending(upload)),
                Transition::Refused(row) => {
                    return Ok(match decide(row, upload_id) {
                        // At its home, a PENDING upload refuses only when it has no try left.
                        RowDecision::Pending(upload) if upload.region == self.rows.region() => {
                            RowDecision::Ended(self.reject(&upload, Rejection::TooManyTries, backoff).await)
                        }
                        decided => decided,
                    });
                }
                Transition::Conflict if backoff.wait().await => {}
                Transition::Conflict => return Err(UploadError::Contended),
            }
        }
    }

    /// Steps 3.3 and 3.4.
    async fn examine(&self, upload: &Upload) -> Result<BucketState, UploadError> {
        let (finished, incoming) =
            futures::try_join!(self.files.finished(upload), self.files.incoming(upload))?;
        if finished.is_some_and(|checksum| upload.sha256.is(&checksum)) {
            return Ok(BucketState::Right);
        }
        let Some(incoming) = incoming else { return Ok(BucketState::Nothing) };
        if incoming.size_bytes != upload.size_bytes {
            return Ok(BucketState::Wrong(Rejection::WrongSize));
        }
        Ok(match self.files.copy(upload, &incoming).await? {
            CopyOutcome::Whole(checksum) if upload.sha256.is(&checksum) => BucketState::Right,
            CopyOutcome::Whole(_) => BucketState::Wrong(Rejection::WrongChecksum),
            CopyOutcome::Replaced => BucketState::Replaced,
        })
    }

    /// The end of step 3.3. Either the client has not sent the file, or another request has deleted
    /// it since the row was read. Such a request writes the row first, so the row tells which.
    async fn not_sent(&self, upload: &Upload) -> Result<Upload, UploadError> {
        match decide(self.rows.read(&upload.owner_id, &upload.upload_id).await?, &upload.upload_id) {
            RowDecision::Pending(_) => Err(UploadError::Incomplete),
            RowDecision::Ended(outcome) => outcome,
        }
    }

    /// Steps 3.6 and 3.7.
    async fn finish(&self, upload: &Upload, backoff: &mut Backoff) -> Result<Upload, UploadError> {
        loop {
            match self.rows.finish(upload, self.clock.now()).await? {
                Transition::Done(ready) => {
                    telemetry::count(Metric::UploadsReady, 1);
                    self.delete_incoming(&ready).await;
                    return Ok(ready);
                }
                Transition::Refused(row) => return self.ended_before(upload, row).await,
                Transition::Conflict if backoff.wait().await => {}
                Transition::Conflict => return Err(UploadError::Contended),
            }
        }
    }

    /// Step 3.5.
    async fn reject(
        &self,
        upload: &Upload,
        rejection: Rejection,
        backoff: &mut Backoff,
    ) -> Result<Upload, UploadError> {
        loop {
            match self.rows.reject(upload, rejection).await? {
                Transition::Done(rejected) => {
                    telemetry::count_case(Metric::UploadsRejected, rejection.as_str(), 1);
                    self.delete_objects(&rejected).await;
                    return Err(UploadError::Rejected(rejection));
                }
                Transition::Refused(row) => return self.ended_before(upload, row).await,
                Transition::Conflict if backoff.wait().await => {}
                Transition::Conflict => return Err(UploadError::Contended),
            }
        }
    }

    /// Another request ended the upload meanwhile, and its outcome holds. A READY upload needs its
    /// final object; for any other upload, the object that this completion has copied is deleted.
    async fn ended_before(&self, upload: &Upload, row: Option<Upload>) -> Result<Upload, UploadError> {
        match decide(row, &upload.upload_id) {
            // A row never becomes PENDING again.
            RowDecision::Pending(_) => Err(UploadError::Contended),
            RowDecision::Ended(Ok(ready)) => {
                self.delete_incoming(&ready).await;
                Ok(ready)
            }
            RowDecision::Ended(outcome) => {
                self.delete_objects(upload).await;
                outcome
            }
        }
    }

    /// Deletes the incoming object, which is not needed any more. If that fails, the bucket's
    /// lifecycle deletes it later.
    async fn delete_incoming(&self, upload: &Upload) {
        if let Err(error) = self.files.delete_incoming(upload).await {
            tracing::warn!(upload = %upload.upload_id, error = chain(&error), "an object could not be deleted and is left to the lifecycle");
        }
    }
}

/// What the row decides about a completion.
enum RowDecision {
    Pending(Upload),
    Ended(Result<Upload, UploadError>),
}

fn decide(upload: Option<Upload>, upload_id: &UploadId) -> RowDecision {
    let missing = || RowDecision::Ended(Err(UploadError::NotFound(upload_id.clone())));
    let Some(upload) = upload else { return missing() };
    match upload.status {
        UploadStatus::Pending => RowDecision::Pending(upload),
        UploadStatus::Ready => RowDecision::Ended(Ok(upload)),
        UploadStatus::Rejected => {
            // Every REJECTED row has its reason.
            let reason = upload.rejection.unwrap_or(Rejection::WrongChecksum);
            RowDecision::Ended(Err(UploadError::Rejected(reason)))
        }
        UploadStatus::Deleted => missing(),
    }
}
