//! Conditions and ranges of downloads, as a browser or a download manager sends them: RFC 9110, 13
//! and 14.

use std::time::Duration;

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::presigning::PresigningConfig;
use reqwest::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use reqwest::{Method, Response, StatusCode};

use super::{BODY, BUCKET, Stage};

/// One object, and links to it.
struct Download {
    stage: Stage,
    get: String,
    head: String,
    e_tag: String,
    modified: String,
}

impl Download {
    async fn start(body: &'static [u8]) -> Self {
        let stage = Stage::start(None);
        let put = stage.job().put_object().bucket(BUCKET).key("reports/a").cache_control("no-cache");
        put.body(body.to_vec().into()).send().await.unwrap();
        let hour = || PresigningConfig::expires_in(Duration::from_hours(1)).unwrap();
        let get = stage.job().get_object().bucket(BUCKET).key("reports/a").presigned(hour()).await.unwrap();
        let head = stage.job().head_object().bucket(BUCKET).key("reports/a").presigned(hour()).await.unwrap();
        let plain = reqwest::get(get.uri()).await.unwrap();
        let text = |name| plain.headers()[name].to_str().unwrap().to_owned();
        let (e_tag, modified) = (text(ETAG), text(LAST_MODIFIED));
        Self { stage, get: get.uri().to_owned(), head: head.uri().to_owned(), e_tag, modified }
    }

    async fn ask(&self, method: Method, headers: &[(&str, &str)]) -> Response {
        let url = if method == Method::HEAD { &self.head } else { &self.get };
        let request = reqwest::Client::new().request(method, url);
        let fill = |value: &str| value.replace("{etag}", &self.e_tag).replace("{modified}", &self.modified);
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, fill(value)));
        request.send().await.unwrap()
    }
}

const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Fri, 06 Nov 2093 08:49:37 GMT";
const OTHER: &str = "\"5d41402abc4b2a76b9719d911017c592\"";

#[tokio::test]
async fn conditions_are_held_against_the_object_in_the_order_of_the_rfc() {
    let download = Download::start(BODY).await;
    let listed = format!("{OTHER}, W/{{etag}}");
    let (weak, strong) = ("W/{etag}", format!("{OTHER}, {{etag}}"));
    for (headers, status) in [
        (vec![("if-none-match", "{etag}")], 304),
        (vec![("if-none-match", weak)], 304),
        (vec![("if-none-match", listed.as_str())], 304),
        (vec![("if-none-match", "*")], 304),
        (vec![("if-none-match", OTHER)], 200),
        (vec![("if-modified-since", "{modified}")], 304),
        (vec![("if-modified-since", LATER)], 304),
        (vec![("if-modified-since", LONG_AGO)], 200),
        (vec![("if-modified-since", "yesterday")], 200),
        // The tag counts, the date does not.
        (vec![("if-none-match", OTHER), ("if-modified-since", LATER)], 200),
        (vec![("if-none-match", "{etag}"), ("if-modified-since", LONG_AGO)], 304),
        (vec![("if-match", "{etag}")], 200),
        (vec![("if-match", strong.as_str())], 200),
        (vec![("if-match", "*")], 200),
        (vec![("if-match", OTHER)], 412),
        (vec![("if-match", weak)], 412),
        (vec![("if-unmodified-since", "{modified}")], 200),
        (vec![("if-unmodified-since", LONG_AGO)], 412),
        (vec![("if-unmodified-since", "yesterday")], 200),
        (vec![("if-match", "{etag}"), ("if-unmodified-since", LONG_AGO)], 200),
        (vec![("if-match", OTHER), ("if-none-match", "{etag}")], 412),
        (vec![("if-match", "{etag}"), ("if-none-match", "{etag}")], 304),
        // A condition comes before a range.
        (vec![("if-none-match", "{etag}"), ("range", "bytes=50-")], 304),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = download.ask(method.clone(), &headers).await;
            assert_eq!(answer.status().as_u16(), status, "{method} {headers:?}");
            if status == 304 {
                assert_eq!(answer.headers()[ETAG], download.e_tag.as_str());
                assert_eq!(answer.headers()[LAST_MODIFIED], download.modified.as_str());
                assert_eq!(answer.headers()[CACHE_CONTROL], "no-cache");
            }
            let body = answer.bytes().await.unwrap();
            let whole = method == Method::GET && status == 200;
            assert!(!whole || body == BODY, "{headers:?}");
            assert!(status != 304 || body.is_empty(), "{headers:?}");
        }
    }
}

