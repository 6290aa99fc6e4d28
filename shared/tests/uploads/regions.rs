//! Uploads whose customers move between regions, which have not heard of each other's writes.

use std::collections::BTreeMap;

use sojourn::core::clock::{self, Clock, SystemClock};
use sojourn::core::env::Env;
use sojourn::core::ids::{self, UploadId, UserId};
use sojourn::files::links::disposition::Disposition;
use sojourn::files::links::downloads::Downloads;
use sojourn::files::uploads::{
    CompletionRequest, DynamoUploads, Home, S3Uploads, SweepShard, Upload, UploadError, UploadLimits,
    UploadStatus, Uploads, Usage, UsageByRegion,
};
use sojourn_testing::{BUCKET, Files, Regions};

use crate::{in_a_minute, wish};

const NAMES: [&str; 3] = ["tokyo", "taiwan", "singapore"];
const BYTES: &[u8] = b"twelve bytes";

/// Regions with a bucket each. Tables replicate; buckets do not.
struct World {
    regions: Regions,
    files: BTreeMap<&'static str, Files>,
    owner: UserId,
}

impl World {
    fn new() -> Self {
        let files = NAMES.map(|name| (name, Files::start())).into();
        Self { regions: Regions::start(NAMES), files, owner: ids::random().next() }
    }

    fn env(&self, region: &str) -> Env {
        let peers = NAMES.iter().filter(|peer| **peer != region).map(|peer| format!("{peer}={BUCKET}"));
        let peers = peers.collect::<Vec<_>>().join(",");
        let variables = self.files[region].variables();
        let variables = variables.iter().filter(|(name, _)| name != "AWS_REGION");
        let mut variables: Vec<_> = variables.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        variables.push(("PEER_BUCKETS", &peers));
        self.regions.store(region).env_with(&variables)
    }

    fn rows(&self, region: &str) -> DynamoUploads {
        let client = self.regions.store(region).client.clone();
        DynamoUploads::in_region(client, &self.env(region), region.to_owned()).unwrap()
    }

    fn home(&self, region: &str) -> Home {
        let files = &self.files[region];
        Home {
            rows: self.rows(region),
            files: S3Uploads::new(&files.sdk(), &self.env(region), BUCKET.to_owned(), clock::system()),
            clock: clock::system(),
        }
    }

    /// The uploads of a region that may have at most so many bytes of a user.
    fn uploads_of(&self, region: &str, quota_bytes: u64) -> Uploads {
        let env = self.env(region);
        let mut limits = UploadLimits::from_env(&env).unwrap();
        limits.quota_bytes = quota_bytes;
        let peers = NAMES.into_iter().filter(|peer| *peer != region).map(|peer| self.home(peer));
        let downloads = Downloads::from_env(&self.files[region].sdk(), &env, clock::system()).unwrap();
        Uploads::new(self.home(region), peers.collect(), downloads, limits, ids::random())
    }

    fn uploads(&self, region: &str) -> Uploads {
        self.uploads_of(region, 1_000)
    }

    /// An upload that was announced in a region.
    async fn announced(&self, region: &str) -> Upload {
        let uploads = self.uploads(region);
        let usage = uploads.usage(&self.owner).await.unwrap();
        uploads.create(&self.owner, wish(BYTES), usage, in_a_minute()).await.unwrap().upload
    }

    /// One whose file was sent, too.
    async fn sent(&self, region: &str) -> Upload {
        let upload = self.announced(region).await;
        let put = self.files[region].client().put_object().bucket(BUCKET).key(upload.incoming_key());
        put.body(BYTES.to_vec().into()).send().await.unwrap();
        upload
    }

    async fn complete(&self, region: &str, upload: &Upload) -> Result<Upload, UploadError> {
        let sent = CompletionRequest::default();
        let uploads = self.uploads(region);
        Box::pin(uploads.complete(&self.owner, &upload.upload_id, &sent, in_a_minute())).await
    }

