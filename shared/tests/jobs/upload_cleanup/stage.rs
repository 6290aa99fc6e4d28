//! Uploads in all the states that the clean-up meets, made by the real protocol.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::{Config, RequestChecksumCalculation};
use aws_sdk_s3::error::ProvideErrorMetadata;
use jiff::Timestamp;
use sojourn::coordination::backlog::{BacklogError, JobRun};
use sojourn::coordination::lock::{AcquireOutcome, DynamoLocks, JobSlot, Lease, LeaseSettings};
use sojourn::core::clock::{ManualClock, SharedClock};
use sojourn::core::deadline::Deadline;
use sojourn::core::env::Env;
use sojourn::core::ids::{self, UserId};
use sojourn::files::uploads::cleanup::{self, UploadCleanupResult};
use sojourn::files::uploads::dynamo::{key, usage_key};
use sojourn::files::uploads::{
    CompletionRequest, DynamoUploads, S3Uploads, Upload, UploadError, UploadRequest, Uploads, UsageByRegion,
};
use sojourn::platform::dynamo::{DynamoError, Guard};
use sojourn_testing::{BUCKET, Files, Fixture, Store};

/// The size of a small file, in bytes.
pub(super) const SMALL: u64 = 12;
/// The SHA-256 of `twelve bytes`.
const TWELVE_BYTES: &str = "d4ce2c527afe674c7a086bd74e256019e3d5dcdb31eeb6eaadef5ada8c4383b9";
/// The size of one that comes in parts.
pub(super) const LARGE: u64 = 6 * 1024 * 1024;
/// More than a run needs.
pub(super) const LONG: Duration = Duration::from_mins(1);
/// How long uploads may stay unfinished: `UNFINISHED_UPLOAD_HOURS`.
const UNFINISHED_HOURS: u64 = 24;

pub(super) struct Stage {
    pub(super) store: Store,
    pub(super) files: Files,
    pub(super) clock: Arc<ManualClock>,
    env: Env,
}

/// The time of the first slot.
pub(super) fn nine() -> Timestamp {
    "2026-11-20T09:00:00Z".parse().unwrap()
}

pub(super) fn hours(count: u64) -> Duration {
    Duration::from_hours(count)
}

pub(super) fn user() -> UserId {
    ids::random().next()
}

fn slot(at: Timestamp) -> JobSlot {
    JobSlot::of_second("upload-cleanup", at)
}

impl Stage {
    /// Empty, and long enough before [`nine`] for what begins here to be unfinished by then.
    pub(super) fn new() -> Self {
        let files = Files::start();
        let Fixture { store, env, .. } = Fixture::start_with(files.variables());
        let clock = ManualClock::at(nine() - hours(UNFINISHED_HOURS + 1));
        Self { store, files, clock, env }
    }

    /// As time passes until [`nine`].
    pub(super) fn a_day_later(&self) {
        self.clock.advance(hours(UNFINISHED_HOURS + 1));
    }

    fn bucket(&self) -> S3Uploads {
        S3Uploads::from_env(&self.files.sdk(), &self.env, self.clock.clone()).unwrap()
    }

    fn rows(&self) -> DynamoUploads {
        DynamoUploads::from_env(self.store.client.clone(), &self.env).unwrap()
    }

    pub(super) fn uploads(&self) -> Uploads {
        let (client, clock) = (self.store.client.clone(), self.clock.clone());
        Uploads::from_env(client, &self.files.sdk(), &self.env, clock, ids::random()).unwrap()
    }

    /// A file that was announced, and not sent.
    async fn announced(&self, owner: &UserId, size_bytes: u64) -> Upload {
        let wish = UploadRequest {
            file_name: "note.txt".to_owned(),
            content_type: "text/plain".to_owned(),
            size_bytes,
            sha256: TWELVE_BYTES.parse().unwrap(),
        };
        self.uploads()
            .create(owner, wish, UsageByRegion::default(), Deadline::after(LONG))
            .await
            .unwrap()
            .upload
    }

    /// A file that was sent whole, and not completed.
    pub(super) async fn sent(&self, owner: &UserId) -> Upload {
        let upload = self.announced(owner, SMALL).await;
        self.put(&upload.incoming_key(), "twelve bytes").await;
        upload
    }

    /// A file of which some bytes came as a part, and that was not completed.
    pub(super) async fn sent_in_parts(&self, owner: &UserId) -> Upload {
        let upload = self.announced(owner, LARGE).await;
        let part = self.files.client().upload_part().bucket(BUCKET).key(upload.incoming_key());
        let part = part.upload_id(upload.s3_upload_id.as_ref().unwrap().as_str()).part_number(1);
        // As whoever follows a link sends it: without the checksum that the SDK adds.
        let plain = Config::builder().request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        let part = part.body(b"some bytes".to_vec().into()).customize().config_override(plain);
        part.send().await.unwrap();
        upload
    }

