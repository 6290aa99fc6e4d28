//! Objects that come in parts.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use reqwest::StatusCode;

use super::{BODY, BUCKET, Stage, get, put};

const MIB: usize = 1024 * 1024;
const PART_BYTES: usize = 8 * MIB;

/// 20 MB that differ everywhere: three parts, the last one short.
pub(super) fn large() -> Vec<u8> {
    (0..20_u32 * 1024 * 1024 / 4)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

pub(super) async fn create(client: &Client, key: &str) -> String {
    let upload = client.create_multipart_upload().bucket(BUCKET).key(key).content_type("image/png");
    // What the SDK sends with each part, unless it is told otherwise.
    upload.checksum_algorithm(ChecksumAlgorithm::Crc32).send().await.unwrap().upload_id.unwrap()
}

pub(super) async fn upload_part(
    client: &Client,
    key: &str,
    upload: &str,
    number: i32,
    body: &[u8],
) -> CompletedPart {
    let part = client.upload_part().bucket(BUCKET).key(key).upload_id(upload).part_number(number);
    let answer = part.body(ByteStream::from(body.to_vec())).send().await.unwrap();
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(answer.e_tag)
        .set_checksum_crc32(answer.checksum_crc32)
        .build()
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
pub(super) async fn put_in_parts(client: &Client, key: &str, body: &[u8]) {
    let upload = create(client, key).await;
    let parts = upload_parts(client, key, &upload, body).await;
    complete(client, key, &upload, parts).await.unwrap();
}

/// The object's `ETag`, or the error's code.
async fn complete(
    client: &Client,
    key: &str,
    upload: &str,
    parts: Vec<CompletedPart>,
) -> Result<Option<String>, Option<String>> {
    let complete = client.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(upload);
    let answer = complete.multipart_upload(list(parts)).send().await;
    answer.map(|answer| answer.e_tag).map_err(|error| error.code().map(str::to_owned))
}

async fn abort(client: &Client, key: &str, upload: &str) -> Result<(), Option<String>> {
    let abort = client.abort_multipart_upload().bucket(BUCKET).key(key).upload_id(upload);
    abort.send().await.map(drop).map_err(|error| error.code().map(str::to_owned))
}

/// Under way, in the whole bucket.
async fn uploads(client: &Client) -> usize {
    client.list_multipart_uploads().bucket(BUCKET).send().await.unwrap().uploads.unwrap_or_default().len()
}

fn refused<T>(code: &str) -> Result<T, Option<String>> {
    Err(Some(code.to_owned()))
}

#[tokio::test]
async fn an_upload_is_begun_by_one_function_and_ended_by_another() {
    let stage = Stage::start(None);
    let (job, operator) = (stage.job(), stage.client(None));
    for key in ["reports/completed", "reports/aborted"] {
        let upload = create(&operator, key).await;
        let part = upload_part(&job, key, &upload, 1, b"a part").await;
        if key == "reports/completed" {
            complete(&job, key, &upload, vec![part]).await.unwrap();
            assert_eq!(get(&operator, key).await, b"a part");
        } else {
            abort(&job, key, &upload).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_object_in_parts_has_an_etag_that_says_so() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let upload = create(&client, "incoming/a").await;
    let first = vec![b'a'; 5 * MIB];
    // Numbers may have gaps.
    let parts = vec![
        upload_part(&client, "incoming/a", &upload, 2, &first).await,
        upload_part(&client, "incoming/a", &upload, 10_000, BODY).await,
    ];
    let e_tag = complete(&client, "incoming/a", &upload, parts).await.unwrap().unwrap();
    // The MD5 of both parts' MD5s, computed elsewhere.
    assert_eq!(e_tag, "\"5f59090c3b0833e8a1d13e41df6334b8-2\"");
    let head = client.head_object().bucket(BUCKET).key("incoming/a").send().await.unwrap();
    assert_eq!(head.e_tag, Some(e_tag));
    assert_eq!(head.content_type.as_deref(), Some("image/png"));
    assert!(head.metadata.unwrap().is_empty());
    assert!(get(&client, "incoming/a").await == [&first, BODY].concat());
}

#[tokio::test]
async fn a_wrong_list_of_parts_is_refused_and_changes_nothing() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    put(&client, "incoming/a").await.unwrap();
    let upload = create(&client, "incoming/a").await;
    let parts = upload_parts(&client, "incoming/a", &upload, &large()).await;
    let small = upload_part(&client, "incoming/a", &upload, 4, BODY).await;
    let last = upload_part(&client, "incoming/a", &upload, 5, BODY).await;
    let numbered = |number: i32, of: &CompletedPart| {
        let part = CompletedPart::builder().part_number(number).set_e_tag(of.e_tag.clone());
        part.set_checksum_crc32(of.checksum_crc32.clone()).build()
    };
    let without = |part: &CompletedPart| {
        CompletedPart::builder().set_part_number(part.part_number).set_e_tag(part.e_tag.clone()).build()
    };
    let [one, two, three] = [&parts[0], &parts[1], &parts[2]];
    for (list, code) in [
        (vec![two.clone(), one.clone()], "InvalidPartOrder"),
        (vec![one.clone(), one.clone()], "InvalidPartOrder"),
        (vec![one.clone(), numbered(2, three)], "InvalidPart"),
        (vec![one.clone(), numbered(6, two)], "InvalidPart"),
        (vec![one.clone(), CompletedPart::builder().part_number(2).build()], "InvalidPart"),
        (vec![one.clone(), small, last], "EntityTooSmall"),
        (vec![one.clone(), without(two)], "InvalidRequest"),
        (vec![], "MalformedXML"),
    ] {
        assert_eq!(complete(&client, "incoming/a", &upload, list.clone()).await, refused(code), "{list:?}");
    }
    assert_eq!(get(&client, "incoming/a").await, BODY);

    let unquoted = |part: &CompletedPart| {
        let e_tag = part.e_tag.as_deref().unwrap().trim_matches('"');
        let part_of_list = CompletedPart::builder().set_part_number(part.part_number).e_tag(e_tag);
        part_of_list.set_checksum_crc32(part.checksum_crc32.clone()).build()
    };
    complete(&client, "incoming/a", &upload, parts.iter().map(unquoted).collect()).await.unwrap();
    assert!(get(&client, "incoming/a").await == large());
}

#[tokio::test]
async fn an_upload_that_is_over_is_not_there_any_more() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let completed = create(&client, "incoming/a").await;
    let part = upload_part(&client, "incoming/a", &completed, 1, BODY).await;
    complete(&client, "incoming/a", &completed, vec![part.clone()]).await.unwrap();
    let aborted = create(&client, "incoming/a").await;
    let part = upload_part(&client, "incoming/a", &aborted, 1, BODY).await;
    assert_eq!(uploads(&client).await, 1);
    abort(&client, "incoming/a", &aborted).await.unwrap();
    for upload in [&completed, &aborted, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "../filesbucket"] {
        assert_eq!(
            complete(&client, "incoming/a", upload, vec![part.clone()]).await,
            refused("NoSuchUpload")
        );
        assert_eq!(abort(&client, "incoming/a", upload).await, refused("NoSuchUpload"));
        let list = client.list_parts().bucket(BUCKET).key("incoming/a").upload_id(upload).send().await;
        assert_eq!(list.unwrap_err().code(), Some("NoSuchUpload"));
        let late = client.upload_part().bucket(BUCKET).key("incoming/a").upload_id(upload).part_number(2);
        let late = late.body(ByteStream::from_static(BODY)).send().await.unwrap_err();
        assert_eq!(late.raw_response().unwrap().status().as_u16(), StatusCode::NOT_FOUND);
        assert_eq!(late.code(), Some("NoSuchUpload"));
    }
    assert_eq!(uploads(&client).await, 0);
    assert_eq!(get(&client, "incoming/a").await, BODY);
}

#[tokio::test]
async fn an_upload_is_of_one_key() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let upload = create(&client, "incoming/a").await;
    let part = upload_part(&client, "incoming/a", &upload, 1, BODY).await;
    assert_eq!(complete(&client, "incoming/b", &upload, vec![part]).await, refused("NoSuchUpload"));
    assert_eq!(abort(&client, "incoming/b", &upload).await, refused("NoSuchUpload"));
    assert_eq!(uploads(&client).await, 1);
}

#[tokio::test]
async fn of_many_that_end_an_upload_at_once_one_does() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let upload = create(&client, "incoming/a").await;
    let parts = upload_parts(&client, "incoming/a", &upload, &large()).await;
    let mut enders = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (client, upload, parts) = (stage.client(None), upload.clone(), parts.clone());
        enders.spawn(async move { complete(&client, "incoming/a", &upload, parts).await });
    }
    let outcomes = enders.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert!(outcomes.iter().all(|outcome| outcome.is_ok() || *outcome == refused("NoSuchUpload")));
    assert!(get(&client, "incoming/a").await == large());
}

