//! Completing: step 3 of the protocol.

use super::store::{Assembly, Copied, Transition};
use super::{
    CompletionRequest, Rejection, Upload, UploadError, UploadFiles, UploadRows, UploadStatus, Uploads,
};
use crate::core::deadline::Deadline;
use crate::core::ids::{UploadId, UserId};
use crate::core::retry::Backoff;
use crate::platform::telemetry::{self, Metric, chain};

/// What the bucket has of an upload.
enum Found {
    /// The final object, and it is what was announced.
    Right,
    /// Something else than what was announced.
    Wrong(Rejection),
    /// Incoming was replaced or deleted while it was looked at.
    Moved,
    /// No final object that is right, and no incoming one.
    Nothing,
}

impl<R: UploadRows, F: UploadFiles> Uploads<R, F> {
    /// Makes the caller's upload READY if its file is what was announced, and tells what it was made.
    pub async fn complete(
        &self,
        owner: &UserId,
        upload_id: &UploadId,
        sent: &CompletionRequest,
        deadline: Deadline,
    ) -> Result<Upload, UploadError> {
        let mut backoff = Backoff::within(deadline);
        let upload = loop {
            match self.rows.count_try(owner, upload_id).await? {
                Transition::Done(upload) => break upload,
                Transition::Refused(stands) => {
                    return match settled(stands, upload_id) {
                        // Only a PENDING upload without a try left refuses one.
                        Settled::Pending(upload) => {
                            self.reject(&upload, Rejection::TooManyTries, backoff).await
                        }
                        Settled::Over(outcome) => outcome,
                    };
                }
                Transition::Busy if backoff.wait().await => {}
                Transition::Busy => return Err(UploadError::Contended),
            }
        };
        sent.check(&upload)?;
        if let Some(s3_upload_id) = &upload.s3_upload_id {
            match self.files.assemble(&upload, s3_upload_id, sent).await? {
                Assembly::Assembled | Assembly::Over => {}
                Assembly::Unfit(parts) => return Err(parts.into()),
            }
        }
        let found = loop {
            match self.examine(&upload).await? {
                Found::Moved if backoff.wait().await => {}
                found => break found,
            }
        };
        match found {
            Found::Right => self.finish(&upload, backoff).await,
            Found::Wrong(rejection) => self.reject(&upload, rejection, backoff).await,
            Found::Moved => Err(UploadError::Contended),
            Found::Nothing => self.not_sent(&upload).await,
        }
    }

    /// Steps 3.3 and 3.4.
    async fn examine(&self, upload: &Upload) -> Result<Found, UploadError> {
        let (finished, incoming) =
            futures::try_join!(self.files.finished(upload), self.files.incoming(upload))?;
        if finished.is_some_and(|checksum| upload.sha256.is(&checksum)) {
            return Ok(Found::Right);
        }
        let Some(incoming) = incoming else { return Ok(Found::Nothing) };
        if incoming.size_bytes != upload.size_bytes {
            return Ok(Found::Wrong(Rejection::WrongSize));
        }
        Ok(match self.files.copy(upload, &incoming).await? {
            Copied::Whole(checksum) if upload.sha256.is(&checksum) => Found::Right,
            Copied::Whole(_) => Found::Wrong(Rejection::WrongChecksum),
            Copied::Moved => Found::Moved,
        })
    }

    /// The end of step 3.3. The client has not sent the file, or somebody has taken it away since the row was read: whoever does
    /// writes the row first, so the row knows.
    async fn not_sent(&self, upload: &Upload) -> Result<Upload, UploadError> {
        match settled(self.rows.read(&upload.owner_id, &upload.upload_id).await?, &upload.upload_id) {
            Settled::Pending(_) => Err(UploadError::Incomplete),
            Settled::Over(outcome) => outcome,
        }
    }

    /// Steps 3.6 and 3.7.
    async fn finish(&self, upload: &Upload, mut backoff: Backoff) -> Result<Upload, UploadError> {
        loop {
            match self.rows.finish(upload, self.clock.now()).await? {
                Transition::Done(ready) => {
                    telemetry::count(Metric::UploadsReady, 1);
                    self.clear(&ready).await;
                    return Ok(ready);
                }
                Transition::Refused(stands) => return self.overtaken(upload, stands).await,
                Transition::Busy if backoff.wait().await => {}
                Transition::Busy => return Err(UploadError::Contended),
            }
        }
    }

    /// Step 3.5.
    async fn reject(
        &self,
        upload: &Upload,
        rejection: Rejection,
        mut backoff: Backoff,
    ) -> Result<Upload, UploadError> {
        loop {
            match self.rows.reject(upload, rejection).await? {
                Transition::Done(rejected) => {
                    telemetry::count_case(Metric::UploadsRejected, rejection.as_str(), 1);
                    self.give_up(&rejected).await;
                    return Err(UploadError::Rejected(rejection));
                }
                Transition::Refused(stands) => return self.overtaken(upload, stands).await,
                Transition::Busy if backoff.wait().await => {}
                Transition::Busy => return Err(UploadError::Contended),
            }
        }
    }

    /// Somebody else ended the upload meanwhile: their outcome holds. One that is READY needs its final object; of any
    /// other, what this completion has copied must go.
    async fn overtaken(&self, upload: &Upload, stands: Option<Upload>) -> Result<Upload, UploadError> {
        match settled(stands, &upload.upload_id) {
            // A row never becomes PENDING again.
            Settled::Pending(_) => Err(UploadError::Contended),
            Settled::Over(Ok(ready)) => {
                self.clear(&ready).await;
                Ok(ready)
            }
            Settled::Over(outcome) => {
                self.give_up(upload).await;
                outcome
            }
        }
    }

    /// Deletes incoming, which nobody needs any more. What fails here, the bucket's lifecycle does later.
    async fn clear(&self, upload: &Upload) {
        if let Err(error) = self.files.clear(upload).await {
            tracing::warn!(upload = %upload.upload_id, error = chain(&error), "an object is left for the lifecycle");
        }
    }
}

/// What a row says about a completion.
enum Settled {
    Pending(Upload),
    Over(Result<Upload, UploadError>),
}

fn settled(upload: Option<Upload>, upload_id: &UploadId) -> Settled {
    let missing = || Settled::Over(Err(UploadError::NotFound(upload_id.clone())));
    let Some(upload) = upload else { return missing() };
    match upload.status {
        UploadStatus::Pending => Settled::Pending(upload),
        UploadStatus::Ready => Settled::Over(Ok(upload)),
        UploadStatus::Rejected => {
            // A row of before the reasons had names cannot be: they came together.
            let reason = upload.rejection.unwrap_or(Rejection::WrongChecksum);
            Settled::Over(Err(UploadError::Rejected(reason)))
        }
        UploadStatus::Deleted => missing(),
    }
}