    /// The upload as a region's copy of the table has it.
    async fn seen(&self, region: &str, upload: &Upload) -> Option<Upload> {
        self.rows(region).read(&self.owner, &upload.upload_id).await.unwrap()
    }

    async fn usage(&self, region: &str) -> UsageByRegion {
        self.rows(region).usage(&self.owner).await.unwrap()
    }

    /// The link to an upload, as a region gives it.
    async fn link(&self, region: &str, upload: &Upload) -> String {
        let readable = self.uploads(region).readable(upload.clone(), Disposition::default()).await.unwrap();
        readable.download.unwrap().0.expose().to_owned()
    }

    async fn sweep_entries(&self, region: &str) -> Vec<UploadId> {
        let later = SystemClock.now() + jiff::SignedDuration::from_hours(48);
        let rows = self.rows(region);
        let mut due = Vec::new();
        for shard in SweepShard::all() {
            due.extend(rows.page_of_due(shard, later, None).await.unwrap().entries);
        }
        due.into_iter().map(|entry| entry.upload_id).collect()
    }
}

fn of(files: u64) -> Usage {
    Usage { bytes: 12 * files, files }
}

/// With one row that two regions write, the last writer wins, and an upload can be more than what
/// is counted: its deletion fails for ever.
#[tokio::test]
async fn two_regions_that_count_at_the_same_time_lose_no_upload_of_the_quota() {
    let world = World::new();
    world.regions.cut();
    let uploads =
        [world.announced("tokyo").await, world.announced("taiwan").await, world.announced("taiwan").await];
    world.regions.heal();
    world.regions.settle().await;
    for (region, here) in [("tokyo", of(1)), ("taiwan", of(2)), ("singapore", of(0))] {
        let usage = world.usage(region).await;
        assert_eq!((usage.here, usage.here + usage.elsewhere), (here, of(3)), "{region}");
    }
    // Every region removes what is counted in it, and no share is too small.
    for upload in &uploads {
        let (home, now) = (world.rows(&upload.region), SystemClock.now());
        home.delete(upload, now).await.unwrap();
        let later = upload.settled_at(now) + jiff::SignedDuration::from_secs(1);
        let ending = home.remove(upload, later).await.unwrap();
        assert_eq!(ending, sojourn::files::uploads::EndOutcome::Done);
    }
    world.regions.settle().await;
    for region in NAMES {
        assert_eq!(world.usage(region).await, UsageByRegion::default(), "{region}");
    }
}

#[tokio::test]
async fn the_quota_counts_what_was_announced_in_other_regions() {
    let world = World::new();
    world.announced("tokyo").await;
    world.announced("taiwan").await;
    world.regions.settle().await;
    let announce = async |region: &str, quota_bytes: u64| {
        let uploads = world.uploads_of(region, quota_bytes);
        let usage = uploads.usage(&world.owner).await.unwrap();
        uploads.create(&world.owner, wish(BYTES), usage, in_a_minute()).await
    };
    // A region with a row of its own, and one without.
    for region in ["taiwan", "singapore"] {
        let refused = announce(region, 35).await.unwrap_err();
        let UploadError::QuotaExceeded { used: Some(used), .. } = refused else { panic!("{refused:?}") };
        assert_eq!(used, of(2), "{region}");
    }
    announce("singapore", 36).await.unwrap();
    world.regions.settle().await;
    assert!(announce("tokyo", 36).await.is_err());
}

