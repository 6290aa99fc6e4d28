//! Bodies: they stream, they may be absent, and a broken one looks broken.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::regions::{TestRegion, scripted};
use crate::support::{QUICK, Raw, counts, open, region, until};

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    // Answers before it has read the body, and sends back each byte as it comes.
    let tokyo = scripted(async |_, mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        for _ in 0..3 {
            let mut chunk = [0; 6];
            stream.read_exact(&mut chunk).await.unwrap();
            stream.write_all(&chunk).await.unwrap();
        }
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let mut client = Raw::connect(door.http_url()).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    assert!(client.head().await.contains("transfer-encoding: chunked\r\n"));
    for chunk in ["1\r\na\r\n", "1\r\nb\r\n", "1\r\nc\r\n"] {
        client.send(chunk).await;
        assert_eq!(client.read_until(chunk).await, chunk);
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_their_headers_and_the_connection() {
    let tokyo = TestRegion::start("tokyo").await;
    let door = open(&[tokyo.address()], QUICK).await;
    let mut client = Raw::connect(door.http_url()).await;
    for (request, status, header) in [
        ("HEAD /whole", "200 ok", "content-length: 5\r\n"),
        ("GET /empty", "204 no content", "x-own: 1\r\n"),
        ("GET /unchanged", "304 not modified", "etag: \"7\"\r\n"),
        ("HEAD /whole", "200 ok", "content-length: 5\r\n"),
    ] {
        client.send(&format!("{request} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("http/1.1 {status}\r\n")), "{head}");
        assert!(head.contains(header) && head.contains("x-local-region: tokyo"), "{head}");
        assert!(!head.contains("chunked") && !head.contains("connection: close"), "{head}");
    }
    client.send("GET /whole HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.rest().await, "tokyo");
    assert_eq!(tokyo.connections(), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_a_short_one() {
    for (framing, part) in [("content-length: 10", "12345"), ("transfer-encoding: chunked", "5\r\n12345\r\n")]
    {
        let tokyo = scripted(move |_, mut stream| async move {
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{part}").as_bytes()).await.unwrap();
        })
        .await;
        let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
        let answer = Client::new().get(door.http_url()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.bytes().await.is_err(), "{framing}");

        let mut client = Raw::connect(door.http_url()).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        client.head().await;
        assert_eq!(client.rest().await, part);
        assert_eq!(counts(&door, "tokyo").lost, 2);
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_does_not_look_like_one_that_ended() {
    let read = Arc::new(Mutex::new(None));
    let found = Arc::clone(&read);
    let tokyo = scripted(move |_, mut stream| {
        let found = Arc::clone(&found);
        async move {
            let mut body = Vec::new();
            drop(stream.read_to_end(&mut body).await);
            *found.lock().unwrap() = Some(String::from_utf8(body).unwrap());
        }
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let mut client = Raw::connect(door.http_url()).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(client);
    until(|| read.lock().unwrap().is_some()).await;
    let body = read.lock().unwrap().clone().unwrap();
    assert!(!body.contains("0\r\n\r\n"), "{body:?}");
}

#[tokio::test]
async fn a_body_waits_until_its_region_wants_it() {
    let tokyo = scripted(async |head, mut stream| {
        assert!(head.contains("expect: 100-continue\r\n"), "{head}");
        // Nothing comes as long as nothing was asked for.
        let early = tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await;
        assert!(early.is_err(), "a body came before the 100");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
        stream.write_all(&body).await.unwrap();
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let mut client = Raw::connect(door.http_url()).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert_eq!(client.head().await, "http/1.1 100 continue\r\n\r\n");
    client.send("body").await;
    assert!(client.head().await.starts_with("http/1.1 200 ok\r\n"));
    assert_eq!(client.read_until("body").await, "body");
}

#[tokio::test]
async fn a_region_that_decides_by_the_head_gets_no_body() {
    let read = Arc::new(Mutex::new(None));
    let found = Arc::clone(&read);
    let tokyo = scripted(move |_, mut stream| {
        let found = Arc::clone(&found);
        async move {
            stream.write_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
            let mut body = Vec::new();
            drop(stream.read_to_end(&mut body).await);
            *found.lock().unwrap() = Some(body);
        }
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let mut client = Raw::connect(door.http_url()).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("http/1.1 413 "), "{head}");
    assert_eq!(client.rest().await, "no");
    until(|| read.lock().unwrap().is_some()).await;
    assert_eq!(read.lock().unwrap().as_deref(), Some([].as_slice()));
}

#[tokio::test]
async fn a_body_does_not_wait_for_ever_for_a_region_that_never_says_100() {
    let tokyo = scripted(async |_, mut stream| {
        stream.read_exact(&mut [0; 4]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let mut client = Raw::connect(door.http_url()).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert_eq!(client.head().await, "http/1.1 100 continue\r\n\r\n");
    client.send("body").await;
    assert!(client.head().await.starts_with("http/1.1 200 ok\r\n"));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_region_up() {
    const MIB: usize = 1024 * 1024;
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let tokyo = scripted(move |_, mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            let length = 256 * MIB;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(&vec![b'x'; MIB]).await.is_ok() {
                counted.fetch_add(MIB, Ordering::Relaxed);
            }
        }
    })
    .await;
    let door = open(&[region("tokyo", tokyo, tokyo)], QUICK).await;
    let mut client = Raw::connect(door.http_url()).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.head().await;
    // What the kernel holds for four sockets is some megabytes; then nothing moves.
    let mut before = usize::MAX;
    while before != written.load(Ordering::Relaxed) {
        before = written.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < 64 * MIB, "{before} bytes were taken for a client that reads none");
}
