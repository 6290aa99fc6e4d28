//! A request on its way to a region and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use local_region::front_door::{REGION_UNREACHABLE, UNKNOWN_PLACE};
use local_region::functions::outcome::{Invoke, Outcome};
use local_region::gateway::http::HttpFront;
use local_region::template::model::{HttpApi, HttpRoute};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::regions::{TestRegion, scripted};
use crate::support::{FORGETFUL, PATIENCE, QUICK, Raw, counts, open, region, until};

#[tokio::test]
async fn a_request_reaches_its_region_as_the_client_sent_it() {
    let tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    let answer = Client::new()
        .post(format!("{}/orders/ord%201%2B?why=too%20late&near=x", door.http_url()))
        .header("host", "api.example.com")
        .header("cookie", "SESSION=abc; theme=dark")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=y")
        .header("x-forwarded-for", "198.51.100.9")
        .header("x-local-region-near", "tokyo")
        .body("{\"a\":\"✓\"}")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-local-region"], "tokyo");
    assert_eq!(answer.headers()["x-own"], "1");
    let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["SESSION=a; HttpOnly", "theme=dark"]);
    assert_eq!(answer.text().await.unwrap(), "tokyo");

    let seen = tokyo.seen().remove(0);
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.target, "/orders/ord%201%2B?why=too%20late&near=x");
    assert_eq!(seen.header("host"), Some("api.example.com"));
    assert_eq!(seen.header("cookie"), Some("SESSION=abc; theme=dark"));
    assert!(seen.header("authorization").unwrap().ends_with("Signature=y"));
    assert_eq!(seen.header("x-forwarded-for"), Some("198.51.100.9"));
    assert_eq!(seen.header("x-local-region-near"), None);
    assert_eq!(seen.header("via"), None);
    assert_eq!(seen.body, "{\"a\":\"✓\"}");
}

#[tokio::test]
async fn headers_of_the_connection_pass_the_front_door_in_neither_direction() {
    let tokyo = scripted(async |head, mut stream| {
        let length = head.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=9\r\n\
             x-hop: 1\r\nproxy-authenticate: Basic\r\nx-end: 1\r\n\r\n{head}"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let mut client = Raw::connect(door.http_url()).await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\n\
             Proxy-Authorization: Basic x\r\nUpgrade: h2c\r\nX-Mine-Too: 1\r\n\r\n",
        )
        .await;
    let head = client.head().await;
    for gone in ["keep-alive", "x-hop", "proxy-auth"] {
        assert!(!head.contains(gone), "{head}");
    }
    assert!(head.contains("x-end: 1\r\n") && head.contains("x-local-region: tokyo\r\n"), "{head}");
    let got = client.rest().await;
    for gone in ["close", "x-mine: ", "te: ", "keep-alive", "proxy-auth", "upgrade"] {
        assert!(!got.contains(gone), "{gone} in {got}");
    }
    assert!(got.contains("host: a\r\n") && got.contains("x-mine-too: 1\r\n"), "{got}");
}

#[tokio::test]
async fn requests_of_a_client_share_one_connection_to_their_region() {
    let tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    let client = Client::new();
    for _ in 0..20 {
        let answer = client.post(format!("{}/x", door.http_url())).body("1").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "tokyo");
    }
    assert_eq!((tokyo.seen().len(), tokyo.connections()), (20, 1));
    assert_eq!(counts(&door, "tokyo").requests, 20);
}

#[tokio::test]
async fn a_client_that_moves_is_served_by_the_region_that_is_named_over_the_connection_of_before() {
    let regions = [TestRegion::start("taiwan").await, TestRegion::start("tokyo").await];
    let door = open(&[regions[0].address(), regions[1].address()], QUICK).await;
    let client = Client::new();
    for near in ["taiwan", "tokyo", "tokyo", "taiwan"] {
        let answer = client.get(door.http_url()).header("x-local-region-near", near).send().await.unwrap();
        assert_eq!(answer.headers()["x-local-region"], near);
        assert_eq!(answer.text().await.unwrap(), near);
    }
}

#[tokio::test]
async fn a_connection_that_the_region_has_closed_is_replaced() {
    let mut tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    let client = Client::new();
    for round in 1..=5 {
        let answer = client.post(format!("{}/x", door.http_url())).body("1").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!((tokyo.seen().len(), tokyo.connections()), (round, round));
        tokyo.down().await;
        tokyo.up().await;
    }
}

