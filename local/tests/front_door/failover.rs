//! Which region a client is sent to, as regions fail and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use local_region::front_door::{Addresses, Failover, FrontDoor, Region, StartError};
use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::regions::{TestRegion, scripted};
use crate::support::{FORGETFUL, LASTING, PATIENCE, QUICK, Raw, open, region, until, until_healthy};

/// The status, and the region that was asked, over a new connection.
async fn ask(door: &FrontDoor, near: &str) -> (StatusCode, String) {
    let answer = Client::new().get(door.http_url()).header("x-local-region-near", near).send().await.unwrap();
    (answer.status(), answer.headers()["x-local-region"].to_str().unwrap().to_owned())
}

fn ok(region: &str) -> (StatusCode, String) {
    (StatusCode::OK, region.to_owned())
}

async fn three() -> [TestRegion; 3] {
    [
        TestRegion::start("taiwan").await,
        TestRegion::start("tokyo").await,
        TestRegion::start("singapore").await,
    ]
}

fn addresses(regions: &[TestRegion]) -> Vec<Region> {
    regions.iter().map(TestRegion::address).collect()
}

#[tokio::test]
async fn a_client_is_sent_to_the_nearest_region_that_is_healthy() {
    let mut regions = three().await;
    let door = open(&addresses(&regions), FORGETFUL).await;
    for place in ["taiwan", "tokyo", "singapore"] {
        assert_eq!(ask(&door, place).await, ok(place));
    }
    regions[0].down().await;
    until_healthy(&door, "taiwan", false).await;
    assert_eq!(ask(&door, "taiwan").await, ok("tokyo"));
    assert_eq!(ask(&door, "singapore").await, ok("singapore"));
    regions[1].down().await;
    until_healthy(&door, "tokyo", false).await;
    assert_eq!(ask(&door, "taiwan").await, ok("singapore"));
}

#[tokio::test]
async fn a_region_that_comes_back_gets_its_clients_again_and_both_changes_are_listed() {
    let mut regions = three().await;
    let door = open(&addresses(&regions), FORGETFUL).await;
    regions[1].down().await;
    until_healthy(&door, "tokyo", false).await;
    assert_eq!(ask(&door, "tokyo").await, ok("taiwan"));
    regions[1].up().await;
    until_healthy(&door, "tokyo", true).await;
    assert_eq!(ask(&door, "tokyo").await, ok("tokyo"));
    let changes = door.health().changes();
    let what: Vec<_> = changes.iter().map(|change| (change.region.as_str(), change.healthy)).collect();
    assert_eq!(what, [("tokyo", false), ("tokyo", true)]);
    assert!(changes[0].reason.starts_with("no connection: Connection refused"), "{}", changes[0].reason);
    assert_eq!(changes[1].reason, "GET /health was answered 200 OK");
    assert!(changes[0].at < changes[1].at);
}

#[tokio::test]
async fn a_client_goes_on_to_a_lost_region_while_the_ttl_lasts_over_whatever_connection() {
    let mut regions = three().await;
    let door = open(&addresses(&regions), LASTING).await;
    let kept = Client::new();
    let first = kept.get(door.http_url()).header("x-local-region-near", "taiwan").send().await.unwrap();
    assert_eq!(first.headers()["x-local-region"], "taiwan");
    regions[0].down().await;
    until_healthy(&door, "taiwan", false).await;

    let old = kept.get(door.http_url()).header("x-local-region-near", "taiwan").send().await.unwrap();
    assert_eq!(old.status(), StatusCode::BAD_GATEWAY);
    let (status, _) = ask(&door, "taiwan").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "over a new connection");
    // Another place was never resolved before, and gets what is true now.
    assert_eq!(ask(&door, "singapore").await, ok("singapore"));
}

#[tokio::test]
async fn a_client_of_a_lost_region_moves_when_the_ttl_has_passed_over_whatever_connection() {
    let mut regions = three().await;
    let door = open(&addresses(&regions), QUICK).await;
    let kept = Client::new();
    let resolved = Instant::now();
    kept.get(door.http_url()).header("x-local-region-near", "taiwan").send().await.unwrap();
    regions[0].down().await;
    until_healthy(&door, "taiwan", false).await;

    loop {
        let old = kept.get(door.http_url()).header("x-local-region-near", "taiwan").send().await.unwrap();
        let new = ask(&door, "taiwan").await;
        if old.status() == StatusCode::OK && new == ok("tokyo") {
            assert_eq!(old.headers()["x-local-region"], "tokyo");
            break;
        }
        assert!(resolved.elapsed() < PATIENCE);
    }
    assert!(resolved.elapsed() >= QUICK.ttl);
}

