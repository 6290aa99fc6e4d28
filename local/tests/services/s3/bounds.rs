//! What S3 refuses, by its quotas and its list of error codes.

use std::fmt::Write;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, Delete, EncodingType,
    ObjectIdentifier,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BODY, BUCKET, Stage, checksum, get, put};

/// The code of a call that must fail.
macro_rules! refused {
    ($request:expr) => {
        $request.send().await.unwrap_err().code().map(str::to_owned).unwrap_or_default()
    };
}

fn identifier(key: &str) -> ObjectIdentifier {
    ObjectIdentifier::builder().key(key).build().unwrap()
}

fn delete(keys: impl Iterator<Item = String>) -> Delete {
    Delete::builder().set_objects(Some(keys.map(|key| identifier(&key)).collect())).build().unwrap()
}

#[tokio::test]
async fn every_operation_on_a_bucket_that_is_not_there_says_so() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let (bucket, key, id) = ("nowhere", "a", "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    let part = || client.upload_part().bucket(bucket).key(key).upload_id(id).part_number(1);
    let list = CompletedMultipartUpload::builder().parts(CompletedPart::builder().part_number(1).build());
    let complete = client.complete_multipart_upload().bucket(bucket).key(key).upload_id(id);
    for code in [
        refused!(client.delete_object().bucket(bucket).key(key)),
        refused!(client.delete_objects().bucket(bucket).delete(delete(["a".to_owned()].into_iter()))),
        refused!(client.delete_bucket().bucket(bucket)),
        refused!(client.list_objects().bucket(bucket)),
        refused!(client.list_objects_v2().bucket(bucket)),
        refused!(client.list_multipart_uploads().bucket(bucket)),
        refused!(client.list_parts().bucket(bucket).key(key).upload_id(id)),
        refused!(client.abort_multipart_upload().bucket(bucket).key(key).upload_id(id)),
        refused!(part().body(ByteStream::from_static(BODY))),
        refused!(complete.multipart_upload(list.build())),
    ] {
        assert_eq!(code, "NoSuchBucket");
    }
    let head = client.head_object().bucket(bucket).key(key).send().await.unwrap_err();
    assert_eq!(head.raw_response().unwrap().status().as_u16(), 404);
}

/// A client that sends no checksum of its own accord.
fn without_checksums(stage: &Stage) -> Client {
    let config = stage.client(None).config().to_builder();
    Client::from_conf(config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired).build())
}

#[tokio::test]
async fn every_part_of_a_composite_upload_comes_with_its_checksum() {
    let stage = Stage::start(None);
    let client = without_checksums(&stage);
    let begin = |algorithm: Option<ChecksumAlgorithm>, kind: Option<ChecksumType>| {
        let create = client.create_multipart_upload().bucket(BUCKET).key("incoming/a");
        create.set_checksum_algorithm(algorithm).set_checksum_type(kind)
    };
    let part = |id: &str| {
        let part = client.upload_part().bucket(BUCKET).key("incoming/a").upload_id(id).part_number(1);
        part.body(ByteStream::from_static(BODY))
    };
    let sha256 = begin(Some(ChecksumAlgorithm::Sha256), None).send().await.unwrap();
    assert_eq!(sha256.checksum_type(), Some(&ChecksumType::Composite));
    let id = sha256.upload_id.unwrap();
    assert_eq!(refused!(part(&id)), "InvalidRequest");
    assert_eq!(refused!(part(&id).checksum_algorithm(ChecksumAlgorithm::Crc32)), "InvalidRequest");
    assert_eq!(refused!(part(&id).checksum_sha256(checksum(b"other"))), "BadDigest");
    let stored = part(&id).checksum_sha256(checksum(BODY)).send().await.unwrap();

    let listed = |sum: Option<String>| {
        let part = CompletedPart::builder().part_number(1).set_e_tag(stored.e_tag.clone());
        let list = CompletedMultipartUpload::builder().parts(part.set_checksum_sha256(sum).build()).build();
        let complete = client.complete_multipart_upload().bucket(BUCKET).key("incoming/a").upload_id(&id);
        complete.multipart_upload(list)
    };
    assert_eq!(refused!(listed(None)), "InvalidRequest");
    assert_eq!(refused!(listed(Some(checksum(b"other")))), "InvalidPart");
    let whole = || listed(Some(checksum(BODY)));
    assert_eq!(refused!(whole().checksum_sha256(checksum(BODY))), "BadDigest");
    assert_eq!(refused!(whole().checksum_type(ChecksumType::FullObject)), "InvalidRequest");
    assert_eq!(refused!(whole().if_none_match(stored.e_tag.clone().unwrap())), "NotImplemented");
    let digest = STANDARD.decode(checksum(BODY)).unwrap();
    whole().checksum_sha256(format!("{}-1", checksum(&digest))).send().await.unwrap();
    assert_eq!(get(&client, "incoming/a").await, BODY);

    // Without an algorithm there is nothing to hold a checksum against.
    let plain = begin(None, None).send().await.unwrap().upload_id.unwrap();
    assert_eq!(refused!(part(&plain).checksum_sha256(checksum(BODY))), "InvalidRequest");
    part(&plain).send().await.unwrap();
    for (algorithm, kind) in [
        (Some(ChecksumAlgorithm::Sha256), ChecksumType::FullObject),
        (Some(ChecksumAlgorithm::Crc64Nvme), ChecksumType::Composite),
        (None, ChecksumType::Composite),
    ] {
        assert_eq!(refused!(begin(algorithm, Some(kind))), "InvalidRequest");
    }
}

