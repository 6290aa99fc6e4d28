//! What whoever holds a presigned URL may do, over plain HTTP.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::types::ChecksumAlgorithm;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BODY, BUCKET, Stage, checksum, get, put};
use crate::support::key;

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
    let create = job.create_multipart_upload().bucket(BUCKET).key("reports/upload");
    let create = create.checksum_algorithm(ChecksumAlgorithm::Sha256).send().await.unwrap();
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

#[tokio::test]
async fn headers_of_s3_that_are_not_signed_are_refused() {
    let stage = Stage::start(None);
    let request = presigned(&stage).await;
    let mut put = reqwest::Client::new().put(request.uri()).body(BODY).header("x-amz-meta-of", "ada");
    for (name, value) in request.headers().filter(|(name, _)| *name != "content-length") {
        put = put.header(name, value);
    }
    let answer = put.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(answer.text().await.unwrap().contains("headers present in the request which were not signed"));
}

#[tokio::test]
async fn a_presigned_url_is_valid_for_a_week_at_most() {
    let stage = Stage::start(None);
    put(&stage.job(), "reports/a").await.unwrap();
    let week = Duration::from_hours(7 * 24);
    let get = |valid| {
        let config = PresigningConfig::expires_in(valid).unwrap();
        stage.job().get_object().bucket(BUCKET).key("reports/a").presigned(config)
    };
    assert_eq!(reqwest::get(get(week).await.unwrap().uri()).await.unwrap().status(), StatusCode::OK);
    // The SDK presigns nothing longer, so the signature is made anew by hand.
    let request = get(week).await.unwrap();
    let longer = resigned(&stage, request.uri(), "604801");
    let answer = reqwest::get(longer).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(answer.text().await.unwrap().contains("X-Amz-Expires must be less than a week"));
}

/// The same request, valid for so many seconds, signed by the function's key.
fn resigned(stage: &Stage, url: &str, seconds: &str) -> String {
    let hmac = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    let (base, query) = url.split_once('?').unwrap();
    let host = stage.s3.endpoint_url().replace("http://", "");
    let path = base.split_once(&host).unwrap().1;
    let mut fields: Vec<String> = query
        .split('&')
        .filter(|field| !field.starts_with("X-Amz-Signature="))
        .map(|field| {
            if field.starts_with("X-Amz-Expires=") {
                format!("X-Amz-Expires={seconds}")
            } else {
                field.to_owned()
            }
        })
        .collect();
    fields.sort();
    let query = fields.join("&");
    let value = |name: &str| {
        let field = fields.iter().find(|field| field.starts_with(name)).unwrap();
        field.split_once('=').unwrap().1.replace("%2F", "/")
    };
    let (date, credential) = (value("X-Amz-Date="), value("X-Amz-Credential="));
    let scope = credential.split_once('/').unwrap().1;
    let canonical = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(digest.as_ref()));
    let secret = &key(&stage.controls.access, Some("job-daily-report")).secret_access_key;
    let mut signing = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        signing = hmac(&signing, part);
    }
    format!("{base}?{query}&X-Amz-Signature={}", hex(&hmac(&signing, &text)))
}

#[tokio::test]
async fn a_signature_for_another_region_is_refused() {
    let stage = Stage::start(None);
    put(&stage.job(), "reports/a").await.unwrap();
    let elsewhere = stage.job().config().to_builder().region(Region::new("eu-north-1")).build();
    let client = Client::from_conf(elsewhere);
    let read = client.get_object().bucket(BUCKET).key("reports/a");
    let refused = read.clone().send().await.unwrap_err();
    assert_eq!(refused.code(), Some("AuthorizationHeaderMalformed"));
    let answer = reqwest::get(read.presigned(hour()).await.unwrap().uri()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(answer.text().await.unwrap().contains("<Code>AuthorizationQueryParametersError</Code>"));
}