#[tokio::test]
async fn a_region_that_answers_its_checks_with_an_error_or_too_late_is_unhealthy() {
    let tokyo = TestRegion::start("tokyo").await;
    let taiwan = TestRegion::start("taiwan").await;
    let door = open(&[tokyo.address(), taiwan.address()], FORGETFUL).await;
    for (status, healthy) in [(500, false), (302, true), (404, false), (204, true)] {
        tokyo.answer_checks_with(status);
        until_healthy(&door, "tokyo", healthy).await;
        let reason = door.health().changes().pop().unwrap().reason;
        assert!(reason.starts_with(&format!("GET /health was answered {status}")), "{reason}");
        // It would answer other requests.
        assert_eq!(ask(&door, "tokyo").await, ok(if healthy { "tokyo" } else { "taiwan" }));
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap();
    let brief = Failover { timeout: Duration::from_millis(50), ..FORGETFUL };
    let door = open(&[region("tokyo", silent, silent), taiwan.address()], brief).await;
    until_healthy(&door, "tokyo", false).await;
    assert_eq!(door.health().changes()[0].reason, "GET /health was not answered in time");
}

#[tokio::test]
async fn if_no_region_is_healthy_clients_go_where_they_would_if_all_were() {
    let regions = three().await;
    let door = open(&addresses(&regions), FORGETFUL).await;
    for region in &regions {
        region.answer_checks_with(503);
    }
    until(|| door.health().read().iter().all(|region| !region.healthy)).await;
    for place in ["taiwan", "tokyo", "singapore"] {
        assert_eq!(ask(&door, place).await, ok(place));
    }
}

#[tokio::test]
async fn one_bad_check_changes_nothing() {
    let checks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&checks);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tokyo = listener.local_addr().unwrap();
    // Every second check is closed without an answer.
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            if counted.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                drop(stream.read(&mut [0; 1024]).await);
            }
        }
    });
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    until(|| checks.load(Ordering::Relaxed) >= 10).await;
    assert!(door.health().changes().is_empty(), "{:?}", door.health().changes());
}

#[tokio::test]
async fn a_front_door_that_stops_lets_requests_end_and_frees_its_ports() {
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let of_region = (Arc::clone(&asked), Arc::clone(&answer));
    let tokyo = scripted(move |_, mut stream| {
        let (asked, answer) = of_region.clone();
        async move {
            asked.notify_one();
            answer.notified().await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let address = door.http_url().strip_prefix("http://").unwrap().to_owned();
    let mut client = Raw::connect(door.http_url()).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    asked.notified().await;
    let stopping = tokio::spawn(door.stop());
    until(|| std::net::TcpStream::connect(&address).is_err()).await;
    answer.notify_one();
    tokio::time::timeout(PATIENCE, stopping).await.unwrap().unwrap();
    assert!(client.rest().await.ends_with("done"));
    TcpListener::bind(address).await.unwrap();
}

#[tokio::test]
async fn a_front_door_that_could_not_work_does_not_open() {
    let tokyo = TestRegion::start("tokyo").await;
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let start = async |regions: &[_], settings| {
        FrontDoor::start(Addresses { http: any, websocket: any }, regions, settings).await.err()
    };
    let good = tokyo.address();
    assert!(matches!(start(&[], QUICK).await, Some(StartError::NoRegion)));
    assert!(matches!(start(&[good.clone(), good.clone()], QUICK).await, Some(StartError::Name(_))));
    let never = Failover { threshold: 0, ..QUICK };
    assert!(matches!(start(std::slice::from_ref(&good), never).await, Some(StartError::Settings)));
    let other = Region { name: "taiwan".to_owned(), stage: "other".to_owned(), ..good.clone() };
    assert!(matches!(start(&[good.clone(), other], QUICK).await, Some(StartError::Stages)));

    let taken = TcpListener::bind(any).await.unwrap();
    let http = taken.local_addr().unwrap();
    let refused = FrontDoor::start(Addresses { http, websocket: any }, &[good], QUICK).await.err();
    assert!(matches!(refused, Some(StartError::Listen { address, .. }) if address == http));
}
