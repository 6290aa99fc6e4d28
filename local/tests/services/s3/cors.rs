//! Requests of web pages, which their browsers make only if the bucket says so.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};

use super::{BODY, BUCKET, Stage, get};

const SHOP: &str = "https://shop.example";

async fn presigned(stage: &Stage, key: &str) -> String {
    let hour = PresigningConfig::expires_in(Duration::from_hours(1)).unwrap();
    let put = stage.job().put_object().bucket(BUCKET).key(key).presigned(hour).await.unwrap();
    put.uri().to_owned()
}

fn preflight(url: &str, origin: &str, method: &str, headers: &str) -> RequestBuilder {
    let options = Client::new().request(Method::OPTIONS, url).header("origin", origin);
    options.header("access-control-request-method", method).header("access-control-request-headers", headers)
}

fn names_no_origin(headers: &HeaderMap) -> bool {
    !headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

async fn says_forbidden(response: Response) {
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(names_no_origin(response.headers()));
    assert!(response.text().await.unwrap().contains("<Code>AccessForbidden</Code>"));
}

#[tokio::test]
async fn a_page_asks_first_and_uploads_then() {
    let stage = Stage::start(None);
    let url = presigned(&stage, "reports/a").await;
    for origin in [SHOP, "https://www.shop.example"] {
        let asked =
            preflight(&url, origin, "PUT", "Content-Type, x-amz-checksum-sha256").send().await.unwrap();
        assert_eq!(asked.status(), StatusCode::OK);
        let headers = asked.headers();
        assert_eq!(headers["access-control-allow-origin"], origin);
        assert_eq!(headers["access-control-allow-methods"], "GET, HEAD, PUT");
        assert_eq!(headers["access-control-allow-headers"], "content-type, x-amz-checksum-sha256");
        assert_eq!(headers["access-control-expose-headers"], "ETag");
        assert_eq!(headers["access-control-max-age"], "3600");
        assert!(headers["vary"].to_str().unwrap().contains("Origin"));
    }
    let put = Client::new().put(&url).header("origin", SHOP).body(BODY).send().await.unwrap();
    assert_eq!(put.status(), StatusCode::OK);
    assert_eq!(put.headers()["access-control-allow-origin"], SHOP);
    assert_eq!(put.headers()["access-control-expose-headers"], "ETag");
    assert_eq!(get(&stage.job(), "reports/a").await, BODY);
}

#[tokio::test]
async fn a_page_may_read_why_it_was_refused() {
    let stage = Stage::start(None);
    let url = format!("{}/{BUCKET}/reports/none", stage.s3.endpoint_url());
    let unsigned = Client::new().get(&url).header("origin", SHOP).send().await.unwrap();
    assert_eq!(unsigned.status(), StatusCode::FORBIDDEN);
    assert_eq!(unsigned.headers()["access-control-allow-origin"], SHOP);
    let hour = PresigningConfig::expires_in(Duration::from_hours(1)).unwrap();
    let read = stage.job().get_object().bucket(BUCKET).key("reports/none").presigned(hour).await.unwrap();
    let hidden = Client::new().get(read.uri()).header("origin", SHOP).send().await.unwrap();
    assert_eq!(hidden.status(), StatusCode::FORBIDDEN);
    assert_eq!(hidden.headers()["access-control-allow-origin"], SHOP);
}

#[tokio::test]
async fn what_no_rule_allows_is_refused_to_pages() {
    let stage = Stage::start(None);
    let url = presigned(&stage, "reports/a").await;
    for (origin, method, headers) in [
        ("https://evil.example", "PUT", "content-type"),
        ("https://shop.example.evil.example", "PUT", "content-type"),
        (SHOP, "DELETE", "content-type"),
        (SHOP, "put", "content-type"),
        (SHOP, "PUT", "content-type, x-other"),
    ] {
        says_forbidden(preflight(&url, origin, method, headers).send().await.unwrap()).await;
    }
    let nowhere = format!("{}/nowhere/a", stage.s3.endpoint_url());
    says_forbidden(preflight(&nowhere, SHOP, "PUT", "content-type").send().await.unwrap()).await;
    let no_preflight = Client::new().request(Method::OPTIONS, &url).send().await.unwrap();
    assert_eq!(no_preflight.status(), StatusCode::BAD_REQUEST);

    // The answer is the browser's to hide: S3 gives it, without the headers.
    let put =
        Client::new().put(&url).header("origin", "https://evil.example").body(BODY).send().await.unwrap();
    assert_eq!(put.status(), StatusCode::OK);
    assert!(names_no_origin(put.headers()));
}
