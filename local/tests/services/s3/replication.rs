//! Buckets of several regions that copy to each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ReplicationStatus;
use local_region::services::network::{Lag, Network};
use local_region::services::s3::replication::Replication;
use local_region::template::model::{
    BucketReplication, DeleteMarkers, ReplicationRule, Statement, Versioning,
};

use super::multipart::put_in_parts;
use super::*;

const KEY: &str = "uploads/a";

/// Long enough that nothing arrives by itself.
const NEVER: Lag = Lag::always(Duration::from_hours(1));

const AT_ONCE: Lag = Lag::always(Duration::ZERO);

const REGIONS: [&str; 3] = ["singapore", "taiwan", "tokyo"];

struct Joined {
    // Dropped first: nothing is sent to a region that is gone.
    replication: Replication,
    network: Arc<Network>,
    regions: BTreeMap<&'static str, Stage>,
}

fn named(region: &str) -> String {
    format!("files-{region}")
}

/// All that S3 asks for.
fn policy(destinations: &str) -> Vec<Statement> {
    let statement = |actions: &[&str], resource: &str| Statement {
        actions: actions.iter().map(|&action| action.to_owned()).collect(),
        resources: vec![resource.to_owned()],
        conditions: Vec::new(),
    };
    vec![
        statement(&["s3:GetReplicationConfiguration", "s3:ListBucket"], "arn:aws:s3:::files-*"),
        statement(&["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl"], "arn:aws:s3:::files-*/*"),
        statement(&["s3:ReplicateObject", "s3:ReplicateDelete"], destinations),
    ]
}

fn rule(prefix: &str, to: &str, delete_markers: DeleteMarkers) -> ReplicationRule {
    ReplicationRule { prefix: prefix.to_owned(), destination: named(to), delete_markers }
}

/// One whose rules copy what is under `uploads/` to all other regions.
fn bucket_of(region: &str) -> Bucket {
    let others = REGIONS.into_iter().filter(|other| *other != region);
    let rules = others.map(|other| rule("uploads/", other, DeleteMarkers::Copied)).collect();
    let replication = BucketReplication { policy: policy("arn:aws:s3:::files-*/*"), rules };
    Bucket {
        name: named(region),
        versioning: Versioning::On,
        replication: Some(replication),
        ..Bucket::default()
    }
}

impl Joined {
    fn start(lag: Lag) -> Self {
        Self::of(lag, None, bucket_of)
    }

    fn of(lag: Lag, folder: Option<&Path>, bucket: impl Fn(&str) -> Bucket) -> Self {
        let start = |region| {
            let folder = folder.map(|folder| folder.join(region));
            (region, Stage::of(folder.as_deref(), bucket(region)))
        };
        let regions = BTreeMap::from(REGIONS.map(start));
        let network = Arc::new(Network::default());
        let buckets: Vec<_> =
            regions.iter().map(|(name, stage)| ((*name).to_owned(), stage.s3.region_buckets())).collect();
        let replication = Replication::start(&buckets, Arc::clone(&network), lag).unwrap();
        Self { replication, network, regions }
    }

    fn client(&self, region: &str) -> Client {
        self.regions[region].client(None)
    }

    /// Writes a version; its id.
    async fn put(&self, region: &str, key: &str, body: &'static [u8]) -> String {
        let put = self.client(region).put_object().bucket(named(region)).key(key);
        put.body(ByteStream::from_static(body)).send().await.unwrap().version_id.unwrap()
    }

    /// Deletes an object; the id of the delete marker.
    async fn delete(&self, region: &str, key: &str) -> String {
        let delete = self.client(region).delete_object().bucket(named(region)).key(key);
        delete.send().await.unwrap().version_id.unwrap()
    }

    async fn head(&self, region: &str, key: &str) -> Option<HeadObjectOutput> {
        let head = self.client(region).head_object().bucket(named(region)).key(key);
        head.checksum_mode(ChecksumMode::Enabled).send().await.ok()
    }

    async fn status(&self, region: &str, key: &str) -> Option<ReplicationStatus> {
        self.head(region, key).await.unwrap().replication_status
    }