#[tokio::test]
async fn a_range_that_counts_is_answered_with_that_part() {
    let download = Download::start(BODY).await;
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=2-", 2, 11),
        ("bytes=10-99", 10, 11),
        ("bytes=0-99999999999999999999", 0, 11),
        ("bytes=-2", 10, 11),
        ("bytes=-12", 0, 11),
        ("bytes=-500", 0, 11),
    ] {
        let answer = download.ask(Method::GET, &[("range", range)]).await;
        assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.headers()[CONTENT_RANGE], format!("bytes {first}-{last}/12"), "{range}");
        assert_eq!(answer.headers()["accept-ranges"], "bytes");
        assert_eq!(answer.bytes().await.unwrap(), BODY[first..=last], "{range}");
        let head = download.ask(Method::HEAD, &[("range", range)]).await;
        assert_eq!(head.headers()[CONTENT_LENGTH], (last - first + 1).to_string(), "{range}");
    }
}

#[tokio::test]
async fn a_range_that_does_not_count_is_answered_with_the_whole() {
    let download = Download::start(BODY).await;
    for range in
        ["lines=1-2", "bytes=5-2", "bytes=a-b", "bytes=", "bytes", "2-5", "bytes=0-1,4-5", "bytes=1-2,"]
    {
        let answer = download.ask(Method::GET, &[("range", range)]).await;
        assert_eq!(answer.status(), StatusCode::OK, "{range}");
        assert!(answer.headers().get(CONTENT_RANGE).is_none(), "{range}");
        assert_eq!(answer.bytes().await.unwrap(), BODY, "{range}");
    }
    let twice = download.ask(Method::GET, &[("range", "bytes=0-1"), ("range", "bytes=4-5")]).await;
    assert_eq!(twice.status(), StatusCode::OK);
    for (validator, status) in
        [("{etag}", 206), ("{modified}", 206), (OTHER, 200), ("W/{etag}", 200), (LONG_AGO, 200), (LATER, 200)]
    {
        let answer = download.ask(Method::GET, &[("range", "bytes=2-5"), ("if-range", validator)]).await;
        assert_eq!(answer.status().as_u16(), status, "{validator}");
    }
}

#[tokio::test]
async fn a_range_behind_the_end_is_refused() {
    for (body, ranges) in
        [(BODY, ["bytes=12-", "bytes=12-20", "bytes=-0"]), (b"", ["bytes=0-", "bytes=-1", "bytes=0-0"])]
    {
        let download = Download::start(body).await;
        for range in ranges {
            let answer = download.ask(Method::GET, &[("range", range)]).await;
            assert_eq!(answer.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
            assert_eq!(answer.headers()[CONTENT_RANGE], format!("bytes */{}", body.len()));
            assert!(answer.text().await.unwrap().contains("<Code>InvalidRange</Code>"));
        }
    }
}

#[tokio::test]
async fn conditions_that_are_signed_count_too() {
    let download = Download::start(BODY).await;
    let get = || download.stage.job().get_object().bucket(BUCKET).key("reports/a");
    let part = get().range("bytes=-500").send().await.unwrap();
    assert_eq!(part.content_range(), Some("bytes 0-11/12"));
    let unchanged = get().if_none_match(&download.e_tag).send().await.unwrap_err();
    assert_eq!(unchanged.raw_response().unwrap().status().as_u16(), 304);
    let changed = get().if_match(OTHER).send().await.unwrap_err();
    assert_eq!(changed.code(), Some("PreconditionFailed"));
    // What would be passed over is refused.
    assert_eq!(get().part_number(1).send().await.unwrap_err().code(), Some("NotImplemented"));
}
