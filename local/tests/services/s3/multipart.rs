//! Objects that come in parts.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart, MetadataDirective,
};

use super::{BUCKET, Stage, checksum, get};

const MIB: usize = 1024 * 1024;
const PART_BYTES: usize = 8 * MIB;

/// 20 MB that differ everywhere: three parts, the last one short.
fn large() -> Vec<u8> {
    (0..20_u32 * 1024 * 1024 / 4)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

async fn create(client: &Client, key: &str) -> String {
    let upload = client.create_multipart_upload().bucket(BUCKET).key(key).content_type("image/png");
    upload.send().await.unwrap().upload_id.unwrap()
}

async fn upload_part(client: &Client, key: &str, upload: &str, number: i32, body: &[u8]) -> CompletedPart {
    let part = client.upload_part().bucket(BUCKET).key(key).upload_id(upload).part_number(number);
    let answer = part.body(ByteStream::from(body.to_vec())).send().await.unwrap();
    CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build()
}

async fn upload_parts(client: &Client, key: &str, upload: &str, body: &[u8]) -> Vec<CompletedPart> {
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(body.chunks(PART_BYTES)) {
        parts.push(upload_part(client, key, upload, number, part).await);
    }
    parts
}

fn list(parts: Vec<CompletedPart>) -> CompletedMultipartUpload {
    CompletedMultipartUpload::builder().set_parts(Some(parts)).build()
}

/// Stores `body` in parts.
async fn put_in_parts(client: &Client, key: &str, body: &[u8]) {
    let upload = create(client, key).await;
    let parts = upload_parts(client, key, &upload, body).await;
    let complete = client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(&upload);
    complete.multipart_upload(list(parts)).send().await.unwrap();
}

#[tokio::test]
async fn a_copy_of_what_came_in_parts_has_the_checksum_of_the_whole() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let body = large();
    put_in_parts(&client, "incoming/a", &body).await;
    let copied = client
        .copy_object()
        .bucket(BUCKET)
        .key("uploads/a")
        .copy_source(format!("{BUCKET}/incoming/a"))
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
    assert!(get(&client, "uploads/a").await == body);
}

#[tokio::test]
async fn an_upload_is_begun_by_one_function_and_ended_by_another() {
    let stage = Stage::start(None);
    let (job, operator) = (stage.job(), stage.client(None));
    for key in ["reports/completed", "reports/aborted"] {
        let upload = create(&operator, key).await;
        let part = upload_part(&job, key, &upload, 1, b"a part").await;
        if key == "reports/completed" {
            let complete = job.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(&upload);
            complete.multipart_upload(list(vec![part])).send().await.unwrap();
            assert_eq!(get(&operator, key).await, b"a part");
        } else {
            let abort = job.abort_multipart_upload().bucket(BUCKET).key(key).upload_id(&upload);
            abort.send().await.unwrap();
        }
    }
}