#[tokio::test]
async fn an_upload_with_one_checksum_of_all_its_bytes_needs_none_of_its_parts() {
    let stage = Stage::start(None);
    let client = without_checksums(&stage);
    let create = client.create_multipart_upload().bucket(BUCKET).key("incoming/a");
    let create = create.checksum_algorithm(ChecksumAlgorithm::Crc32).checksum_type(ChecksumType::FullObject);
    let id = create.send().await.unwrap().upload_id.unwrap();
    let part = client.upload_part().bucket(BUCKET).key("incoming/a").upload_id(&id).part_number(1);
    let part = part.body(ByteStream::from_static(BODY)).send().await.unwrap();
    let complete = || {
        let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag.clone()).build();
        let list = CompletedMultipartUpload::builder().parts(part).build();
        let complete = client.complete_multipart_upload().bucket(BUCKET).key("incoming/a").upload_id(&id);
        complete.multipart_upload(list).checksum_type(ChecksumType::FullObject)
    };
    assert_eq!(refused!(complete().checksum_crc32("AAAAAA==")), "BadDigest");
    // By Python's zlib.
    complete().checksum_crc32(CRC32_OF_BODY).send().await.unwrap();
    assert_eq!(get(&client, "incoming/a").await, BODY);
}

const CRC32_OF_BODY: &str = "xb/MoA==";

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    let write = |key: &str| client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(BODY));
    assert_eq!(refused!(write(&"x".repeat(1_025))), "KeyTooLongError");
    // Names count, without the prefix of their headers.
    write("reports/a").metadata("of", "x".repeat(2_046)).send().await.unwrap();
    assert_eq!(refused!(write("reports/a").metadata("of", "x".repeat(2_047))), "MetadataTooLarge");
    let create = client.create_multipart_upload().bucket(BUCKET).key("reports/a");
    assert_eq!(refused!(create.metadata("of", "x".repeat(2_047))), "MetadataTooLarge");
    let keys = |count: usize| delete((0..count).map(|number| format!("reports/{number}")));
    let all = client.delete_objects().bucket(BUCKET);
    assert_eq!(refused!(all.clone().delete(keys(1_001))), "MalformedXML");
    assert_eq!(all.delete(keys(1_000)).send().await.unwrap().deleted().len(), 1_000);

    let hour = PresigningConfig::expires_in(Duration::from_hours(1)).unwrap();
    let request = stage.job().put_object().bucket(BUCKET).key("reports/b").presigned(hour).await.unwrap();
    let address = stage.s3.endpoint_url().replace("http://", "");
    let path = request.uri().split_once(&address).unwrap().1;
    let mut connection = TcpStream::connect(&address).await.unwrap();
    let length = 5_u64 * 1024 * 1024 * 1024 + 1;
    let mut head = format!("PUT {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n");
    for (name, value) in request.headers().filter(|(name, _)| !["host", "content-length"].contains(name)) {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    connection.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("<Code>EntityTooLarge</Code>"), "{answer}");
}

