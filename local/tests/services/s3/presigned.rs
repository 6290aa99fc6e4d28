//! What whoever holds a presigned URL may do, over plain HTTP.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BODY, BUCKET, Stage, checksum, get, put};

fn hour() -> PresigningConfig {
    PresigningConfig::expires_in(Duration::from_hours(1)).unwrap()
}

#[tokio::test]
async fn a_tampered_body_does_not_replace_what_was_there() {
    let stage = Stage::start(None);
    let request = presigned(&stage).await;
    assert_eq!(upload(&request, BODY, None).await, StatusCode::OK);
    assert_eq!(upload(&request, b"twelve BYTES", None).await, StatusCode::BAD_REQUEST);
    assert_eq!(get(&stage.job(), "reports/upload").await, BODY);
}

async fn presigned(stage: &Stage) -> PresignedRequest {
    let length = i64::try_from(BODY.len()).unwrap();
    let put = stage.job().put_object().bucket(BUCKET).key("reports/upload");
    put.content_length(length)
        .content_type("text/plain")
        .checksum_sha256(checksum(BODY))
        .presigned(hour())
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
async fn an_upload_that_breaks_off_stores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(Some(folder.path()));
    let request = presigned(&stage).await;
    let address = stage.s3.endpoint_url().replace("http://", "");
    let path = request.uri().split_once(&address).unwrap().1;
    let mut head = format!("PUT {path} HTTP/1.1\r\nhost: {address}\r\n");
    for (name, value) in request.headers().filter(|(name, _)| *name != "host") {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    let mut connection = TcpStream::connect(&address).await.unwrap();
    connection.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    connection.write_all(&BODY[..5]).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut answer = String::new();
    // Whatever the server says to a client that is gone: it has done with the request then.
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let missing = stage.client(None).head_object().bucket(BUCKET).key("reports/upload").send().await;
    assert!(missing.unwrap_err().into_service_error().is_not_found());
    assert_eq!(std::fs::read_dir(folder.path().join(".staging")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_presigned_download_is_refused_once_tampered_with() {
    let stage = Stage::start(None);
    put(&stage.job(), "reports/a").await.unwrap();
    let request = stage.job().get_object().bucket(BUCKET).key("reports/a").presigned(hour()).await.unwrap();
    let answer = reqwest::get(request.uri()).await.unwrap();
    assert_eq!(answer.bytes().await.unwrap(), BODY);
    let longer = request.uri().replace("X-Amz-Expires=3600", "X-Amz-Expires=7200");
    assert_eq!(reqwest::get(longer).await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_presigned_url_ends() {
    let stage = Stage::start(None);
    put(&stage.job(), "reports/a").await.unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 50);
    let ended =
        PresigningConfig::builder().start_time(long_ago).expires_in(Duration::from_hours(1)).build().unwrap();
    let read =
        stage.job().get_object().bucket(BUCKET).key("reports/a").presigned(ended.clone()).await.unwrap();
    let answer = reqwest::get(read.uri()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(answer.text().await.unwrap().contains("Request has expired"));
    let write = stage.job().put_object().bucket(BUCKET).key("reports/b").presigned(ended).await.unwrap();
    assert_eq!(upload(&write, BODY, None).await, StatusCode::FORBIDDEN);
    let missing = stage.client(None).head_object().bucket(BUCKET).key("reports/b").send().await;
    assert!(missing.unwrap_err().into_service_error().is_not_found());
}

#[tokio::test]
async fn a_presigned_part_is_accepted_as_signed_and_in_no_other_way() {
    let stage = Stage::start(None);
    let job = stage.job();
    let create = job.create_multipart_upload().bucket(BUCKET).key("reports/upload").send().await.unwrap();
    let id = create.upload_id.unwrap();
    let part = job.upload_part().bucket(BUCKET).key("reports/upload").upload_id(&id).part_number(1);
    let part = part.content_length(i64::try_from(BODY.len()).unwrap()).checksum_sha256(checksum(BODY));
    let request = part.presigned(hour()).await.unwrap();
    let parts = async || {
        let list = stage.client(None).list_parts().bucket(BUCKET).key("reports/upload").upload_id(&id);
        list.send().await.unwrap().parts.unwrap_or_default()
    };
    assert_eq!(upload(&request, b"too short", None).await, StatusCode::FORBIDDEN);
    assert_eq!(upload(&request, b"twelve bytes and more", None).await, StatusCode::FORBIDDEN);
    assert_eq!(upload(&request, b"twelve BYTES", None).await, StatusCode::BAD_REQUEST);
    assert_eq!(parts().await, []);
    assert_eq!(upload(&request, BODY, None).await, StatusCode::OK);
    assert_eq!(upload(&request, b"twelve BYTES", None).await, StatusCode::BAD_REQUEST);
    let stored = parts().await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].checksum_sha256, Some(checksum(BODY)));
}

#[tokio::test]
async fn a_presigned_part_of_an_upload_that_is_over_is_refused() {
    let stage = Stage::start(None);
    let job = stage.client(None);
    let create = job.create_multipart_upload().bucket(BUCKET).key("incoming/a").send().await.unwrap();
    let id = create.upload_id.unwrap();
    let part = job.upload_part().bucket(BUCKET).key("incoming/a").upload_id(&id).part_number(1);
    let request = part.presigned(hour()).await.unwrap();
    job.abort_multipart_upload().bucket(BUCKET).key("incoming/a").upload_id(&id).send().await.unwrap();
    let answer = reqwest::Client::new().put(request.uri()).body(BODY).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(answer.text().await.unwrap().contains("<Code>NoSuchUpload</Code>"));
    let list = job.list_parts().bucket(BUCKET).key("incoming/a").upload_id(&id).send().await;
    assert_eq!(list.unwrap_err().code(), Some("NoSuchUpload"));
}

#[tokio::test]
async fn a_presigned_download_says_what_its_url_says() {
    let stage = Stage::start(None);
    put(&stage.job(), "reports/a").await.unwrap();
    let read = stage.job().get_object().bucket(BUCKET).key("reports/a");
    let read = read.response_content_disposition("attachment; filename=\"orders.csv\"");
    let request = read.response_content_type("text/csv").presigned(hour()).await.unwrap();
    let part = reqwest::Client::new().get(request.uri()).header("range", "bytes=2-5");
    let answer = part.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"orders.csv\"");
    assert_eq!(answer.headers()["content-type"], "text/csv");
    assert_eq!(answer.headers()["content-range"], "bytes 2-5/12");
    assert_eq!(answer.headers()["accept-ranges"], "bytes");
    assert_eq!(answer.bytes().await.unwrap(), BODY[2..=5]);
    let beyond = reqwest::Client::new().get(request.uri()).header("range", "bytes=12-");
    assert_eq!(beyond.send().await.unwrap().status(), StatusCode::RANGE_NOT_SATISFIABLE);
}