    async fn get(&self, region: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self.client(region).get_object().bucket(named(region)).key(key).send().await.ok()?;
        Some(answer.body.collect().await.unwrap().to_vec())
    }

    /// What every region has, in the order of their names.
    async fn everywhere(&self, key: &str) -> Vec<Option<Vec<u8>>> {
        let mut found = Vec::new();
        for region in REGIONS {
            found.push(self.get(region, key).await);
        }
        found
    }

    /// Waits until so many copies are still to be made, ten seconds at most.
    async fn until_pending(&self, copies: usize) {
        for _ in 0..1_000 {
            if self.replication.pending().unwrap() == copies {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} copies wait, not {copies}", self.replication.pending().unwrap());
    }
}

#[tokio::test]
async fn a_copy_has_the_id_the_age_the_metadata_and_the_checksum_of_its_source() {
    let regions = Joined::start(AT_ONCE);
    let put = regions.client("taiwan").put_object().bucket(named("taiwan")).key(KEY).metadata("owner", "ada");
    let put =
        put.content_type("image/png").checksum_sha256(checksum(BODY)).body(ByteStream::from_static(BODY));
    let put = put.send().await.unwrap();
    regions.until_pending(0).await;
    let source = regions.head("taiwan", KEY).await.unwrap();
    let copy = regions.head("tokyo", KEY).await.unwrap();
    assert_eq!(copy.version_id, put.version_id);
    assert_eq!(copy.last_modified, source.last_modified);
    assert_eq!(copy.e_tag, source.e_tag);
    assert_eq!(copy.checksum_sha256, Some(checksum(BODY)));
    assert_eq!(copy.content_type.as_deref(), Some("image/png"));
    assert_eq!(copy.metadata.unwrap()["owner"], "ada");
    assert_eq!(regions.everywhere(KEY).await, vec![Some(BODY.to_vec()); 3]);
}

#[tokio::test]
async fn an_object_that_came_in_parts_is_copied_whole_with_its_etag() {
    let regions = Joined::of(AT_ONCE, None, |region| {
        let mut bucket = bucket_of(region);
        if region == "taiwan" {
            // Where the helpers of uploads put them.
            bucket.name = BUCKET.to_owned();
            bucket.replication.as_mut().unwrap().policy = anything();
        }
        bucket
    });
    let body = super::multipart::large();
    let client = regions.client("taiwan");
    put_in_parts(&client, KEY, &body).await;
    regions.until_pending(0).await;
    let source = client.head_object().bucket(BUCKET).key(KEY).send().await.unwrap();
    let copy = regions.head("tokyo", KEY).await.unwrap();
    assert_eq!((&copy.e_tag, copy.version_id), (&source.e_tag, source.version_id));
    assert!(copy.e_tag.unwrap().ends_with("-3\""));
    assert_eq!(regions.get("tokyo", KEY).await.unwrap(), body);
}

fn anything() -> Vec<Statement> {
    vec![Statement { actions: vec!["s3:*".to_owned()], resources: vec!["*".to_owned()], conditions: vec![] }]
}

#[tokio::test]
async fn an_object_is_pending_until_every_destination_has_it_and_a_copy_says_what_it_is() {
    let regions = Joined::start(NEVER);
    regions.put("taiwan", KEY, BODY).await;
    assert_eq!(regions.replication.pending().unwrap(), 2);
    assert_eq!(regions.status("taiwan", KEY).await, Some(ReplicationStatus::Pending));
    assert!(regions.head("tokyo", KEY).await.is_none());
    regions.network.cut("taiwan", "singapore");
    regions.replication.set_lag(AT_ONCE);
    regions.until_pending(1).await;
    assert_eq!(regions.status("taiwan", KEY).await, Some(ReplicationStatus::Pending));
    assert_eq!(regions.status("tokyo", KEY).await, Some(ReplicationStatus::Replica));
    regions.network.heal();
    regions.until_pending(0).await;
    assert_eq!(regions.status("taiwan", KEY).await, Some(ReplicationStatus::Completed));
}

#[tokio::test]
async fn a_copy_is_not_copied_further() {
    let to = |region: &str| match region {
        "singapore" => "taiwan",
        "taiwan" => "tokyo",
        _ => "singapore",
    };
    let ring = |region: &str| {
        let mut bucket = bucket_of(region);
        bucket.replication.as_mut().unwrap().rules = vec![rule("", to(region), DeleteMarkers::Copied)];
        bucket
    };
    let regions = Joined::of(AT_ONCE, None, ring);
    regions.put("taiwan", KEY, BODY).await;
    regions.delete("taiwan", "other").await;
    regions.until_pending(0).await;
    assert_eq!(regions.everywhere(KEY).await, [None, Some(BODY.to_vec()), Some(BODY.to_vec())]);
    let versions = regions.client("singapore").list_object_versions().bucket(named("singapore"));
    assert!(versions.send().await.unwrap().delete_markers().is_empty());
}

#[tokio::test]
async fn what_no_rule_fits_stays_and_has_no_status() {
    let regions = Joined::start(AT_ONCE);
    regions.put("taiwan", "incoming/a", BODY).await;
    regions.delete("taiwan", "incoming/b").await;
    assert_eq!(regions.replication.pending().unwrap(), 0);
    assert_eq!(regions.status("taiwan", "incoming/a").await, None);
    assert_eq!(regions.everywhere("incoming/a").await, [None, Some(BODY.to_vec()), None]);
}

#[tokio::test]
async fn a_delete_marker_follows_with_its_id_and_the_deletion_of_a_version_does_not() {
    let regions = Joined::start(AT_ONCE);
    let version = regions.put("taiwan", KEY, BODY).await;
    regions.until_pending(0).await;
    let marker = regions.delete("taiwan", KEY).await;
    regions.until_pending(0).await;
    assert_eq!(regions.everywhere(KEY).await, [None, None, None]);
    let tokyo = regions.client("tokyo");
    let listed = tokyo.list_object_versions().bucket(named("tokyo")).send().await.unwrap();
    assert_eq!(listed.delete_markers()[0].version_id(), Some(&*marker));
    assert_eq!(listed.versions()[0].version_id(), Some(&*version));

    let remove = regions.client("taiwan").delete_object().bucket(named("taiwan")).key(KEY);
    remove.version_id(&version).send().await.unwrap();
    assert_eq!(regions.replication.pending().unwrap(), 0);
    tokyo.head_object().bucket(named("tokyo")).key(KEY).version_id(&version).send().await.unwrap();
}

#[tokio::test]
async fn the_rule_with_the_highest_priority_decides_about_delete_markers_of_a_destination() {
    let keeping = |region: &str| {
        let mut bucket = bucket_of(region);
        let rules = &mut bucket.replication.as_mut().unwrap().rules;
        rules.insert(0, rule("uploads/kept/", "tokyo", DeleteMarkers::Kept));
        bucket
    };
    let regions = Joined::of(AT_ONCE, None, keeping);
    regions.put("taiwan", "uploads/kept/a", BODY).await;
    regions.until_pending(0).await;
    regions.delete("taiwan", "uploads/kept/a").await;
    regions.until_pending(0).await;
    assert_eq!(regions.everywhere("uploads/kept/a").await, [None, None, Some(BODY.to_vec())]);
}

#[tokio::test]
async fn nothing_crosses_a_cut_or_reaches_a_region_that_is_stopped_and_all_arrives_later() {
    let regions = Joined::start(AT_ONCE);
    regions.network.cut("taiwan", "tokyo");
    regions.network.stop("singapore");
    regions.put("taiwan", KEY, b"one").await;
    regions.put("taiwan", KEY, b"two").await;
    regions.put("tokyo", "uploads/b", b"b").await;
    // Rounds pass, and none of it arrives.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(regions.replication.pending().unwrap(), 6);
    assert_eq!(regions.everywhere(KEY).await, [None, Some(b"two".to_vec()), None]);
    regions.network.heal();
    regions.until_pending(3).await;
    assert_eq!(regions.everywhere(KEY).await, [None, Some(b"two".to_vec()), Some(b"two".to_vec())]);
    regions.network.start("singapore");
    regions.until_pending(0).await;
    assert_eq!(regions.everywhere(KEY).await, vec![Some(b"two".to_vec()); 3]);
    assert_eq!(regions.everywhere("uploads/b").await, vec![Some(b"b".to_vec()); 3]);
}

#[tokio::test]
async fn regions_that_write_one_key_at_the_same_time_agree_on_the_later_write() {
    let regions = Joined::start(NEVER);
    regions.put("taiwan", KEY, b"taiwan").await;
    regions.put("tokyo", KEY, b"tokyo").await;
    regions.put("singapore", "uploads/b", b"b").await;
    regions.delete("taiwan", "uploads/b").await;
    regions.replication.set_lag(AT_ONCE);
    regions.until_pending(0).await;
    assert_eq!(regions.everywhere(KEY).await, vec![Some(b"tokyo".to_vec()); 3]);
    assert_eq!(regions.everywhere("uploads/b").await, [None, None, None]);
    for region in REGIONS {
        let list = regions.client(region).list_object_versions().bucket(named(region)).prefix(KEY);
        assert_eq!(list.send().await.unwrap().versions().len(), 2, "{region}: neither is lost");
    }
}

#[tokio::test]
async fn what_was_not_copied_before_a_restart_is_copied_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let version = {
        let regions = Joined::of(AT_ONCE, Some(folder.path()), bucket_of);
        regions.put("taiwan", "uploads/gone", BODY).await;
        regions.until_pending(0).await;
        regions.network.cut("taiwan", "tokyo");
        regions.delete("taiwan", "uploads/gone").await;
        let version = regions.put("taiwan", KEY, BODY).await;
        regions.until_pending(2).await;
        version
    };
    let regions = Joined::of(NEVER, Some(folder.path()), bucket_of);
    assert_eq!(regions.replication.pending().unwrap(), 2);
    assert_eq!(regions.status("taiwan", KEY).await, Some(ReplicationStatus::Pending));
    regions.replication.set_lag(AT_ONCE);
    regions.until_pending(0).await;
    assert_eq!(regions.head("tokyo", KEY).await.unwrap().version_id, Some(version));
    assert_eq!(regions.everywhere("uploads/gone").await, [None, None, None]);
}