#[tokio::test]
async fn a_region_that_refuses_is_named_and_nothing_is_tried_elsewhere() {
    let mut taiwan = TestRegion::start("taiwan").await;
    let tokyo = TestRegion::start("tokyo").await;
    let slow = local_region::front_door::Failover { interval: Duration::from_mins(10), ..QUICK };
    let door = open(&[taiwan.address(), tokyo.address()], slow).await;
    let client = Client::new();
    let post = || {
        client.post(format!("{}/orders", door.http_url())).header("x-local-region-near", "taiwan").body("1")
    };
    assert_eq!(post().send().await.unwrap().headers()["x-local-region"], "taiwan");
    taiwan.down().await;
    for _ in 0..3 {
        let answer = post().send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(answer.headers()["x-local-region"], "taiwan");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!((&problem["type"], &problem["status"]), (&REGION_UNREACHABLE.into(), &502.into()));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("taiwan takes no connection (Connection refused"), "{detail}");
    }
    assert!(tokyo.seen().is_empty());
    let taiwans = counts(&door, "taiwan");
    assert_eq!((taiwans.requests, taiwans.refused, taiwans.lost), (4, 3, 0));
    assert_eq!(counts(&door, "tokyo").requests, 0);
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_sent_again_and_ends_without_an_answer() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    // Reads the whole request, has its effect, and dies before it answers.
    let tokyo = scripted(move |_, mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            stream.read_u8().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let taiwan = TestRegion::start("taiwan").await;
    let door = open(&[region("tokyo", tokyo, tokyo), taiwan.address()], QUICK).await;
    for method in ["GET", "PUT", "POST"] {
        let mut client = Raw::connect(door.http_url()).await;
        let near = "x-local-region-near: tokyo\r\ncontent-length: 1\r\n";
        client.send(&format!("{method} / HTTP/1.1\r\nhost: a\r\n{near}\r\n1")).await;
        assert_eq!(client.rest().await, "", "{method}");
    }
    assert_eq!(sent.load(Ordering::Relaxed), 3);
    assert!(taiwan.seen().is_empty());
    let tokyos = counts(&door, "tokyo");
    assert_eq!((tokyos.requests, tokyos.refused, tokyos.lost), (3, 0, 3));
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    let tokyo = scripted(move |_, mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(stream.read_to_end(&mut Vec::new()).await);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let mut client = Raw::connect(door.http_url()).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(|| ended.load(Ordering::Relaxed) == 1).await;
    drop(client);
    until(|| ended.load(Ordering::Relaxed) == 2).await;
    assert_eq!(counts(&door, "tokyo").lost, 0);
}

#[tokio::test]
async fn a_place_that_does_not_exist_is_refused_and_no_region_is_asked() {
    let tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    let answer =
        Client::new().get(door.http_url()).header("x-local-region-near", "tokio").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(!answer.headers().contains_key("x-local-region"));
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], UNKNOWN_PLACE);
    assert!(problem["detail"].as_str().unwrap().contains("one of tokyo, taiwan, singapore"), "{problem}");
    assert!(tokyo.seen().is_empty());
}

#[tokio::test]
async fn connections_that_name_no_place_get_the_regions_in_turn() {
    let regions = [TestRegion::start("taiwan").await, TestRegion::start("tokyo").await];
    let door = open(&[regions[0].address(), regions[1].address()], FORGETFUL).await;
    for round in 1..=4 {
        for _ in &regions {
            assert_eq!(Client::new().get(door.http_url()).send().await.unwrap().status(), StatusCode::OK);
        }
        assert_eq!([regions[0].seen().len(), regions[1].seen().len()], [round, round]);
    }
}

/// Stands where Lambda is: answers with the event.
struct Echo;

impl Invoke for Echo {
    async fn invoke(&self, _: &str, event: Bytes) -> Outcome {
        let answer = serde_json::json!({"statusCode": 200, "body": String::from_utf8_lossy(&event)});
        Outcome::Answered(Bytes::from(answer.to_string()))
    }
}

#[tokio::test]
async fn the_gateway_of_a_region_sees_the_clients_address_and_host() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = listener.local_addr().unwrap();
    let all =
        |method: &str| HttpRoute { method: method.into(), path: "/{proxy+}".into(), function: "f".into() };
    let front = HttpFront::new(&HttpApi { routes: vec![all("ANY")], cors: None }, Arc::new(Echo)).unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let door = open(&[region("tokyo", gateway, gateway)], QUICK).await;
    for client in ["127.0.0.1", "127.0.0.7", "127.1.2.3"] {
        let mut connection = Raw::connect_from(client, door.http_url()).await;
        connection.send("GET /me HTTP/1.1\r\nhost: api.example.com\r\nconnection: close\r\n\r\n").await;
        let answer = connection.rest().await;
        let (head, event) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.to_ascii_lowercase().contains("x-local-region: tokyo"), "{head}");
        let event: Value = serde_json::from_str(event).unwrap();
        assert_eq!(event["requestContext"]["http"]["sourceIp"], client);
        assert_eq!(event["headers"]["x-forwarded-for"], client);
        assert_eq!(event["requestContext"]["domainName"], "api.example.com");
    }
}

#[tokio::test]
async fn many_clients_are_served_at_once() {
    let regions = [TestRegion::start("taiwan").await, TestRegion::start("tokyo").await];
    let door = open(&[regions[0].address(), regions[1].address()], QUICK).await;
    let url = door.http_url().to_owned();
    let clients: Vec<_> = (0..64)
        .map(|client| {
            let (url, near) = (url.clone(), ["taiwan", "tokyo"][client % 2]);
            tokio::spawn(async move {
                let client = Client::new();
                for _ in 0..20 {
                    let request = client.request(Method::PUT, &url).header("x-local-region-near", near);
                    assert_eq!(request.body("1").send().await.unwrap().text().await.unwrap(), near);
                }
            })
        })
        .collect();
    for client in clients {
        tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap();
    }
    let requests = door.counts().into_iter().map(|counts| counts.requests).sum::<u64>();
    assert_eq!(requests, 64 * 20);
}
