//! Buckets.

mod bounds;
mod copies;
mod cors;
mod downloads;
mod multipart;
mod presigned;
mod replication;
mod versions;

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use local_region::services::access::Access;
use local_region::services::faults::{Failure, Rule};
use local_region::services::s3::S3;
use local_region::services::{Controls, Service};
use local_region::template::arn;
use local_region::template::model::{Bucket, CorsRule};
use reqwest::StatusCode;

use crate::support::{ANYWHERE, credentials, function, key, stack};

const BUCKET: &str = "filesbucket";
const BODY: &[u8] = b"twelve bytes";

/// One that pages of one origin may use.
fn bucket() -> Bucket {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let rule = CorsRule {
        allowed_origins: list(&["https://shop.example", "https://*.shop.example"]),
        allowed_methods: list(&["GET", "HEAD", "PUT"]),
        allowed_headers: list(&["content-*", "x-amz-checksum-sha256"]),
        exposed_headers: list(&["ETag"]),
        max_age: Some(Duration::from_hours(1)),
    };
    Bucket { name: BUCKET.to_owned(), cors: vec![rule], ..Bucket::default() }
}

struct Stage {
    s3: S3,
    controls: Controls,
}

impl Stage {
    fn start(folder: Option<&Path>) -> Self {
        Self::of(folder, bucket())
    }

    fn of(folder: Option<&Path>, bucket: Bucket) -> Self {
        let reports = function(
            "job-daily-report",
            &[(
                &["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"],
                &[arn::object(BUCKET, "reports/*")],
            )],
        );
        let controls = Controls::new(Access::new(&stack(vec![reports])));
        let s3 = S3::start(ANYWHERE, folder, &[bucket], controls.clone()).unwrap();
        Self { s3, controls }
    }

    fn client(&self, function: Option<&str>) -> Client {
        Client::from_conf(
            aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(arn::local().region().to_owned()))
                .credentials_provider(credentials(key(&self.controls.access, function)))
                .endpoint_url(self.s3.endpoint_url())
                .force_path_style(true)
                .build(),
        )
    }

    fn job(&self) -> Client {
        self.client(Some("job-daily-report"))
    }
}

async fn put(client: &Client, object: &str) -> Result<(), Option<String>> {
    let request = client.put_object().bucket(BUCKET).key(object).body(ByteStream::from_static(BODY));
    request.send().await.map(drop).map_err(|error| error.code().map(str::to_owned))
}

async fn get(client: &Client, object: &str) -> Vec<u8> {
    let answer = client.get_object().bucket(BUCKET).key(object).send().await.unwrap();
    answer.body.collect().await.unwrap().to_vec()
}

/// SHA-256, as S3 wants it.
fn checksum(body: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    STANDARD.encode(digest.as_ref())
}

#[tokio::test]
async fn a_function_writes_where_its_policy_says_and_nowhere_else() {
    let stage = Stage::start(None);
    put(&stage.job(), "reports/2026-11-20/orders.json").await.unwrap();
    assert_eq!(get(&stage.job(), "reports/2026-11-20/orders.json").await, BODY);
    assert_eq!(put(&stage.job(), "exports/a").await, Err(Some("AccessDenied".to_owned())));
    put(&stage.client(None), "exports/a").await.unwrap();
}

#[tokio::test]
async fn a_missing_object_is_hidden_from_a_caller_that_may_not_list() {
    let stage = Stage::start(None);
    let read = |client: Client| async move {
        let answer = client.get_object().bucket(BUCKET).key("reports/none").send().await;
        answer.unwrap_err().into_service_error()
    };
    assert_eq!(read(stage.job()).await.code(), Some("AccessDenied"));
    assert!(matches!(read(stage.client(None)).await, GetObjectError::NoSuchKey(_)));
}

#[tokio::test]
async fn what_is_only_the_beginning_of_keys_is_no_object() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    put(&client, "reports/a").await.unwrap();
    let head = client.head_object().bucket(BUCKET).key("reports").send().await.unwrap_err();
    assert!(head.into_service_error().is_not_found());
    let get = client.get_object().bucket(BUCKET).key("reports").send().await.unwrap_err();
    assert_eq!(get.code(), Some("NoSuchKey"));
}

#[tokio::test]
async fn an_object_is_written_once_when_the_writer_says_so() {
    let stage = Stage::start(None);
    let write = || {
        let body = ByteStream::from_static(BODY);
        stage.job().put_object().bucket(BUCKET).key("reports/once").if_none_match("*").body(body).send()
    };
    write().await.unwrap();
    let refused = write().await.unwrap_err();
    assert_eq!(refused.code(), Some("PreconditionFailed"));
}