    /// A file that was something else than was announced.
    pub(super) async fn rejected(&self, owner: &UserId) -> Upload {
        let upload = self.announced(owner, SMALL).await;
        self.put(&upload.incoming_key(), "other  bytes").await;
        let refused = self.complete(&upload).await.unwrap_err();
        assert!(matches!(refused, UploadError::Rejected(_)), "{refused:?}");
        upload
    }

    /// A file that is READY.
    pub(super) async fn ready(&self, owner: &UserId) -> Upload {
        let upload = self.sent(owner).await;
        self.complete(&upload).await.unwrap()
    }

    /// A file that its user deleted.
    pub(super) async fn deleted(&self, owner: &UserId) -> Upload {
        let upload = self.sent(owner).await;
        self.uploads().delete(owner, &upload.upload_id, Deadline::after(LONG)).await.unwrap();
        upload
    }

    pub(super) async fn complete(&self, upload: &Upload) -> Result<Upload, UploadError> {
        let (owner, id) = (&upload.owner_id, &upload.upload_id);
        self.uploads().complete(owner, id, &CompletionRequest::default(), Deadline::after(LONG)).await
    }

    pub(super) async fn put(&self, key: &str, text: &'static str) {
        let put = self.files.client().put_object().bucket(BUCKET).key(key);
        put.body(text.as_bytes().to_vec().into()).send().await.unwrap();
    }

    fn locks(&self) -> DynamoLocks {
        let client = self.store.client.clone();
        DynamoLocks::new(client, "LocksTable", "local", self.clock.clone(), LeaseSettings::JOBS)
    }

    /// The lock of the slot at `at`, taken from a holder that has died if there is one.
    pub(super) async fn lease(&self, at: Timestamp) -> Lease {
        loop {
            match self.locks().acquire(slot(at).lock_name(), &ids::random().next()).await.unwrap() {
                AcquireOutcome::Acquired(lease) => return lease,
                AcquireOutcome::Held { .. } => self.lease_runs_out(),
                AcquireOutcome::Done { .. } => panic!("nobody completes slots here"),
            }
        }
    }

    pub(super) fn lease_runs_out(&self) {
        let terms = LeaseSettings::JOBS;
        self.clock.advance(terms.lease + terms.clock_skew + Duration::from_secs(1));
    }

    /// The work of the slot at `at`, with so much time for it.
    pub(super) fn turn(&self, at: Timestamp, lease: &Lease, time: Duration) -> JobRun<Guard> {
        // The run stops ten seconds before its deadline.
        let deadline = Deadline::after(time + Duration::from_secs(10));
        JobRun::of_slot(&slot(at), deadline, self.locks().guard(lease).unwrap())
    }

    pub(super) async fn run(
        &self,
        turn: &JobRun<Guard>,
    ) -> Result<UploadCleanupResult, BacklogError<DynamoError>> {
        let clock: SharedClock = self.clock.clone();
        cleanup::run(&self.rows(), &self.bucket(), &clock, turn).await
    }

    /// A whole run of the slot at `at`.
    pub(super) async fn sweep(&self, at: Timestamp) -> UploadCleanupResult {
        let lease = self.lease(at).await;
        self.run(&self.turn(at, &lease, LONG)).await.unwrap()
    }

    /// The status in an upload's row; none without a row.
    pub(super) async fn status(&self, upload: &Upload) -> Option<String> {
        let row = self.store.client.get_item().table_name("UploadsTable").consistent_read(true);
        let row = row.set_key(Some(key(&upload.owner_id, &upload.upload_id))).send().await.unwrap().item;
        row.map(|row| row["status"].as_s().unwrap().clone())
    }

    /// When an upload has to be looked after.
    pub(super) async fn sweep_at(&self, upload: &Upload) -> String {
        let row = self.store.client.get_item().table_name("UploadsTable").consistent_read(true);
        let row = row.set_key(Some(key(&upload.owner_id, &upload.upload_id))).send().await.unwrap().item;
        row.unwrap()["sweepAt"].as_s().unwrap().clone()
    }

    /// What is counted as taken by a user: bytes and files.
    pub(super) async fn taken(&self, owner: &UserId) -> (u64, u64) {
        let row = self.store.client.get_item().table_name("UploadsTable").consistent_read(true);
        let row = row.set_key(Some(usage_key(owner, "local"))).send().await.unwrap().item.unwrap();
        let number = |name: &str| row[name].as_n().unwrap().parse().unwrap();
        (number("bytes"), number("files"))
    }

    /// The keys of all objects.
    pub(super) async fn objects(&self) -> Vec<String> {
        let listing = self.files.client().list_objects_v2().bucket(BUCKET).send().await.unwrap();
        listing.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
    }

    /// Whether S3 still knows the upload in parts.
    pub(super) async fn has_parts(&self, upload: &Upload) -> bool {
        let parts = self.files.client().list_parts().bucket(BUCKET).key(upload.incoming_key());
        match parts.upload_id(upload.s3_upload_id.as_ref().unwrap().as_str()).send().await {
            Ok(listing) => !listing.parts().is_empty(),
            Err(error) => {
                assert_eq!(error.code(), Some("NoSuchUpload"));
                false
            }
        }
    }
}