#[tokio::test]
async fn a_part_is_replaced_by_one_with_its_number() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let upload = create(&client, "incoming/a").await;
    let replaced = upload_part(&client, "incoming/a", &upload, 1, b"replaced").await;
    let part = upload_part(&client, "incoming/a", &upload, 1, BODY).await;
    upload_part(&client, "incoming/a", &upload, 7, b"not used").await;
    let page = client.list_parts().bucket(BUCKET).key("incoming/a").upload_id(&upload).max_parts(1);
    let page = page.send().await.unwrap();
    assert_eq!((page.is_truncated, page.next_part_number_marker.as_deref()), (Some(true), Some("1")));
    let listed = &page.parts.unwrap()[0];
    assert_eq!((listed.part_number, listed.size, &listed.e_tag), (Some(1), Some(12), &part.e_tag));
    let rest =
        client.list_parts().bucket(BUCKET).key("incoming/a").upload_id(&upload).part_number_marker("1");
    let rest = rest.send().await.unwrap().parts.unwrap();
    assert_eq!(rest.iter().map(|part| part.part_number).collect::<Vec<_>>(), [Some(7)]);
    assert_eq!(complete(&client, "incoming/a", &upload, vec![replaced]).await, refused("InvalidPart"));
    complete(&client, "incoming/a", &upload, vec![part]).await.unwrap();
    assert_eq!(get(&client, "incoming/a").await, BODY);
}