#[tokio::test]
async fn an_upload_is_completed_and_deleted_at_its_home_from_any_region() {
    let world = World::new();
    let upload = world.sent("taiwan").await;
    world.regions.settle().await;
    world.regions.cut();
    let ready = world.complete("tokyo", &upload).await.unwrap();
    assert_eq!((ready.status, ready.region.as_str()), (UploadStatus::Ready, "taiwan"));
    assert_eq!(world.files["taiwan"].keys().await, [upload.final_key()], "the bytes stay where they are");
    assert!(world.files["tokyo"].keys().await.is_empty());
    assert_eq!(world.seen("taiwan", &upload).await.unwrap().status, UploadStatus::Ready);
    assert_eq!(
        world.seen("tokyo", &upload).await,
        Some(upload.clone()),
        "no copy but the home's was written"
    );

    // Singapore's copy is as old.
    let deletion = world.uploads("singapore");
    Box::pin(deletion.delete(&world.owner, &upload.upload_id, in_a_minute())).await.unwrap();
    assert!(world.files["taiwan"].keys().await.is_empty());
    let again = world.complete("tokyo", &upload).await.unwrap_err();
    assert!(matches!(again, UploadError::NotFound(_)), "{again:?}");
    world.regions.heal();
    world.regions.settle().await;
    for region in NAMES {
        assert_eq!(world.seen(region, &upload).await.unwrap().status, UploadStatus::Deleted, "{region}");
    }
}

#[tokio::test]
async fn an_upload_of_a_region_that_is_no_peer_is_neither_completed_nor_deleted() {
    let world = World::new();
    let upload = world.sent("taiwan").await;
    world.regions.settle().await;
    let env = world.env("tokyo");
    let downloads = Downloads::from_env(&world.files["tokyo"].sdk(), &env, clock::system()).unwrap();
    let limits = UploadLimits::from_env(&env).unwrap();
    let alone = Uploads::new(world.home("tokyo"), Vec::new(), downloads, limits, ids::random());
    let (id, sent) = (&upload.upload_id, CompletionRequest::default());
    let completed = Box::pin(alone.complete(&world.owner, id, &sent, in_a_minute())).await.unwrap_err();
    let deleted = Box::pin(alone.delete(&world.owner, id, in_a_minute())).await.unwrap_err();
    for refused in [completed, deleted] {
        assert!(
            matches!(refused, UploadError::HomeSilent { ref region, .. } if region == "taiwan"),
            "{refused:?}"
        );
    }
    world.regions.settle().await;
    assert_eq!(world.seen("tokyo", &upload).await, Some(upload.clone()));
    assert_eq!(world.seen("taiwan", &upload).await, Some(upload));
}

#[tokio::test]
async fn each_region_sweeps_its_own_uploads_only() {
    let world = World::new();
    let (here, there) = (world.announced("tokyo").await, world.announced("taiwan").await);
    world.regions.settle().await;
    assert_eq!(world.sweep_entries("tokyo").await, std::slice::from_ref(&here.upload_id));
    assert_eq!(world.sweep_entries("taiwan").await, std::slice::from_ref(&there.upload_id));
    assert!(world.sweep_entries("singapore").await.is_empty());
    // A deletion that was asked for in another region is still the home's to sweep.
    let deletion = world.uploads("singapore");
    Box::pin(deletion.delete(&world.owner, &here.upload_id, in_a_minute())).await.unwrap();
    world.regions.settle().await;
    assert_eq!(world.sweep_entries("tokyo").await, [here.upload_id]);
    assert!(world.sweep_entries("singapore").await.is_empty());
}

#[tokio::test]
async fn a_link_leads_to_the_home_until_the_own_bucket_has_the_file() {
    let world = World::new();
    let upload = world.sent("taiwan").await;
    world.regions.settle().await;
    let ready = world.complete("tokyo", &upload).await.unwrap();
    assert!(world.link("tokyo", &ready).await.contains("%2Ftaiwan%2Fs3%2F"));
    assert!(world.link("taiwan", &ready).await.contains("%2Flocal%2Fs3%2F"), "its own region asks nobody");

    // As S3 does it, some time later.
    let copy = world.files["tokyo"].client().put_object().bucket(BUCKET).key(ready.final_key());
    copy.body(BYTES.to_vec().into()).send().await.unwrap();
    assert!(world.link("tokyo", &ready).await.contains("%2Flocal%2Fs3%2F"));
    assert!(world.link("singapore", &ready).await.contains("%2Ftaiwan%2Fs3%2F"));
}