#[tokio::test]
async fn a_key_that_no_file_can_have_is_refused_and_reaches_no_other_bucket() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    client.create_bucket().bucket("secrets").send().await.unwrap();
    let hidden = client.put_object().bucket("secrets").key("a").body(ByteStream::from_static(BODY));
    hidden.send().await.unwrap();
    let long = "x".repeat(200);
    for key in ["../secrets/a", "a/../../secrets/a", "a//b", "./a", "/a", long.as_str()] {
        assert_eq!(put(&client, key).await, Err(Some("NotImplemented".to_owned())), "{key}");
        assert_eq!(refused!(client.get_object().bucket(BUCKET).key(key)), "NotImplemented", "{key}");
        assert_eq!(refused!(client.delete_object().bucket(BUCKET).key(key)), "NotImplemented", "{key}");
        let keys = delete([key.to_owned()].into_iter());
        assert_eq!(refused!(client.delete_objects().bucket(BUCKET).delete(keys)), "NotImplemented", "{key}");
    }
    let there = client.get_object().bucket("secrets").key("a").send().await.unwrap();
    assert_eq!(there.body.collect().await.unwrap().to_vec(), BODY);
}

#[tokio::test]
async fn writes_and_deletions_are_held_to_their_conditions() {
    let stage = Stage::start(None);
    let client = stage.client(None);
    put(&client, "reports/a").await.unwrap();
    let other = "\"5d41402abc4b2a76b9719d911017c592\"";
    let write = || client.put_object().bucket(BUCKET).key("reports/a").body(ByteStream::from_static(b"new"));
    assert_eq!(refused!(write().if_none_match(other)), "NotImplemented");
    assert_eq!(refused!(write().if_match(other)), "PreconditionFailed");
    let remove = || client.delete_object().bucket(BUCKET).key("reports/a");
    assert_eq!(refused!(remove().if_match(other)), "PreconditionFailed");
    assert_eq!(refused!(remove().version_id("v1")), "InvalidArgument");
    assert_eq!(get(&client, "reports/a").await, BODY);
    let e_tag = client.head_object().bucket(BUCKET).key("reports/a").send().await.unwrap().e_tag.unwrap();
    remove().if_match(&e_tag).send().await.unwrap();
    assert_eq!(refused!(client.get_object().bucket(BUCKET).key("reports/a")), "NoSuchKey");
    assert_eq!(refused!(remove().if_match(&e_tag)), "PreconditionFailed");
    remove().send().await.unwrap();

    // What is only the beginning of keys is not there, and stays.
    put(&client, "reports/b/c").await.unwrap();
    client.delete_object().bucket(BUCKET).key("reports/b").send().await.unwrap();
    assert_eq!(get(&client, "reports/b/c").await, BODY);
    assert_eq!(refused!(client.delete_bucket().bucket(BUCKET)), "BucketNotEmpty");
    let all = Delete::builder().objects(identifier("reports/b/c")).quiet(true).build().unwrap();
    let quiet = client.delete_objects().bucket(BUCKET).delete(all).send().await.unwrap();
    assert!(quiet.deleted().is_empty() && quiet.errors().is_empty());
    client.delete_bucket().bucket(BUCKET).send().await.unwrap();
}

#[tokio::test]
async fn a_list_has_a_thousand_keys_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(Some(folder.path()));
    for number in 0..1_001 {
        std::fs::write(folder.path().join(BUCKET).join(format!("{number:04} +")), BODY).unwrap();
    }
    let client = stage.client(None);
    let list = || client.list_objects_v2().bucket(BUCKET);
    let page = list().max_keys(5_000).send().await.unwrap();
    assert_eq!(
        (page.contents().len(), page.max_keys(), page.is_truncated()),
        (1_000, Some(1_000), Some(true))
    );
    let rest = list().continuation_token(page.next_continuation_token().unwrap()).send().await.unwrap();
    assert_eq!(rest.contents()[0].key(), Some("1000 +"));
    assert_eq!(refused!(list().max_keys(-1)), "InvalidArgument");
    let encoded = list().max_keys(1).encoding_type(EncodingType::Url).send().await.unwrap();
    assert_eq!(encoded.contents()[0].key(), Some("0000%20%2B"));
    let first = client.list_objects().bucket(BUCKET).max_keys(5_000).send().await.unwrap();
    assert_eq!(first.contents().len(), 1_000);
}