#[tokio::test]
async fn what_was_there_before_the_rules_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let without_rules = |region: &str| Bucket { replication: None, ..bucket_of(region) };
    Joined::of(AT_ONCE, Some(folder.path()), without_rules).put("taiwan", KEY, BODY).await;
    let regions = Joined::of(AT_ONCE, Some(folder.path()), bucket_of);
    regions.put("taiwan", "uploads/new", BODY).await;
    regions.until_pending(0).await;
    assert_eq!(regions.get("tokyo", "uploads/new").await, Some(BODY.to_vec()));
    assert_eq!(regions.get("tokyo", KEY).await, None);
    assert_eq!(regions.status("taiwan", KEY).await, None);
}

#[tokio::test]
async fn an_object_fails_whose_role_may_not_or_whose_destination_is_missing() {
    let without = |action: &'static str| {
        move |region: &str| {
            let mut bucket = bucket_of(region);
            for statement in &mut bucket.replication.as_mut().unwrap().policy {
                statement.actions.retain(|own| own != action);
            }
            bucket
        }
    };
    for action in ["s3:GetObjectVersionForReplication", "s3:ReplicateObject", "s3:ListBucket"] {
        let regions = Joined::of(AT_ONCE, None, without(action));
        regions.put("taiwan", KEY, BODY).await;
        regions.until_pending(0).await;
        assert_eq!(regions.status("taiwan", KEY).await, Some(ReplicationStatus::Failed), "{action}");
        assert_eq!(regions.get("tokyo", KEY).await, None, "{action}");
    }
    let regions = Joined::of(AT_ONCE, None, |region| {
        let mut bucket = bucket_of(region);
        bucket.replication.as_mut().unwrap().rules = vec![rule("", "nowhere", DeleteMarkers::Copied)];
        bucket
    });
    regions.put("taiwan", KEY, BODY).await;
    regions.until_pending(0).await;
    assert_eq!(regions.status("taiwan", KEY).await, Some(ReplicationStatus::Failed));
}