#[tokio::test]
async fn of_many_conditional_writers_at_once_one_succeeds() {
    let stage = Stage::start(None);
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let body = ByteStream::from_static(BODY);
        let job = stage.job();
        writers
            .spawn(job.put_object().bucket(BUCKET).key("reports/once").if_none_match("*").body(body).send());
    }
    let outcomes = writers.join_all().await;
    let winners = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let late = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()?.code());
    assert_eq!(winners, 1);
    assert!(late.into_iter().all(|code| code == "PreconditionFailed"));
}

#[tokio::test]
async fn an_unsigned_request_is_refused() {
    let stage = Stage::start(None);
    put(&stage.job(), "reports/a").await.unwrap();
    let url = format!("{}/{BUCKET}/reports/a", stage.s3.endpoint_url());
    assert_eq!(reqwest::get(url).await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn objects_survive_a_restart_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    put(&Stage::start(Some(folder.path())).job(), "reports/a").await.unwrap();
    assert_eq!(get(&Stage::start(Some(folder.path())).job(), "reports/a").await, BODY);
}

#[tokio::test]
async fn faults_and_usage_see_s3_too() {
    let stage = Stage::start(None);
    stage.controls.usage.record();
    let slow =
        Rule::fail(Failure::ThrottlingException).service(Service::S3).resource("filesbucket/reports/*");
    let rule = stage.controls.faults.add(slow.times(1));
    put(&stage.job(), "reports/a").await.unwrap();
    assert_eq!(stage.controls.faults.status(rule).unwrap().matched, 2);
    let snapshot = stage.controls.usage.snapshot();
    let statuses: Vec<_> = snapshot.log.iter().map(|entry| (entry.caller.as_str(), entry.status)).collect();
    assert_eq!(statuses, [("job-daily-report", Some(503)), ("job-daily-report", Some(200))]);
}

#[tokio::test]
async fn nothing_is_written_to_a_bucket_that_is_not_there() {
    let stage = Stage::start(None);
    put(&stage.client(None), "reports/a").await.unwrap();
    let client = stage.client(None);
    let put = client.put_object().bucket("nowhere").key("a").body(ByteStream::from_static(BODY)).send().await;
    let create = client.create_multipart_upload().bucket("nowhere").key("a").send().await;
    let source = format!("{BUCKET}/reports/a");
    let copy = client.copy_object().bucket("nowhere").key("a").copy_source(source).send().await;
    let get = client.get_object().bucket("nowhere").key("a").send().await;
    for code in [
        put.unwrap_err().code(),
        create.unwrap_err().code(),
        copy.unwrap_err().code(),
        get.unwrap_err().code(),
    ] {
        assert_eq!(code, Some("NoSuchBucket"));
    }
    let buckets = client.list_buckets().send().await.unwrap().buckets.unwrap();
    assert_eq!(buckets.iter().filter_map(|bucket| bucket.name.as_deref()).collect::<Vec<_>>(), [BUCKET]);
}

#[tokio::test]
async fn a_checksum_is_told_to_who_asks_for_it() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let put = client.put_object().bucket(BUCKET).key("reports/a").checksum_sha256(checksum(BODY));
    put.body(ByteStream::from_static(BODY)).send().await.unwrap();
    let head = || client.head_object().bucket(BUCKET).key("reports/a");
    let asked = head().checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
    assert_eq!(asked.checksum_sha256, Some(checksum(BODY)));
    assert_eq!(asked.checksum_type, Some(ChecksumType::FullObject));
    assert_eq!(head().send().await.unwrap().checksum_sha256, None);
}

#[tokio::test]
async fn a_reader_gets_the_bytes_and_the_etag_of_one_object() {
    let stage = Stage::start(None);
    let bodies = [vec![b'a'; 300_000], vec![b'b'; 300_000]];
    let mut e_tags = Vec::new();
    for body in &bodies {
        let put =
            stage.job().put_object().bucket(BUCKET).key("reports/a").body(ByteStream::from(body.clone()));
        e_tags.push(put.send().await.unwrap().e_tag);
    }
    let (writer, contents) = (stage.job(), bodies.clone());
    let writing = tokio::spawn(async move {
        for body in contents.iter().cycle().take(20) {
            let put =
                writer.put_object().bucket(BUCKET).key("reports/a").body(ByteStream::from(body.clone()));
            put.send().await.unwrap();
        }
    });
    let mut read = 0;
    while read == 0 || !writing.is_finished() {
        let answer = stage.job().get_object().bucket(BUCKET).key("reports/a").send().await.unwrap();
        let e_tag = answer.e_tag.clone();
        let bytes = answer.body.collect().await.unwrap().to_vec();
        let which = bodies.iter().position(|body| *body == bytes).unwrap();
        assert_eq!(e_tag, e_tags[which]);
        read += 1;
    }
    writing.await.unwrap();
}
