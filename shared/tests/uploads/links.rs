//! Links: when they end, and that nobody is asked for them.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::Credentials;
use jiff::Timestamp;
use sojourn::core::clock::{Clock, ManualClock, SystemClock};
use sojourn::core::env::Env;
use sojourn::files::links::disposition::Disposition;
use sojourn::files::links::s3::{Download, Presigner};
use sojourn::files::links::{FileError, SignedUrl};
use sojourn_testing::{BUCKET, Files};

const KEY: &str = "uploads/a";

fn download() -> Download<'static> {
    Download { key: KEY, file_name: "a.txt", content_type: "text/plain", disposition: Disposition::Inline }
}

fn now() -> Timestamp {
    Timestamp::from_second(SystemClock.now().as_second()).unwrap()
}

fn seconds(url: &SignedUrl) -> u64 {
    let rest = url.expose().split("X-Amz-Expires=").nth(1).unwrap();
    rest.split('&').next().unwrap().parse().unwrap()
}

/// A link as a function makes it that has these credentials, at this time; and the end that it
/// tells.
async fn link(
    files: &Files,
    credentials: Credentials,
    at: Timestamp,
    ends: Option<Timestamp>,
) -> Result<(SignedUrl, Timestamp), FileError> {
    let env = Env::of(files.variables());
    let presigner = Presigner::from_env(&files.sdk_with(credentials), &env, ManualClock::at(at)).unwrap();
    let signer = presigner.signer(ends).await?;
    Ok((signer.download(download()).await?, signer.expires_at()))
}

async fn status(url: &SignedUrl) -> u16 {
    // The plainest client there is: a link needs no SDK.
    let (address, path) = url.expose().strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[9..12]).parse().unwrap()
}

#[tokio::test]
async fn a_link_is_good_for_an_hour_and_not_after_it() {
    let files = Files::start();
    let put = files.client().put_object().bucket(BUCKET).key(KEY);
    put.body(b"text".to_vec().into()).send().await.unwrap();
    for (age, expected) in [
        (Duration::ZERO, 200),
        (Duration::from_mins(55), 200),
        (Duration::from_mins(61), 403),
        (Duration::from_hours(24), 403),
    ] {
        let signed_at = now().checked_sub(age).unwrap();
        let (url, ends) = link(&files, files.credentials(), signed_at, None).await.unwrap();
        assert_eq!(ends, signed_at.checked_add(Duration::from_hours(1)).unwrap());
        assert_eq!((seconds(&url), status(&url).await), (3_600, expected), "{age:?}");
    }
}

#[tokio::test]
async fn a_link_ends_with_the_credentials_that_signed_it() {
    let files = Files::start();
    let key = files.credentials();
    let ending_in = |left: Duration| {
        let end = SystemTime::from(now()) + left;
        Credentials::new(key.access_key_id(), key.secret_access_key(), None, Some(end), "test")
    };
    let (url, ends) = link(&files, ending_in(Duration::from_mins(10)), now(), None).await.unwrap();
    assert!((595..=600).contains(&seconds(&url)), "{}", seconds(&url));
    assert!(ends <= now().checked_add(Duration::from_mins(10)).unwrap());
    let (url, _) = link(&files, ending_in(Duration::from_hours(3)), now(), None).await.unwrap();
    assert_eq!(seconds(&url), 3_600);
    // What it leads to may end even sooner.
    let soon = now().checked_add(Duration::from_mins(5)).unwrap();
    let (url, ends) = link(&files, ending_in(Duration::from_mins(10)), now(), Some(soon)).await.unwrap();
    assert!(seconds(&url) <= 300 && ends == soon);
    let ended = link(&files, ending_in(Duration::ZERO), now(), None).await;
    assert!(matches!(ended, Err(FileError::NoTimeLeft)), "{ended:?}");
}

#[tokio::test]
async fn signing_asks_nobody() {
    let files = Files::start();
    files.controls.usage.record();
    link(&files, files.credentials(), now(), None).await.unwrap();
    assert!(files.controls.usage.snapshot().log.is_empty());
    // Not even a server has to be there.
    let (sdk, env) = (files.sdk(), Env::of(files.variables()));
    drop(files);
    let presigner = Presigner::from_env(&sdk, &env, ManualClock::at(now())).unwrap();
    presigner.signer(None).await.unwrap().download(download()).await.unwrap();
}

#[tokio::test]
async fn whoever_prints_a_link_shows_nothing_of_it() {
    let files = Files::start();
    let (url, _) = link(&files, files.credentials(), now(), None).await.unwrap();
    assert_eq!(format!("{url:?}"), "SignedUrl([redacted])");
}
