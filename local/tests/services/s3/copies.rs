//! Copies of objects.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumMode, ChecksumType, MetadataDirective};
use local_region::services::Controls;
use local_region::services::access::Access;
use local_region::services::s3::S3;
use local_region::template::arn;

use super::multipart::{large, put_in_parts};
use super::{BODY, BUCKET, Stage, bucket, checksum, get, put};
use crate::support::{ANYWHERE, function, stack};

/// Of the object under one key to another.
fn copy(stage: &Stage, caller: Option<&str>, from: &str, to: &str) -> CopyObjectFluentBuilder {
    stage.client(caller).copy_object().bucket(BUCKET).key(to).copy_source(format!("{BUCKET}/{from}"))
}

#[tokio::test]
async fn a_copy_of_what_came_in_parts_has_the_checksum_of_the_whole() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let body = large();
    put_in_parts(&client, "incoming/a", &body).await;
    let copied = copy(&stage, None, "incoming/a", "uploads/a")
        .checksum_algorithm(ChecksumAlgorithm::Sha256)
        .metadata_directive(MetadataDirective::Replace)
        .content_type("image/webp")
        .send()
        .await
        .unwrap()
        .copy_object_result
        .unwrap();
    assert_eq!(copied.checksum_sha256, Some(checksum(&body)));
    assert_eq!(copied.checksum_type, Some(ChecksumType::FullObject));
    let head = client.head_object().bucket(BUCKET).key("uploads/a").checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!(head.checksum_sha256, Some(checksum(&body)));
    assert_eq!(head.content_type.as_deref(), Some("image/webp"));
    assert_eq!(head.e_tag, copied.e_tag);
    // One piece, whatever the source came in.
    assert_eq!(copied.e_tag.as_deref(), Some("\"89fe2a7db02eb77787ad4583e51147f5\""));
    assert!(get(&client, "uploads/a").await == body);
}

#[tokio::test]
async fn a_copy_keeps_the_description_and_the_kind_of_checksum() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let put =
        client.put_object().bucket(BUCKET).key("reports/a").content_type("text/csv").metadata("of", "ada");
    put.checksum_sha256(checksum(BODY)).body(BODY.to_vec().into()).send().await.unwrap();
    copy(&stage, None, "reports/a", "reports/b").send().await.unwrap();
    let head = client.head_object().bucket(BUCKET).key("reports/b").checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await.unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/csv"));
    assert_eq!(head.metadata.unwrap()["of"], "ada");
    assert_eq!(head.checksum_sha256, Some(checksum(BODY)));
    assert_eq!(get(&client, "reports/b").await, BODY);
}

#[tokio::test]
async fn a_copy_is_of_the_object_that_was_seen() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    put(&client, "reports/a").await.unwrap();
    put_in_parts(&client, "incoming/a", b"in parts").await;
    for key in ["reports/a", "incoming/a"] {
        let seen = client.head_object().bucket(BUCKET).key(key).send().await.unwrap().e_tag.unwrap();
        let copy = || copy(&stage, None, key, "uploads/a");
        copy().copy_source_if_match(&seen).send().await.unwrap();
        let replaced = copy().copy_source_if_match("\"d41d8cd98f00b204e9800998ecf8427e\"").send().await;
        assert_eq!(replaced.unwrap_err().code(), Some("PreconditionFailed"));
        let same = copy().copy_source_if_none_match(&seen).send().await;
        assert_eq!(same.unwrap_err().code(), Some("PreconditionFailed"));
    }
    let missing = copy(&stage, None, "incoming/none", "uploads/a").send().await;
    assert_eq!(missing.unwrap_err().code(), Some("NoSuchKey"));
    assert_eq!(get(&client, "uploads/a").await, b"in parts");
}

#[tokio::test]
async fn a_copy_needs_to_read_the_one_and_to_write_the_other() {
    let read = function("reader", &[(&["s3:GetObject"], &[arn::object(BUCKET, "incoming/*")])]);
    let write = function("writer", &[(&["s3:PutObject"], &[arn::object(BUCKET, "uploads/*")])]);
    let both = function(
        "both",
        &[
            (&["s3:GetObject"], &[arn::object(BUCKET, "incoming/*")]),
            (&["s3:PutObject"], &[arn::object(BUCKET, "uploads/*")]),
        ],
    );
    let controls = Controls::new(Access::new(&stack(vec![read, write, both])));
    let s3 = S3::start(ANYWHERE, None, &[bucket()], controls.clone()).unwrap();
    let stage = Stage { s3, controls };
    put(&stage.client(None), "incoming/a").await.unwrap();
    for caller in ["reader", "writer"] {
        let refused = copy(&stage, Some(caller), "incoming/a", "uploads/a").send().await.unwrap_err();
        assert_eq!(refused.code(), Some("AccessDenied"), "{caller}");
    }
    copy(&stage, Some("both"), "incoming/a", "uploads/a").send().await.unwrap();
    // Whether there is something to copy is for those to know who may list it.
    let hidden = copy(&stage, Some("both"), "incoming/none", "uploads/a").send().await.unwrap_err();
    assert_eq!(hidden.code(), Some("AccessDenied"));
    let elsewhere = copy(&stage, Some("both"), "uploads/a", "uploads/b").send().await.unwrap_err();
    assert_eq!(elsewhere.code(), Some("AccessDenied"));
}