#[tokio::test]
async fn a_part_may_be_a_range_of_an_object() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    put(&client, "reports/a").await.unwrap();
    let create = client.create_multipart_upload().bucket(BUCKET).key("reports/b");
    let upload =
        create.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap().upload_id.unwrap();
    let copy = client.upload_part_copy().bucket(BUCKET).key("reports/b").upload_id(&upload).part_number(1);
    let copy = copy.copy_source(format!("{BUCKET}/reports/a")).copy_source_range("bytes=2-5");
    let copied = copy.send().await.unwrap().copy_part_result.unwrap();
    assert_eq!(copied.checksum_sha256, Some(super::checksum(&BODY[2..=5])));
    for range in ["bytes=2-", "bytes=-2", "bytes=5-2", "lines=2-5"] {
        let copy =
            client.upload_part_copy().bucket(BUCKET).key("reports/b").upload_id(&upload).part_number(2);
        let copy = copy.copy_source(format!("{BUCKET}/reports/a")).copy_source_range(range).send().await;
        assert_eq!(copy.unwrap_err().code(), Some("InvalidArgument"), "{range}");
    }
    let part = CompletedPart::builder().part_number(1).set_e_tag(copied.e_tag);
    let part = part.set_checksum_sha256(copied.checksum_sha256).build();
    complete(&client, "reports/b", &upload, vec![part]).await.unwrap();
    assert_eq!(get(&client, "reports/b").await, BODY[2..=5]);
}

#[tokio::test]
async fn an_upload_survives_a_restart_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = Stage::start(Some(folder.path()));
    let upload = create(&first.client(None), "incoming/a").await;
    let part = upload_part(&first.client(None), "incoming/a", &upload, 1, BODY).await;
    drop(first);
    let second = Stage::start(Some(folder.path()));
    complete(&second.client(None), "incoming/a", &upload, vec![part]).await.unwrap();
    assert_eq!(get(&second.client(None), "incoming/a").await, BODY);
}
