//! Buckets.

mod multipart;

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use sojourn_local::services::access::{Access, arn};
use sojourn_local::services::faults::{Failure, Rule};
use sojourn_local::services::s3::S3;
use sojourn_local::services::{Controls, Service};

use crate::support::{ANYWHERE, credentials, function, key, stack};

const BUCKET: &str = "filesbucket";
const BODY: &[u8] = b"twelve bytes";

struct Stage {
    s3: S3,
    controls: Controls,
}

impl Stage {
    fn start(folder: Option<&Path>) -> Self {
        let reports = function(
            "job-daily-report",
            &[(
                &["s3:PutObject", "s3:GetObject", "s3:AbortMultipartUpload"],
                &[arn::object(BUCKET, "reports/*")],
            )],
        );
        let controls = Controls::new(Access::new(&stack(vec![reports])));
        let s3 = S3::start(ANYWHERE, folder, &[BUCKET.to_owned()], controls.clone()).unwrap();
        Self { s3, controls }
    }

    fn client(&self, function: Option<&str>) -> Client {
        Client::from_conf(
            aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new(arn::REGION))
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
async fn a_tampered_body_does_not_replace_what_was_there() {
    let stage = Stage::start(None);
    let request = presigned(&stage).await;
    assert_eq!(upload(&request, BODY, None).await, StatusCode::OK);
    assert_eq!(upload(&request, b"twelve BYTES", None).await, StatusCode::BAD_REQUEST);
    assert_eq!(get(&stage.job(), "reports/upload").await, BODY);
}

/// SHA-256, as S3 wants it.
fn checksum(body: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    STANDARD.encode(digest.as_ref())
}

async fn presigned(stage: &Stage) -> PresignedRequest {
    let hour = PresigningConfig::expires_in(Duration::from_hours(1)).unwrap();
    let length = i64::try_from(BODY.len()).unwrap();
    let put = stage.job().put_object().bucket(BUCKET).key("reports/upload");
    put.content_length(length)
        .content_type("text/plain")
        .checksum_sha256(checksum(BODY))
        .presigned(hour)
        .await
        .unwrap()
}

/// Sends what was presigned, with one header said otherwise.
async fn upload(request: &PresignedRequest, body: &'static [u8], other: Option<(&str, &str)>) -> StatusCode {
    let mut upload = reqwest::Client::new().put(request.uri()).body(body);
    for (name, value) in request.headers() {
        let value = other.filter(|(changed, _)| *changed == name).map_or(value, |(_, other)| other);
        // The client writes the length of what it sends.
        if name != "content-length" {
            upload = upload.header(name, value);
        }
    }
    upload.send().await.unwrap().status()
}

#[tokio::test]
async fn a_presigned_upload_is_accepted_as_signed_and_in_no_other_way() {
    let stage = Stage::start(None);
    let request = presigned(&stage).await;
    assert_eq!(upload(&request, b"too short", None).await, StatusCode::FORBIDDEN);
    assert_eq!(upload(&request, b"twelve bytes and more", None).await, StatusCode::FORBIDDEN);
    let other_type = Some(("content-type", "text/html"));
    assert_eq!(upload(&request, BODY, other_type).await, StatusCode::FORBIDDEN);
    assert_eq!(upload(&request, b"twelve BYTES", None).await, StatusCode::BAD_REQUEST);
    let missing = stage.client(None).head_object().bucket(BUCKET).key("reports/upload").send().await;
    assert!(missing.unwrap_err().into_service_error().is_not_found());

    assert_eq!(upload(&request, BODY, None).await, StatusCode::OK);
    assert_eq!(get(&stage.job(), "reports/upload").await, BODY);
}

#[tokio::test]
async fn a_presigned_download_is_refused_once_tampered_with() {
    let stage = Stage::start(None);
    put(&stage.job(), "reports/a").await.unwrap();
    let hour = PresigningConfig::expires_in(Duration::from_hours(1)).unwrap();
    let request = stage.job().get_object().bucket(BUCKET).key("reports/a").presigned(hour).await.unwrap();
    let answer = reqwest::get(request.uri()).await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), BODY);
    let longer = request.uri().replace("X-Amz-Expires=3600", "X-Amz-Expires=7200");
    assert_eq!(reqwest::get(longer).await.unwrap().status(), StatusCode::FORBIDDEN);
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
